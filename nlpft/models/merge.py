"""An adapter added to its base: whole weights, checked against the adapted model before and after they are written.

Module by module and tensor by tensor, from the base's files to files of the same layout (`streamed`): the model is never in
memory as a whole. What cannot be done so is merged in memory, and said to be.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from nlpft.errors import ModelError
from nlpft.models import four_bits, shards, streamed
from nlpft.models.heads import has_head, trained_head
from nlpft.models.load import DTYPES, adapter_base, load_model, load_tokenizer, save_model
from nlpft.models.pretrained import resolve
from nlpft.models.streamed import Source, Unit, Unstreamable

# How far logits may be from the adapted model's: norm of the difference by norm of the logits. In float32 a merge is exact but
# for the order of sums (SmolLM2-135M: 1e-6); weights rounded to 8 or 11 bits make themselves felt (4e-3, 6e-4).
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
PROBE = (2, 64)  # [batch, time] of the random token ids that the models are shown


class FourBits(NamedTuple):
    """Distances from the adapter on the base in 4 bits, as it was trained."""

    merged: float  # of the merged weights as written
    again: float  # of the merged weights, quantized to 4 bits again


class Merged(NamedTuple):
    """What a merge has shown of itself; distances are those of `distance`."""

    base: str
    dtype: str
    effect: float  # from the base model's logits to the adapted one's
    off: float  # from the adapted model's logits to those of the weights as written
    whole: str = ""  # why the whole model was held in memory, if it was
    untied: bool = False  # whether embedding and output projection, which the base shares, are two weights now
    four: FourBits | None = None


def merge(name: str, output: Path, dtype: str = "auto", in_four_bits: bool = False) -> Merged:
    """Write base and adapter `name` as whole weights to `output`, with the tokenizer and nlpft.json.

    The sum is made in float32 and rounded once, to `dtype` (auto: the type that the base's weights are stored in). Both it and,
    read back, what was written must give the adapted model's logits, computed in float32, within TOLERANCES. in_four_bits: also
    say how far the weights are from the adapter on the base in 4 bits.
    Raises ModelError where `name` is no adapter, of a kind that cannot be merged, or fails a check.
    """
    folder = resolve(name)
    base = adapter_base(folder)
    if base is None:
        raise ModelError(
            f"{name}: not an adapter (no adapter_config.json): its weights are whole, use them as they are"
        )
    dtype = stored_type(base) if dtype == "auto" else dtype
    try:
        if has_head(folder):
            done = _with_head(name, base, output, dtype, in_four_bits)
        else:
            done = _by_modules(name, base, output, dtype, in_four_bits)
    except Unstreamable as why:
        done = _as_a_whole(name, base, output, dtype, in_four_bits)._replace(whole=str(why))
    load_tokenizer(name).save_pretrained(output)
    (output / "nlpft.json").write_text(json.dumps(facts(folder, name), indent=2) + "\n", encoding="utf-8")
    return done


def _by_modules(name: str, base: str, output: Path, dtype: str, in_four_bits: bool) -> Merged:
    model, source = streamed.skeleton(resolve(base))
    ids = probe(model)
    plain = streamed.logits(model, source.read, ids)
    lossy = four_bits.reading(source.read, model)
    model = mergeable(streamed.adapted(model, resolve(name)), name)
    target = streamed.logits(model, source.read, ids)
    check("the merged weights", distance(_merged_logits(model, source, ids, name), target), TOLERANCES["float32"])
    trained = streamed.logits(model, lossy, ids) if in_four_bits else None
    untied = _write(model, source, output, DTYPES[dtype])
    _write_config(model.config, source.folder, output, dtype, untied)
    written, there = streamed.skeleton(output)
    found = streamed.logits(written, there.read, ids)
    check("the weights as written", distance(found, target), TOLERANCES[dtype])
    done = Merged(base, dtype, distance(plain, target), distance(found, target), untied=untied)
    if trained is None:
        return done
    again = streamed.logits(written, four_bits.reading(there.read, written), ids)
    return done._replace(four=FourBits(distance(found, trained), distance(again, trained)))


def _merged_logits(model: Any, source: Source, ids: Tensor, name: str) -> Tensor:
    try:
        return streamed.logits(model, source.read, ids, merge=True)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"{name}: cannot be merged: {error}") from error


def _write(model: Any, source: Source, output: Path, dtype: torch.dtype) -> bool:
    """Write the model's files, in the layout of its base's; whether weights that the base ties have become two."""
    everything = streamed.units(model)
    untied = _untied(everything, source)
    files = {**source.files, **{alias: source.files[source.tied[alias]] for alias in untied}}
    written: dict[str, str] = {}
    for file in sorted(set(files.values())):
        wanted = [(unit, [n for n in streamed.weights(unit, source) if files.get(n) == file]) for unit in everything]
        there = [(unit, names) for unit, names in wanted if names]
        layouts = {n: shards.Layout(dtype, _shape(source, n)) for _, names in there for n in names}
        buffers = {n: b for n, b in model.named_buffers() if files.get(streamed.base_name(n)) == file}
        rest = {streamed.base_name(n): b for n, b in sorted(buffers.items(), key=lambda x: -x[1].dtype.itemsize)}
        layouts |= {n: shards.Layout(b.dtype, tuple(b.shape)) for n, b in rest.items()}
        if layouts:
            shards.write(output / file, layouts, _tensors(there, source, rest))
        written |= dict.fromkeys(layouts, file)
    shards.write_index(output, written)
    return bool(untied)


def _tensors(
    there: list[tuple[Unit, list[str]]], source: Source, buffers: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for unit, names in there:
        values = streamed.values(unit, source.read)
        yield from ((name, values[name]) for name in names)
    yield from buffers.items()


def _untied(everything: list[Unit], source: Source) -> list[str]:
    """Parameters that shared another's tensor in the base, and after the merge are others."""
    owner = {name: unit for unit in everything for name in streamed.weights(unit, source)}
    changed = [(alias, name) for alias, name in source.tied.items() if owner[alias].adapted or owner[name].adapted]
    value = lambda name: streamed.values(owner[name], source.read)[name]  # noqa: E731 - of two at a time
    return [alias for alias, name in changed if not torch.equal(value(alias), value(name))]


def _shape(source: Source, name: str) -> tuple[int, ...]:
    name = source.tied.get(name, name)
    return shards.shape(source.folder / source.files[name], name)


def _write_config(config: Any, base: Path, output: Path, dtype: str, untied: bool) -> None:
    config.dtype = DTYPES[dtype]
    if untied:
        config.tie_word_embeddings = False
        config.get_text_config().tie_word_embeddings = False
    config.save_pretrained(output)
    if (base / "generation_config.json").is_file():
        shutil.copy(base / "generation_config.json", output)


def _as_a_whole(name: str, base: str, output: Path, dtype: str, in_four_bits: bool) -> Merged:
    trained = _trained_logits(name, base) if in_four_bits else None
    model = mergeable(load_model(name, "float32").eval(), name)
    ids = probe(model)
    if getattr(model, "is_quantized", False):  # a base that is stored in few bits: what it stands for, in float32
        trained = logits(model, ids)
        model = mergeable(_put_on(_dequantized(base), name), name)
    adapted = logits(model, ids)
    with model.disable_adapter():
        effect = distance(logits(model, ids), adapted)
    model = merged(model, name)
    check("the merged weights", distance(logits(model, ids), adapted), TOLERANCES["float32"])
    model.config.dtype = DTYPES[dtype]  # which save_model writes
    save_model(model, output, load_tokenizer(name), {})
    del model  # one copy in memory at a time
    written = load_model(str(output), "float32").eval()
    found = logits(written, ids)
    check("the weights as written", distance(found, adapted), TOLERANCES[dtype])
    done = Merged(base, dtype, effect, distance(found, adapted))
    if trained is None:
        return done
    again = logits(four_bits.quantize(written), ids)
    return done._replace(four=FourBits(distance(found, trained), distance(again, trained)))


def _with_head(name: str, base: str, output: Path, dtype: str, in_four_bits: bool) -> Merged:
    """A model with a head, which its base has not got: its effect is that on the body."""
    if in_four_bits:
        raise ModelError(f"{name}: has a head, of which --four_bits says nothing; leave it out")
    from peft.tuners.tuners_utils import BaseTunerLayer  # 5 s of import that a plain model does not need

    model = mergeable(trained_head(name, "float32").eval(), name)
    ids = probe(model)
    adapted = logits(model, ids)
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    effect = distance(logits(model, ids), adapted)
    for layer in layers:
        layer.enable_adapters(True)
    model = merged(model, name)
    check("the merged weights", distance(logits(model, ids), adapted), TOLERANCES["float32"])
    model.config.dtype = DTYPES[dtype]  # which save_model writes
    save_model(model, output, load_tokenizer(name), facts(resolve(name), name))
    found = logits(trained_head(str(output), "float32").eval(), ids)
    check("the weights as written", distance(found, adapted), TOLERANCES[dtype])
    return Merged(base, dtype, effect, distance(found, adapted))


def _trained_logits(name: str, base: str) -> Tensor:
    model = _put_on(four_bits.quantize(load_model(base, "float32")), name)
    return logits(model, probe(model))


def _dequantized(base: str) -> nn.Module:
    """A base that is stored in few bits, in float32: as a model that knows nothing of them, or it could not be saved."""
    stored: Any = load_model(base)
    config, weights = stored.config, stored.dequantize().float().state_dict()
    vars(config).pop("quantization_config", None)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    return model


def _put_on(base: Any, name: str) -> Any:
    from peft import PeftModel  # 5 s of import that a plain model does not need

    return PeftModel.from_pretrained(base, str(resolve(name))).eval()


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
    own = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return own if "combined_from" in own else {**own, "merged_from": name}
