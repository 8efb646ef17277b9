"""Models whose weights stay on the disk: a module's are read when it computes, in float32, and forgotten behind it.

So a forward pass needs the memory of one module, whatever the model's size; an adapter's own weights are held. What PEFT's layers
compute they compute here too, and what it merges it merges, one layer at a time.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from nlpft.errors import ModelError
from nlpft.models import shards

WRAPPERS = ("base_layer", "original_module", "token_adapter")  # parts of a name that PEFT adds within a layer
# Ways to begin an adapter that take nothing out of the base's weights; after others PEFT decomposes those weights again.
HARMLESS = (True, False, "gaussian", "orthogonal")

Read = Callable[[str], Tensor]


class Unstreamable(Exception):
    """Why a model cannot be computed or merged module by module; it can as a whole."""


class Source(NamedTuple):
    """Where a model's weights lie."""

    folder: Path
    files: dict[str, str]  # of each tensor
    tied: dict[str, str]  # a parameter that has no tensor of its own, and whose it shares

    def read(self, name: str) -> Tensor:
        """A parameter in float32, or a tensor of whole numbers as it is."""
        name = self.tied.get(name, name)
        tensor = shards.read(self.folder / self.files[name], name)
        return tensor.float() if tensor.is_floating_point() else tensor


class Unit(NamedTuple):
    """A module that computes by itself: a layer with its adapters, or one with parameters of its own."""

    name: str  # in the base model
    module: nn.Module
    adapted: bool

    def parameters(self) -> Iterator[tuple[str, str, nn.Module, str]]:
        """(name in the base model, path below the unit, module that has it, its attribute) of each parameter on the disk."""
        for path, weight in self.module.named_parameters(recurse=self.adapted, remove_duplicate=False):
            if weight.is_meta:
                owner, _, attribute = path.rpartition(".")
                yield base_name(f"{self.name}.{path}"), path, self.module.get_submodule(owner), attribute


def base_name(name: str) -> str:
    """A parameter's or module's name in the base model, from that under PEFT's wrapping."""
    return ".".join(part for part in name.removeprefix("base_model.model.").split(".") if part not in WRAPPERS)


def skeleton(folder: Path) -> tuple[Any, Source]:
    """The causal LM in `folder` with all parameters on the disk, and where they lie.

    Raises Unstreamable where its files do not hold the parameters by their names, ModelError where one is broken.
    """
    files = shards.index(folder)
    if not files:
        raise Unstreamable("its base's weights are not safetensors")
    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None):
        raise Unstreamable("its base's weights are quantized")
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()  # which Accelerate's empty parameters undo
    source = Source(folder, files, _tied(model, files))
    _check_shapes(model, source)
    for name, buffer in model.named_buffers():
        if name in files:
            buffer.copy_(source.read(name))
    return model.eval(), source


def adapted(model: Any, folder: Path, name: str = "default") -> Any:
    """`model`, a skeleton, with the adapter in `folder` on it, which is held in memory; beside those that are on it already.

    Raises ModelError where the adapter does not fit, Unstreamable where it was taken out of the base's weights.
    """
    from peft import PeftConfig, PeftModel  # 5 s of import that a plain model does not need

    file = folder / "adapter_model.safetensors"
    stored = set(shards.names(file)) if file.is_file() else set()
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if getattr(config, "init_lora_weights", True) not in HARMLESS:
            raise Unstreamable(f"the adapter began as {config.init_lora_weights}, which decomposes its base's weights")
        if getattr(config, "target_parameters", None):
            raise Unstreamable("the adapter changes parameters, not modules (target_parameters)")
        with without_weights(model):  # PEFT moves an adapter to where its base is, and would forget it on `meta`
            if isinstance(model, PeftModel):
                model.load_adapter(str(folder), name, low_cpu_mem_usage=True)
            else:
                model = PeftModel.from_pretrained(model, str(folder), name, low_cpu_mem_usage=True).eval()
            missing = [name for name, weight in model.named_parameters() if weight.is_meta]
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        text = f"{type(error).__name__}: {error}".splitlines()
        raise ModelError(f"{folder}: cannot be put on its base: {' '.join(text[:2])[:400]}") from error
    if missing:
        raise ModelError(
            f"{folder}: holds no {missing[0]}, which its adapter_config.json asks for; was it copied whole?"
        )
    unused = sorted(stored - _names(model, name)) if not model.peft_config[name].is_prompt_learning else []
    if unused:
        raise ModelError(f"{folder}: holds {unused[0]}, for which its base has no place; is it for another base?")
    return model


def _names(model: Any, name: str) -> set[str]:
    """What an adapter's weights are called in its file."""
    from peft import get_peft_model_state_dict

    with without_weights(model):
        return set(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))


@contextmanager
def without_weights(model: nn.Module) -> Iterator[None]:
    """Let the parameters that are on the disk pass for ones in memory, for what asks no more than their shapes."""
    _replace_empty(model, "cpu")
    try:
        yield
    finally:
        _replace_empty(model, "meta")


def _is_empty(weight: Tensor) -> bool:
    """Whether a parameter only says of which shape it is."""
    return weight.is_meta or (weight.numel() > 1 and not any(weight.stride()))


def _replace_empty(model: nn.Module, device: str) -> None:
    """Let the parameters that are on the disk say that they are on `device`. None of them takes memory; tied ones stay tied."""
    new: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and _is_empty(weight):
                empty = torch.zeros(1).expand(weight.shape) if device == "cpu" else weight.detach().to(device)
                module._parameters[name] = new.setdefault(weight, nn.Parameter(empty, requires_grad=False))


def _tied(model: nn.Module, files: Mapping[str, str]) -> dict[str, str]:
    owner: dict[int, str] = {}
    weights = list(model.named_parameters(remove_duplicate=False))
    for name, weight in weights:
        if name in files:
            owner.setdefault(id(weight), name)
    return {name: owner[id(weight)] for name, weight in weights if owner.get(id(weight), name) != name}


def _check_shapes(model: nn.Module, source: Source) -> None:
    for name, weight in model.named_parameters():
        stored = source.tied.get(name, name)
        if stored not in source.files:
            raise Unstreamable(f"its base's files have no tensor called {stored}")
        if shards.shape(source.folder / source.files[stored], stored) != tuple(weight.shape):
            raise Unstreamable(f"{stored} has another shape in its base's files than in the model")


def units(model: nn.Module) -> list[Unit]:
    """The modules that compute by themselves, in the model's order."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # 5 s of import that a plain model does not need
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: list[Unit] = []
    adapters: tuple[Any, ...] = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    above = ""
    for name, module in model.named_modules():
        if above and name.startswith(above):
            continue
        if isinstance(module, adapters):
            found.append(Unit(base_name(name), module, True))
            above = f"{name}."
        elif next(module.parameters(recurse=False), None) is not None:
            found.append(Unit(base_name(name), module, False))
    return found


def weights(unit: Unit, source: Source) -> list[str]:
    """Names of the unit's parameters in the base model; those that share another's tensor too."""
    found = (
        base_name(f"{unit.name}.{path}")
        for path, _ in unit.module.named_parameters(recurse=unit.adapted, remove_duplicate=False)
    )
    return [name for name in dict.fromkeys(found) if name in source.files or name in source.tied]


def values(unit: Unit, read: Read) -> dict[str, Tensor]:
    """The unit's parameters by their names in the base model, adapters added to them."""
    with loaded(unit, read) as module:
        whole = merged(module) if unit.adapted else module
        return {
            base_name(f"{unit.name}.{path}"): weight.detach()
            for path, weight in whole.named_parameters(recurse=unit.adapted, remove_duplicate=False)
        }


@contextmanager
def loaded(unit: Unit, read: Read) -> Iterator[nn.Module]:
    """The unit's module with its parameters in memory, until the block ends."""
    there = list(unit.parameters())
    empty = [owner._parameters[attribute] for _, _, owner, attribute in there]
    for name, _, owner, attribute in there:
        owner._parameters[attribute] = nn.Parameter(read(name), requires_grad=False)
    try:
        yield unit.module
    finally:
        for (_, _, owner, attribute), old in zip(there, empty, strict=True):
            owner._parameters[attribute] = old


def merged(module: Any) -> nn.Module:
    """A copy of a loaded layer with PEFT's adapters added to its weights, or of what was trained in its place."""
    module = copy.deepcopy(module)
    if hasattr(module, "unload_and_optionally_merge_module"):
        return module.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
    module.merge(safe_merge=True)
    return module.get_base_layer()


@torch.inference_mode()
def logits(model: nn.Module, read: Read, ids: Tensor, merge: bool = False) -> Tensor:
    """Logits [batch, time, vocabulary] in float32 of token ids [batch, time]; merge: each adapted layer as it will be written.

    Raises Unstreamable where a module computes with the weights of another.
    """
    everything = units(model)
    before = {unit.name: unit.module.forward for unit in everything}
    try:
        for unit in everything:
            unit.module.forward = _reading(unit, before[unit.name], read, merge and unit.adapted)
        found = model(input_ids=ids, use_cache=False).logits
        if found.is_meta:
            raise NotImplementedError("logits on the meta device")
        return found
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        raise Unstreamable("a module of its base computes with the weights of another") from error
    finally:
        for unit in everything:
            vars(unit.module).pop("forward", None)


def _reading(unit: Unit, forward: Callable, read: Read, merge: bool) -> Callable:
    """The unit's `forward` with its weights read before it and forgotten behind it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with loaded(unit, read) as module:
            return (merged(module) if merge else forward)(*args, **kwargs)

    return run
