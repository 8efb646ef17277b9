"""The figures of a head's evaluation: the confusion matrix, the reliability diagram (Niculescu-Mizil & Caruana 2005), and the
map of its features."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from nlpft.evaluation.report.heads import Confidence, HeadScores, Map
from nlpft.evaluation.report.plots import WIDTH, Plot, blank
from nlpft.evaluation.report.svg import Colours

NUMBERED = 10  # labels up to which a cell has its number
NAMED = 30  # labels up to which the axes name them
LETTERS = 14  # of a name
DOTS = 2000  # of a map, from all over it
OTHERS = "others"
DARK = 0.5  # opacity of a cell that holds its whole row: its number is still read


def figures(of: Sequence[HeadScores], maps: Sequence[Map], colours: Colours) -> list[Plot]:
    """Confusions and reliability of each evaluation that has them, and maps."""
    matrices = [confusion(scores, colours) for scores in of if scores.confusion is not None]
    reliable = [reliability(scores, colours) for scores in of if scores.confidences]
    return [*matrices, *reliable, *(embedding_map(made, colours) for made in maps)]


def confusion(of: HeadScores, colours: Colours) -> Plot:
    """Rows by true and said label; a cell is the darker, the larger its share of the true label's rows."""
    assert of.confusion is not None
    figure, axes = blank(colours, WIDTH, grid="both")
    axes.grid(False)
    shares = of.confusion / np.maximum(of.confusion.sum(1, keepdims=True), 1)
    for (i, j), share in np.ndenumerate(shares):
        if share:
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=colours.series[0], alpha=DARK * share, linewidth=0)
            axes.add_patch(cell)
        if len(shares) <= NUMBERED:
            number = f"{of.confusion[i, j]}"
            axes.text(j, i, number, ha="center", va="center", color=colours.text, fontsize=10)
    _name(axes, of.labels)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    axes.set_aspect("equal")
    said = ", ".join(f"{true} as {said}: {rows}" for true, said, rows in of.confused) or "none"
    text = f"Confusion matrix of {of.label}. Most frequent confusions: {said}"
    return Plot(f"confusion_{of.label}", f"{of.label}: rows by true and said label", text, figure)


def embedding_map(of: Map, colours: Colours) -> Plot:
    """Points by their true label, crosses where it is not what was said; beside the most frequent labels the others are one."""
    figure, axes = blank(colours, WIDTH * 0.8, grid="both")
    drawn = np.unique(np.linspace(0, len(of.points) - 1, DOTS).round().astype(int))
    named = _frequent(of.names, len(colours.series))
    names = np.array([name if name in named else OTHERS for name in of.names], object)
    for number, name in enumerate(named):
        for wrong, look in ((False, {"marker": "o", "s": 10, "linewidth": 0}), (True, {"marker": "x", "s": 22})):
            own = drawn[(names[drawn] == name) & (of.wrong[drawn] == wrong)]
            axes.scatter(*of.points[own].T, color=colours.series[number], alpha=0.7, **look)  # type: ignore[arg-type]
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    axes.set_xlabel(f"{100 * of.shares[0]:.0f} % of the variance", loc="right")
    axes.set_ylabel(f"{100 * of.shares[1]:.0f} %")
    title = f"{of.label}: features by true label; \N{MULTIPLICATION SIGN}: wrong"
    centres = [
        f"{name} {np.mean(of.points[names == name], 0).round(2).tolist()} ({np.sum(names == name)})" for name in named
    ]
    keys = [(name, number, "dot") for number, name in enumerate(named)]
    return Plot(f"map_{of.label}", title, f"{title}. Centres: {'; '.join(centres)}", figure, keys)


def _frequent(names: np.ndarray, colours: int) -> list[str]:
    """As many names as there are colours, the most frequent first; the last one stands for all others where there are more."""
    every = [name for name, _ in Counter(names.tolist()).most_common()]
    return every if len(every) <= colours else [*every[: colours - 1], OTHERS]


def _name(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    names = [label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…" for label in labels]
    shown = range(len(labels)) if len(labels) <= NAMED else ()
    size = 10 if len(labels) <= NUMBERED else 6
    axes.set_xticks(shown, [names[i] for i in shown], rotation=90 if len(labels) > 3 else 0, fontsize=size)
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=size)


def reliability(of: HeadScores, colours: Colours) -> Plot:
    """Share of rows that are right over the confidence in them; on the diagonal confidence holds what it says."""
    figure, axes = blank(colours, WIDTH * 0.8)
    axes.plot([0, 1], [0, 1], color=colours.ink, linewidth=1, linestyle=(0, (2, 2)))
    for number, found in enumerate(of.confidences):
        at, right = [b.confidence for b in found.bins], [b.accuracy for b in found.bins]
        axes.plot(at, right, color=colours.series[number], linewidth=1.4)
        axes.scatter(at, right, s=_areas(found), color=colours.series[number], linewidth=0)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("confidence", loc="right")
    keys = [(f"{found.name}, ECE {found.error:.3f}", i, "dot") for i, found in enumerate(of.confidences)]
    said = "; ".join(
        f"{found.name}, expected calibration error {found.error:.3f}: "
        + ", ".join(f"{b.accuracy:.2f} right at confidence {b.confidence:.2f} ({b.rows} rows)" for b in found.bins)
        for found in of.confidences
    )
    title = f"{of.label}: share that is right, by confidence"
    return Plot(f"reliability_{of.label}", title, f"{title}. {said}", figure, keys)


def _areas(found: Confidence) -> list[float]:
    """A dot's area follows its rows."""
    most = max(b.rows for b in found.bins)
    return [8 + 40 * b.rows / most for b in found.bins]
