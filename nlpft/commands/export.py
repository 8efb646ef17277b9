"""Write a finished model as programs that serve it want it: a folder for vLLM, GGUF, an Ollama Modelfile, ONNX."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from nlpft import plugins
from nlpft.errors import ConfigError
from nlpft.files import check_free, whole_folder
from nlpft.rundir import model_folder


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A run folder (its model/), a folder of an adapter or of weights, or a hub id."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the result."""
    to: str = "folder"
    """folder (transformers serve, vLLM), gguf (llama.cpp), ollama or onnx."""
    adapter: bool = False
    """Write the adapter as it is, for a program that has its base (vLLM's --enable-lora, Ollama's ADAPTER)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of whole weights, merged ones or the model's own; auto: the base model's, or as they are."""
    converter: Path | None = None
    """llama.cpp's convert_hf_to_gguf.py, where it is not on the PATH; with --to ollama: write GGUF."""
    outtype: str = "auto"
    """Type of the weights in a GGUF file, in llama.cpp's words: f32, f16, bf16, q8_0, auto."""
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    target = plugins.load("serving", config.to)
    name = model_folder(config.model)
    if config.output.resolve() in (Path(name).resolve(), *Path(name).resolve().parents):
        raise ConfigError(f"--output {config.output}: holds the model itself; choose another folder")
    if config.adapter and config.dtype != "auto":
        raise ConfigError(f"--dtype {config.dtype}: --adapter writes the adapter as it is; leave one of them out")
    check_free(config.output, config.overwrite)
    from nlpft.models.heads import has_head  # seconds of import, after the settings were checked
    from nlpft.serving import _source

    settings = _source.Settings(config.adapter, config.dtype, config.converter, config.outtype)
    target.check(settings)
    source = _source.source(name)
    if has_head(source.folder) and not getattr(target, "HEADS", False):
        raise ConfigError(
            f"--to {config.to}: serves language models, and {name} has a head; take --to onnx, or nlpft merge and predict"
        )
    console = Console(highlight=False)
    with whole_folder(config.output, config.overwrite) as partial, console.status("exporting"):
        said = target.write(source, partial, settings)
        facts = {"exported_from": name, "to": config.to}
        path = partial / "nlpft.json"
        own = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps({**own, **facts}, indent=2) + "\n", encoding="utf-8")
    for line in [f"{name} -> {config.output}", *said]:
        console.print(line.replace("FOLDER", str(config.output)), markup=False, soft_wrap=True)
    return 0
