"""A packed batch of literal rows and a few optimiser steps on it: what the tests of methods share."""

import torch
from torch import Tensor, nn

from nlpft.models.forward import loss

ROWS = ([3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8], [1, 6, 1, 8, 0])


def packed(*rows: list[int]) -> dict[str, Tensor]:
    """Rows of token ids as one pack in which every token but each row's first is learnt."""
    rows = rows or ROWS
    ids = torch.tensor([[token for row in rows for token in row]])
    places = torch.tensor([[place for row in rows for place in range(len(row))]])
    learnt = (places[0, 1:] > 0).nonzero()[:, 0]
    labels = ids.masked_fill(places == 0, -100)
    targets = ids[0, 1:][learnt]
    return {"input_ids": ids, "position_ids": places, "labels": labels, "positions": learnt, "targets": targets}


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, rate: float = 0.01, before=None
) -> list[float]:
    """Losses before each of `steps` steps as the loop takes them; before(step) comes between backward and the step."""
    batch, seen = packed(), []
    model.train()
    for step in range(1, steps + 1):
        nats = loss(model, batch) / len(batch["targets"])
        nats.backward()
        if before:
            before(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(nats.item())
    return seen


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights of `model` as they are now."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the weights that are not what they were."""
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
