"""Figures of a comparison: best score against cost, masks of layers as heat maps, energies and temperatures of searches."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from nlpft.evaluation.report.svg import PRINT, style

POINTS = 200
DPI = 150
COLOURS = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]


def figures(found: dict[str, Any]) -> dict[str, Figure]:
    """Figures by name, of what result.json holds; what no strategy has told of is left out."""
    with matplotlib.rc_context(style(PRINT)):
        made = {"scores": scores(found), "masks": masks(found), "energies": energies(found)}
    return {name: figure for name, figure in made.items() if figure is not None}


def told(found: dict[str, Any], name: str) -> dict[str, list[Any]]:
    """By label what the seeds' notes have under `name`, of the strategies that have it in every seed."""
    each = {label: [notes.get(name) for notes in one["notes"].values()] for label, one in found["strategies"].items()}
    return {label: values for label, values in each.items() if all(values)}


def best_so_far(curve: list[list[float]], at: np.ndarray) -> np.ndarray:
    """The highest score of `curve` (used, score, ...) up to each cost of `at`, [points]; nan before the first."""
    used = np.array([point[0] for point in curve])
    best = np.maximum.accumulate([point[1] for point in curve])
    places = np.searchsorted(used, at, side="right") - 1
    return np.where(places >= 0, best[np.maximum(places, 0)], np.nan)


def scores(found: dict[str, Any]) -> Figure | None:
    """Best score on data.eval so far against what was spent, means over seeds."""
    curves = told(found, "curve")
    if not curves:
        return None
    unit = "steps" if found["budget"]["steps"] else "seconds"
    at = np.linspace(0, found["budget"][unit], POINTS)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (label, some) in enumerate(curves.items()):
        mean = np.mean([best_so_far(curve, at) for curve in some], axis=0)
        line = axes.step(at, 100 * mean, where="post", label=label, color=COLOURS[number % len(COLOURS)], linewidth=1.6)
        if np.isfinite(mean).sum() < POINTS // 20:  # one evaluation at the very end is a point, not a line
            line[0].set_marker("o")
    axes.set_xlabel(f"spent, {unit}")
    axes.set_ylabel(f"best {found['measure']} on data.eval, %")
    axes.grid(axis="y")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def masks(found: dict[str, Any]) -> Figure | None:
    """Share of seeds in which the winner of a search keeps each part as it was pretrained."""
    winners = told(found, "mask")
    if not winners:
        return None
    names = list(next(iter(winners.values()))[0])
    labels = [label for label, some in winners.items() if list(some[0]) == names]
    shares = np.array([[np.mean([mask[name] for mask in winners[label]]) for name in names] for label in labels])
    figure = Figure(figsize=(2.5 + 0.45 * len(names), 1.6 + 0.4 * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xticks(range(len(names)), [name.removeprefix("keep.") for name in names], rotation=60, ha="right")
    figure.colorbar(image, label="kept, share of seeds")
    return figure


def energies(found: dict[str, Any]) -> Figure | None:
    """Energies of candidates in the order in which they were scored, the least so far, and the temperature, of the first seed."""
    searches = {label: some[0] for label, some in told(found, "energies").items()}
    if not searches:
        return None
    temperatures = {label: some[0] for label, some in told(found, "temperatures").items()}
    figure = Figure(figsize=(7, 2.4 * len(searches)), layout="constrained")
    for number, (label, values) in enumerate(searches.items()):
        axes = figure.add_subplot(len(searches), 1, number + 1)
        axes.plot(values, "o", color=PRINT.series[0], markersize=4)
        axes.plot(np.fmin.accumulate(np.array(values, float)), color=PRINT.series[0])
        axes.set_title(label, fontsize=10, loc="left")
        axes.set_ylabel("energy, nats", fontsize=9)
        if label in temperatures:
            other = axes.twinx()
            warm = [np.nan if value is None else value for value in temperatures[label]]
            other.plot(warm, color=PRINT.series[1], linestyle="--")
            other.set_ylabel("temperature, nats", color=PRINT.series[1], fontsize=9)
    axes.set_xlabel("candidate")
    return figure
