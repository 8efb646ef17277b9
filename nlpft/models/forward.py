"""The one call of a causal LM on a packed batch, in training and in evaluation."""

from torch import Tensor, nn


def forward(model: nn.Module, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Logits [positions, vocab] of a packed batch ([1, time]) at `positions` [positions].

    No cache and no attention mask: only then does transformers read from position_ids where one conversation ends, and
    mask the others. The vocabulary projection is computed at `positions` alone.
    """
    output = model(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False, logits_to_keep=positions
    )
    return output.logits[0]
