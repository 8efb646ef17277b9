"""Merge an adapter into its base: whole weights that any program loads, checked against the adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from nlpft.errors import ConfigError
from nlpft.files import whole_folder
from nlpft.rundir import model_folder


@dataclass(frozen=True)
class Config:
    adapter: tyro.conf.Positional[str]
    """Folder of an adapter in PEFT's format, or of a run (its model/)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the whole weights, with the tokenizer."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights that are written; auto: the base model's."""
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    name = model_folder(config.adapter)
    if config.output.resolve() in (Path(name).resolve(), *Path(name).resolve().parents):
        raise ConfigError(f"--output {config.output}: holds the adapter itself; choose another folder")
    console = Console(highlight=False)
    with whole_folder(config.output, config.overwrite) as partial, console.status("merging"):
        from nlpft.models import merge  # seconds of import, after the settings were checked

        done = merge.merge(name, partial, config.dtype)
    allowed = merge.TOLERANCES[done.dtype]
    lines = (
        f"{done.base} with {name} -> {config.output}, {done.dtype}",
        f"the adapter moves the logits by {done.effect:.1e}; merged, they are {done.off:.1e} off ({allowed:.0e} allowed)",
    )
    console.print(*lines, sep="\n", markup=False, soft_wrap=True)
    if done.effect == 0:
        console.print("[bold yellow]note:[/] the adapter changes nothing: this is the base model")
    return 0
