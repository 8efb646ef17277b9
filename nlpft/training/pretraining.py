"""What a run of pretraining makes before it begins: a model from a configuration, a dataset from raw text."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from nlpft.config import module_of
from nlpft.data import new_tokenizer, raw_text
from nlpft.data.loader import PackedData
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models import kinds, scratch
from nlpft.models.kinds import Kind
from nlpft.models.load import tokenizer_folder
from nlpft.models.pretrained import resolve

TRAIN = "train"


def placed(cfg: Any) -> Any:
    """`cfg` (the settings of recipes/pretrain.py) with the places in output_dir of what is made first.

    Raises ConfigError where code is to be compiled for batches whose shapes differ.
    """
    model = str(cfg.output_dir / "start") if cfg.from_config else cfg.model
    compute = cfg.compute
    if not kinds.KINDS[kind_of(cfg.objective)].fixed_shapes:
        if compute.compile:
            raise ConfigError(f"compute.compile: batches of {cfg.objective.name} differ in shape; leave it out")
        compute = dataclasses.replace(compute, compile=False)
    data = raw_text.placed(cfg.text, cfg.data, cfg.output_dir / "data")
    return dataclasses.replace(cfg, model=model, data=data, compute=compute)


def prepare(cfg: Any) -> Kind:
    """Make what `placed` has given a place, where it is not there; returns the kind of model that trains.

    Raises ConfigError where model and objective do not fit, ModelError or DataError where something cannot be read.
    """
    raw_text.check(cfg.text)
    wanted = kind_of(cfg.objective)
    if cfg.from_config:
        _from_config(cfg, wanted)
    elif cfg.tokenizer:
        raise ConfigError("tokenizer: a pretrained model has its own; set from_config to begin with random weights")
    kind = kinds.check(cfg.model, cfg.objective.name, wanted)
    folder = cfg.output_dir / "data"
    tokenizer = TextTokenizer(tokenizer_folder(cfg.model))
    raw_text.prepare(cfg.text, folder, tokenizer, cfg.model, cfg.data.max_length, cfg.seed)
    return kind


def kind_of(objective: Any) -> kinds.Name:
    """The kind of model that `objective` trains. Raises ConfigError where it is for no language model."""
    module = module_of(objective)
    if not hasattr(module, "KIND"):
        known = ", ".join(name for kind in kinds.KINDS.values() for name in kind.objectives)
        raise ConfigError(
            f"objective.name {objective.name}: is for heads (recipes classify, tag), not for a language model; those are {known}"
        )
    return module.KIND


def check_kind(objective: Any, kind: kinds.Name) -> None:
    """Raise ConfigError where `objective` is for another kind of model than the recipe trains."""
    if kind_of(objective) != kind:
        raise ConfigError(f"objective.name {objective.name}: trains no {kind}; recipes/pretrain.py takes it")


def check_size(data: PackedData) -> None:
    """Raise ConfigError where all of the corpus is less than one pack."""
    tokens = int(data.lengths.sum())
    if tokens < data.max_length:
        raise ConfigError(
            f"{data.folder}: {tokens} tokens do not fill one pack of {data.max_length}; lower data.max_length, or train on "
            "more text"
        )


def _from_config(cfg: Any, wanted: kinds.Name) -> None:
    config = scratch.read_config(cfg.from_config)
    kinds.check_kind(config, str(cfg.from_config), cfg.objective.name, wanted)
    if not cfg.tokenizer:
        raise ConfigError(f"from_config: set tokenizer too: {TRAIN}, for one trained on text.files, or a model's name")
    asked = {"tokenizer": cfg.tokenizer}
    if cfg.tokenizer == TRAIN:
        if not cfg.text.files:
            raise ConfigError("tokenizer train: set text.files, on which it is to be trained")
        text = cfg.text
        asked |= {"files": list(text.files), "vocabulary": text.vocabulary, "lowercase": text.lowercase}
        write = partial(_train, text, wanted)
    else:
        write = partial(scratch.copy_tokenizer, resolve(cfg.tokenizer, weights=False))
    scratch.begin(config, Path(cfg.model), write, cfg.seed, asked)


def _train(text: raw_text.TextConfig, kind: str, folder: Path) -> None:
    new_tokenizer.train(text.files, kind, text.vocabulary, folder, text.lowercase)
