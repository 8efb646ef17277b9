"""The page of one run, report.html: what improved and how sure that is, how training went, what it was trained on.

Self-contained: one HTML file with inline SVG, no script and no network. What the run folder lacks is stated as missing.
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice, repeat, zip_longest
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from nlpft import __version__
from nlpft.config import flatten
from nlpft.data.ledger import OUTCOMES
from nlpft.errors import DataError, UserError
from nlpft.evaluation import compare as paired
from nlpft.files import write_text
from nlpft.rundir import RunDir

ANSWERS = 12  # sample answers shown for each evaluation
LONGEST = 1_200  # characters of a text that is shown
POINTS = 150  # points of a curve; longer runs are averaged into as many

# matplotlib writes fixed colours; these stand for colours of the style sheet, which differ in dark mode.
INK, GRID, TRAINING, EVALUATION = "#010101", "#020202", "#030303", "#040404"
CSS = {INK: "var(--muted)", GRID: "var(--line)", TRAINING: "var(--accent)", EVALUATION: "var(--second)"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nlpft",  # the same run gives the same page
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
}


@dataclass(frozen=True)
class Versus:
    """One evaluation against the base model's."""

    label: str
    error: str = ""  # why there is no comparison; then the rest is empty
    model: str = ""
    comparisons: Sequence[paired.Comparison] = ()
    notes: Sequence[str] = ()
    answers: Sequence[dict[str, Any]] = ()


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of run folder `run` to `out` (default: report.html in it), whole or not at all; returns where it is.

    Raises UserError where `run` is no run folder, DataError where a file in it is damaged.
    """
    target = out or RunDir(run).report
    text = render(RunDir(run))
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); choose another place by -o") from error
    return target


def render(run: RunDir) -> str:
    """The page as HTML."""
    if not any(path.exists() for path in (run.config, run.metrics, run.eval)):
        raise UserError(
            f"{run.path}: no run folder, it has neither config.yaml nor metrics.jsonl nor eval/; "
            "name the folder that was given as --output_dir"
        )
    # `.html.j2` is not among the endings for which jinja2 escapes by itself
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {"number": number, "minus": lambda text: str(text).replace("-", "\N{MINUS SIGN}")}
    train, evals, unreadable = read_metrics(run.metrics)
    summaries = _json(run.path / "data.json")
    data = {split: flatten(summary, ": ") for split, summary in summaries.items()}
    return pages.get_template("report.html.j2").render(
        run=run,
        name=run.path.resolve().name,
        others=evaluations(run.eval),
        results={path.parent.name: _json(path) for path in sorted(run.eval.glob("*/results.json"))},
        figures=figures(train, evals),
        facts=facts(train, evals),
        unreadable=unreadable,
        data=data,
        keys=dict.fromkeys(
            key for split in data.values() for key in split if not key.startswith(("files: ", "shards: "))
        ),
        lost={split: unaccounted(summary) for split, summary in summaries.items()},
        config=run.config.read_text(encoding="utf-8") if run.config.exists() else "",
        environment=flatten(_json(run.environment), "."),
        bars=bars,
        inactive=paired.INACTIVE,
        version=__version__,
    )


def read_metrics(path: Path) -> tuple[list[dict], list[dict], int]:
    """Lines of metrics.jsonl by kind, train and eval, in the order of their steps, and how many could not be read.

    A run that was killed may end in half a line, and repeats steps when it is resumed: the last line of a step counts.
    """
    found: dict[str, dict[int, dict]] = {"train": {}, "eval": {}}
    unreadable = 0
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            found.setdefault(row["kind"], {})[row["step"]] = row
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    train, evals = ([found[kind][step] for step in sorted(found[kind])] for kind in ("train", "eval"))
    return train, evals, unreadable


def column(rows: list[dict], key: str) -> np.ndarray:
    """Values of `key` [rows] as float64; NaN where a row has none."""
    return np.array([row.get(key) for row in rows], dtype=np.float64)


def evaluations(folder: Path) -> list[Versus]:
    """Each evaluation in `folder` against the one called base, by label; none where there is no such one."""
    if not (folder / "base").is_dir():
        return []
    return [
        against(folder / "base", path) for path in sorted(folder.iterdir()) if path.is_dir() and path.name != "base"
    ]


def against(base: Path, path: Path) -> Versus:
    """The evaluation in `path` against the one in `base`."""
    try:
        before, after = paired.read(base), paired.read(path)
        made, notes = paired.compare(before, after), paired.notes(before, after)
    except DataError as error:
        return Versus(path.name, str(error))
    about = after.results.get("nlpft", {})
    model = " + ".join(str(about[key]) for key in ("model", "adapter") if about.get(key))
    return Versus(path.name, "", model, made, notes, answers(before, after, made))


def answers(base: paired.Evaluation, other: paired.Evaluation, made: list[paired.Comparison]) -> list[dict[str, Any]]:
    """Up to ANSWERS written answers of both, those first that turned right or wrong, by turns."""
    written: dict[str, paired.Comparison] = {}
    for c in sorted(made, key=lambda c: not c.binary):  # right or wrong says more than a score
        row = next(iter(other.samples[c.task, c.filter].values()))
        if c.metric != "loss" and c.metric not in paired.LOG_LIKELIHOODS and answer(row) is not None:
            written.setdefault(c.task, c)
    shown = []
    for c in written.values():
        before, after = base.samples[c.task, c.filter], other.samples[c.task, c.filter]
        gained, lost = paired.flips(base, other, c.task, c.metric, c.filter)
        flipped = {row["doc_id"] for row, _ in gained + lost}
        by_turns = chain.from_iterable(zip_longest(zip(repeat("gained"), gained), zip(repeat("lost"), lost)))
        same = (("unchanged", (before[i], after[i])) for i in sorted(after) if i not in flipped)
        picked = islice(chain(filter(None, by_turns), same), max(1, ANSWERS // len(written)))
        shown += [_shown(c, change, *pair) for change, pair in picked]
    return sorted(shown[:ANSWERS], key=lambda item: not item["own"])


def _shown(c: paired.Comparison, change: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    marks = [
        ("right" if row[c.metric] else "wrong") if c.binary else f"{c.metric} {row[c.metric]:.3f}"
        for row in (before, after)
    ]
    return {
        "task": c.task,
        "own": "messages" in after["doc"],  # the user's data, not a benchmark's
        "source": after["doc"].get("source", f"item {after['doc_id']}"),
        "change": change,
        "prompt": prompt(after),
        "expected": clip(str(after["target"])),
        "answers": [clip(answer(row) or "") for row in (before, after)],
        "marks": marks,
    }


def answer(row: dict) -> str | None:
    """The text a model wrote for an item; None where it scored given answers by their log-likelihood."""
    value = row.get("resps") or row.get("filtered_resps")
    while isinstance(value, list) and value:
        if len(value) == 2 and str(value[1]) in ("True", "False"):  # (log-likelihood, is greedy)
            return None
        value = value[0]
    return value if isinstance(value, str) else None


def prompt(row: dict) -> list[tuple[str, str]]:
    """What a model was asked, as (role, text)."""
    if messages := row["doc"].get("messages"):
        return [(message["role"], clip(message["content"])) for message in messages]
    arguments = row["arguments"]
    while isinstance(arguments, dict | list) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    return [("prompt", clip(str(arguments), end=True))]  # after examples, the question stands last


def clip(text: str, end: bool = False) -> str:
    """`text`, or so much of its beginning (`end`: of its end) as is shown."""
    if len(text) <= LONGEST:
        return text
    left = f"[{len(text) - LONGEST:,} more characters]"
    return f"{left} {text[-LONGEST:]}" if end else f"{text[:LONGEST]} {left}"


def bars(comparisons: list[paired.Comparison], c: paired.Comparison) -> dict[str, float]:
    """Where `c`'s interval lies in its little drawing, from -1 to 1; measures of one unit share a scale."""
    scale = max(abs(x) for d in comparisons if d.unit == c.unit for x in (d.low, d.high, d.difference)) or 1.0
    return {key: getattr(c, key) / scale for key in ("low", "high", "difference")}


def facts(train: list[dict], evals: list[dict]) -> list[tuple[str, str]]:
    """(name, value) of the training run."""
    if not train:
        return []
    seconds, tokens, memory = (column(train, key) for key in ("seconds", "tokens", "memory_gib"))
    found = [
        ("steps", f"{train[-1]['step']:,}"),
        ("tokens learnt", number(int(np.nansum(column(train, "targets"))))),
        ("time in steps", str(timedelta(seconds=round(np.nansum(seconds))))),
        ("tokens/s, median", f"{np.nanmedian(tokens / seconds):,.0f}"),
    ]
    if (memory > 0).any():  # none is measured on the CPU
        found.append(("peak memory", f"{np.nanmax(memory):.1f} GiB"))
    losses = column(evals, "loss")
    if np.isfinite(losses).any():
        best = int(np.nanargmin(losses))
        found.append(("best evaluation loss", f"{losses[best]:.3f} at step {evals[best]['step']:,}"))
    return found


def figures(train: list[dict], evals: list[dict]) -> list[dict[str, Any]]:
    """Loss, learning rate and speed by step, each with a title, a description for who cannot see it, and its SVG."""
    if not train:
        return []
    steps, targets = column(train, "step"), np.maximum(np.nan_to_num(column(train, "targets")), 1)
    losses, rates = column(train, "loss"), column(train, "lr")
    speeds = column(train, "tokens") / column(train, "seconds")
    ones = np.ones_like(steps)
    at = (column(evals, "step"), column(evals, "loss"))
    words = f"Training loss from {losses[0]:.3f} at step {steps[0]:.0f} to {losses[-1]:.3f} at step {steps[-1]:.0f}"
    words += f"; evaluation loss from {at[1][0]:.3f} to {at[1][-1]:.3f}" if evals else ""
    drawn = [
        ("Loss, nats/token", words, losses, targets, at),
        ("Learning rate", f"Learning rate, at most {np.nanmax(rates):.2g}", rates, ones, None),
        ("Speed, tokens/s", f"Tokens per second, median {np.nanmedian(speeds):,.0f}", speeds, ones, None),
    ]
    return [
        {
            "title": title,
            "text": text,
            "dots": bool(dots and len(dots[0])),
            "svg": curve(thin(steps, values, weights), dots, f"f{i}"),
        }
        for i, (title, text, values, weights, dots) in enumerate(drawn)
    ]


def thin(steps: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS (step, weighted mean) of a curve [steps]."""
    parts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return np.array([steps[i[-1]] for i in parts]), np.array([np.average(values[i], weights=weights[i]) for i in parts])


def curve(line: tuple[np.ndarray, np.ndarray], dots: tuple[np.ndarray, np.ndarray] | None, prefix: str) -> Markup:
    """A small line chart over steps as inline SVG, with `dots` (evaluations) on it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(*line, color=TRAINING, linewidth=1.4)
        if dots:
            axes.plot(*dots, color=EVALUATION, marker="o", markersize=4.5, linewidth=1)
        axes.grid(axis="y", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.yaxis.set_major_formatter(
            lambda y, _: f"{y:,.0f}" if abs(y) >= 1000 else np.format_float_positional(y, precision=10, trim="-")
        )
        axes.set_xlabel("step", loc="right")
        text = io.StringIO()
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return Markup(inline(text.getvalue(), prefix))


def inline(svg: str, prefix: str) -> str:
    """matplotlib's SVG file as an element of a page: its size and colours by style sheet, its ids its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}-", svg)
    for colour, variable in CSS.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1)


def unaccounted(summary: dict[str, Any]) -> int:
    """Rows read that have no outcome in the ledger: 0, or a bug."""
    return summary.get("rows_read", 0) - sum(summary.get(outcome, 0) for outcome in OUTCOMES)


def number(value: Any) -> str:
    """Counts with separators, other values as they are."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _json(path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; delete it, the page says then that it is missing") from error
