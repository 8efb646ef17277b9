"""The one call of a causal LM on a packed batch, in training and in evaluation."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from nlpft import losses
from nlpft.errors import ModelError
from nlpft.models import attention, float8
from nlpft.models.projected_loss import projected_loss

# Settings by which architectures change logits after the projection, where a fused loss would not see it.
RESHAPES_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier_scale",
)

Forward = Callable[[nn.Module, dict[str, Tensor], Tensor], Tensor]  # as `forward` below
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def forward(model: nn.Module, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Logits [positions, vocab] of a packed batch ([1, time]) at `positions` [positions].

    No cache and no attention mask: only then does transformers read from position_ids where one conversation ends, and
    mask the others. The vocabulary projection is computed at `positions` alone.
    """
    return _call(model, batch, positions)[0]


def loss(model: nn.Module, batch: dict[str, Tensor], smoothing: float = 0.0) -> Tensor:
    """Sum in nats of the cross-entropies of `targets` at `positions`, both [targets] of the packed `batch`.

    smoothing: share of each target that is spread over the vocabulary.
    Where the head is a plain projection, it computes the loss itself and no logits outlive it.
    """
    positions, targets = batch["positions"], batch["targets"]
    if projection(bare(model)) is None:
        return losses.causal_lm_loss(forward(model, batch, positions), targets, smoothing)
    return through_head(
        model, batch, lambda hidden, weight: projected_loss(hidden, weight, targets, smoothing=smoothing)
    )


def through_head(model: nn.Module, batch: dict[str, Tensor], score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What `score` makes of the hidden states [positions, width] of `batch` and the head's weight [vocab, width].

    Of a model whose head is a plain projection. Inside the head, because sharded weights are whole there; what `score` gives is
    all that leaves the model.
    """
    head = projection(bare(model))
    assert head is not None, "the logits are more than a projection"
    head.forward = lambda hidden: score(hidden[0], head.weight)  # type: ignore
    try:
        return _call(model, batch, batch["positions"])
    finally:
        del head.forward


def _call(model: nn.Module, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
    output = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=positions,
        **row_bounds(bare(model), batch),
    )
    return output.logits


def row_bounds(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Any]:
    """Where rows begin, for the attentions that are told so; the others read it from position_ids."""
    if attention.implementation(model) not in (attention.NAME, "flash_attention_2", "flash_attention_3"):
        return {}
    places = batch["position_ids"][0]
    bounds = batch.get("cu_seqlens")
    if bounds is None:
        starts = (places == 0).nonzero()[:, 0].to(torch.int32)
        bounds = F.pad(starts, (0, 1), value=len(places))
    longest = int(batch["max_seqlen"]) if "max_seqlen" in batch else int(places.max()) + 1
    torch._dynamo.maybe_mark_dynamic(bounds, 0)  # packs hold different numbers of rows
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def bare(model: nn.Module) -> Any:
    """The model inside a wrapper of DistributedDataParallel's kind."""
    return model.module if isinstance(getattr(model, "module", None), nn.Module) else model


def projection(model: Any) -> nn.Linear | None:
    """The output projection, where logits are that and nothing else."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    config = model.config.get_text_config() if head is not None else None
    kind = next(
        (k for k in type(head).__mro__ if not issubclass(k, FSDPModule)), None
    )  # FSDP2 makes a class of its own
    plain = head is not None and kind is nn.Linear and head.bias is None and "forward" not in vars(head)
    return head if plain and not any(getattr(config, key, None) for key in RESHAPES_LOGITS) else None


def check_isolation(
    model: nn.Module, batch: dict[str, Tensor], forward: Forward = forward, loss: Loss = loss
) -> tuple[float, float]:
    """How far the logits and the loss of the rows in `batch` are from those that each has alone; ModelError where too far.

    Some architectures take position_ids and ignore them, or carry a state from row to row: a pack would leak, silently. The pack
    goes through the attention and the compiled blocks that train the model, twice, with other tokens around its last row, which
    must not notice; then each row by itself through torch's SDPA with a mask.
    batch: of random tokens, the last row followed by nothing but padding, in the shapes of training, whose code this compiles.
    forward, loss: how such a model is called (models/masked.py has an encoder's).
    """
    inner, was_training = bare(model), model.training
    model.train(not has_dropout(inner))
    positions, targets = batch["positions"], batch["targets"]
    learnt = targets >= 0
    packed, scored = forward(model, batch, positions).detach()[learnt], loss(model, batch).detach()
    own, others = _with_other_neighbours(batch)
    moved = distance(forward(model, others, positions).detach()[learnt][own], packed[own])
    with attention.plain(inner), torch.no_grad():
        alone = torch.cat([forward(model, row, places) for row, places in _rows_alone(batch)])
    model.train(was_training)
    name = f"{type(inner).__name__}, attention {attention.implementation(inner)}"
    # Measured with attention to the other row: 0.14 on SmolLM2-135M, 0.43 on a tiny Llama; else nothing at all.
    if not moved <= 0.01:
        raise ModelError(
            f"packed rows leak into each other in this model ({name}): logits move by {moved:.0%} of their size with the "
            "tokens of another row; nlpft cannot train it in packs"
        )
    apart, expected = distance(packed, alone), losses.causal_lm_loss(alone, targets[learnt])
    off = ((scored - expected).abs() / expected).item()
    # Measured: 3e-7 in float32; in bfloat16 5e-3 on SmolLM2-135M, 0.05 on 32 layers of random weights, which amplify rounding;
    # on those 0.3 in float8, whose loss was still within 0.001.
    if not (apart <= (0.5 if float8.multiplies(inner) else 0.15) and off <= 0.15):
        raise ModelError(
            f"{name}: logits of packed rows are {apart:.0%} off those of torch's SDPA, their loss {off:.0%}; set "
            "compute.attention sdpa and compute.compile false to see which of them is the cause"
        )
    return apart, off


def distance(one: Tensor, other: Tensor) -> float:
    """Norm of the difference by the norm of `other`."""
    return ((one.float() - other.float()).norm() / other.float().norm()).item()


def _with_other_neighbours(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Which of the learnt targets are the last such row's, and the batch with other tokens before that row."""
    learnt = batch["positions"][batch["targets"] >= 0]
    start = int(batch["cu_seqlens"][batch["cu_seqlens"] <= learnt[-1]].max())
    ids = batch["input_ids"].clone()
    ids[:, :start] = ids[:, :start].flip(1)
    return learnt >= start, {**batch, "input_ids": ids}


def _rows_alone(batch: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Each row of `batch` with targets as a batch of its own, and the positions of its targets in it."""
    bounds, learnt = batch["cu_seqlens"].tolist(), batch["positions"][batch["targets"] >= 0]
    for start, end in itertools.pairwise(bounds):
        own = learnt[(learnt >= start) & (learnt < end)] - start
        if len(own):
            yield {name: batch[name][:, start:end] for name in ("input_ids", "position_ids")}, own


def has_dropout(model: Any) -> bool:
    """Whether `model` draws random numbers while it trains."""
    config = getattr(model, "config", None)
    return bool(getattr(config, "attention_dropout", 0)) or any(
        (isinstance(m, nn.Dropout) and m.p > 0) or hasattr(m, "noise_alpha") for m in model.modules()
    )
