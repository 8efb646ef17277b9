"""An ONNX file of a model with a head: padded token ids to the logits of labels, compared under onnxruntime before it is kept."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.errors import ModelError
from nlpft.models import masked
from nlpft.models.forward import distance
from nlpft.models.heads import FACTS, task_of, trained_head
from nlpft.models.load import load_tokenizer
from nlpft.models.merge import mergeable, merged
from nlpft.serving._onnx_file import export
from nlpft.serving._source import Source

SHAPES = ((1, 7), (3, 20), (2, 9))  # [rows, time] of random ids, none of them the shape that the export saw
Batch = dict[str, Tensor]  # what the file takes, by name, each [rows, time]


class Scores(nn.Module):
    """A model with a head as a function of tensors alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits


def write(source: Source, file: Path, allowed: float) -> list[str]:
    """Write the model, an adapter merged into it, its tokenizer and its task; how far its logits are from the trained model's.

    Raises ModelError where torch cannot take its forward pass apart, or they are further off than `allowed`.
    """
    model = trained_head(source.name, "float32").eval()
    task = task_of(model)
    batches = [sample(model, *shape) for shape in SHAPES]
    wanted = [logits(model, batch) for batch in batches]
    model = merged(mergeable(model, source.name), source.name) if source.base else model
    example = sample(model, 2, 12)
    export(Scores(model), example, file, masked.context(model))
    off = max(map(distance, under_onnxruntime(file, batches), wanted))
    if not off <= allowed:
        raise ModelError(
            f"the ONNX file does not compute what the model does: logits differ by {off:.1e}; nothing was kept"
        )
    model.config.save_pretrained(file.parent)  # type: ignore[union-attr, operator]
    load_tokenizer(source.name).save_pretrained(file.parent)
    (file.parent / FACTS).write_text((source.folder / FACTS).read_text(encoding="utf-8"), encoding="utf-8")
    shape = "[rows, time, labels]" if task.kind == "tagging" else "[rows, labels]"
    return [
        f"{file.name}: {', '.join(example)} [rows, time] to logits {shape}, float32; {off:.1e} off the model's under "
        "onnxruntime"
    ]


def sample(model: Any, rows: int, time: int) -> Batch:
    """Random rows, each a token shorter than the one before."""
    config = model.config.get_text_config()
    pad = config.pad_token_id or 0
    drawn = torch.randint(0, config.vocab_size - 1, (rows, time), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(time) < time - torch.arange(rows)[:, None]).long()
    ids = torch.where(mask > 0, (pad + 1 + drawn) % config.vocab_size, pad)
    types = {"token_type_ids": mask.cumsum(1) // 5 % 2} if getattr(config, "type_vocab_size", 0) > 1 else {}
    return {"input_ids": ids, "attention_mask": mask, **types}


@torch.no_grad()
def logits(model: Any, batch: Batch) -> Tensor:
    """Of each row [rows, labels], or of each token that is there [tokens, labels]."""
    return _there(model(**batch).logits, batch)


def under_onnxruntime(file: Path, batches: list[Batch]) -> list[Tensor]:
    """What `logits` gives, by the file."""
    import onnxruntime  # optional

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outs = [session.run(None, {name: x.numpy() for name, x in batch.items()})[0] for batch in batches]
    return [_there(torch.from_numpy(out), batch) for out, batch in zip(outs, batches, strict=True)]


def _there(found: Tensor, batch: Batch) -> Tensor:
    return found[batch["attention_mask"] > 0] if found.ndim == 3 else found
