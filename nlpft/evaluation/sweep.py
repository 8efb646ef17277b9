"""Scores of runs over numbers of rows, policies and seeds: kept as they come, and a table of which policy wins where."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import PartialState

from nlpft import config
from nlpft.data import store
from nlpft.errors import DataError, RunExists
from nlpft.evaluation import items
from nlpft.evaluation.cross_validation import spread
from nlpft.evaluation.tables import markdown


class Score(NamedTuple):
    """What one run ended with."""

    rows: int  # it has learnt from, about
    policy: str
    seed: int
    value: float


class Scores:
    """Scores by their runs' keys, in a file that a kill leaves whole.

    Raises RunExists where it is there and not to be resumed.
    """

    def __init__(self, file: Path, resume: bool) -> None:
        if file.exists() and not resume:
            raise RunExists(f"{file}: already there; go on with it by --resume, or choose another --output_dir")
        self.file = file
        lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
        self.known = {line["key"]: Score(*line["score"]) for line in map(json.loads, lines)}

    def __contains__(self, key: str) -> bool:
        return key in self.known

    def __getitem__(self, key: str) -> Score:
        return self.known[key]

    def add(self, key: str, score: Score) -> None:
        """Keep one more; the main process writes it."""
        self.known[key] = score
        if PartialState().is_main_process:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            whole = text[: text.rfind("\n") + 1]  # a line that a kill cut off would join the next
            self.file.write_text(whole + json.dumps({"key": key, "score": score}) + "\n", encoding="utf-8")


def key(run: Any) -> str:
    """What decides a run's score: its settings, where it lies aside, and its data by their contents."""
    settings = {
        name: value for name, value in config.flat(run).items() if name not in ("output_dir", "resume", "data.train")
    }
    contents = store.info(run.data.train).get("fingerprint")
    return hashlib.sha256(json.dumps([settings, contents], sort_keys=True, default=str).encode()).hexdigest()[:16]


def measured(folder: Path, name: str) -> float:
    """The measure `name` of the evaluation in `folder`. Raises DataError where it has none such."""
    (values,) = items.results(folder)["results"].values()
    if f"{name},none" not in values:
        known = ", ".join(key.partition(",")[0] for key in values if key.endswith(",none") and "_stderr" not in key)
        raise DataError(f"measure {name}: {folder} has {known}")
    return float(values[f"{name},none"])


def table(scores: Sequence[Score], confidence: float = 0.95) -> list[str]:
    """Lines of a Markdown table: a number of rows a line, a policy a column, the mean over seeds and its interval's half.

    The best mean is bold, and so is each policy that is not worse than it by more than chance: the interval of their paired
    differences (Student's t over seeds) holds 0.
    """
    policies = list(dict.fromkeys(score.policy for score in scores))
    lines = []
    for rows in sorted({score.rows for score in scores}):
        found = {policy: _values(scores, rows, policy) for policy in policies}
        spreads = {policy: spread(values, 0.0, confidence) for policy, values in found.items()}
        best = max(spreads, key=lambda policy: spreads[policy].mean)
        cells = []
        for policy, one in spreads.items():
            cell = f"{one.mean:.3f} ± {one.high - one.mean:.3f}"
            cells.append(f"**{cell}**" if level(found[best], found[policy], confidence) else cell)
        lines.append([f"{rows:,}", *cells])
    return markdown(["rows", *policies], lines)


def level(best: Sequence[float], other: Sequence[float], confidence: float) -> bool:
    """Whether the paired differences of two policies' scores [seeds] leave open that they are equal."""
    gap = spread(np.subtract(best, other).tolist(), 0.0, confidence)
    return gap.low <= 0


def _values(scores: Sequence[Score], rows: int, policy: str) -> list[float]:
    """Scores in the order of the seeds."""
    own = [score for score in scores if (score.rows, score.policy) == (rows, policy)]
    return [score.value for score in sorted(own, key=lambda score: score.seed)]
