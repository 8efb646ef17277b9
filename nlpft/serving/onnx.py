"""An ONNX file of the model without its cache of keys: token ids to logits, compared under onnxruntime before it is kept.

Of a model with a head: `_onnx_head.py`.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError, ModelError
from nlpft.models.heads import has_head
from nlpft.models.load import context, load_model, load_tokenizer
from nlpft.models.merge import distance, logits
from nlpft.serving import _onnx_file, _onnx_head
from nlpft.serving._source import Settings, Source, write_endings, write_whole

NEEDED = ("onnx", "onnxscript", "onnxruntime")
HEADS = True
FILE = "model.onnx"
SHAPES = ((1, 7), (3, 20), (1, 1))  # [batch, time] of random ids, none of them the shape that the export saw
ALLOWED = 1e-4  # norm of the logits' difference by their norm, in float32


class Logits(nn.Module):
    """A causal LM as a function of token ids alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


def check(settings: Settings) -> None:
    """Raise ConfigError for what does not fit, or without the packages."""
    if settings.adapter:
        raise ConfigError("--adapter: --to onnx writes whole weights; leave it out")
    if settings.dtype not in ("auto", "float32"):
        raise ConfigError(f"--dtype {settings.dtype}: --to onnx writes float32; leave it out")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f'--to onnx needs {", ".join(missing)}: pip install "nlpft[onnx]"')


def write(source: Source, output: Path, settings: Settings) -> list[str]:
    """model.onnx with its weights beside it, and the tokenizer. Raises ModelError where it does not compute the same."""
    if has_head(source.folder):
        return _onnx_head.write(source, output / FILE, ALLOWED)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=output.parent) as work:
        said = write_whole(source, Path(work), settings) if source.base else []
        model = load_model(work if source.base else source.name, "float32").eval()
        model.config.save_pretrained(output)  # type: ignore[union-attr, operator]
        export(model, output / FILE)
        off = max(difference(model, output / FILE))
    if not off <= ALLOWED:
        raise ModelError(
            f"the ONNX file does not compute what the model does: logits differ by {off:.1e}; nothing was kept"
        )
    load_tokenizer(source.name).save_pretrained(output)
    write_endings(source, output)
    return [
        *said,
        f"{FILE}: input_ids [batch, time] to logits, float32, no cache; {off:.1e} off the model's under onnxruntime",
    ]


def export(model: Any, file: Path) -> None:
    """Write `model`. Raises ModelError where torch cannot take its forward pass apart."""
    _onnx_file.export(Logits(model), {"input_ids": torch.arange(24).reshape(2, 12)}, file, context(model))


def difference(model: nn.Module, file: Path) -> list[float]:
    """How far onnxruntime's logits are from the model's, for several shapes of input."""
    import onnxruntime  # optional

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    chance = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    found = []
    for shape in SHAPES:
        ids = torch.randint(0, vocabulary, shape, generator=chance)
        (out,) = session.run(None, {"input_ids": ids.numpy()})
        found.append(distance(torch.from_numpy(out), logits(model, ids)))
    return found
