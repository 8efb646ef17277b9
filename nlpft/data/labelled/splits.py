"""Which split each row is in: that of its file, or one that is drawn."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from nlpft.data.labelled import leaks, stratify
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.rows import Rows
from nlpft.data.select.splits import parse_splits
from nlpft.errors import ConfigError, DataError

TRAIN = "train"


def training(names: Sequence[str]) -> str:
    """The split that is learnt from: 'train', or the first."""
    return TRAIN if TRAIN in names else next(iter(names))


def drawn(rows: Rows, strata: Sequence[Sequence[Hashable]], options: LabelOptions) -> Rows:
    """The rows in splits drawn as `options.splits` says; `strata`: of each row that is not rejected, what is spread evenly.

    Raises ConfigError where the shares do not add up to 1.
    """
    parts = parse_splits(options.splits)
    numbers = rows.numbers
    found = stratify.assign([rows.keys[i] for i in numbers], strata, [part.share for part in parts], options.seed)
    out = [parts[0].name] * len(rows.rows)  # of a rejected row it means nothing
    for number, part in zip(numbers, found.tolist(), strict=True):
        out[number] = parts[part].name
    return replace(rows, splits=out)


def selected(rows: Rows, train: str, options: LabelOptions) -> Rows:
    """The rows without those that `options` leaves out: duplicates, and texts of the split `train` that others have too.

    Raises DataError where splits share texts and that is to be an error.
    """
    if options.duplicates == "exact":
        rows = rows.with_rows(leaks.deduplicated(rows.rows, rows.keys, rows.splits))
    found = leaks.between(rows.rows, rows.keys, rows.splits)
    if found and options.leak == "error":
        one = found[0]
        raise DataError(
            f"{one.places[0][0]}: {leaks.LEAK}, as {one.places[0][1]}; {one.rows} rows of {one.splits[0]} are in "
            f"{one.splits[1]}; --leak drop leaves them out, --leak report keeps them"
        )
    if options.leak == "drop":
        rows = rows.with_rows(leaks.dropped(rows.rows, rows.keys, rows.splits, train))
    return (
        rows.with_rows(rows.rows, leaks={" and ".join(leak.splits): leak.as_dict() for leak in found})
        if found
        else rows
    )


def check(named: Sequence[str], options: LabelOptions) -> None:
    """Raise ConfigError where splits are both named and to be drawn."""
    if options.splits and any(named):
        raise ConfigError(f"splits {' '.join(options.splits)}: the files name their splits already ({named[0]}=...)")
