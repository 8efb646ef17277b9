"""Scores of a model with a head over labelled rows, and their files in the layout of lm-evaluation-harness."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from scipy.special import expit, log_softmax
from torch import Tensor, nn

from nlpft import plugins
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.data.loader import Share
from nlpft.errors import ConfigError, some
from nlpft.evaluation import calibration, results
from nlpft.evaluation.calibration import expected_calibration_error
from nlpft.evaluation.results import LOWER, mean_and_error, text_hash
from nlpft.files import whole_folder
from nlpft.models.head_forward import logits
from nlpft.types import IGNORE, Task

WITH_LOGITS = ("single_label_classification", "multi_label_classification")  # kinds whose samples keep them
Measures = dict[str, float]


class Scored(NamedTuple):
    """What a model answers to the rows of a dataset."""

    logits: np.ndarray  # [targets, outputs], float32, in the order of the rows
    targets: np.ndarray  # as in a batch of `nlpft.data.examples`
    rows: np.ndarray  # [targets] number of the row of each


@torch.no_grad()
def outputs(
    accelerator: Accelerator | PartialState,
    model: nn.Module,
    data: Examples,
    config: ExamplesConfig,
    compute: Callable[[nn.Module, dict[str, Tensor]], Tensor] = logits,
) -> Scored:
    """The outputs for all rows of `data`, computed by all processes, the same in each; `compute`: of a model and a batch."""
    share = Share(accelerator.process_index, accelerator.num_processes)
    model.eval()
    own = []
    for rows, batch in data.micro_batches(np.arange(len(data)), config, share):
        there = {name: x.to(accelerator.device) if x.ndim else x for name, x in batch.items()}
        found = compute(model, there).float().cpu().numpy()
        own.append((rows, found, batch["targets"].numpy()))
    parts = [part for part in (gather_object(own) if share.processes > 1 else own) if part[0]]
    owner = np.concatenate([np.repeat(rows, targets_of(data, rows)) for rows, _, _ in parts])
    order = np.argsort(owner, kind="stable")
    found, targets = (np.concatenate([part[i] for part in parts])[order] for i in (1, 2))
    return Scored(found, targets, owner[order])


def targets_of(data: Examples, rows: Sequence[int]) -> np.ndarray:
    """How many targets each of `rows` has."""
    if data.layout.reads != "labelled":
        return np.ones(len(rows), np.int64)
    spans = [(data.offsets[row], data.offsets[row + 1]) for row in rows]
    return np.array([np.count_nonzero(data.targets[a:b] != IGNORE) for a, b in spans])


def measures(task: Task, scored: Scored) -> Measures:
    """The measures of a task by name; `loss` is in nats for each target (of a regression: the mean squared error).

    All are NaN where an output is no finite number, as behind a run that has diverged.
    """
    if not np.isfinite(scored.logits).all():
        return dict.fromkeys(NAMES[task.kind], math.nan)
    return OF[task.kind](task, scored)


def check(name: str, task: Task) -> None:
    """Raise ConfigError where a task has no measure called `name`."""
    if name not in NAMES[task.kind]:
        near = plugins.suggest(name, list(NAMES[task.kind]))
        raise ConfigError(f"best {name!r}: no measure of {task.kind}{near}; there are {some(NAMES[task.kind], 20)}")


def cost(name: str, values: Measures) -> float:
    """The measure called `name`, lower is better."""
    return values[name] if name in LOWER else -values[name]


def _single(task: Task, scored: Scored) -> Measures:
    said, true = scored.logits.argmax(1).tolist(), scored.targets.tolist()
    one_hot = np.eye(task.outputs)[scored.targets]
    p = np.exp(log_softmax(scored.logits.astype(np.float64), axis=1))
    averaged = {
        name: _metric(name, said, true) for name in ("accuracy", "f1", "precision", "recall", "matthews_correlation")
    }
    return {
        "loss": _nats(task, scored).mean().item(),
        **averaged,
        "roc_auc": _metric("roc_auc", p.tolist(), one_hot.tolist()),
        "calibration_error": expected_calibration_error(p, scored.targets),
    }


def _several(task: Task, scored: Scored) -> Measures:
    p = expit(scored.logits.astype(np.float64))
    said, true = (p > 0.5).astype(int), scored.targets.astype(int)
    each = [_metric("f1", said[:, i].tolist(), true[:, i].tolist(), average="binary") for i in range(task.outputs)]
    return {
        "loss": _nats(task, scored).mean().item(),
        "accuracy": float((said == true).all(1).mean()),
        "f1": float(np.mean(each)),
        "f1_micro": _metric("f1", said.ravel().tolist(), true.ravel().tolist(), average="binary"),
        "roc_auc": _metric("roc_auc", p.tolist(), true.tolist()),
    }


def _number(task: Task, scored: Scored) -> Measures:
    said, true = scored.logits[:, 0].tolist(), scored.targets.tolist()
    mse = _metric("mse", said, true)
    return {"loss": mse, "mse": mse, "pearsonr": _metric("pearsonr", said, true)}


def _tags(task: Task, scored: Scored) -> Measures:
    said, true = (by_row(task, scored, x) for x in (scored.logits.argmax(1), scored.targets))
    found = plugins.load("metrics", "seqeval").Metric().compute(predictions=said, references=true)
    spans = {name: float(found[f"overall_{name}"]) for name in ("f1", "precision", "recall", "accuracy")}
    return {"loss": _nats(task, scored).mean().item(), **spans}


OF: dict[str, Callable[[Task, Scored], Measures]] = {
    "single_label_classification": _single,
    "multi_label_classification": _several,
    "regression": _number,
    "tagging": _tags,
}
NAMES = {
    "single_label_classification": (
        "loss",
        "accuracy",
        "f1",
        "precision",
        "recall",
        "matthews_correlation",
        "roc_auc",
        "calibration_error",
    ),
    "multi_label_classification": ("loss", "accuracy", "f1", "f1_micro", "roc_auc"),
    "regression": ("loss", "mse", "pearsonr"),
    "tagging": ("loss", "f1", "precision", "recall", "accuracy"),
}


def by_row(task: Task, scored: Scored, numbers: np.ndarray) -> list[list[str]]:
    """Label names of `numbers` [targets], a list for each row that has targets."""
    ends = np.flatnonzero(np.diff(scored.rows)) + 1
    return [[task.labels[i] for i in part] for part in np.split(numbers, ends)]


def _metric(name: str, said: Any, true: Any, **options: Any) -> float:
    return float(plugins.load("metrics", name).Metric().compute(predictions=said, references=true, **options)[name])


def _nats(task: Task, scored: Scored) -> np.ndarray:
    """Loss of each target, [targets]; of a regression its squared error."""
    x, y = scored.logits.astype(np.float64), scored.targets
    if task.kind == "regression":
        return (x[:, 0] - y) ** 2
    if task.kind == "multi_label_classification":
        return (np.logaddexp(0, x) - x * y).sum(1)
    return -log_softmax(x, axis=1)[np.arange(len(y)), y]


def write(folder: Path, name: str, task: Task, scored: Scored, data: Examples, about: dict[str, Any]) -> Measures:
    """Write `results.json` and `samples_NAME.jsonl` to `folder`; `nlpft compare` takes two such folders, the report one."""
    values = measures(task, scored)
    rows = samples(task, scored, data.places(range(len(data))))
    taken = {"alias": name} | {f"{key},none": value for key, value in values.items() if math.isfinite(value)}
    if "accuracy" in rows[0]:
        taken["accuracy_stderr,none"] = mean_and_error([row["accuracy"] for row in rows])[1]
    found = {
        "results": {name: taken},
        "versions": {name: 1},
        "n-shot": {name: 0},
        "n-samples": {name: {"original": len(rows), "effective": len(rows)}},
        "higher_is_better": {name: {key: key not in LOWER for key in values} | {"mse": False}},
    }
    with whole_folder(folder, overwrite=True) as partial:
        task_facts = {"problem_type": task.kind, "labels": list(task.labels)}
        results.write(partial, found, {name: rows}, about | task_facts)
    return values


def samples(task: Task, scored: Scored, places: Sequence[str]) -> list[dict[str, Any]]:
    """One dict for each row, as lm-evaluation-harness logs it; `accuracy` of a row of tags is the share that is right."""
    nats = _nats(task, scored)
    begins = np.searchsorted(scored.rows, np.arange(len(places) + 1))
    return [
        _sample(
            task, Scored(scored.logits[a:b], scored.targets[a:b], scored.rows[a:b]), nats[a:b], number, places[number]
        )
        for number, (a, b) in enumerate(itertools.pairwise(begins))
    ]


def _sample(task: Task, own: Scored, nats: np.ndarray, number: int, place: str) -> dict[str, Any]:
    said, true, right = SHOWN[task.kind](task, own)
    right = {key: float(value) for key, value in right.items()}
    return {
        "doc_id": number,
        "doc": {"source": place},
        "target": true,
        "arguments": [],
        "resps": [[said]],
        "filtered_resps": [said],
        "filter": "none",
        "metrics": list(right),
        "doc_hash": text_hash(place),
        "target_hash": text_hash(true),
        **right,
        "loss_sum": float(nats.sum()),
        "tokens": len(nats),
        **({"logits": np.round(own.logits[0].astype(np.float64), 5).tolist()} if task.kind in WITH_LOGITS else {}),
    }


def _one_label(task: Task, own: Scored) -> tuple[Any, Any, Measures]:
    said, true = int(own.logits[0].argmax()), int(own.targets[0])
    return task.labels[said], task.labels[true], {"accuracy": said == true}


def _labels(task: Task, own: Scored) -> tuple[Any, Any, Measures]:
    said, true = own.logits[0] > 0, own.targets[0] > 0.5
    names = ([task.labels[i] for i in np.flatnonzero(x)] for x in (said, true))
    return *names, {"accuracy": bool((said == true).all())}  # type: ignore[return-value]


def _a_number(task: Task, own: Scored) -> tuple[Any, Any, Measures]:
    said, true = float(own.logits[0, 0]), float(own.targets[0])
    return said, true, {"mse": (said - true) ** 2}


def _a_row_of_tags(task: Task, own: Scored) -> tuple[Any, Any, Measures]:
    said, true = own.logits.argmax(1), own.targets
    names = ([task.labels[i] for i in x] for x in (said, true))
    share = float((said == true).mean()) if len(true) else 1.0
    return *names, {"accuracy": share, "exact_match": bool((said == true).all())}  # type: ignore[return-value]


SHOWN: dict[str, Callable[[Task, Scored], tuple[Any, Any, Measures]]] = {
    "single_label_classification": _one_label,
    "multi_label_classification": _labels,
    "regression": _a_number,
    "tagging": _a_row_of_tags,
}


def temperature(task: Task, held_out: Scored | None) -> float:
    """By which logits are to be divided so that probabilities fit held-out rows; 1 without such, and for other tasks."""
    if held_out is None or not np.isfinite(held_out.logits).all() or task.kind != "single_label_classification":
        return 1.0
    return calibration.temperature(held_out.logits.astype(np.float64), held_out.targets)
