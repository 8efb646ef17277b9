"""Which columns hold the text, the label, the words, the tags: by the user's names, by known names, else by what they hold."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nlpft.data.labelled.options import LabelColumns
from nlpft.errors import DataError

TEXT = """text sentence review content message comment tweet document utterance query body question title description
abstract headline input""".split()  # noqa: SIM905 - a list would take twenty lines
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("query", "passage"),
)
LABEL = """label labels class category target sentiment intent topic gold_label label_text coarse_label score rating stars
polarity type""".split()  # noqa: SIM905
WORDS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "ner", "slots", "pos_tags", "bio_tags", "label")
LOOKED_AT = 500  # rows that are looked at


class Roles(NamedTuple):
    """Names of columns."""

    text: tuple[str, ...] = ()
    pair: str | None = None
    label: tuple[str, ...] = ()
    words: str | None = None
    tags: str | None = None

    def said(self) -> str:
        """For the user: which columns were taken for what."""
        found = {"text": self.text, "pair": self.pair, "label": self.label, "words": self.words, "tags": self.tags}
        named = {role: [names] if isinstance(names, str) else names for role, names in found.items() if names}
        return ", ".join(f"{role}: {' + '.join(names)}" for role, names in named.items())


def roles(rows: Sequence[Mapping[str, Any]], own: LabelColumns, task: str, name: str) -> Roles:
    """The columns of a file with these first `rows`. Raises DataError naming the file, its columns and the option to set."""
    known = list(dict.fromkeys(key for row in rows[:LOOKED_AT] for key in row))
    _check(own, known, name)
    words, tags = _words(own, known, rows)
    if task == "tag" or (task == "auto" and words and tags):
        if not words or not tags:
            missing = "tags" if words else "words"
            raise DataError(
                f"{name}: no column of {missing}; name it by --columns.{missing}; its columns: {_list(known)}"
            )
        return Roles(words=words, tags=tags)
    text, pair = _texts(own, known)
    label = own.label or _named(LABEL, known, taken=(*text, pair))[:1]
    if not label:
        label = _few_values(rows, [key for key in known if key not in (*text, pair)])
    text = text or _long(rows, [key for key in known if key not in (*label, pair)])
    for role, found in (("text", text), ("label", label)):
        if not found:
            raise DataError(f"{name}: no column of {role}s; name it by --columns.{role}; its columns: {_list(known)}")
    return Roles(text, pair, label)


def inputs(rows: Sequence[Mapping[str, Any]], own: LabelColumns, task: str, name: str) -> Roles:
    """The columns of text, or of words, of rows that need no label. Raises DataError as `roles` does."""
    known = list(dict.fromkeys(key for row in rows[:LOOKED_AT] for key in row))
    _check(own, known, name)
    words, _ = _words(own, known, rows)
    if task == "tag" and words:
        return Roles(words=words)
    text, pair = _texts(own, known)
    text = text or _long(rows, [key for key in known if key != pair]) or tuple(known if len(known) == 1 else ())
    if not text:
        raise DataError(f"{name}: no column of texts; name it by --columns.text; its columns: {_list(known)}")
    return Roles(text, pair)


def _check(own: LabelColumns, known: Sequence[str], name: str) -> None:
    """Raise DataError for a name that no column has."""
    for role in ("text", "pair", "label", "words", "tags"):
        given = getattr(own, role) or ()
        for column in (given,) if isinstance(given, str) else given:
            if column not in known:
                raise DataError(f"{name}: no column {column!r} (--columns.{role}); its columns: {_list(known)}")


def _list(known: Sequence[str]) -> str:
    return ", ".join(known) or "none"


def _named(names: Sequence[str], known: Sequence[str], taken: Sequence[str | None] = ()) -> tuple[str, ...]:
    """The columns of known names, in the order of `names`; upper case does not matter."""
    by_name = {column.lower(): column for column in reversed(known) if column not in taken}
    return tuple(by_name[name] for name in names if name in by_name)


def _words(own: LabelColumns, known: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """Columns of words and tags: those that the user names, or known ones that hold lists."""
    lists = [key for key in known if isinstance(_first(rows, key), list)]
    words = own.words or next(iter(_named(WORDS, lists)), None)
    tags = own.tags or next(iter(_named(TAGS, lists, taken=(words,))), None)
    return words, tags


def _first(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((row[key] for row in rows if row.get(key) is not None), None)


def _texts(own: LabelColumns, known: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Columns of the text and of the second text, as far as names tell."""
    if own.text:
        return own.text, own.pair
    if not own.pair:
        for first, second in PAIRS:
            if len(both := _named((first, second), known)) == 2:
                return both[:1], both[1]
    return _named(TEXT, known, taken=(*own.label, own.pair))[:1], own.pair


def _few_values(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str, ...]:
    """All columns of 0 and 1, if there are several; else the one with the fewest values, if they are short and come often."""
    bits = [column for column in columns if _are_bits([str(row.get(column)).strip() for row in rows[:LOOKED_AT]])]
    if len(bits) > 1:
        return tuple(bits)
    best: tuple[int, tuple[str, ...]] = (0, ())
    for column in columns:
        found = [str(row.get(column)) for row in rows[:LOOKED_AT]]
        distinct = len(set(found))
        short = sum(map(len, found)) / max(1, len(found)) < 40
        if short and 1 < distinct <= len(found) / 2 and (not best[0] or distinct < best[0]):
            best = distinct, (column,)
    return best[1]


def _are_bits(found: Sequence[str]) -> bool:
    return sum(value in ("0", "1") for value in found) > 0.9 * len(found)


def _long(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold running text: more than two words on average."""
    found = {column: [str(row.get(column) or "").split() for row in rows[:LOOKED_AT]] for column in columns}
    return tuple(column for column, texts in found.items() if sum(map(len, texts)) > 2 * len(texts))
