"""The one call of an encoder-decoder on a padded batch, in training and in evaluation."""

from typing import Any

from torch import Tensor, nn

from nlpft import losses
from nlpft.models.forward import bare
from nlpft.models.masked import only_at


def forward(model: nn.Module, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Logits [positions, vocab] of the decoder at flat `positions` [positions] of `decoder_input_ids` [rows, time].

    One row of a corpus is one row of the batch, padded: relative positions (T5) and learnt ones that are counted from the
    tensor's edge (BART) leave no room for a second text in it.
    """
    with only_at(bare(model).get_decoder(), positions):
        output = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=batch["decoder_input_ids"],
            use_cache=False,
        )
    return output.logits[0]


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Sum in nats of the cross-entropies of `targets` at `positions`, both [targets]."""
    return losses.causal_lm_loss(forward(model, batch, batch["positions"]), batch["targets"])


def start_token(inner: Any) -> int:
    """The token that the decoder begins with."""
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    return next((x for name in names if (x := getattr(inner.config, name, None)) is not None), 0)


def context(inner: Any) -> int | None:
    """Tokens that the encoder can see, where its configuration says so (T5's positions are relative: there it does not)."""
    return getattr(inner.config, "max_position_embeddings", None)
