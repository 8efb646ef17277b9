"""An adapter added to its base: whole weights, checked against the adapted model before and after they are written."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from nlpft.errors import ModelError
from nlpft.models.load import adapter_base, load_model, load_tokenizer, save_model, weight_type
from nlpft.models.pretrained import resolve

# How far logits may be from the adapted model's: norm of the difference by norm of the logits. In float32 a merge is exact but
# for the order of sums (SmolLM2-135M: 1e-6); weights rounded to 8 or 11 bits make themselves felt (4e-3, 6e-4).
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
PROBE = (2, 64)  # [batch, time] of the random token ids that the models are shown


class Merged(NamedTuple):
    """What a merge has shown of itself; distances are those of `distance`."""

    base: str
    dtype: str
    effect: float  # from the base model's logits to the adapted one's
    off: float  # from the adapted model's logits to those of the weights as written


def merge(name: str, output: Path, dtype: str = "auto") -> Merged:
    """Write base and adapter `name` as whole weights to `output`, with the tokenizer and nlpft.json.

    The sum is made in float32 and rounded once, to `dtype` (auto: the type that the base's weights are stored in). Both it and,
    read back, what was written must give the adapted model's logits, computed in float32, within TOLERANCES.
    Raises ModelError where `name` is no adapter, of a kind that cannot be merged, or fails a check.
    """
    folder = resolve(name)
    base = adapter_base(folder)
    if base is None:
        raise ModelError(
            f"{name}: not an adapter (no adapter_config.json): its weights are whole, use them as they are"
        )
    dtype = stored_type(base) if dtype == "auto" else dtype
    model = mergeable(load_model(name, "float32").eval(), name)
    ids = probe(model)
    adapted = logits(model, ids)
    with model.disable_adapter():
        effect = distance(logits(model, ids), adapted)
    model = merged(model, name)
    check("the merged weights", distance(logits(model, ids), adapted), TOLERANCES["float32"])
    model.config.dtype = weight_type(dtype)  # which save_model writes
    save_model(model, output, load_tokenizer(name), facts(folder, name))
    del model  # one copy in memory at a time
    off = distance(logits(load_model(str(output), "float32").eval(), ids), adapted)
    check("the weights as written", off, TOLERANCES[dtype])
    return Merged(base, dtype, effect, off)


def mergeable(model: Any, name: str) -> Any:
    """`model`; raises ModelError where its adapter is no change of weights, as prompts and prefixes are not."""
    if not hasattr(model.base_model, "merge_and_unload"):
        raise ModelError(
            f"{name}: an adapter of this kind is no change of weights and cannot be merged; use it as it is"
        )
    return model


def merged(model: Any, name: str) -> nn.Module:
    """The base model with the adapter added to its weights. Raises ModelError where PEFT cannot add it."""
    try:
        return model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"{name}: cannot be merged: {error}") from error


def probe(model: Any) -> Tensor:
    """Token ids [batch, time]; the same in every call for the same vocabulary."""
    vocabulary = model.get_input_embeddings().num_embeddings
    return torch.randint(0, vocabulary, PROBE, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits [batch, time, vocabulary] of token ids [batch, time]."""
    return model(input_ids=ids, use_cache=False).logits


def distance(one: Tensor, other: Tensor) -> float:
    """Norm of the difference by the norm of `other`."""
    return ((one - other).norm() / other.norm()).item()


def check(what: str, off: float, allowed: float) -> None:
    """Raise ModelError where logits are further off than is `allowed`, or not numbers."""
    if not off <= allowed:
        raise ModelError(
            f"{what} are not the adapted model: logits differ by {off:.1e}, {allowed:.0e} is allowed; nothing was kept. "
            "Use the adapter as it is, and report this with its adapter_config.json"
        )


def stored_type(base: str) -> str:
    """Type in which the base model's weights are stored, by its config.json; float32 where that names none known here."""
    dtype = str(AutoConfig.from_pretrained(resolve(base, weights=False)).dtype).removeprefix("torch.")
    return dtype if dtype in TOLERANCES else "float32"


def facts(folder: Path, name: str) -> dict[str, Any]:
    """What the adapter's nlpft.json says, and where the merged weights are from."""
    path = folder / "nlpft.json"
    return {**(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}), "merged_from": name}
