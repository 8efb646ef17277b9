"""The model card (README.md) of what a run trained, with the Hub's metadata, from the same facts as the page.

Cards: Mitchell et al. 2019, "Model Cards for Model Reporting"; metadata and evaluation results by huggingface_hub.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from nlpft.errors import UserError
from nlpft.evaluation.report import markdown
from nlpft.evaluation.report.facts import Run
from nlpft.files import write_text

MARK = "<!-- Written by nlpft report; delete this line to keep your own changes. -->"
STUB = "[More Information Needed]"  # stands in the card that PEFT writes with an adapter
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def write_card(run: Run) -> Path | None:
    """Write model/README.md of `run`; None where it has no model, or a card that somebody has written or changed.

    Raises UserError where it cannot be written.
    """
    target = run.folder.model / "README.md"
    if not run.folder.model.is_dir() or not _ours(target):
        return None
    try:
        write_text(target, render(run))
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); leave it out by --no_card") from error
    return target


def render(run: Run) -> str:
    """The card: metadata, and the page's tables below it."""
    kind = _kind(run)
    lines = [
        MARK,
        "",
        f"# {run.name}",
        "",
        f"{kind[0].upper()}{kind[1:]}, trained by nlpft" + (f" from {_base(run)}." if _base(run) else "."),
        "",
        *_usage(run),
        *markdown.evaluation(run, 2),
        *markdown.training(run, 2),
        *markdown.data(run, 2),
        *markdown.settings(run, 2),
    ]
    return str(ModelCard(f"---\n{metadata(run).to_yaml()}\n---\n" + "\n".join(lines).rstrip() + "\n")).rstrip() + "\n"


def metadata(run: Run) -> ModelCardData:
    """What the Hub reads; a base model is named where its name is an id there."""
    base, adapter = _base(run), _is_adapter(run)
    found: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": _pipeline(run),
        "tags": ["nlpft", *filter(None, [run.settings.get("tuning.name")])],
    }
    if base and HUB_ID.fullmatch(base) and not os.path.exists(base):
        found["base_model"] = base
    results = eval_results(run)
    if results:
        found |= {"model_name": run.name, "eval_results": results}
    return ModelCardData(**found)


def eval_results(run: Run) -> list[EvalResult]:
    """A result for each measure of the run's own model; none where it was not compared with its base."""
    own = {run.path.resolve(), run.folder.model.resolve()}
    made = [v.comparisons for v in run.others if own.intersection(Path(part).resolve() for part in v.subjects)]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=c.task,
            dataset_name=c.task,
            metric_type=c.metric,
            metric_name=f"{c.metric}, {c.filter}" if c.filter != "none" else c.metric,
            metric_value=float(f"{c.other:.6g}"),
        )
        for c in (made[0] if made else ())
    ]


def _usage(run: Run) -> list[str]:
    use = f"predict {run.folder.model} FILE -o OUT.csv" if run.has_head else f"chat {run.folder.model}"
    return ["```bash", f"nlpft {use}", "```", ""]


def _pipeline(run: Run) -> str:
    """What the model is for, in the Hub's words."""
    if not run.has_head:
        return "text-generation"
    return "token-classification" if any(scores.kind == "tagging" for scores in run.heads) else "text-classification"


def _kind(run: Run) -> str:
    method = run.settings.get("tuning.name")
    return f"an adapter ({method})" if _is_adapter(run) else "whole weights" + (f" ({method})" if method else "")


def _is_adapter(run: Run) -> bool:
    return (run.folder.model / "adapter_config.json").is_file()


def _base(run: Run) -> str:
    """The base model's name, as the saved model says it or as it was asked for."""
    path = run.folder.model / "nlpft.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get("base")
    except (OSError, ValueError, AttributeError):
        said = None
    return str(said or run.settings.get("model") or "")


def _ours(path: Path) -> bool:
    """Whether the card may be replaced: there is none, or nlpft or PEFT wrote it."""
    if not path.exists():
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    return MARK in text or STUB in text
