"""Greedy answers to many prompts at once."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn


@torch.no_grad()
def answers(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    stop: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    batch_size: int = 32,
) -> Iterator[tuple[int, list[int]]]:
    """(number of the prompt, token ids of its answer without the stop token), in an order that wastes little padding.

    prompts: token ids. stop: token ids that end an answer. max_new_tokens: for each prompt; a batch runs to its largest and
    every answer is cut at its own.
    """
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        width = len(prompts[numbers[0]])
        # Padding stands on the left, so that every answer begins at the same position.
        ids = torch.tensor([[stop[0]] * (width - len(prompts[i])) + list(prompts[i]) for i in numbers], device=device)
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in numbers], device=device)
        written = model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max(max_new_tokens[i] for i in numbers),
            eos_token_id=list(stop),
            pad_token_id=stop[0],
            temperature=None,
            top_p=None,
            top_k=None,
        )
        for i, row in zip(numbers, written[:, width:].tolist(), strict=True):
            yield i, _until(row, set(stop))[: max_new_tokens[i]]


def _until(ids: list[int], stop: set[int]) -> list[int]:
    """`ids` before the first of `stop`."""
    end = next((n for n, token in enumerate(ids) if token in stop), len(ids))
    return ids[:end]
