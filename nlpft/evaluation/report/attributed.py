"""Some rows of a head's evaluations, right and wrong ones, with what each token adds to the answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.data import view
from nlpft.data.examples import Examples
from nlpft.data.tokenizer import TextTokenizer
from nlpft.evaluation import attributions
from nlpft.evaluation.attributions import Attribution, Margin
from nlpft.evaluation.report import scored_rows
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.heads import Sample
from nlpft.models.head_forward import logits
from nlpft.models.heads import task_of
from nlpft.types import Layout, Task

ASKED = "--attributions"


class Part(NamedTuple):
    """Neighbouring tokens as text."""

    text: str
    special: bool
    adds: float  # to the margin
    share: float  # of the largest in its row, from -1 to 1


class Row(NamedTuple):
    """A row and why it was answered so."""

    place: str
    right: bool | None  # a number is neither right nor wrong
    said: str
    against: str  # the label over which the margin is; '' where it is over none
    true: str
    word: str  # of tags: the word that is meant
    found: Attribution
    parts: Sequence[Part]


class Attributed(NamedTuple):
    """Rows of one evaluation."""

    label: str
    rows: Sequence[Row]


def with_attributions(run: Run, count: int) -> Run:
    """`run` with up to `count` rows of each evaluation, half of them wrong ones, where there are as many.

    Raises ConfigError without captum or a head, DataError where the rows are no longer there.
    """
    attributions.check()
    model, tokenizer = scored_rows.model(run, ASKED, "float32"), TextTokenizer(run.folder.model)
    found = []
    for scores in run.heads:
        rows = scored_rows.rows(run, scores, ASKED)
        data = Examples(Path(), layout(model), table=rows.table)
        chosen = choose(rows.samples, count)
        found.append(Attributed(scores.label, [_row(model, tokenizer, data, rows.samples[i], i) for i in chosen]))
    return replace(run, attributed=found)


def layout(model: Any) -> Layout:
    """Of a batch as transformers' own forward takes it."""
    config = model.config.get_text_config()
    reads = "labelled" if task_of(model).kind == "tagging" else "first"
    return Layout(False, reads, 0, config.pad_token_id or 0, getattr(config, "type_vocab_size", 0) > 1)  # type: ignore[arg-type]


def choose(samples: Sequence[Sample], count: int) -> list[int]:
    """Numbers of `count` rows: of the wrong ones those of the largest loss, of the right ones some from all over the file."""
    right, wrong = ([i for i, row in enumerate(samples) if is_right(row) == of] for of in (True, False))
    wrong.sort(key=lambda i: -samples[i]["loss_sum"] / max(1, samples[i]["tokens"]))
    few = min(len(wrong), max(count - count // 2, count - len(right)))
    spread = np.linspace(0, len(right) - 1, min(len(right), count - few)).round().astype(int)
    return wrong[:few] + [right[i] for i in dict.fromkeys(spread.tolist())]


def is_right(row: Sample) -> bool:
    """Whether everything that was said of a row is so; of a number nothing is."""
    return row.get("exact_match", row.get("accuracy", 0.0)) == 1


def margin(task: Task, row: Sample, logits: np.ndarray) -> Margin:
    """What is explained of a row whose `logits` are [targets, outputs].

    Of one label: its margin over the true one if it is wrong, else over the next best. Of tags the same for the first wrong
    word, else for the first word with a tag but O. Of several labels: the first on which it is wrong, else the surest.
    """
    if task.kind == "regression":
        return Margin(0, 0)
    if task.kind == "multi_label_classification":
        wrong = [i for i, name in enumerate(task.labels) if (name in row["target"]) != (logits[0, i] > 0)]
        return Margin(0, wrong[0] if wrong else int(np.abs(logits[0]).argmax()))
    true = np.array([task.labels.index(name) for name in np.atleast_1d(row["target"])])
    said = logits.argmax(1)
    telling = [*np.flatnonzero(said != true), *(i for i, k in enumerate(true) if task.labels[k] != "O"), 0]
    at = int(telling[0])
    first, second = np.argsort(-logits[at], kind="stable")[:2].tolist() if task.outputs > 1 else (0, None)
    return Margin(at, first, second if said[at] == true[at] else int(true[at]))


def _row(model: Any, tokenizer: TextTokenizer, data: Examples, sample: Sample, number: int) -> Row:
    task, batch = task_of(model), {n: x.to(model.device) if x.ndim else x for n, x in data.batch([number]).items()}
    ids = data.ids[data.offsets[number] : data.offsets[number + 1]]
    shown = view.Row(data.places([number])[0], "", ids, np.zeros(len(ids), bool))
    view.check(shown, tokenizer)
    special = np.isin(ids, [i for i in tokenizer.special.values() if i != tokenizer.vocabulary.unknown])
    of = margin(task, sample, _logits(model, batch))
    found = attributions.attribute(model, batch, special, of)
    parts = _parts(view.tokens(shown, tokenizer), found.tokens)
    word = _word(ids, special, batch["positions"].tolist(), of.target, tokenizer) if task.kind == "tagging" else ""
    right = None if task.kind == "regression" else is_right(sample)
    return Row(shown.place, right, *_named(task, of, sample, found), word, found, parts)


def _word(ids: np.ndarray, special: np.ndarray, begins: list[int], number: int, tokenizer: TextTokenizer) -> str:
    """Word `number` of a row, whose words begin at the tokens `begins`."""
    own = slice(begins[number], [*begins, len(ids)][number + 1])
    return view.visible(tokenizer.decode(ids[own][~special[own]]).strip())


def _logits(model: Any, batch: dict[str, Any]) -> np.ndarray:
    """[targets, outputs] of the one row of `batch`."""
    return logits(model, batch).detach().float().cpu().numpy()


def _named(task: Task, of: Margin, sample: Sample, found: Attribution) -> tuple[str, str, str]:
    """(said, against, true) in words."""
    true = sample["target"]
    if task.kind == "regression":
        return f"{found.margin:.4g}", "", f"{true:.4g}"
    said = task.labels[of.said]
    if task.kind == "multi_label_classification":
        return said if found.margin > 0 else f"not {said}", "", said if said in true else f"not {said}"
    own = true[of.target] if isinstance(true, list) else true
    return said, task.labels[of.other] if of.other is not None else "", own


def _parts(pieces: Sequence[view.Piece], adds: np.ndarray) -> list[Part]:
    sums = [float(adds[p.start : p.start + len(p.ids)].sum()) for p in pieces]
    most = max(map(abs, sums), default=0.0) or 1.0
    return [Part(p.text, p.special, x, x / most) for p, x in zip(pieces, sums, strict=True)]
