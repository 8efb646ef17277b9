"""Models with a head: a new one of the right size on a pretrained body, encoder or decoder, or a trained one from its folder."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from nlpft.errors import ConfigError, ModelError
from nlpft.models.load import adapter_base, load_tokenizer, weight_type
from nlpft.models.pretrained import canonical_name, resolve
from nlpft.types import Task

FACTS = "nlpft.json"  # lies beside the weights of what nlpft trained


@dataclass(frozen=True)
class HeadConfig:
    init: Literal["architecture", "xavier", "he"] = "architecture"
    """How new matrices begin: as the model's architecture does it (mostly normal, 0.02), or as Glorot & Bengio 2010, He et al.
    2015 advise."""
    dropout: float | None = None
    """Share of the features that is dropped before the head; not set: the architecture's own."""
    lr_factor: float = 10.0
    """How many times faster the head learns than the body: it begins at nothing."""


def check(config: HeadConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    if config.dropout is not None and not 0 <= config.dropout < 1:
        raise ConfigError(f"head.dropout {config.dropout}: a share from 0 to below 1")
    if not config.lr_factor > 0:
        raise ConfigError(f"head.lr_factor {config.lr_factor}: a factor above 0")


def new_head(name: str, dtype: str, task: Task, config: HeadConfig = HeadConfig(), **options: Any) -> Any:
    """The model called `name` with a head for `task`; a head that it has already stays where it gives the same labels.

    Its `task` is on it, and in `head_parameters` the names of the weights that belong to no pretrained body. options: more
    keywords of from_pretrained. Raises ModelError where it cannot be loaded, or its architecture has no such head.
    """
    folder = resolve(name)
    labels = dict(enumerate(task.labels)) or {0: "value"}
    try:
        settings = AutoConfig.from_pretrained(folder)
        known = {str(label) for label in (settings.id2label or {}).values()} == set(labels.values())
        settings.id2label, settings.label2id = labels, {label: i for i, label in labels.items()}
        settings.problem_type = None if task.kind == "tagging" else task.kind
        with _quiet():
            model, report = _auto(task).from_pretrained(
                folder,
                config=settings,
                dtype=weight_type(dtype),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded with a head for {task.kind}: {error}") from error
    model.name_or_path = model.config.name_or_path = canonical_name(name)
    outside = {n for n, _ in model.named_parameters() if not n.startswith(f"{model.base_model_prefix}.")}
    missing = set(report["missing_keys"])
    if not known and not outside <= missing:
        _begin_anew(model, outside)
        missing |= outside
    _init(model, missing, config.init)
    _set_dropout(model, config.dropout)
    if model.config.pad_token_id is None:  # without it, transformers' own forward takes no batch of several texts
        tokenizer = load_tokenizer(name)
        model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else _unused(tokenizer)
    model.task, model.head_parameters = task, frozenset(outside | missing)
    return model


def draw_head(model: Any, config: HeadConfig) -> None:
    """Draw the head's weights anew, in place, as those of a new head begin; by torch's generator."""
    _begin_anew(model, set(model.head_parameters))
    _init(model, set(model.head_parameters), config.init)


def trained_head(name: str, dtype: str = "auto") -> Any:
    """The model that nlpft trained with a head and saved in folder `name`: whole weights, or an adapter on its base."""
    folder = resolve(name)
    task = saved_task(folder)
    base = adapter_base(folder)
    if base is None:
        return new_head(str(folder), dtype, task)
    from peft import PeftModel  # 5 s of import that a plain model does not need

    try:
        return PeftModel.from_pretrained(new_head(base, dtype, task), str(folder))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be put on its base, {base}: {error}") from error


def facts(task: Task, **more: Any) -> dict[str, Any]:
    """What `save_model` is to write beside the weights, so that `trained_head` finds the task again."""
    return {"task": {"kind": task.kind, "labels": list(task.labels)}, **more}


def has_head(folder: Path) -> bool:
    """Whether nlpft has saved a model with a head in `folder`."""
    try:
        return "task" in json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def saved_task(folder: Path) -> Task:
    """The task of the head in `folder`. Raises ModelError where nlpft has not saved one there."""
    try:
        task = json.loads((folder / FACTS).read_text(encoding="utf-8"))["task"]
        return Task(task["kind"], tuple(task["labels"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: no model with a head that nlpft classify or tag has trained ({error})") from error


def with_head(model: Any) -> Any:
    """The model that has the body and the head, inside wrappers of DistributedDataParallel's and PEFT's kind."""
    inner = model.module if isinstance(getattr(model, "module", None), nn.Module) else model
    return inner.get_base_model() if hasattr(inner, "peft_config") else inner


def task_of(model: Any) -> Task:
    return with_head(model).task


def head_modules(model: Any) -> list[str]:
    """Names of the children of `model` (unwrapped, without adapters) that the head's weights lie in, such as `classifier`."""
    names = getattr(model, "head_parameters", ())
    found = {name for name, child in model.named_modules() if name and any(n.rpartition(".")[0] == name for n in names)}
    return sorted(name for name in found if not any(name.startswith(f"{other}.") for other in found))


def train_head(model: Any) -> Any:
    """`model`, in place, whose head trains whatever a tuning method has frozen."""
    for name, weight in model.named_parameters():
        if in_head(model, name) and (".modules_to_save." in name or not hasattr(model, "peft_config")):
            weight.requires_grad_(True)
    return model


def rate_factors(model: Any, config: HeadConfig) -> dict[str, float]:
    """Factor of the learning rate of each of the head's weights, by name."""
    return {name: config.lr_factor for name, _ in model.named_parameters() if in_head(model, name)}


def in_head(model: Any, name: str) -> bool:
    """Whether the parameter called `name` (as in `model`, which PEFT may have wrapped) belongs to the head."""
    own = name.replace(".modules_to_save.default", "").removeprefix("base_model.model.")
    return own in getattr(with_head(model), "head_parameters", ())


def _auto(task: Task) -> Any:
    return AutoModelForTokenClassification if task.kind == "tagging" else AutoModelForSequenceClassification


def _begin_anew(model: Any, names: set[str]) -> None:
    """Draw the weights called `names`, which a checkpoint held for other labels, as the architecture begins them."""
    for prefix in sorted(
        {name.rpartition(".")[0] for name in names}
    ):  # the order in which they draw is always the same
        module = model.get_submodule(prefix)
        for weight in module.parameters(recurse=False):
            weight._is_hf_initialized = False  # transformers' mark of what a checkpoint has filled
        model._init_weights(module)


def _init(model: Any, names: set[str], how: str) -> None:
    """Fill the new matrices called `names`, and set their biases to zero, where that is not the architecture's own way."""
    if how == "architecture":
        return
    draw = nn.init.xavier_uniform_ if how == "xavier" else nn.init.kaiming_uniform_
    for weight in map(model.get_parameter, sorted(names)):
        draw(weight) if weight.ndim == 2 else nn.init.zeros_(weight)


def _set_dropout(model: Any, share: float | None) -> None:
    """Set the dropout before the head. Raises ConfigError where the architecture has none."""
    prefix = f"{model.base_model_prefix}."
    own = [m for n, m in model.named_modules() if isinstance(m, nn.Dropout) and not n.startswith(prefix)]
    if share is None:
        return
    if not own:
        raise ConfigError(f"head.dropout {share}: {type(model).__name__} has none; leave it unset")
    for module in own:
        module.p = share
    model.config.classifier_dropout = share


def _unused(tokenizer: Any) -> int:
    """An id that no text has at its end: that of the token for what is unknown, or 0."""
    return tokenizer.unk_token_id if tokenizer.unk_token_id is not None else 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report that the head is new, which is what was asked for."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)
