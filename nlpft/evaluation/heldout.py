"""The user's own held-out instruction file as a task: loss of the reference answers, and exact match of written ones.

Rows go through the same reader, template and tokenizer as training data, so that prompt and mask are those of training.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nlpft import losses
from nlpft.data.collate import Columns, collate
from nlpft.data.conversation import Reading
from nlpft.data.pack import pack
from nlpft.data.read import check_whole
from nlpft.data.reading import read_conversations
from nlpft.data.repair import Repairs
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import source
from nlpft.data.tokenize import tokenize
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, RowRejected
from nlpft.evaluation import answer_metrics
from nlpft.evaluation.results import Outcome, mean_and_error, text_hash
from nlpft.evaluation.spread import Kept, answered
from nlpft.models.forward import forward
from nlpft.models.generate import answers
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Conversation, Segment

TASK = "heldout"
READING = Reading(repairs=Repairs(trailing_turn=False))  # a question without an answer asks for nothing
UNANSWERED = "ends without an answer, or with an empty one, so there is nothing to compare with"
PACK = 512  # tokens scored in one forward pass: attention on the CPU costs its square
Progress = Callable[[int], Any]  # told how many rows are done


@dataclass(frozen=True)
class HeldOut:
    """The rows of a held-out file, tokenized; the last answer of each is the one that is asked for."""

    rows: list[Conversation]
    columns: Columns
    prompts: list[list[int]]  # token ids up to the last answer
    stop: list[int]  # ids of tokens that end an answer
    lengths: list[int]  # tokens of each last answer, its end included
    context: int | None  # tokens that the model sees


def load(
    path: Path,
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    reading: Reading = READING,
    limit: int | None = None,
    context: int | None = None,
) -> HeldOut:
    """The rows of `path` that end in an answer. Raises DataError where one cannot be used: a score leaves none out.

    context: tokens that the model sees; none: as the config.json beside the tokenizer says.
    """
    context = context or tokenizer.context
    found = list(_usable(path, reading))[:limit]
    if not found:
        raise DataError(f"{path}: no rows")
    columns = Columns(tokenize([_segments(template, r, len(r.messages)) for r in found], template, tokenizer))
    longest = int(columns.lengths.argmax())
    if context and columns.lengths[longest] > context:
        raise DataError(
            f"{found[longest].source}: {columns.lengths[longest]} tokens, the model sees {context}; "
            "shorten or remove it"
        )
    asked = Columns(tokenize([_segments(template, r, len(r.messages) - 1) for r in found], template, tokenizer))
    prompts = [asked.row(i)[0].tolist() for i in range(len(found))]
    ends, lengths = zip(*(_last_answer(columns.row(i)[1]) for i in range(len(found))), strict=True)
    return HeldOut(found, columns, prompts, sorted(set(ends)), list(lengths), context)


def _usable(path: Path, reading: Reading) -> Iterator[Conversation]:
    """The conversations of a file. Raises DataError at the first row that is none."""
    cut_off = CutOff()
    for piece in cut(source(path, format=reading.format), cut_off):
        for _, record, found in read_conversations(piece, reading):
            if isinstance(found, RowRejected):
                why = UNANSWERED if found.reason == "ends without an answer" else str(found)
                raise DataError(f"{record.source}: {why}; a held-out file must be usable as a whole")
            yield found
    check_whole(cut_off)


def evaluate(
    model: nn.Module,
    tokenizer: TextTokenizer,
    data: HeldOut,
    *,
    batch_size: int,
    max_new_tokens: int | None,
    progress: Progress,
    metrics: Sequence[str] = (),
    kept: Kept | None = None,
) -> Outcome:
    """lm-eval's results and samples of the held-out rows.

    max_new_tokens: of an answer; None: what its reference has and half as much again, beyond which it cannot match. No answer
    outgrows the model's context, where one that reads its positions in a table would fail; how many it cuts short is counted.
    metrics: names in nlpft/metrics, of the answers. Raises ConfigError for one that does not exist or does not fit the rows.
    """
    kept = kept or Kept(None, "")
    references = [row.messages[-1].content for row in data.rows]
    chosen = answer_metrics.check(metrics, references)
    loss_sums, counts = row_losses(model, data.columns, kept)
    wanted = [max_new_tokens or n + n // 2 + 4 for n in data.lengths]
    limits = _fitting(wanted, data)
    written, lengths = _answers(model, tokenizer, data, limits, batch_size, kept, progress)
    cut = sum(n >= most < asked for n, most, asked in zip(lengths, limits, wanted, strict=True))
    found = answer_metrics.compute(chosen, written, references)
    samples = [_sample(i, data, written[i], loss_sums[i], counts[i], found.per_row) for i in range(len(data.rows))]
    results = _results(samples, float(loss_sums.sum() / counts.sum()), found.values)
    results["configs"] = {TASK: {"task": TASK, "max_new_tokens": max_new_tokens, "stop": data.stop}}
    unparsed = {f"{TASK},{k}": n for k, n in found.unparsed.items() if n}
    return Outcome(results, {TASK: samples}, {}, unparsed, {TASK: cut} if cut else {})


def _fitting(wanted: Sequence[int], data: HeldOut) -> list[int]:
    """The tokens that each answer may have: as many as `wanted`, or as the model sees behind the prompt."""
    if not data.context:
        return list(wanted)
    return [min(most, data.context - len(prompt)) for most, prompt in zip(wanted, data.prompts, strict=True)]


def _results(samples: list[dict[str, Any]], loss: float, more: dict[str, float]) -> dict[str, Any]:
    """lm-eval's dict. loss: nats per learnt token. more: metrics by name."""
    match, error = mean_and_error([s["exact_match"] for s in samples])
    values = {
        "alias": TASK,
        "exact_match,none": match,
        "exact_match_stderr,none": error,
        "loss,none": loss,
        "perplexity,none": math.exp(loss) if loss < 700 else math.inf,
        **{f"{name},none": value for name, value in more.items()},
    }
    better = {"exact_match": True, "loss": False, "perplexity": False} | dict.fromkeys(more, True)
    return {
        "results": {TASK: values},
        "versions": {TASK: 1},
        "n-shot": {TASK: 0},
        "n-samples": {TASK: {"original": len(samples), "effective": len(samples)}},
        "higher_is_better": {TASK: better},
    }


def _answers(
    model: nn.Module,
    tokenizer: TextTokenizer,
    data: HeldOut,
    limits: Sequence[int],
    batch_size: int,
    kept: Kept,
    progress: Progress,
) -> tuple[list[str], list[int]]:
    """The answer to each row, and its tokens, in batches of prompts that are about as long."""
    order = sorted(range(len(data.prompts)), key=lambda i: (-len(data.prompts[i]), data.prompts[i]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def write(batch: Sequence[tuple[list[int], int]]) -> list[tuple[str, int]]:
        prompts, most = zip(*batch, strict=True)
        found = sorted(answers(model, prompts, data.stop, most, batch_size=batch_size))
        return [(tokenizer.decode(np.array(ids, np.int32)), len(ids)) for _, ids in found]

    asked = [[(data.prompts[i], limits[i]) for i in batch] for batch in batches]
    parts = answered(
        asked, f"answers and lengths until {data.stop}", lambda batch: partial(write, batch), kept, progress
    )
    written = {i: text for batch, part in zip(batches, parts, strict=True) for i, text in zip(batch, part, strict=True)}
    texts, lengths = zip(*(written[i] for i in range(len(order))), strict=True)
    return list(texts), list(lengths)


def row_losses(model: nn.Module, columns: Columns, kept: Kept | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of nats [rows] and number of learnt tokens [rows] of each row, scored in packs without padding."""
    model.eval()
    packs = [list(rows) for rows in pack(columns.lengths, max(PACK, int(columns.lengths.max())))]
    contents = [[[part.tolist() for part in columns.row(i)] for i in rows] for rows in packs]
    asked = [[number, *rows] for number, rows in enumerate(contents)]

    def begin(batch: Sequence[Any]) -> Callable[[], list[list[float]]]:
        return partial(_pack_losses, model, columns, packs[batch[0]])

    found = answered(asked, "loss", begin, kept or Kept(None, ""), _nothing)
    sums, counts = np.zeros(len(columns.lengths)), np.zeros(len(columns.lengths), np.int64)
    for rows, part in zip(packs, found, strict=True):
        sums[rows], counts[rows] = zip(*part, strict=True)
    return sums, counts


@torch.no_grad()
def _pack_losses(model: nn.Module, columns: Columns, rows: list[int]) -> list[list[float]]:
    """[nats, learnt tokens] of each of `rows`, in one pack."""
    device = next(model.parameters()).device
    batch = collate(columns, rows)
    positions, targets = losses.next_tokens(batch["labels"])
    owner = np.repeat(np.arange(len(rows)), columns.lengths[rows])[positions.numpy()]
    logits = forward(model, {k: v.to(device) for k, v in batch.items()}, positions.to(device))
    nats = F.cross_entropy(logits.float(), targets.to(device), reduction="none").cpu().numpy()
    return np.stack([np.bincount(owner, nats, len(rows)), np.bincount(owner, minlength=len(rows))], 1).tolist()


def _nothing(done: int) -> None:
    """Losses take little time beside answers, so they are not shown as progress."""


def _segments(template: ChatTemplate, row: Conversation, turns: int) -> list[Segment]:
    """The first `turns` of `row`; where that leaves its last answer out, up to where it begins."""
    try:
        return template.segments(row.messages[:turns], generate=turns < len(row.messages))
    except RowRejected as why:
        raise DataError(f"{row.source}: {why}; a held-out file must be usable as a whole") from why


def _last_answer(labels: np.ndarray) -> tuple[int, int]:
    """The token that ends a row's last answer, and how many tokens that answer has."""
    learnt = np.flatnonzero(labels >= 0)
    gaps = np.flatnonzero(np.diff(learnt) > 1)
    first = learnt[gaps[-1] + 1] if len(gaps) else learnt[0]
    return int(labels[learnt[-1]]), int(learnt[-1] - first + 1)


def _sample(
    number: int, data: HeldOut, answer: str, loss_sum: float, tokens: int, more: dict[str, list[float]]
) -> dict[str, Any]:
    row = data.rows[number]
    prompt = [m.as_dict() for m in row.messages[:-1]]
    target = row.messages[-1].content
    return {
        "doc_id": number,
        "doc": {"source": row.source, "messages": prompt},
        "target": target,
        "arguments": [],
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": ["exact_match", *more],
        "doc_hash": text_hash(prompt),
        "prompt_hash": text_hash(data.prompts[number]),
        "target_hash": text_hash(target),
        "exact_match": float(answer.strip() == target.strip()),
        "loss_sum": float(loss_sum),
        "tokens": int(tokens),
        **{name: values[number] for name, values in more.items()},
    }
