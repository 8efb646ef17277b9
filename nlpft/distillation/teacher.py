"""The teacher: loaded beside the student, never trained, asked without gradients."""

import dataclasses
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from nlpft.data.sources import digest_of
from nlpft.data.tokenizer import read_spec
from nlpft.data.vocabulary import spec_hash
from nlpft.distillation.outputs import Logits
from nlpft.errors import ConfigError
from nlpft.models.compute import ComputeConfig, prepare
from nlpft.models.forward import bare, forward, projection, through_head
from nlpft.models.load import adapter_base, load_model, load_tokenizer, tokenizer_folder, weight_type
from nlpft.models.pretrained import resolve
from nlpft.rundir import model_folder


def load_teacher(name: str, dtype: str, compute: ComputeConfig, device: torch.device) -> Any:
    """The causal LM called `name` (also a run's folder), on `device`, without anything that trains."""
    model = load_model(model_folder(name), dtype).to(device)
    return prepare(resting(model), dataclasses.replace(compute, float8=False), device, weight_type(dtype))


def resting(model: Any) -> Any:
    """`model`, in place: nothing of it trains, and it draws nothing."""
    return model.requires_grad_(False).eval()


def check_vocabulary(student: str, teacher: str) -> None:
    """Raise ConfigError, with both names and the first token that differs, where the two do not read the same ids from a text."""
    folders = [tokenizer_folder(model_folder(name)) for name in (student, teacher)]
    if spec_hash(read_spec(folders[0])) == spec_hash(read_spec(folders[1])):
        return
    one, other = (_tokens(folder) for folder in folders)
    remedy = (
        "a teacher answers in the ids that it was trained on: choose a teacher, or a student, of the same tokenizer"
    )
    for number, (own, its) in enumerate(zip_longest(one, other)):
        if own != its:
            raise ConfigError(
                f"teacher {teacher} has another vocabulary than {student}: token {number} is {its!r} there and {own!r} here "
                f"({len(other)} and {len(one)} tokens); {remedy}"
            )
    raise ConfigError(
        f"teacher {teacher} has the tokens of {student}, but splits texts into them in another way (merges, pre-tokenizer or "
        f"normalizer); {remedy}"
    )


def _tokens(folder: Path) -> list[str | None]:
    """The vocabulary by id."""
    words = load_tokenizer(str(folder)).get_vocab()
    by_id = {number: word for word, number in words.items()}
    return [by_id.get(number) for number in range(max(by_id) + 1)]


def identity(name: str) -> str:
    """What the teacher's answers follow from: its weights and configuration, and its base's, by their contents."""
    folder = resolve(model_folder(name))
    digest = xxhash.xxh3_128()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*config.json")]):
        digest.update(path.name.encode() + digest_of(path).encode())
    base = adapter_base(folder)
    return digest.hexdigest() + (identity(base) if base else "")


@torch.no_grad()
def logits(teacher: nn.Module, batch: dict[str, Tensor]) -> Logits:
    """The teacher's logits at the targets of `batch`, a part at a time where its head is a plain projection."""
    head = projection(bare(teacher))
    if head is None:
        return forward(teacher, batch, batch["positions"]).__getitem__
    hidden = through_head(teacher, batch, lambda hidden, weight: hidden)
    weight = head.weight.to(hidden.dtype)
    return lambda part: hidden[part] @ weight.T
