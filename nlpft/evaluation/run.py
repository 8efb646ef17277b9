"""One model, or one base and several adapters, through held-out rows and tasks; every process does its share of the questions."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn

from nlpft.data.conversation import Reading
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import UserError
from nlpft.evaluation import again, answer_metrics, exhausted, harness, heldout, subjects
from nlpft.evaluation.harness import HarnessConfig
from nlpft.evaluation.results import Outcome, together
from nlpft.evaluation.spread import Kept, process
from nlpft.evaluation.subjects import Subject
from nlpft.files import check_free, resumable_folder
from nlpft.models.load import load_tokenizer, stored_context, tokenizer_folder


@dataclass(frozen=True)
class Asked:
    """What every subject is asked."""

    tasks: dict[str, Any]  # of `harness.load`
    harness: HarnessConfig
    heldout: Path | None
    reading: Reading  # of the held-out file
    template: str
    metrics: tuple[str, ...]
    batch_size: int
    max_new_tokens: int | None


@dataclass(frozen=True)
class Tools:
    """What the subjects share: the tokenizers of the model, and the held-out rows as it reads them."""

    text: TextTokenizer
    tokenizer: Any  # transformers'
    rows: heldout.HeldOut | None
    templates: tuple[str, ...]  # texts of the chat templates that the questions are put in


def tools(name: str, asked: Asked) -> Tools:
    """Raises DataError or ConfigError where held-out rows, their template or their metrics cannot be used."""
    text, tokenizer = TextTokenizer(tokenizer_folder(name)), load_tokenizer(name)
    rows, templates = None, []
    if asked.heldout:
        template = text.chat_template(asked.template)
        templates.append(template.source)
        rows = heldout.load(asked.heldout, text, template, asked.reading, asked.harness.limit, stored_context(name))
        answer_metrics.check(asked.metrics, [row.messages[-1].content for row in rows.rows])
    if asked.tasks and asked.harness.chat_template and tokenizer.chat_template:
        templates.append(tokenizer.chat_template)
    return Tools(text, tokenizer, rows, tuple(templates))


def evaluate(model: nn.Module, own: Tools, asked: Asked, kept: Kept, write: Any, progress: heldout.Progress) -> Outcome:
    """All that is asked of one model. Held-out rows that cannot be scored do not keep the tasks from being so."""
    parts = []
    if own.rows:
        parts.append(_heldout(model, own, asked, kept, progress))
    if asked.tasks:
        from nlpft.evaluation.language_model import PackedLM  # with lm-eval, which takes seconds

        language_model = PackedLM(model, own.tokenizer, kept, batch_size=asked.harness.batch_size, write=write)
        parts.append(harness.evaluate(language_model, asked.tasks, asked.harness))
    return together(parts)


def _heldout(model: nn.Module, own: Tools, asked: Asked, kept: Kept, progress: heldout.Progress) -> Outcome:
    assert own.rows
    try:
        return heldout.evaluate(
            model,
            own.text,
            own.rows,
            batch_size=asked.batch_size,
            max_new_tokens=asked.max_new_tokens,
            progress=progress,
            metrics=asked.metrics,
            kept=kept,
        )
    except (UserError, RuntimeError) as error:
        if exhausted.remedy(error):
            raise
        return Outcome({}, {}, {heldout.TASK: f"{type(error).__name__}: {error}"}, {}, {})


def check_templates(folders: Sequence[Path], own: Tools, force: bool) -> None:
    """Raise ConfigError where an adapter was trained with another chat template than one of those used."""
    for folder in folders:
        for used in own.templates:
            subjects.check_template(folder, used, force)


def about_adapter(model: Any, subject: Subject) -> dict[str, Any]:
    """What results.json says of an adapter."""
    return {"adapter": str(subject.folder), "inactive": subjects.inactive(model)}


@contextlib.contextmanager
def working_folder(output: Path, overwrite: bool) -> Iterator[tuple[Path | None, Path]]:
    """(new, parts) of `resumable_folder`, made by the first process; the others know only where the parts lie.

    The parts are removed where the block ends well and `again.note` has not said that tasks failed.
    """
    state = process()
    check_free(output, overwrite)
    new, parts = None, Path()
    with exhausted.ends_the_run(), contextlib.ExitStack() as stack:
        if state.is_main_process:
            new, parts = stack.enter_context(resumable_folder(output, again.KEY, overwrite, keep=True))
        if state.num_processes > 1:
            (shared,) = broadcast_object_list([str(parts)])
            parts = Path(shared)
        yield new, parts
        state.wait_for_everyone()
    if new is not None and not (parts / again.CALL).is_file():
        shutil.rmtree(parts.parent, ignore_errors=True)
