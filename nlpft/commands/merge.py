"""Merge adapters into their base: whole weights that any program loads, checked; or several adapters into one."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from nlpft.errors import ConfigError
from nlpft.files import whole_folder
from nlpft.rundir import model_folder


@dataclass(frozen=True)
class Config:
    adapters: tyro.conf.Positional[tuple[str, ...]]
    """Folders of adapters in PEFT's format, or of runs (their model/); of several, one base."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the result, with the tokenizer."""
    to: Literal["weights", "adapter"] = "weights"
    """weights: base and adapter as one model. adapter: of several adapters their combination as it is."""
    weights: tuple[float, ...] = ()
    """One factor for each of several adapters; below 0 it takes that adapter's effect away."""
    combination: Literal[
        "linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd",
        "magnitude_prune", "magnitude_prune_svd",
    ] = "cat"  # fmt: skip
    """Of several adapters, in PEFT's words. cat: the exact sum, at the sum of the ranks; svd: what of it fits --rank; linear: the
    factors are summed, rough and small."""
    density: float | None = None
    """Share of each update that is kept, from 0 to 1, by ties*, dare_* and magnitude_prune*."""
    rank: int | None = None
    """Of what svd and *_svd make; none: the largest of the adapters'."""
    seed: int = 0
    """Of what dare_* draws."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights that are written; auto: the base model's."""
    four_bits: bool = False
    """The adapter was trained on its base in 4 bits (qlora): say how far from that the merged weights are, as they are and
    quantized again."""
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    names = [model_folder(name) for name in config.adapters]
    check(config, names)
    console = Console(highlight=False)
    with whole_folder(config.output, config.overwrite) as partial, console.status("merging"):
        lines = one(config, names[0], partial) if len(names) == 1 else several(config, names, partial)
    for line in lines:
        style = "yellow" if line.startswith("note:") else None
        console.print(line, style=style, markup=False, soft_wrap=True)
    return 0


def check(config: Config, names: list[str]) -> None:
    """Raise ConfigError where the settings do not fit each other. Loads nothing."""
    if not names:
        raise ConfigError("adapters: none is named; give the folder of an adapter or of a run")
    for name in names:
        if config.output.resolve() in (Path(name).resolve(), *Path(name).resolve().parents):
            raise ConfigError(f"--output {config.output}: holds the adapter itself; choose another folder")
    if len(names) == 1 and config.to == "adapter":
        raise ConfigError("--to adapter: combines several adapters; of one there is nothing to do")
    if len(names) == 1 and config.weights:
        raise ConfigError("--weights: are for several adapters; one is merged as it is")
    if config.four_bits:
        from nlpft.models import four_bits

        four_bits.check_possible()


def one(config: Config, name: str, output: Path) -> list[str]:
    """Merge one adapter into its base; what is to be said of it."""
    from nlpft.models import merge  # seconds of import, after the settings were checked

    done = merge.merge(name, output, config.dtype, config.four_bits)
    return [f"{done.base} with {name} -> {config.output}, {done.dtype}", *remarks(done, merge.TOLERANCES[done.dtype])]


def several(config: Config, names: list[str], output: Path) -> list[str]:
    """Combine adapters, and merge the combination unless it is the result; what is to be said of it."""
    from nlpft.models import combine  # seconds of import, after the settings were checked

    settings = combine.Settings(config.weights, config.combination, config.density, config.rank, config.seed)
    combine.check(names, settings)
    with tempfile.TemporaryDirectory(prefix=".combined-", dir=output.parent) as work:
        folder = output if config.to == "adapter" else Path(work) / "combined"
        folder.mkdir(exist_ok=True)
        made = combine.combine(names, folder, settings)
        parts = " + ".join(f"{weight:g} {name}" for weight, name in zip(config.weights, names, strict=True))
        said = [
            f"{parts} -> {config.output}: {config.combination}, rank {made.rank}",
            f"the update is {made.off:.1%} off the weighted sum of the updates",
        ]
        return said if config.to == "adapter" else [*said, *one(config, str(folder), output)[1:]]


def remarks(done: Any, allowed: float) -> list[str]:
    """How far the merged weights are from the adapted model, and what a user may want to do about it."""
    lines = [
        f"the adapter moves the logits by {done.effect:.1e}; merged, they are {done.off:.1e} off ({allowed:.0e} allowed)"
    ]
    if done.whole:
        lines.append(f"merged as a whole, in memory: {done.whole}")
    if done.untied:
        lines.append(
            "embedding and output projection, one weight in the base, are two now (tie_word_embeddings: false)"
        )
    if done.four:
        lines.append(
            f"from the adapter on its base in 4 bits the merged logits are {done.four.merged:.1e} off, and "
            f"{done.four.again:.1e} if the merged weights are quantized to 4 bits again"
        )
    if done.effect == 0:
        lines.append("note: the adapter changes nothing: this is the base model")
    elif done.off > done.effect / 2:
        lines.append(
            f"note: {done.dtype} rounds away much of what the adapter does; take --dtype float32, or the adapter"
        )
    return lines
