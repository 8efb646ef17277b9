"""How a head's measures fall under typing errors in the text, and under the worst small change of the embeddings.

The latter: the fast gradient method on embeddings (Miyato et al. 2017, "Adversarial Training Methods for Semi-Supervised Text
Classification"): along the gradient of the loss, as far as a share of the norm of a row's embeddings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpft.data.columns import lists
from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.data.labelled import augment, classification, encode, inputs, readers, tagging, tags
from nlpft.data.labelled.augment import Word
from nlpft.data.labelled.example import Example
from nlpft.data.labelled.labels import Labels
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError
from nlpft.evaluation.head_scores import Measures, measures, outputs
from nlpft.evaluation.spread import process
from nlpft.losses import at_least_float32
from nlpft.models.head_forward import choose, logits
from nlpft.models.heads import task_of
from nlpft.objectives.classification import Config, row_losses
from nlpft.types import Task

ROWS = ExamplesConfig(tokens_per_micro_batch=2048)


class Rows(NamedTuple):
    """Labelled rows whose labels the head knows."""

    examples: Sequence[Example]
    kind: ModuleType  # nlpft.data.labelled.classification or tagging
    meaning: Any  # of their labels, in that module
    left_out: int  # rows that cannot be read, or whose label the head does not know


def read(file: str, task: Task, options: LabelOptions) -> Rows:
    """The rows of a labelled file. Raises DataError where none has a label of `task`."""
    found = [row for part in readers.read_all(inputs.find([file]), options) for row in part.rows]
    examples = [row for row in found if isinstance(row, Example)]
    kind = tagging if task.kind == "tagging" else classification
    if kind is tagging:
        numbers = {label: i for i, label in enumerate(task.labels)}
        meaning: Any = tagging.Meaning(tags.scheme([row.tags for row in examples]), numbers)
    else:
        meaning = classification.Meaning(Labels(task.kind, task.labels, options.label_separator))
    known = [row for row in (kind.resolved(row, meaning) for row in examples) if isinstance(row, Example)]
    if not known:
        raise DataError(f"{file}: no row has a label of the model's; it knows {', '.join(task.labels[:10])}")
    return Rows(known, kind, meaning, len(found) - len(known))


def under_noise(
    model: Any, tokenizer: TextTokenizer, rows: Rows, shares: Sequence[float], seed: int = 0
) -> list[Measures]:
    """Measures where each word is mistyped with a probability of each of `shares`."""
    score = _scorer(model)
    return [score(encoded(noised(rows.examples, share, seed), rows, tokenizer), logits) for share in shares]


def under_gradient(model: Any, tokenizer: TextTokenizer, rows: Rows, strengths: Sequence[float]) -> list[Measures]:
    """Measures where embeddings are moved along the gradient of the loss by each of `strengths`, shares of a row's norm."""
    score, table = _scorer(model), encoded(rows.examples, rows, tokenizer)
    return [score(table, partial(worst_logits, strength=strength)) for strength in strengths]


def _scorer(model: Any) -> Callable[[pa.Table, Callable[..., Tensor]], Measures]:
    model.eval().requires_grad_(False)
    task, layout = task_of(model), choose(model, batch_of)
    return lambda table, compute: measures(
        task, outputs(process(), model, Examples(Path(), layout, table=table), ROWS, compute)
    )


def noised(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Each word of the rows mistyped with the probability `share`; blanks become one."""
    if not share:
        return list(examples)
    draw = Random(seed)

    def mistyped(words: Sequence[str]) -> list[str]:
        return [word.text for word in augment.noise([Word(word) for word in words], share, draw)]

    def text(whole: str) -> str:
        return " ".join(mistyped(whole.split()))

    return [
        row._replace(
            text=text(row.text), pair=text(row.pair) if row.pair else row.pair, words=tuple(mistyped(row.words))
        )
        for row in examples
    ]


def encoded(examples: Sequence[Example], rows: Rows, tokenizer: TextTokenizer) -> pa.Table:
    """The rows as token ids with their targets."""
    made = rows.kind.encoded(examples, rows.meaning, tokenizer, encode.limit(tokenizer, None))
    name = "labels" if rows.kind is tagging else "target"
    ids = lists(made.ids, made.offsets)
    return pa.table({"input_ids": ids, "pair_start": pa.array(made.pair_start), name: made.target})


def worst_logits(model: Any, batch: dict[str, Tensor], strength: float) -> Tensor:
    """Logits behind embeddings that are moved along the gradient of the loss, each row's by `strength` times their norm."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    with torch.enable_grad(), hooked(model, keep):
        (slope,) = torch.autograd.grad(_loss(task_of(model), logits(model, batch), batch["targets"]), kept[:1])
    step = strength * _norms(kept[0].detach(), batch) / _norms(slope, batch).clamp(min=1e-30) * slope
    with hooked(model, lambda module, args, output: output + step):
        return logits(model, batch)


@contextmanager
def hooked(model: Any, hook: Callable[..., Tensor]) -> Iterator[None]:
    """`hook` on what the token embeddings give."""
    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _loss(task: Task, scores: Tensor, targets: Tensor) -> Tensor:
    scores = at_least_float32(scores)
    if task.kind == "tagging":
        return F.cross_entropy(scores, targets, reduction="sum")
    return row_losses(Config(), task, scores, targets).sum()


def _norms(values: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Norm of each row's part of `values` [.., time, width], at each of its tokens [.., time, 1]; padding has none."""
    if "cu_seqlens" in batch:
        lengths = batch["cu_seqlens"].diff()
        row = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)[None]
        there = torch.ones_like(row)
    else:
        there = batch["attention_mask"]
        row = torch.arange(len(there), device=values.device)[:, None].expand_as(there)
    squares = values.float().square().sum(-1) * there
    total = squares.new_zeros(int(row.max()) + 1).index_add_(0, row.flatten(), squares.flatten())
    return total.sqrt()[row][..., None].to(values.dtype)
