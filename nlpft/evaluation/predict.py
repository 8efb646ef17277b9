"""A trained head's answers about the rows of a file, each row in its place: labels with probabilities, numbers, tags of words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import expit

from nlpft.data import sources
from nlpft.data.columns import lists
from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.data.labelled import align, columns, conll, encode, inputs, lines, sniff
from nlpft.data.labelled.example import Example
from nlpft.data.labelled.options import LabelColumns
from nlpft.data.ledger import Rejection
from nlpft.data.read import read
from nlpft.data.sources import Source
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, RowRejected
from nlpft.evaluation.calibration import probabilities
from nlpft.evaluation.head_scores import Scored, outputs
from nlpft.evaluation.spread import process
from nlpft.models.head_forward import choose
from nlpft.models.heads import task_of
from nlpft.types import IGNORE, Layout, Record, Task

ROWS = ExamplesConfig(tokens_per_micro_batch=2048)
LABEL, TEXT, WORDS = "label", "text", "words"


class Asked(NamedTuple):
    """A row of a file."""

    row: Mapping[str, Any]  # its columns; of a line of text `text`, of tagged columns `words`
    first: str = ""  # the text
    second: str | None = None
    words: tuple[str, ...] = ()


class Reader(NamedTuple):
    """A model, and the batches that it reads exactly."""

    model: Any
    layout: Layout


class Answer(NamedTuple):
    """What the head says of a row; of one without a text, nothing."""

    prediction: Any = None  # a label, a list of labels, a number, or a tag for each word
    probability: float | list[float] | None = None  # of what it says; of tags one for each
    probabilities: dict[str, float] | None = None  # of all labels


def asked(file: Path, task: Task, own: LabelColumns) -> list[Asked]:
    """The rows of a file, none left out: JSON, JSONL, CSV, TSV, parquet, or lines of text; for tags also CoNLL columns.

    Blank lines of CSV and TSV are no rows. Labels of `task` in front of all lines of text are kept, and not read as text.

    Raises DataError where there is none, one cannot be read, or the columns are not found.
    """
    found = sources.source(file)
    rows = _of_lines(file, task, own) if found.kind == "text" else _of_records(found, task, own)
    if not rows:
        raise DataError(f"{file}: no rows")
    return rows


def _of_records(found: Source, task: Task, own: LabelColumns) -> list[Asked]:
    rows = []
    for record in read(found):
        if not isinstance(record, Record) or not isinstance(record.data, Mapping):
            why = "not an object" if isinstance(record, Record) else record.error
            raise DataError(f"{record.source}: {why}; a file to predict must be readable as a whole")
        rows.append(record.data)
    roles = columns.inputs(rows, own, "tag" if task.kind == "tagging" else "classify", found.name)
    return [_asked(row, roles) for row in rows]


def _asked(row: Mapping[str, Any], roles: columns.Roles) -> Asked:
    if roles.words:
        words = row.get(roles.words) or ()
        return Asked(row, words=tuple(words.split() if isinstance(words, str) else map(str, words)))
    text = " ".join(str(row[name]) for name in roles.text if row.get(name) is not None)
    second = None if roles.pair is None or row.get(roles.pair) is None else str(row[roles.pair])
    return Asked(row, text, second, tuple(text.split()))


def _of_lines(file: Path, task: Task, own: LabelColumns) -> list[Asked]:
    content = inputs.data(file, str(file), "utf-8")
    texts = [_decoded(raw, f"{file}:{number}") for number, _, raw in lines.numbered(content.removesuffix(b"\n"))]
    if task.kind == "tagging" and sniff.is_conll([text for text in texts if text.strip()]):
        found = conll.examples(lines.numbered(content), str(file), own)
        bad = next((row for row in found if isinstance(row, Rejection)), None)
        if bad:
            raise DataError(f"{bad.source}: {bad.why}; a file to predict must be readable as a whole")
        return [Asked({WORDS: list(row.words)}, words=row.words) for row in found if isinstance(row, Example)]
    if task.kind != "tagging" and (labelled := _with_labels(texts, task)):
        return labelled
    return [Asked({TEXT: text}, text, None, tuple(text.split())) for text in texts]


def _with_labels(texts: list[str], task: Task) -> list[Asked]:
    """The rows of lines that all begin with labels of `task`, which the model is not to see; else none."""
    try:
        parts = [lines.labels(text) for text in texts if text.strip()]
    except RowRejected:
        return []
    known = set(task.labels)
    if len(parts) < len(texts) or not all(text and known.issuperset(_several_of(label)) for label, text in parts):
        return []
    return [Asked({LABEL: label, TEXT: text}, text, None, tuple(text.split())) for label, text in parts]


def _several_of(label: str | list[str]) -> list[str]:
    return label if isinstance(label, list) else [label]


def have_labels(rows: Sequence[Asked]) -> bool:
    """Whether rows of lines of text had labels in front of them."""
    return set(rows[0].row) == {LABEL, TEXT}


def _decoded(raw: bytes, place: str) -> str:
    try:
        return lines.decoded(raw)
    except RowRejected as why:
        raise DataError(f"{place}: {why}") from None


def predict(model: Any, tokenizer: TextTokenizer, rows: Sequence[Asked], temperature: float = 1.0) -> list[Answer]:
    """The answers of `model` (of nlpft.models.heads, on its device) to `rows`, in their order."""
    task = task_of(model)
    answer = _tags if task.kind == "tagging" else _labels
    return answer(Reader(model.eval(), choose(model, batch_of)), tokenizer, rows, task, temperature)


def _labels(
    reader: Reader, tokenizer: TextTokenizer, rows: Sequence[Asked], task: Task, temperature: float
) -> list[Answer]:
    said: list[Answer] = [Answer()] * len(rows)
    for pairs in (False, True):
        there = [i for i, row in enumerate(rows) if row.first.strip() and (row.second is not None) == pairs]
        if there:
            first = encode.encode([rows[i].first for i in there], tokenizer)
            second = encode.encode([rows[i].second or "" for i in there], tokenizer) if pairs else None
            made = encode.framed(first, second, encode.frame(tokenizer, pairs), encode.limit(tokenizer, None))
            target = pa.array(np.zeros(len(there), np.int32))
            found = _scored(reader, made.ids, made.offsets, pair_start=pa.array(made.pair_start), target=target)
            for i, logits in zip(there, found.logits, strict=True):
                said[i] = SAY[task.kind](task, logits.astype(np.float64), temperature)
    return said


def _tags(
    reader: Reader, tokenizer: TextTokenizer, rows: Sequence[Asked], task: Task, temperature: float
) -> list[Answer]:
    """A sentence that is longer than the model sees goes to it in parts."""
    tags: list[list[str]] = [[] for _ in rows]
    sure: list[list[float]] = [[] for _ in rows]
    left = {i: row.words for i, row in enumerate(rows) if row.words}
    around, longest = encode.frame(tokenizer), encode.limit(tokenizer, None)
    while left:
        made = align.aligned(align.encode_words(list(left.values()), tokenizer), around, longest)
        labels = np.where(made.first, 0, IGNORE).astype(np.int32)
        found = _scored(reader, made.ids, made.offsets, labels=lists(labels, made.offsets))
        p = probabilities(found.logits.astype(np.float64), temperature)
        for number, i in enumerate(left):
            own = p[found.rows == number]
            tags[i] += [task.labels[k] for k in own.argmax(1)]
            sure[i] += own.max(1).tolist()
        left = {i: words for i, row in enumerate(rows) if (words := row.words[len(tags[i]) :])}
    return [Answer(t, s) for t, s in zip(tags, sure, strict=True)]


def _scored(reader: Reader, ids: np.ndarray, offsets: np.ndarray, **more: pa.Array) -> Scored:
    table = pa.table({"input_ids": lists(ids, offsets), **more})
    return outputs(process(), reader.model, Examples(Path(), reader.layout, table=table), ROWS)


def _one(task: Task, logits: np.ndarray, temperature: float) -> Answer:
    p = probabilities(logits[None], temperature)[0]
    return Answer(task.labels[p.argmax()], float(p.max()), _named(task, p))


def _several(task: Task, logits: np.ndarray, temperature: float) -> Answer:
    p = expit(logits / temperature)
    return Answer([task.labels[i] for i in np.flatnonzero(p > 0.5)], None, _named(task, p))


def _number(task: Task, logits: np.ndarray, temperature: float) -> Answer:
    return Answer(float(logits[0]))


def _named(task: Task, p: np.ndarray) -> dict[str, float]:
    return dict(zip(task.labels, map(float, p), strict=True))


SAY = {"single_label_classification": _one, "multi_label_classification": _several, "regression": _number}
