"""Folders -> models: whole weights, or an adapter on its base; and back."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlpft.errors import ConfigError, ModelError
from nlpft.files import whole_folder
from nlpft.models.pretrained import canonical_name, resolve

transformers.utils.logging.disable_progress_bar()  # a bar for each of 272 tensors is no news
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")  # PEFT 0.21 on transformers 5.23

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str, dtype: str = "auto", auto: Any = AutoModelForCausalLM, **options: Any) -> nn.Module:
    """The language model called `name`: a hub id, a folder of weights, or a folder with an adapter (put on its base).

    dtype: of the weights; auto is float32 on the CPU and bfloat16 on a GPU. auto: transformers' class of such models (models/
    kinds.py). options: more keywords of from_pretrained, for whole weights (a tuning method's load_options). Raises ModelError
    where it cannot be loaded.
    """
    folder = resolve(name)
    adapter = adapter_base(folder)
    if adapter is not None:
        from peft import PeftModel  # 5 s of import that a plain model does not need

        try:
            return PeftModel.from_pretrained(load_model(adapter, dtype, auto, **options), str(folder))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder}: cannot be put on its base, {adapter}: {error}") from error
    try:
        model = auto.from_pretrained(folder, dtype=weight_type(dtype), **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded by {auto.__name__}: {error}") from error
    # PEFT writes it into the adapter: a name that others find too, not a path in this machine's cache.
    model.name_or_path = model.config.name_or_path = canonical_name(name)
    return model


def context(model: nn.Module) -> int | None:
    """Tokens that `model` can see, where its configuration says so."""
    return getattr(model.config, "max_position_embeddings", None)


def device() -> torch.device:
    """The device of this process: a GPU where there is one, unless the launcher was told --cpu."""
    # Whoever asks first sets Accelerate's state for good, so the launcher's wish must be passed on here.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device


def weight_type(dtype: str) -> torch.dtype:
    """The type called `dtype`; auto goes by the device that this run uses, which `--cpu` may have chosen.

    Raises ConfigError for bfloat16 on a GPU that does not compute in it.
    """
    used = device()
    knows = used.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if dtype == "auto":
        return torch.bfloat16 if used.type != "cpu" and knows else torch.float32
    if dtype == "bfloat16" and not knows:
        raise ConfigError(f"dtype bfloat16: {torch.cuda.get_device_name()} does not compute in it; set dtype float32")
    return DTYPES[dtype]


def autocast(dtype: str) -> str:
    """Accelerate's mixed precision for weights of the type called `dtype`, whatever the launcher says of it."""
    return "bf16" if weight_type(dtype) == torch.bfloat16 else "no"


def adapter_base(folder: Path) -> str | None:
    """The base model's name, if `folder` holds an adapter in PEFT's format."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: broken ({type(error).__name__}: {error}); was it downloaded whole?") from error
    if not base:
        raise ModelError(f"{path}: does not name its base model (base_model_name_or_path)")
    return base


def save_model(model: nn.Module, folder: Path, tokenizer: Any, facts: dict[str, Any], main: bool = True) -> None:
    """Write the adapter (PEFT) or the whole weights of `model` to `folder`, its tokenizer, and `facts` as nlpft.json.

    Whole weights are written in the type that the model's configuration names, which is the one they were loaded in: masters are
    for training. The folder appears when everything in it is written; an older one is replaced. Where processes hold parts of the
    weights, all of them call this; `main` writes.
    """
    state = gathered(model, keep=main) if is_sharded(model) else None
    if not main:
        return
    if state is None and not hasattr(model, "peft_config"):
        model = model.to(_loaded_type(model))
    with whole_folder(folder, overwrite=True) as partial:
        # An adapter never resizes the vocabulary here; left to find out, PEFT would look for the base's config on the hub.
        options = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
        model.save_pretrained(partial, state_dict=state, **options)  # type: ignore[operator]
        tokenizer.save_pretrained(partial)
        if (own := Path(tokenizer.name_or_path) / "tokenizer.json").is_file():
            # transformers writes it in another way, and datasets would pass for those of another tokenizer.
            shutil.copyfile(own, partial / "tokenizer.json")
        (partial / "nlpft.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _loaded_type(model: Any) -> torch.dtype:
    dtype = model.config.dtype
    return DTYPES[dtype] if isinstance(dtype, str) else dtype


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a part of each weight (FSDP2, ZeRO-3)."""
    return any(isinstance(module, FSDPModule) for module in model.modules()) or any(map(_is_cut, model.parameters()))


def _is_cut(weight: Tensor) -> bool:
    """Whether `weight` is one that DeepSpeed's ZeRO-3 has cut, and empty but where a module computes with it."""
    return hasattr(weight, "ds_id")


def resharded(model: nn.Module) -> nn.Module:
    """`model` with every sharded weight in parts again: FSDP2 leaves some of them whole behind a forward pass."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return model


def gathered(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """Whole weights of a sharded `model` on the CPU, one after the other, of an adapter only its own; empty unless `keep`."""
    adapter, whole = hasattr(model, "peft_config"), {}
    dtype: Any = None if adapter else _loaded_type(model)
    once = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once.keys()
    for name, weight in resharded(model).state_dict().items():
        if name not in tied and (not adapter or (name in once and once[name].requires_grad)):
            tensor = _whole(once.get(name, weight))
            if keep:
                whole[name] = tensor.to("cpu", dtype)
    return whole


def _whole(weight: Tensor) -> Tensor:
    if _is_cut(weight):
        from deepspeed import zero

        with zero.GatheredParameters([weight]):
            return weight.detach().clone()
    return weight.full_tensor() if isinstance(weight, DTensor) else weight.detach()


def load_tokenizer(name: str, chat_template: str | None = None) -> Any:
    """transformers' tokenizer of `name`, with `chat_template` in place of its own where one is given.

    Raises ModelError where it has none that can be loaded.
    """
    folder = tokenizer_folder(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {error}") from error
    if chat_template:
        tokenizer.chat_template = chat_template
    return tokenizer


def tokenizer_folder(name: str) -> Path:
    """Where the tokenizer of `name` lies: an adapter without one of its own has its base's."""
    folder = resolve(name, weights=False)
    base = adapter_base(folder)
    return resolve(base, weights=False) if base and not (folder / "tokenizer.json").is_file() else folder
