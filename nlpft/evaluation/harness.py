"""Tasks of lm-evaluation-harness: its own by name, and local task files (YAML, data beside it) without network."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import jinja2
import yaml

from nlpft.errors import ConfigError, DataError, ModelError, UserError
from nlpft.evaluation import exhausted
from nlpft.evaluation.results import Outcome, Samples, merge
from nlpft.plugins import suggest

# What lm-eval returns beside the scores and is worth keeping; the rest is about the machine.
KEYS = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "n-samples", "higher_is_better")
TEMPLATES = ("description", "doc_to_text", "doc_to_target", "doc_to_choice")  # keys of a task file
UNPARSED = "[invalid]"  # lm-eval's word for an answer in which its filter finds nothing


@dataclass(frozen=True)
class HarnessConfig:
    num_fewshot: int | None = None
    """Solved examples before each question (default: what the task says)."""
    limit: int | None = None
    """Items of each task; fewer are for a quick look, not for a result."""
    batch_size: int = 16
    """Sequences that are scored at once where an architecture needs lm-eval's own way; others are packed by tokens."""
    chat_template: bool = False
    """Whether questions are put as a user's turn in the model's chat template."""
    system: str | None = None
    """System turn before each question."""
    engine: Literal["nlpft", "vllm"] = "nlpft"
    """What writes answers; vllm must be installed."""


def load(tasks: Sequence[str]) -> dict[str, Any]:
    """What lm-eval is to run for each of `tasks`: names, or paths of task files.

    Raises ConfigError for a task that does not exist, DataError for a task file that cannot be read or whose data is missing.
    """
    files = [task for task in tasks if task.endswith((".yaml", ".yml"))]
    manager = _manager(len(files) < len(tasks))
    return {task: load_task_file(Path(task)) if task in files else check_name(task, manager) for task in tasks}


def evaluate(language_model: Any, tasks: dict[str, Any], config: HarnessConfig) -> Outcome:
    """lm-eval's results and per-item samples of `tasks` (from `load`). A task that fails is noted, and the others go on.

    Raises ModelError where a chat template is asked for and the tokenizer has none.
    """
    if config.chat_template and not language_model.tokenizer.chat_template:
        raise ModelError(
            "harness.chat_template: this tokenizer has no chat template; leave it out, or save one with the tokenizer"
        )
    parts: list[dict[str, Any]] = []
    samples: Samples = {}
    errors: dict[str, str] = {}
    for name, task in tasks.items():
        try:
            output = _evaluate(language_model, task, config)
        except Exception as error:  # a task's own code runs here, and hours of other tasks are at stake
            if exhausted.remedy(error):
                raise
            errors[name] = str(_explained(name, task, error))
            logging.getLogger(__name__).debug("%s failed", name, exc_info=True)
            continue
        parts.append({key: output[key] for key in KEYS if key in output})
        samples |= output.get("samples", {})
    return Outcome(merge(parts), samples, errors, _unparsed(samples), {})


def _evaluate(language_model: Any, task: Any, config: HarnessConfig) -> dict[str, Any]:
    import lm_eval  # here: 10 s with its tasks, which held-out files do without

    with _quietly():
        found = lm_eval.simple_evaluate(
            language_model,
            tasks=[task],
            task_manager=_manager(isinstance(task, str)),
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            apply_chat_template=config.chat_template,
            system_instruction=config.system,
            log_samples=True,
        )
    return found or {}  # of several processes only the first gets any


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep lm-eval from telling the user what he asked for, and from asking pip, git and the compiler about this machine.

    That takes 2 s for each task, and git complains outside of a repository; nlpft keeps none of it. Levels that somebody has set
    for lm-eval's log stay.
    """
    from lm_eval import evaluator

    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(level or logging.ERROR)
    try:
        with mock.patch.multiple(evaluator, add_env_info=_nothing, get_git_commit_hash=_nothing):
            yield
    finally:
        log.setLevel(level)


def _nothing(*asked: Any) -> None:
    """What is known of this machine."""


@cache
def _manager(defaults: bool) -> Any:
    """lm-eval's tasks; reading all of them takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=defaults)


def _explained(name: str, task: Any, error: Exception) -> Exception:
    """What a failure of `task` means to who called for it."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, (ConnectionError, FileNotFoundError)):
        return DataError(
            f"the data of {name} cannot be loaded: {error}; where no hub can be reached, use a task file whose "
            "dataset_kwargs.data_files lie beside it"
        )
    if isinstance(error, (jinja2.UndefinedError, KeyError)):
        return DataError(f"{name}: the task asks for what its data has not got: {error}; {_columns(task)}")
    return DataError(f"{name}: {type(error).__name__}: {error}")


def _columns(task: Any) -> str:
    """The columns of a task's data, in words."""
    import datasets  # loaded already by lm-eval

    try:
        data = datasets.load_dataset(task["dataset_path"], task.get("dataset_name"), **task.get("dataset_kwargs", {}))
        return "its columns: " + ", ".join(next(iter(data.values())).column_names)
    except Exception:  # noqa: BLE001  # of a task by its name, or where the data itself is what failed
        return "look at its data's columns"


def _unparsed(samples: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Answers in which a task's filter found nothing, by task and filter."""
    counts: dict[str, int] = {}
    for task, rows in samples.items():
        for row in rows:
            if UNPARSED in [
                x for found in row["filtered_resps"] for x in ([found] if isinstance(found, str) else found)
            ]:
                counts[f"{task},{row['filter']}"] = counts.get(f"{task},{row['filter']}", 0) + 1
    return counts


def check_name(task: str, manager: Any) -> str:
    """`task`, if lm-eval knows it."""
    known = list(manager.all_tasks)
    if not manager.match_tasks([task]):
        raise ConfigError(
            f"no task {task!r}{suggest(task, known)}; give one of lm-eval's {len(known):,} names or a .yaml file"
        )
    return task


def load_task_file(path: Path) -> dict[str, Any]:
    """A task file's configuration, with the paths in `dataset_kwargs.data_files` taken from the file's own folder.

    Raises DataError, with the line where there is one, for what lm-eval would not understand.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        task = load_yaml(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}{_line(error)}: not a task file: {error}") from error
    except (ImportError, AttributeError) as error:
        raise DataError(f"{path}: a function that it names cannot be loaded: {error}") from error
    if not isinstance(task, dict) or "task" not in task:
        raise DataError(f"{path}: a task file has a key 'task' with its name; this one has: {', '.join(task)}")
    _check_keys(path, task)
    _check_values(path, task)
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    if files:
        task["dataset_kwargs"]["data_files"] = _beside(files, path.parent)
    return task


def _line(error: Exception) -> str:
    """`:line` of an error in YAML."""
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark else ""


def _check_keys(path: Path, task: dict[str, Any]) -> None:
    from lm_eval.api.task import TaskConfig

    known = [field.name for field in dataclasses.fields(TaskConfig)] + ["include", "class"]
    for key in task:
        if key not in known:
            raise DataError(f"{path}{_line_of(path, key)}: a task has no key {key!r}{suggest(key, known)}")


def _check_values(path: Path, task: dict[str, Any]) -> None:
    """Raise DataError, with the line, for an output_type that does not exist, and templates that are no Jinja."""
    from lm_eval.api.task import ALL_OUTPUT_TYPES

    kind = task.get("output_type")
    if kind is not None and kind not in ALL_OUTPUT_TYPES:
        raise DataError(
            f"{path}{_line_of(path, 'output_type')}: no output_type {kind!r}{suggest(str(kind), ALL_OUTPUT_TYPES)}; "
            f"there are {', '.join(ALL_OUTPUT_TYPES)}"
        )
    for key in TEMPLATES:
        value = task.get(key)
        for text in value if isinstance(value, list) else [value]:
            try:
                jinja2.Environment().parse(text if isinstance(text, str) else "")
            except jinja2.TemplateSyntaxError as error:
                raise DataError(f"{path}{_line_of(path, key)}: {key}: {error.message}") from error


def _line_of(path: Path, key: str) -> str:
    """`:line` of a key of a task file; '' where it stands in a file that this one includes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((f":{i}" for i, text in enumerate(lines, 1) if text.startswith(f"{key}:")), "")


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {split: _beside(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_beside(value, folder) for value in files]
    found = folder / files
    if not found.exists():
        raise DataError(f"{found}: no such file; data_files are looked for beside the task file")
    return str(found.resolve())
