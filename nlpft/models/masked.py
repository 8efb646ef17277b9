"""The one call of a masked LM (an encoder; Devlin et al. 2019) on a packed batch, in training and in evaluation."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nlpft import losses
from nlpft.errors import ModelError
from nlpft.models import attention
from nlpft.models import forward as decoder
from nlpft.models.forward import bare, row_bounds

# Settings by which encoders let a token see its neighbourhood only: a mask of rows would lift that limit.
LOCAL = ("local_attention", "sliding_window", "attention_window")


def forward(model: nn.Module, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Logits [positions, vocab] of a packed batch ([1, time]) at `positions` [positions]; the head sees no others.

    Every token sees its own row and no other, by its bounds or, in attentions that are not told them, by a mask.
    """
    inner = bare(model)
    with only_at(body(inner), positions):
        places = batch["position_ids"] + first_position(inner)
        output = model(input_ids=batch["input_ids"], position_ids=places, **_rows(inner, batch))
    return output.logits[0]


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Sum in nats of the cross-entropies of `targets` at `positions`, both [targets] of the packed `batch`."""
    return losses.causal_lm_loss(forward(model, batch, batch["positions"]), batch["targets"])


def check_isolation(model: nn.Module, batch: dict[str, Tensor]) -> tuple[float, float]:
    """As `models.forward.check_isolation`, for an encoder. Raises ModelError where a row is not by itself what it is packed."""
    inner = bare(model)
    local = [name for name in LOCAL if getattr(inner.config, name, None)]
    if local:
        raise ModelError(
            f"{type(inner).__name__}: {local[0]} is not computed for packed rows; take an encoder without it"
        )
    found = decoder.check_isolation(model, batch, forward, loss)
    row = {name: batch[name][:, : int(batch["cu_seqlens"][1])] for name in ("input_ids", "position_ids")}
    was_training = model.training
    model.eval()
    with attention.plain(inner), torch.no_grad():
        every = torch.arange(row["input_ids"].shape[1], device=row["input_ids"].device)
        ours, own = forward(model, row, every), model(input_ids=row["input_ids"]).logits[0]
    model.train(was_training)
    if not decoder.distance(ours, own) <= 0.05:
        raise ModelError(
            f"{type(inner).__name__}: counts positions in another way than nlpft; it cannot be trained here"
        )
    return found


def body(inner: Any) -> nn.Module:
    """The part of a transformers model (or of one with PEFT's adapters) below its head."""
    whole = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return whole.base_model


@contextlib.contextmanager
def only_at(module: nn.Module, positions: Tensor) -> Iterator[None]:
    """Within it, `module` answers [1, positions, width]: its last hidden states [batch, time, width] at flat `positions`."""

    def keep(module: nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[positions][None]
        return output

    hook = module.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def first_position(inner: nn.Module) -> int:
    """Number of a row's first position: RoBERTa and its kin count from behind their padding's."""
    for name, module in inner.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def context(inner: Any) -> int | None:
    """Tokens that an encoder can see, where its configuration says so."""
    longest = getattr(inner.config, "max_position_embeddings", None)
    return longest - first_position(inner) if longest else None


def _rows(inner: nn.Module, batch: dict[str, Tensor]) -> dict[str, Any]:
    """Where rows begin, for the attentions that are told so; a mask for the others."""
    told = row_bounds(inner, batch)
    return told or {"attention_mask": block_mask(batch["position_ids"], inner)}


def block_mask(position_ids: Tensor, inner: nn.Module) -> Tensor | None:
    """[1, 1, time, time], which tokens see each other: boolean for SDPA, 0 or the least number for eager attention.

    None where there is one row only. Raises ModelError for attentions that take no such mask.
    """
    row = (position_ids[0] == 0).cumsum(0)
    seen = (row[:, None] == row)[None, None]
    name = attention.implementation(inner)
    if name == attention.PLAIN:
        return None if bool(seen.all()) else seen
    if name == "eager":
        dtype = next(inner.parameters()).dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    raise ModelError(f"compute.attention {name}: cannot keep the rows of an encoder apart; set compute.attention auto")
