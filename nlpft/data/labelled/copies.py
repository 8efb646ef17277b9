"""Changed copies of the training split's rows, beside the rows themselves (augment.py)."""

from dataclasses import replace
from random import Random

from nlpft.data.labelled.augment import Word, edited
from nlpft.data.labelled.example import Example
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.rows import Rows
from nlpft.errors import ConfigError


def with_copies(rows: Rows, train: str, options: LabelOptions) -> Rows:
    """The rows and, behind them, changed copies of those of the split `train`: as many files, splits and keys.

    A copy that the edit left as it was is left out. Raises ConfigError where a setting cannot be followed.
    """
    check(options)
    if not options.augment:
        return rows
    numbers = [i for i in rows.numbers if rows.splits[i] == train]
    made = [(i, copy) for i in numbers for copy in _copies(rows.rows[i], rows.keys[i], options)]  # type: ignore[arg-type]
    more = [i for i, _ in made]
    return replace(
        rows,
        rows=[*rows.rows, *(copy for _, copy in made)],
        files=[*rows.files, *(rows.files[i] for i in more)],
        splits=[*rows.splits, *(rows.splits[i] for i in more)],
        keys=[*rows.keys, *(rows.keys[i] for i in more)],
    )


def check(options: LabelOptions) -> None:
    """Raise ConfigError where a setting cannot be followed."""
    if not 0 < options.augment_share <= 1:
        raise ConfigError(f"augment_share {options.augment_share:g}: a share of the words, above 0 up to 1")
    if options.augment_copies < 1:
        raise ConfigError(f"augment_copies {options.augment_copies}: at least one copy of each row")


def _copies(row: Example, key: int, options: LabelOptions) -> list[Example]:
    """The copies of one row; its key and the seed decide them."""
    draw = Random(f"{key} {options.seed} augment")
    found = (_copy(row, options, draw) for _ in range(options.augment_copies))
    return [copy for copy in found if copy.text != " ".join(row.text.split()) or copy.words != row.words]


def _copy(row: Example, options: LabelOptions, draw: Random) -> Example:
    words = [Word(*pair) for pair in zip(row.words, row.tags, strict=True)] or [Word(w) for w in row.text.split()]
    changed = edited(words, options.augment, options.augment_share, draw)
    notes = (*row.notes, "changed copy")
    if row.words:
        return row._replace(words=tuple(w.text for w in changed), tags=tuple(w.tag for w in changed), notes=notes)
    return row._replace(text=" ".join(word.text for word in changed), notes=notes)
