"""The figures of one run or several: curves over steps, trainable parameters by block, differences with their intervals."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.metrics import Line, column, measured
from nlpft.evaluation.report.parameters import Block
from nlpft.evaluation.report.svg import Colours, style
from nlpft.evaluation.results import LOWER

POINTS = 150  # points of a curve; longer runs are averaged into as many
WIDTH = 4.6  # inches; on a page, the width of a telephone
HEIGHT = 2.6
MEASURE = 0.5  # inches for a measure in the forest plot, and
SERIES = 0.2  # for each model besides
LETTERS = 44  # of a name above its line


class Plot(NamedTuple):
    """A figure, and what is said with it."""

    name: str  # of its files
    title: str
    text: str  # for who cannot see it
    figure: Figure
    keys: Sequence[tuple[str, int, str]] = ()  # (label, number of its colour, "line" or "dot")


class Curve(NamedTuple):
    """Values over steps."""

    label: str
    steps: np.ndarray  # [points]
    values: np.ndarray  # [points]
    dots: bool = False  # measured now and then


def curves(runs: Sequence[Run], colours: Colours) -> list[Plot]:
    """Loss, learning rate, speed and memory by step, of one run or, over each other, of several; what is not known is left out.

    Of one run training and held-out loss share a figure; of several each has its own.
    """
    names = distinct(runs)
    train = {name: run.metrics.train for name, run in zip(names, runs, strict=True) if run.metrics.train}
    evals = {name: run.metrics.evals for name, run in zip(names, runs, strict=True) if run.metrics.evals}
    losses = [_curve(name, rows, _key("loss"), weights="targets") for name, rows in train.items()]
    held_out = [Curve(name, column(rows, "step"), column(rows, "loss"), True) for name, rows in evals.items()]
    unit = "target" if any(run.has_head for run in runs) else "token"
    if len(runs) == 1:
        named = [
            curve._replace(label=word)
            for curve, word in zip([*losses, *held_out], ("training", "evaluation"), strict=False)
        ]
        found = [("loss", f"Loss, nats/{unit}", named)]
    else:
        found = [
            ("loss", f"Training loss, nats/{unit}", losses),
            ("held_out_loss", f"Held-out loss, nats/{unit}", held_out),
        ]
    found += _measures(evals)
    for name, title, of in (
        ("rate", "Learning rate", _key("lr")),
        ("speed", "Speed, tokens/s", _speed),
        ("memory", "Peak memory, GiB", _key("memory_gib")),
    ):
        found.append((name, title, [_curve(label, rows, of) for label, rows in train.items()]))
    order = {name: i for i, name in enumerate(names)}
    return [
        _drawn(name, title, some, order, colours) for name, title, of in found if (some := [c for c in of if _says(c)])
    ]


def _measures(evals: dict[str, list[Line]]) -> list[tuple[str, str, list[Curve]]]:
    """(name, title, curves) of what was measured on held-out rows besides the loss: of one run those that are better when high
    share a figure."""
    names = dict.fromkeys(key for rows in evals.values() for key in measured(rows))
    made = {
        key: [Curve(run, column(rows, "step"), column(rows, key), True) for run, rows in evals.items()] for key in names
    }
    high = [key for key in names if key not in LOWER] if len(evals) == 1 else []
    together = [made[key][0]._replace(label=_words(key)) for key in high]
    alone = [(key, f"Held-out {_words(key)}", curves) for key, curves in made.items() if key not in high]
    return [*([("measures", "Measures on held-out rows", together)] if high else []), *alone]


def _words(name: str) -> str:
    return name.replace("_", " ")


def distinct(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its folder's, or its path where another has the same."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else str(run.path) for name, run in zip(names, runs, strict=True)]


def parameters(blocks: Sequence[Block], colours: Colours) -> Plot:
    """Trainable parameters, a bar for each block."""
    figure, axes = blank(colours)
    places = range(len(blocks))
    axes.bar(places, [block.trains for block in blocks], color=colours.series[0], width=0.8)
    axes.set_xlim(-0.7, max(len(blocks), 6) - 0.3)  # a lone bar is a bar, not a wall
    names = [block.name[:5] for block in blocks]
    shown = [
        i for i in places if len(blocks) <= 8 or not names[i].isdigit() or int(names[i]) % -(-len(blocks) // 6) == 0
    ]
    axes.set_xticks(shown, [names[i] for i in shown])
    axes.yaxis.set_major_formatter(lambda y, _: short(y))
    axes.set_xlabel("block", loc="right")
    text = "Trainable parameters by block: " + ", ".join(f"{block.name}: {block.trains:,}" for block in blocks)
    return Plot("parameters", "Trainable parameters by block", text, figure)


def models(run: Run) -> list[tuple[str, int, Sequence[Comparison]]]:
    """What `forest` draws of a single run."""
    return [(versus.label, number, versus.comparisons) for number, versus in enumerate(run.others)]


def forest(of: Sequence[tuple[str, int, Sequence[Comparison]]], colours: Colours) -> list[Plot]:
    """Differences to the base model with their intervals: a figure for each unit, a line for each measure and model.

    `of`: label, number of the colour, and comparisons of each model.
    """
    units: dict[str, list[tuple[str, int, Comparison]]] = {}
    for label, number, made in of:
        for c in made:
            units.setdefault("points" if c.binary else c.unit or c.metric, []).append((label, number, c))
    return [_forest(unit, some, len(of), colours) for unit, some in units.items()]


def _forest(unit: str, of: list[tuple[str, int, Comparison]], models: int, colours: Colours) -> Plot:
    measures: dict[str, list[tuple[str, int, Comparison]]] = {}
    for label, number, c in of:
        measures.setdefault(_measure(c), []).append((label, number, c))
    height = sum(MEASURE + SERIES * (len(some) - 1) for some in measures.values())
    figure, axes = blank(colours, height + 0.6, grid="x")
    axes.axvline(0, color=colours.ink, linewidth=1, linestyle=(0, (2, 2)))
    top = 0.0
    for name, some in measures.items():
        axes.text(
            0, top - 0.13, name, transform=axes.get_yaxis_transform(), fontsize=11, va="center", color=colours.ink
        )
        for i, (_, number, c) in enumerate(some):
            colour = colours.series[number % len(colours.series)] if models > 1 else _verdict(c, colours)
            at, scale = top - 0.33 - SERIES * i, 100 if c.binary else 1
            axes.plot([scale * c.low, scale * c.high], [at, at], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([scale * c.difference], [at], color=colour, marker="o", markersize=6)
        top -= MEASURE + SERIES * (len(some) - 1)
    axes.set_ylim(top, 0)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: short(x).replace("-", "\N{MINUS SIGN}"))
    said = [f"{name}, {label}: {c.show(c.difference, True)} ({c.show(c.low, True)} to {c.show(c.high, True)})"
            for name, some in measures.items() for label, _, c in some]  # fmt: skip
    keys = [(label, number, "dot") for label, number in dict.fromkeys((label, number) for label, number, _ in of)]
    title = f"Difference to the base model, {unit.replace('log, ', '')}, {100 * of[0][2].confidence:g} % intervals"
    name = "forest_" + "".join(letter if letter.isalnum() else "_" for letter in unit)
    return Plot(name, title, f"{title}. " + "; ".join(said), figure, keys if models > 1 else ())


def _verdict(c: Comparison, colours: Colours) -> str:
    return {"better": colours.better, "worse": colours.worse}.get(c.verdict, colours.ink)


def _measure(c: Comparison) -> str:
    name = f"{c.task} {c.metric}".replace("_", " ") + (f", {c.filter}" if c.filter != "none" else "")
    end = "" if c.higher_is_better else " (lower is better)"
    room = LETTERS - len(end)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + end


def _drawn(name: str, title: str, of: Sequence[Curve], order: dict[str, int], colours: Colours) -> Plot:
    """`order`: numbers of the runs' colours; a curve of one run has the next one."""
    figure, axes = blank(colours)
    numbers = [order.get(curve.label, i) if len(order) > 1 else i for i, curve in enumerate(of)]
    for number, curve in zip(numbers, of, strict=True):
        colour, dashes = (
            colours.series[number % len(colours.series)],
            ("-", "--", ":")[number // len(colours.series) % 3],
        )
        marker = {"marker": "o", "markersize": 4.5} if curve.dots or len(curve.steps) == 1 else {}
        axes.plot(curve.steps, curve.values, color=colour, linewidth=1.4, linestyle=dashes, **marker)  # type: ignore[arg-type]
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x == round(x) else "")
    axes.yaxis.set_major_formatter(lambda y, _: short(y))
    axes.set_xlabel("step", loc="right")
    said = "; ".join(
        f"{curve.label} from {short(curve.values[0])} at step {curve.steps[0]:.0f} to {short(curve.values[-1])} "
        f"at step {curve.steps[-1]:.0f}"
        for curve in of
    )
    keys = [(c.label, number, "dot" if c.dots else "line") for number, c in zip(numbers, of, strict=True)]
    return Plot(name, title, f"{title}: {said}", figure, keys if len(of) > 1 or len(order) > 1 else ())


def blank(colours: Colours, height: float = HEIGHT, grid: str = "y") -> tuple[Figure, Axes]:
    """A figure without anything in it, `height` inches high."""
    with matplotlib.rc_context(style(colours)):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis=grid, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
    return figure, axes


def _curve(label: str, rows: list[Line], of: Callable[[list[Line]], np.ndarray], weights: str | None = None) -> Curve:
    ones = np.ones(len(rows))
    weighed = np.maximum(np.nan_to_num(column(rows, weights)), 1) if weights else ones
    return Curve(label, *thin(column(rows, "step"), of(rows), weighed))


def thin(steps: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS (step, weighted mean) of a curve [steps]."""
    parts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return np.array([steps[i[-1]] for i in parts]), np.array([np.average(values[i], weights=weights[i]) for i in parts])


def short(value: float) -> str:
    """A number as an axis shows it."""
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:,.4g} {letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else np.format_float_positional(value, 4, fractional=False, trim="-")


def _key(name: str) -> Callable[[list[Line]], np.ndarray]:
    return lambda rows: column(rows, name)


def _speed(rows: Iterable[Line]) -> np.ndarray:
    rows = list(rows)
    return column(rows, "tokens") / column(rows, "seconds")


def _says(curve: Curve) -> bool:
    """Whether there is anything to see: memory is not measured on the CPU."""
    return bool((np.nan_to_num(curve.values) != 0).any())


def titled(plot: Plot, colours: Colours) -> Figure:
    """The figure with its title and its key in it, as a file needs them; a page has them as text."""
    with matplotlib.rc_context(style(colours)):
        plot.figure.suptitle(plot.title, fontsize=12, x=0.02, ha="left")
        marks = [
            Line2D(
                [],
                [],
                color=colours.series[number % len(colours.series)],
                marker="o" if kind == "dot" else "",
                label=label,
            )
            for label, number, kind in plot.keys
        ]
        if marks:
            plot.figure.legend(handles=marks, loc="outside lower left", frameon=False, fontsize=10, ncols=2)
    return plot.figure
