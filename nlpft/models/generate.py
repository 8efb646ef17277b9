"""Greedy answers to many prompts at once: prompts share their beginnings, and whoever has finished leaves the batch.

Batching by iteration, as in Orca (Yu et al. 2022): where half of the rows have ended, others take their places.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nlpft.models import planned_attention, prefix_tree
from nlpft.models.kept_keys import KeptKeys, bytes_per_token
from nlpft.models.load import context

READ = {"cpu": 1024, "cuda": 16384}  # prompt tokens read in one pass
ROOM = 2 * 2**30  # bytes of keys and values on the CPU; on a GPU a share of what is free
SHARE = 0.5
CHECK = 4  # tokens between two looks at the texts: a look costs more than a token

Finished = Callable[[int, list[int]], bool]  # (number of the prompt, ids so far): whether it needs no more


@dataclass
class Row:
    """One prompt and what has been written to it."""

    number: int
    prompt: Sequence[int]
    limit: int
    ids: list[int]

    @property
    def length(self) -> int:
        """Tokens whose keys are kept: all but the last one."""
        return len(self.prompt) + len(self.ids) - 1


def answers(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    stop: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    batch_size: int = 32,
    finished: Finished | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """(number of the prompt, token ids of its answer without the stop token), in the order in which they end.

    prompts: token ids. stop: token ids that end an answer. max_new_tokens: for each prompt. batch_size: answers that are
    written at once, fewer where memory is short. finished: is asked every few tokens, so an answer may go on a little.
    """
    model.eval()
    # Of like length together, for the room they take.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), list(prompts[i])))
    rows = [Row(i, prompts[i], max_new_tokens[i], []) for i in order]
    wide = _at_once(model, prompts, max_new_tokens, batch_size)
    write = _written if planned_attention.serves(model) else _generated
    for row in write(model, rows, wide, frozenset(stop), finished or (lambda number, ids: False)):
        yield row.number, row.ids


def _at_once(model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], most: int) -> int:
    """How many answers there is room for."""
    device = next(model.parameters()).device
    longest = max((len(p) + n for p, n in zip(prompts, limits, strict=True)), default=1)
    room = ROOM if device.type == "cpu" else int(torch.cuda.mem_get_info(device)[0] * SHARE)
    return max(1, min(most, room // (bytes_per_token(model) * longest)))


@torch.inference_mode()
def _written(model: Any, waiting: list[Row], wide: int, stop: frozenset[int], finished: Finished) -> Iterator[Row]:
    """The rows as they end; `wide` at a time are written to, and new ones are read where half of those have ended."""
    device = next(model.parameters()).device
    rows: list[Row] = []
    tokens = torch.empty(0, dtype=torch.int64, device=device)
    with planned_attention.using(model):
        kept = KeptKeys(min(wide, len(waiting)), max((len(r.prompt) + r.limit for r in waiting), default=0))
        while rows or waiting:
            if waiting and len(rows) <= wide // 2:
                # In the order in which they share what they begin with.
                fresh = sorted(waiting[: wide - len(rows)], key=lambda r: list(r.prompt))
                waiting = waiting[len(fresh) :]
                tokens = torch.cat([tokens, *(_read(model, part, len(rows), kept) for part in _parts(fresh, device))])
                rows = rows + fresh
            ended = [_ended(row, token, stop, finished) for row, token in zip(rows, tokens.tolist(), strict=True)]
            yield from (row for row, end in zip(rows, ended, strict=True) if end)
            if any(ended):
                rows, tokens = _leave(rows, tokens, ended, kept)
            if rows:
                tokens = _next(model, tokens, [r.length for r in rows], kept)


def _ended(row: Row, token: int, stop: frozenset[int], finished: Finished) -> bool:
    """Append `token` to the answer, unless it ends it; whether the answer has ended."""
    if token in stop:
        return True
    row.ids.append(token)
    return len(row.ids) >= row.limit or (len(row.ids) % CHECK == 0 and finished(row.number, row.ids))


def _parts(rows: Sequence[Row], device: torch.device) -> Iterator[tuple[int, Sequence[Row]]]:
    """Rows that are read in one pass, and the number of the first of them. Neighbours share what they begin with."""
    first = size = 0
    for i, row in enumerate(rows):
        shared = prefix_tree.common(rows[first].prompt, row.prompt) if i > first else 0
        if i > first and size + len(row.prompt) - shared > READ[device.type] + 4 * shared:
            yield first, rows[first:i]
            first, size, shared = i, 0, 0
        size += len(row.prompt) - shared
    yield first, rows[first:]


def _read(model: Any, part: tuple[int, Sequence[Row]], behind: int, kept: KeptKeys) -> Tensor:
    """The token that follows each prompt [rows]; keys and values of the prompts go to `kept`, behind those of other rows."""
    first, rows = part
    weight = next(model.parameters())
    tree = prefix_tree.build([r.prompt for r in rows])
    paths = [prefix_tree.path(tree, i) for i in range(len(rows))]
    ids, positions, last = (
        torch.from_numpy(x).to(weight.device) for x in (tree.ids, tree.positions, np.array([p[-1] for p in paths]))
    )
    places = {behind + first + i: torch.from_numpy(p).to(weight.device) for i, p in enumerate(paths)}
    plan = kept.reading(places, planned_attention.over_tree(tree, weight.device, weight.dtype))
    return planned_attention.run(model, ids, positions, plan, last).argmax(-1)


def _next(model: Any, tokens: Tensor, lengths: Sequence[int], kept: KeptKeys) -> Tensor:
    """The tokens that follow `tokens` [rows], which stand behind `lengths` others."""
    all_of_them = torch.arange(len(lengths), device=tokens.device)
    positions, plan = torch.tensor(lengths, device=tokens.device), kept.after(lengths, tokens.device)
    return planned_attention.run(model, tokens, positions, plan, all_of_them).argmax(-1)


def _leave(rows: list[Row], tokens: Tensor, ended: Sequence[bool], kept: KeptKeys) -> tuple[list[Row], Tensor]:
    """What goes on, moved to the front: the last ones take the places of those that ended."""
    places = [i for i, end in enumerate(ended) if not end]
    order = list(range(len(places)))
    free = (i for i in order if ended[i])
    for place, source in zip(free, places[len([i for i in order if not ended[i]]) :], strict=True):
        kept.move(source, place, rows[source].length)
        order[place] = source
    return [rows[i] for i in order], tokens[order]


@torch.no_grad()
def _generated(model: Any, waiting: list[Row], wide: int, stop: frozenset[int], finished: Finished) -> Iterator[Row]:
    """By transformers' own `generate`, for architectures that planned attention does not serve."""
    for rows in _batches(waiting, wide, context(model)):
        yield from _padded(model, rows, stop)


def _batches(waiting: Sequence[Row], wide: int, longest: int | None) -> Iterator[list[Row]]:
    """`waiting` in batches of up to `wide`, none of which outgrows `longest` tokens: all rows go on until the last one ends."""
    batch: list[Row] = []
    for row in waiting:
        rows = [*batch, row]
        length = max(len(r.prompt) for r in rows) + max(r.limit for r in rows)
        if batch and (len(rows) > wide or (longest and length > longest)):
            yield batch
            rows = [row]
        batch = rows
    if batch:
        yield batch


def _padded(model: Any, rows: list[Row], stop: frozenset[int]) -> Iterator[Row]:
    device, width = next(model.parameters()).device, max(len(r.prompt) for r in rows)
    pad = min(stop, default=0)
    # Padding stands on the left, so that every answer begins at the same position.
    ids = torch.tensor([[pad] * (width - len(r.prompt)) + list(r.prompt) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r.prompt)) + [1] * len(r.prompt) for r in rows], device=device)
    ends = {"eos_token_id": sorted(stop)} if stop else {}
    written = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max(r.limit for r in rows),
        pad_token_id=pad,
        temperature=None,
        top_p=None,
        top_k=None,
        **ends,
    )
    for row, answer in zip(rows, written[:, width:].tolist(), strict=True):
        row.ids += list(itertools.takewhile(lambda token: token not in stop, answer))[: row.limit]
        yield row
