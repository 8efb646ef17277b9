"""Log-likelihoods of continuations: sequences share what they have in common, and only continuations are projected."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nlpft.models import planned_attention, prefix_tree
from nlpft.models.forward import bare, projection

LOGITS = {"cpu": 2**23, "cuda": 2**28}  # logits at once: on a CPU they should stay in the cache


class Scored(NamedTuple):
    """What a model reads, and what is to be scored behind it: the last len(targets) tokens predict `targets`."""

    inputs: list[int]
    targets: list[int]


class Score(NamedTuple):
    log_likelihood: float  # nats, of all targets
    greedy: bool  # whether the model would have written them


class _Pairs(NamedTuple):
    """Targets, sorted by the row of logits that predicts them: [targets] int64 each."""

    rows: np.ndarray
    targets: np.ndarray


def scores(model: Any, requests: Sequence[Scored]) -> list[Score]:
    """Scores of `requests`, in one pass over their prefix tree. `model` attends as planned (`planned_attention.using`)."""
    return begin(model, requests)()


@torch.inference_mode()
def begin(model: Any, requests: Sequence[Scored]) -> Callable[[], list[Score]]:
    """What gives the `scores` of `requests`; a GPU works on them meanwhile."""
    weight = next(model.parameters())
    tree = prefix_tree.build([r.inputs for r in requests])
    places = [prefix_tree.path(tree, i, len(r.targets)) for i, r in enumerate(requests)]
    keep, rows = np.unique(np.concatenate(places), return_inverse=True)
    order = np.argsort(rows, kind="stable")
    targets = np.concatenate([np.asarray(r.targets, np.int64) for r in requests])
    ids, positions, kept = (planned_attention.sent(x, weight.device) for x in (tree.ids, tree.positions, keep))
    plan = planned_attention.over_tree(tree, weight.device, weight.dtype)
    with scored_by(model, _Pairs(rows[order], targets[order])) as finish:
        found = finish(planned_attention.run(model, ids, positions, plan, kept)).to("cpu", non_blocking=True)
    arrived = torch.cuda.Event() if weight.is_cuda else None
    if arrived:
        arrived.record()

    def end() -> list[Score]:
        if arrived:
            arrived.synchronize()
        values = np.empty(found.shape)
        values[order] = found.double().numpy()
        cuts = np.cumsum([len(r.targets) for r in requests])[:-1]
        return [Score(float(part[:, 0].sum()), bool(part[:, 1].all())) for part in np.split(values, cuts)]

    return end


@contextlib.contextmanager
def scored_by(model: Any, pairs: _Pairs) -> Iterator[Callable[[Tensor], Tensor]]:
    """Within it, what it yields turns the model's output into [targets, 2]: log-probability, and 1.0 where most likely.

    Where logits are a plain projection they are made in chunks and none outlive it.
    """
    head = projection(bare(model))
    if head is None:
        yield lambda logits: _judge(lambda rows: logits[rows], logits.shape, pairs, logits.device)
        return
    size = head.weight.shape[0]

    def forward(hidden: Tensor) -> Tensor:
        found = _judge(
            lambda rows: nn.functional.linear(hidden[0, rows], head.weight),
            (hidden.shape[1], size),
            pairs,
            hidden.device,
        )
        return found[None]

    head.forward = forward  # type: ignore
    try:
        yield lambda found: found
    finally:
        del head.forward


def _judge(logits: Callable[[slice], Tensor], shape: Sequence[int], pairs: _Pairs, device: torch.device) -> Tensor:
    chunk = max(1, LOGITS[device.type] // shape[1])
    starts = range(0, shape[0], chunk)
    bounds = np.searchsorted(pairs.rows, [*starts, shape[0]])
    all_rows, all_targets = (planned_attention.sent(x, device) for x in pairs)
    parts = []
    for i, start in enumerate(starts):
        # HFLM's own function, in float32: over 49,152 entries its sum is off by 7e-6 a token, 1e-3 in 140 tokens. A logsumexp
        # would be nearer to float64, and further from what everybody's scores are.
        here = logits(slice(start, start + chunk)).float().log_softmax(1)
        rows, targets = (x[bounds[i] : bounds[i + 1]] for x in (all_rows, all_targets))
        rows = rows - start
        likely = here.argmax(1)[rows] == targets
        parts.append(torch.stack([here[rows, targets], likely.float()], 1))
    return torch.cat(parts)


def batches(requests: Sequence[Scored], budget: int) -> list[list[int]]:
    """Numbers of `requests` in batches of about `budget` tokens, in which those with common beginnings stand together.

    A batch may exceed it by four times what all of it shares, so that this weighs little when it is computed again.
    """
    order = sorted(range(len(requests)), key=lambda i: (requests[i].inputs, requests[i].targets))
    made: list[list[int]] = []
    used = shared = 0
    for group in _groups(requests, order):
        first = requests[group[0]].inputs
        common = prefix_tree.common(requests[made[-1][0]].inputs, first) if made else 0
        shared = min(shared, common) if used else len(first)
        fresh = _tokens(requests, group)
        if not made or used + fresh - common > budget + 4 * min(shared, common):
            made.append([])
            used, common, shared = 0, 0, len(first)
        made[-1] += group
        used += fresh - common
    return made


def _groups(requests: Sequence[Scored], order: Sequence[int]) -> Iterator[list[int]]:
    """Neighbours in `order` that share the better part of what they read, such as the choices of one question."""
    group: list[int] = []
    for i in order:
        if group:
            one, other = requests[group[0]].inputs, requests[i].inputs
            begin = len(one) - len(requests[group[0]].targets) + 1
            if begin != len(other) - len(requests[i].targets) + 1 or one[:begin] != other[:begin]:
                yield group
                group = []
        group.append(i)
    if group:
        yield group


def _tokens(requests: Sequence[Scored], group: Sequence[int]) -> int:
    """About how many tokens a group adds: what is common to it once, and each end."""
    first = requests[group[0]]
    begin = len(first.inputs) - len(first.targets) + 1
    return begin + sum(len(requests[i].inputs) - begin for i in group)
