"""How many parameters of a model there are and train, by transformer block: a run's parameters.json."""

from torch import Tensor, nn

from nlpft.models.blocks import depths


def by_block(model: nn.Module) -> dict[str, dict[str, int]]:
    """{"trains": n, "all": m} of "embeddings", each block from "1" on, and "head" (what lies behind the blocks).

    What a model has nothing of is left out. Weights that share memory count once.
    """
    depth = depths(model)
    behind, found = max(depth.values()), {level: {"trains": 0, "all": 0} for level in sorted(set(depth.values()))}
    for name, parameter in model.named_parameters():
        found[depth[name]]["all"] += numbers(parameter)
        found[depth[name]]["trains"] += numbers(parameter) * parameter.requires_grad
    names = {0: "embeddings", behind: "head"}
    return {names.get(level, str(level)): counts for level, counts in found.items()}


def numbers(weight: Tensor) -> int:
    """How many numbers `weight` holds; in 4 bits, those that it stands for."""
    state = getattr(weight, "quant_state", None)
    return int(state.shape.numel()) if state is not None else weight.numel()
