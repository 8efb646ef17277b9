"""Tasks of lm-evaluation-harness: its own by name, and local task files (YAML, data beside it) without network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from nlpft.errors import ConfigError, DataError
from nlpft.evaluation.results import Samples
from nlpft.plugins import suggest

# What lm-eval returns beside the scores and is worth keeping; the rest is about the machine.
KEYS = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "n-samples", "higher_is_better")


@dataclass(frozen=True)
class HarnessConfig:
    num_fewshot: int | None = None
    """Solved examples before each question (default: what the task says)."""
    limit: int | None = None
    """Items of each task; fewer are for a quick look, not for a result."""
    batch_size: int = 16
    """Sequences that are scored at once."""
    chat_template: bool = False
    """Whether questions are put as a user's turn in the model's chat template."""
    system: str | None = None
    """System turn before each question."""


def evaluate(
    model: nn.Module, tokenizer: Any, tasks: Sequence[str], config: HarnessConfig
) -> tuple[dict[str, Any], Samples]:
    """lm-eval's results and per-item samples of `tasks`: names, or paths of task files.

    Raises ConfigError for a task that does not exist, DataError for a task file that cannot be read or whose data is missing.
    """
    import lm_eval  # here: 10 s with its tasks, which held-out files do without
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    files = [t for t in tasks if t.endswith((".yaml", ".yml"))]
    manager = TaskManager(include_defaults=len(files) < len(tasks))
    loaded = [load_task_file(Path(t)) if t in files else check_name(t, manager) for t in tasks]
    language_model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=config.batch_size)
    try:
        output = lm_eval.simple_evaluate(
            language_model,
            tasks=loaded,
            task_manager=manager,
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            apply_chat_template=config.chat_template,
            system_instruction=config.system,
            log_samples=True,
        )
    except (ConnectionError, FileNotFoundError) as error:
        raise DataError(
            f"the data of {', '.join(tasks)} cannot be loaded: {error}; where no hub can be reached, use a task file whose "
            "dataset_kwargs.data_files lie beside it"
        ) from error
    return {key: output[key] for key in KEYS if key in output}, output["samples"]


def check_name(task: str, manager: Any) -> str:
    """`task`, if lm-eval knows it."""
    known = list(manager.all_tasks)
    if not manager.match_tasks([task]):
        raise ConfigError(
            f"no task {task!r}{suggest(task, known)}; give one of lm-eval's {len(known):,} names or a .yaml file"
        )
    return task


def load_task_file(path: Path) -> dict[str, Any]:
    """A task file's configuration, with the paths in `dataset_kwargs.data_files` taken from the file's own folder."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        task = load_yaml(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}: not a task file: {error}") from error
    if "task" not in task:
        raise DataError(f"{path}: a task file has a key 'task' with its name; this one has: {', '.join(task)}")
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    if files:
        task["dataset_kwargs"]["data_files"] = _beside(files, path.parent)
    return task


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {split: _beside(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_beside(value, folder) for value in files]
    found = folder / files
    if not found.exists():
        raise DataError(f"{found}: no such file; data_files are looked for beside the task file")
    return str(found.resolve())
