"""DeepSpeed's ZeRO (Rajbhandari et al. 2020): moments, gradients and weights in parts over processes, in the loop's own steps.

Under Accelerate DeepSpeed steps inside the backward pass of a step's last micro-batch. Here it waits for the loop, which looks
at the loss and the gradient first. Weights that train and their gradients are float32, as everywhere in nlpft: products are made
in bfloat16 by autocast, not by DeepSpeed's own bf16 mode, which would sum gradients in bfloat16.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper, DeepSpeedOptimizerWrapper
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
from nlpft.training.regularize import RegularizeConfig

# ZeRO cuts weights into flat pieces, so these alone fit: what they do to a number depends on that number only. (Of Adagrad
# DeepSpeed makes one of its own, without the groups' settings.)
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)
OTHER = "launch with recipes/accelerate/fsdp2.yaml"
INSTEAD = f"or {OTHER}"


def is_zero(accelerator: Accelerator) -> bool:
    """Whether this launch is DeepSpeed's."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def prepared(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float
) -> tuple[Any, Any]:
    """DeepSpeed's engine around `model`, and its optimiser; gradients are clipped to `max_grad_norm`, 0: not at all.

    Raises ConfigError for what does not go through ZeRO.
    """
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    check(settings, model, optimizer)
    if accelerator.mixed_precision == "bf16":
        model.forward = torch.autocast(accelerator.device.type, torch.bfloat16)(model.forward)
    for own in ("bf16", "fp16"):
        settings.pop(own, None)
    # Packs come without a DataLoader, and the loop says which micro-batch is a step's last.
    settings.update(train_micro_batch_size_per_gpu=1, gradient_accumulation_steps=1, gradient_clipping=max_grad_norm)
    if _stage(settings) == 3:
        _gather_by_block(model)
    engine, wrapped = accelerator.prepare(model, optimizer)
    accelerator.deepspeed_engine_wrapped = _Engine(engine)
    return engine, _Optimizer(wrapped.optimizer, engine)


def check(settings: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise ConfigError for DeepSpeed's `settings`, or an optimiser or weights, that ZeRO cannot train as nlpft does."""
    zero = settings.get("zero_optimization", {})
    offloaded = [
        k for k in ("offload_optimizer", "offload_param") if (zero.get(k) or {}).get("device", "none") != "none"
    ]
    named = [key for key in ("optimizer", "scheduler") if key in settings]
    if _stage(settings) not in (1, 2, 3):
        raise ConfigError(
            f"zero_stage {_stage(settings)}: 1, 2 or 3; with none of them launch with recipes/accelerate/ddp.yaml"
        )
    if offloaded:
        raise ConfigError(
            f"DeepSpeed's {offloaded[0]}: nlpft keeps all on the GPU; set it to none, zero_stage 3 takes the least of it"
        )
    if str(settings.get("fp16", {}).get("enabled")).lower() == "true":
        raise ConfigError("mixed_precision fp16: set bf16, or no")
    if named:
        raise ConfigError(f"DeepSpeed's configuration names {named[0]}: take it out, optim.* says it")
    if type(optimizer) not in ELEMENTWISE:
        raise ConfigError(
            f"optim.name: {type(optimizer).__name__} needs whole weights, ZeRO cuts them; take adamw, {INSTEAD}"
        )
    if _stage(settings) == 3 and any(hasattr(weight, "quant_state") for weight in model.parameters()):
        raise ConfigError(
            "zero_stage 3 cannot cut weights in 4 bits; take zero_stage 2, which leaves frozen weights whole"
        )


def check_method(holds_back: bool, regularize: RegularizeConfig) -> None:
    """Raise ConfigError for a tuning method that `holds_back` gradients, and for regularisers, which ask for whole weights."""
    if holds_back:
        raise ConfigError(
            f"tuning.name: it holds gradients back behind the backward pass, where ZeRO has cut them; {OTHER}"
        )
    for name in ("l1", "l2", "l2_sp", "average"):
        if getattr(regularize, name):
            raise ConfigError(
                f"regularize.{name} asks for whole weights in each step, and ZeRO cuts them; set it to 0, {INSTEAD}"
            )


def _stage(settings: Mapping[str, Any]) -> int:
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def _gather_by_block(model: nn.Module) -> None:
    """Have ZeRO-3 gather each block's weights together: within it, folded adapters and compiled code read them directly."""
    from deepspeed.utils import set_z3_leaf_modules

    stack = blocks(model)
    set_z3_leaf_modules(model, list({type(block) for block in stack}))
    lowest = next((block for block in stack if any(weight.requires_grad for weight in block.parameters())), None)
    if lowest is not None:
        lowest.register_forward_pre_hook(_ask_for_gradient)


def _ask_for_gradient(block: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Have the hidden states [batch, time, width] ask for a gradient: behind it DeepSpeed takes those of the block's weights."""
    if torch.is_grad_enabled() and not inputs[0].requires_grad:
        inputs[0].requires_grad_()


class _Engine(DeepSpeedEngineWrapper):
    """What Accelerate calls for a backward pass and for the gradient's norm, without the step."""

    def backward(self, loss: Tensor, sync_gradients: bool = True, **options: Any) -> None:
        self.engine.set_gradient_accumulation_boundary(is_boundary=sync_gradients)
        self.engine.backward(loss, **options)

    def get_global_grad_norm(self) -> Tensor:
        """Norm [] of the whole gradient behind a step's last backward pass, before clipping; not finite where that is not."""
        parts = [part for group in self.engine.optimizer.averaged_gradients.values() for part in group]
        squares = torch.stack([part.detach().float().square().sum() for part in parts]).sum()
        torch.distributed.all_reduce(squares)
        return squares.sqrt()


class _Optimizer(DeepSpeedOptimizerWrapper):
    """DeepSpeed's optimiser, whose step is the engine's; what is not stepped with is dropped."""

    def __init__(self, optimizer: Any, engine: Any) -> None:
        super().__init__(optimizer)
        self.engine = engine

    def step(self, closure: Any = None) -> None:
        self.engine.step()

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        self.optimizer.zero_grad()
        self.optimizer.averaged_gradients.clear()


def states(model: nn.Module, optimizer: Any) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    """Of each weight that trains: its name, itself, whole, and what `optimizer` keeps of it, by key; the same on every process.

    model: unwrapped. One after the other, so that no more than one is whole at a time; every process must take them all.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    own = optimizer.optimizer
    _link(own)
    flat, kept = next(iter(own.optimizer.state.items()), (torch.empty(0), {}))
    for name, weight in trained(model):
        moments = {
            key: safe_get_full_optimizer_state(weight, key) if _is_moment(value, flat.shape) else value
            for key, value in kept.items()
        }
        yield name, safe_get_full_fp32_param(weight), moments


def restore(model: nn.Module, optimizer: Any, read: Callable[[str, torch.Size], tuple[Tensor, dict[str, Any]]]) -> None:
    """Put in place what `read(name, shape)` gives for each weight that trains: itself, and what `optimizer` keeps of it by key.

    model: unwrapped. Every process calls this and reads the same.
    """
    own = optimizer.optimizer
    for number, (name, weight) in enumerate(trained(model)):
        value, moments = read(name, shape(weight))
        if number == 0:
            _begin(own, shape(weight), moments)
        _put(weight, value, {key: m for key, m in moments.items() if _is_moment(m, shape(weight))})
    if hasattr(own, "update_lp_params"):  # of weights that ZeRO-1 and 2 leave whole
        own.update_lp_params()


def _begin(own: Any, size: torch.Size, moments: Mapping[str, Any]) -> None:
    """Make torch's optimiser within ZeRO's keep what `moments` of a weight of `size` has: zeros in place of what is like it."""
    own.optimizer.state.clear()
    fused = any(group.get("fused") for group in own.optimizer.param_groups)
    for flat in own.fp32_partitioned_groups_flat if _is_third(own) else own.single_partition_of_fp32_groups:
        for key, value in moments.items():
            own.optimizer.state[flat][key] = (
                torch.zeros_like(flat) if _is_moment(value, size) else _fresh(value, flat, fused)
            )
    _link(own)


def _fresh(value: Any, flat: Tensor, fused: bool) -> Any:
    """A copy of `value`, a number kept of `flat`: on its device for a fused kernel, as torch puts it there."""
    return value.to(flat.device if fused else value.device, copy=True) if isinstance(value, Tensor) else value


def _link(own: Any) -> None:
    """Have ZeRO-1 and 2 note of each weight where its moments lie: they do it behind the first group's first step, and once."""
    if not _is_third(own):
        own._hp_optimizer_states_linked = False
        own._lazy_init_hp_params_optimizer_state()


def _put(weight: nn.Parameter, value: Tensor, moments: Mapping[str, Tensor]) -> None:
    from deepspeed import utils, zero

    if not hasattr(weight, "ds_id"):
        utils.safe_set_full_fp32_param(weight, value)
        for key, moment in moments.items():
            utils.safe_set_full_optimizer_state(weight, moment, key)
        return
    with zero.GatheredParameters([weight], modifier_rank=0):
        weight.data.copy_(value)
    utils.safe_set_local_fp32_param(weight, _part(weight, value))
    for key, moment in moments.items():
        utils.safe_set_local_optimizer_state(weight, _part(weight, moment), key)


def _part(weight: Any, value: Tensor) -> Tensor:
    """This process's part of what is shaped like the whole of `weight`, as ZeRO-3 cuts it: equal parts, the last ones padded."""
    size, flat = weight.ds_tensor.numel(), value.flatten()
    start = torch.distributed.get_rank() * size
    part = flat[start : start + size]
    return torch.nn.functional.pad(part, (0, size - part.numel()))


def _is_third(own: Any) -> bool:
    """Whether ZeRO's optimiser `own` cuts the weights too (ZeRO-3)."""
    return hasattr(own, "fp32_partitioned_groups_flat")


def _is_moment(value: Any, size: torch.Size) -> bool:
    """Whether `value`, kept of a weight of `size`, has a number for each of that weight's."""
    return isinstance(value, Tensor) and value.shape == size


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that train, with their names; tied ones once."""
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


def shape(weight: nn.Parameter) -> torch.Size:
    """Shape of the whole of `weight`."""
    return torch.Size(getattr(weight, "ds_shape", weight.shape))
