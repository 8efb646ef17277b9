"""Cheap trials: one loaded model whose weights are put back, and what frozen blocks say of a row, computed once for all trials.

weights, features = Pretrained(model), Features(model, data, config)
for each candidate:
    weights.restore(model)
    candidate.train(model, point)
    first = first_trained(model)
    with resting(model, first) as tell:
        loss = read_by(step_loss, features, first, tell)
        train on steps(data, config, seed, count), by loss

What lies below the first block that trains rests: it computes as in evaluation, without dropout, so its outputs are the same in
every epoch and every trial. Nothing else differs from a run without this file (tests/search/test_fitness.py).
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.data.loader import Share
from nlpft.models.blocks import blocks, depths
from nlpft.models.head_forward import logits
from nlpft.models.heads import with_head

ALONE = Share(0, 1)
MOST_BYTES = 2 << 30  # that features of one dataset take, all levels together
Batch = dict[str, Tensor]
StepLoss = Callable[[nn.Module, Batch], Tensor]
Tell = Callable[[Tensor | None], None]


class Pretrained:
    """The weights and buffers of a model as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def having(self, others: dict[str, Tensor]) -> "Pretrained":
        """The same with some other values, by name."""
        found = copy.copy(self)
        found.values = {**self.values, **others}
        return found

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put them back, in place; gradients are forgotten."""
        for name, value in model.state_dict().items():
            value.copy_(self.values[name])
        for weight in model.parameters():
            weight.grad = None


def first_trained(model: nn.Module) -> int:
    """Number of blocks, from below, under which nothing trains: 0 where the embeddings do."""
    depth = depths(model)
    return max(0, min(depth[name] for name, weight in model.named_parameters() if weight.requires_grad) - 1)


class Features:
    """What the blocks of a model hand on for each token of a dataset, by the number of blocks; kept in memory once computed."""

    def __init__(self, model: nn.Module, data: Examples, config: ExamplesConfig) -> None:
        self.model, self.data, self.config = model, data, config
        self.levels: dict[Hashable, Tensor] = {}

    def of(self, first: int, rows: Sequence[int], batch: Batch, origin: Hashable = ()) -> Tensor | None:
        """The output of block `first - 1` for `batch`, the batch of `rows`; [1, time, width] or [rows, longest, width].

        origin: what tells apart models whose lower blocks differ. None without blocks below.
        """
        if not first:
            return None
        level = self._level(first, origin)
        spans = [np.arange(self.data.offsets[row], self.data.offsets[row + 1]) for row in rows]
        found = level[torch.from_numpy(np.concatenate(spans)).to(level.device)]
        if "attention_mask" not in batch:
            return found[None]
        padded = found.new_zeros((*batch["input_ids"].shape, found.shape[-1]))
        padded[batch["attention_mask"].bool().to(found.device)] = found
        return padded

    def _level(self, first: int, origin: Hashable) -> Tensor:
        if (first, origin) not in self.levels:
            made = self._compute(first)
            kept = sum(level.nbytes for level in self.levels.values())
            while self.levels and kept + made.nbytes > MOST_BYTES:
                kept -= self.levels.pop(next(iter(self.levels))).nbytes
            self.levels[first, origin] = made
        return self.levels[first, origin]

    @torch.no_grad()
    def _compute(self, first: int) -> Tensor:
        """[tokens, width] of all rows, one behind the other."""
        model, seen, training = self.model, list[Tensor](), self.model.training
        device = next(model.parameters()).device
        hook = blocks(model)[first - 1].register_forward_hook(
            lambda module, inputs, output: seen.append(_first(output))
        )
        model.eval()
        parts: dict[int, Tensor] = {}
        try:
            for rows, batch in batches(self.data, self.config, np.arange(len(self.data))):
                logits(model, to(batch, device))
                parts |= zip(rows, _by_row(seen.pop(), batch, self.data.lengths[rows]), strict=True)
        finally:
            hook.remove()
            model.train(training)
        return torch.cat([parts[row] for row in range(len(self.data))])


def batches(data: Examples, config: ExamplesConfig, rows: np.ndarray) -> Iterator[tuple[list[int], Batch]]:
    """Micro-batches of `rows`, with the numbers of their rows."""
    return data.micro_batches(rows, config, ALONE)


def steps(data: Examples, config: ExamplesConfig, seed: int, count: int) -> Iterator[list[Batch]]:
    """The micro-batches of `count` optimiser steps as `Examples.steps` has them, each with `rows`, the numbers of its rows."""
    each = data.steps_per_epoch(config)
    for step in range(count):
        epoch, number = divmod(step, each)
        order = data.order(config, seed, epoch)[number * config.rows_per_step :][: config.rows_per_step]
        yield [_numbered(*part) for part in batches(data, config, order)]


def all_batches(data: Examples, config: ExamplesConfig) -> Iterator[Batch]:
    """All rows once, in batches with `rows`, the numbers of their rows."""
    return (_numbered(*part) for part in batches(data, config, np.arange(len(data))))


def read_by(step_loss: StepLoss, features: Features, first: int, tell: Tell, origin: Hashable = ()) -> StepLoss:
    """`step_loss` for batches with `rows`, of a model whose first blocks are told what they give for them.

    tell: of `resting`. origin: of `Features.of`.
    """

    def told(model: nn.Module, batch: Batch) -> Tensor:
        own = {name: value for name, value in batch.items() if name != "rows"}
        tell(features.of(first, batch["rows"].tolist(), own, origin))
        return step_loss(model, own)

    return told


def _numbered(rows: list[int], batch: Batch) -> Batch:
    return {**batch, "rows": torch.tensor(rows)}


def to(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) if value.ndim else value for name, value in batch.items()}


@contextmanager
def resting(model: Any, first: int) -> Iterator[Tell]:
    """Within it the first blocks, and the embeddings, compute as in evaluation, or not at all: told their output, they give it.

    Yields what takes the output of block `first - 1` for the next call of the model; with None, or untold, they compute.
    """
    told: list[Tensor | None] = [None]

    def tell(features: Tensor | None) -> None:
        told[0] = features

    with ExitStack() as stack:
        for module in _below(model, first) if first else ():
            stack.enter_context(_instead(module.eval(), "train", lambda mode=True, own=module: own))
        for number, block in enumerate(blocks(model)[:first]):
            stack.enter_context(_instead(block, "forward", _answer(block.forward, told, last=number == first - 1)))
        yield tell


def _answer(compute: Callable[..., Any], told: list[Tensor | None], last: bool) -> Callable[..., Any]:
    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if told[0] is None:
            return compute(hidden_states, *args, **kwargs)
        if not last:
            return hidden_states
        answer, told[0] = told[0], None
        return answer

    return forward


def _below(model: Any, first: int) -> list[nn.Module]:
    """Modules that compute before block `first`: of the body, but for the blocks from there on and what lies behind them."""
    body, stack = with_head(model).base_model, blocks(model)
    depth = depths(model)
    above = {id(m) for block in stack[first:] for m in block.modules()}
    behind = {name.rpartition(".")[0] for name, deep in depth.items() if deep == len(stack) + 1}
    names = {id(module): name for name, module in model.named_modules()}
    leaves = [m for m in body.modules() if not any(True for _ in m.children())]
    lower = [m for m in leaves if id(m) not in above and names[id(m)] not in behind]
    return lower + [m for block in stack[:first] for m in block.modules()]


@contextmanager
def _instead(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Within it `module.name` is `value`, on this one object."""
    own = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(module, name)
        else:
            setattr(module, name, own)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _by_row(hidden: Tensor, batch: Batch, lengths: np.ndarray) -> list[Tensor]:
    """The features of each row [its tokens, width], without padding."""
    flat = hidden[0] if "attention_mask" not in batch else hidden[batch["attention_mask"].bool().to(hidden.device)]
    return [part.clone() for part in torch.split(flat, lengths.tolist())]
