"""Several LoRA adapters of one base as one, by PEFT's `add_weighted_adapter` and its names.

linear, cat and svd add the updates, weighted (linear exactly so only for updates that agree); ties and dare_* cut them down
first (TIES-merging, Yadav et al. 2023; DARE, Yu et al. 2024), magnitude_prune drops the small numbers; *_svd does it to whole
updates, of which the singular values that fit are kept.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nlpft.errors import ConfigError, ModelError
from nlpft.models import streamed
from nlpft.models.load import adapter_base, load_model, load_tokenizer
from nlpft.models.pretrained import resolve

WHOLE = ("linear", "cat", "svd")  # these use every number of an update, the others the share called density
# What `add_weighted_adapter` would leave behind, by the setting of LoraConfig, and its value where there is no such thing.
LEFT_BEHIND = {
    "modules_to_save": None, "bias": "none", "use_dora": False, "trainable_token_indices": None, "lora_bias": False,
    "target_parameters": None,
}  # fmt: skip


class Settings(NamedTuple):
    """How adapters are combined."""

    weights: Sequence[float]
    combination: str = "cat"
    density: float | None = None  # share of each update that is kept
    rank: int | None = None  # of the *svd ones; None: the largest of the adapters'
    seed: int = 0  # of what dare_* draws


class Combined(NamedTuple):
    """What came of it."""

    base: str
    rank: int
    off: float  # norm of the difference between the update and the weighted sum, by the norm of that sum


def check(names: Sequence[str], settings: Settings) -> None:
    """Raise ConfigError where the settings do not fit each other."""
    if len(settings.weights) != len(names):
        raise ConfigError(f"weights: {len(settings.weights)} for {len(names)} adapters; give one for each")
    pruned = settings.combination not in WHOLE
    if pruned and settings.density is None:
        raise ConfigError(f"combination {settings.combination} keeps a share of each update: give it by --density 0.5")
    if settings.density is not None and not pruned:
        raise ConfigError(f"density: combination {settings.combination} uses whole updates; leave it out")
    if settings.density is not None and not 0 < settings.density <= 1:
        raise ConfigError(f"density {settings.density}: a share above 0, up to 1")
    if settings.rank is not None and (settings.rank < 1 or not settings.combination.endswith("svd")):
        raise ConfigError(f"rank {settings.rank}: at least 1, and only for those of --combination that end in svd")


def combine(names: Sequence[str], output: Path, settings: Settings) -> Combined:
    """Write the combination of the adapters called `names` to `output`, with the first one's tokenizer, and nlpft.json.

    The base's weights are not read, if its files allow (`streamed`). Raises ModelError where one is no LoRA adapter, brings what
    a combination would leave behind, or is for another base or chat template than the first.
    """
    check(names, settings)
    folders = [resolve(name) for name in names]
    base = _common_base(names, folders)
    template_hash = _template_hash(names, folders)
    model = _loaded(base, folders)
    for name, label in zip(names, _labels(names), strict=True):
        _check_kind(name, model.peft_config[label])
    torch.manual_seed(settings.seed)
    with streamed.without_weights(model):
        _add(model, _labels(names), settings)
        off = _off(model, _labels(names), settings.weights)
        model.save_pretrained(output, selected_adapters=["default"], save_embedding_layers=False)
    load_tokenizer(names[0]).save_pretrained(output)
    facts = {
        "base": base,
        "template_hash": template_hash,
        "combined_from": dict(zip(map(str, names), settings.weights, strict=True)),
        **settings._asdict(),
    }
    (output / "nlpft.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Combined(base, model.peft_config["default"].r, off)


def _labels(names: Sequence[str]) -> list[str]:
    return [f"adapter{i}" for i in range(len(names))]


def _common_base(names: Sequence[str], folders: Sequence[Path]) -> str:
    bases = [adapter_base(folder) for folder in folders]
    for name, base in zip(names, bases, strict=True):
        if base is None:
            raise ModelError(f"{name}: not an adapter (no adapter_config.json); only adapters can be combined")
        if base != bases[0] and resolve(base, weights=False) != resolve(str(bases[0]), weights=False):
            raise ModelError(
                f"{name}: is for {base}, {names[0]} for {bases[0]}; only adapters of one base can be combined"
            )
    return str(bases[0])


def _template_hash(names: Sequence[str], folders: Sequence[Path]) -> str | None:
    """The hash of the chat template that all were trained with, where it is known."""
    files = [folder / "nlpft.json" for folder in folders]
    hashes = [json.loads(f.read_text(encoding="utf-8")).get("template_hash") if f.is_file() else None for f in files]
    for name, other in zip(names, hashes, strict=True):
        if other and hashes[0] and other != hashes[0]:
            raise ModelError(
                f"{name}: was trained with another chat template (hash {other}) than {names[0]} (hash {hashes[0]}); together "
                "they would read prompts of neither"
            )
    return hashes[0]


def _loaded(base: str, folders: Sequence[Path]) -> Any:
    """The base with all adapters, without its weights if possible."""
    labels = _labels([str(f) for f in folders])
    try:
        model, _ = streamed.skeleton(resolve(base))
        for label, folder in zip(labels, folders, strict=True):
            model = streamed.adapted(model, folder, label)
        return model
    except streamed.Unstreamable:
        from peft import PeftModel  # 5 s of import that a plain model does not need

        whole: Any = PeftModel.from_pretrained(load_model(base, "float32"), str(folders[0]), labels[0])
        for label, folder in zip(labels[1:], folders[1:], strict=True):
            whole.load_adapter(str(folder), label)
        return whole


def _check_kind(name: str, config: Any) -> None:
    if config.peft_type != "LORA":
        raise ModelError(f"{name}: an adapter of the kind {config.peft_type.value}; only LoRA adapters can be combined")
    for setting, plain in LEFT_BEHIND.items():
        value = getattr(config, setting, plain)
        if value != plain and value:
            raise ModelError(
                f"{name}: has {setting} {value}, which a combination would leave behind; merge it by itself"
            )


def _add(model: Any, labels: Sequence[str], settings: Settings) -> None:
    # PEFT gives the new adapter the first one's settings and a scale of 1, which they hold to be another where rsLoRA is on.
    model.peft_config[labels[0]].use_rslora = False
    try:
        model.add_weighted_adapter(
            labels,
            list(settings.weights),
            "default",
            combination_type=settings.combination,
            svd_rank=settings.rank,
            svd_full_matrices=False,
            density=settings.density,
        )
    except ValueError as error:
        raise ConfigError(
            f"combination {settings.combination}: {error}; cat and svd take adapters of any rank"
        ) from error


def _off(model: Any, labels: Sequence[str], weights: Sequence[float]) -> float:
    """How far the combination is from the weighted sum of the updates, over all layers."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    difference = total = 0.0
    for layer in layers:
        there = [(w, label) for w, label in zip(weights, labels, strict=True) if label in layer.scaling]
        summed = sum(w * layer.get_delta_weight(label).double() for w, label in there)
        difference += (layer.get_delta_weight("default").double() - summed).norm().item() ** 2
        total += torch.as_tensor(summed).norm().item() ** 2
    return (difference / total) ** 0.5 if total else 0.0
