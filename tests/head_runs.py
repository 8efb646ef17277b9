"""Run folders of heads that are drawn by chance, with their evaluation of a dataset."""

from pathlib import Path

import torch
from run_folders import make_bare

from nlpft.data.examples import Examples
from nlpft.data.store import facts
from nlpft.evaluation import head_scores
from nlpft.evaluation.report.attributed import layout
from nlpft.evaluation.robustness import ROWS
from nlpft.evaluation.spread import process
from nlpft.models import heads
from nlpft.models.load import load_tokenizer, save_model
from nlpft.types import Task


def evaluated(run: Path, base: Path, data: Path, seed: int = 0) -> Path:
    """A run with a head on `base`, and its evaluation of the dataset folder `data` as `test`."""
    make_bare(run)
    torch.manual_seed(seed)
    task = Task(facts(data)["problem_type"], tuple(facts(data).get("label_names") or ()))
    model = heads.new_head(str(base), "float32", task).eval()
    save_model(model, run / "model", load_tokenizer(str(base)), heads.facts(task, base=str(base)))
    rows = Examples(data, layout(model))
    scored = head_scores.outputs(process(), model, rows, ROWS)
    about = {"label": run.name, "dataset": str(data)}
    head_scores.write(run / "eval/test", "labels", task, scored, rows, about)
    return run
