"""Comparisons and scores as tables of text, for Markdown and terminals. Loads no torch."""

from collections.abc import Collection, Iterable, Sequence

from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.items import LOG_LIKELIHOODS

TEXT = ("measure", "verdict", "retention", "evaluation", "setting")  # columns that are words, not numbers


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[str] = TEXT) -> list[str]:
    """Lines of a Markdown table; columns other than `text` are numbers, and set right."""
    rule = ["---" if name in text else "---:" for name in header]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in (header, rule, *rows)]


def comparisons(made: Sequence[Comparison], base: str, other: str) -> list[str]:
    """Lines of a Markdown table with a column for each figure; what shows forgetting has a table of its own below it."""
    names = [
        "items",
        base,
        other,
        "difference",
        "interval",
        "detectable",
        "p",
        "p adjusted",
        "gained",
        "lost",
        "verdict",
    ]
    gains = [c for c in made if not c.retention]
    kept = [c for c in made if c.retention]
    lines = markdown(["measure", *names], [_figures(c) for c in gains]) if gains else []
    if kept:
        table = markdown(["measure", *names, "retention"], [[*_figures(c), c.forgotten] for c in kept])
        lines += [*[""] * bool(lines), "Retention: what was forgotten", "", *table]
    return lines


def _figures(c: Comparison) -> list[str]:
    return [
        measure(c), f"{c.n}", c.show(c.base), c.show(c.other), c.show(c.difference, signed=True), interval(c),
        c.show(c.detectable) if c.detectable else "", f"{c.p_value:.2g}", f"{c.p_adjusted:.2g}",
        f"{c.other_only}", f"{c.base_only}", c.verdict,
    ]  # fmt: skip


def measure(c: Comparison) -> str:
    """Task, metric, filter and unit."""
    return f"{c.task} {c.metric}" + (f", {c.filter}" if c.filter != "none" else "") + (f" ({c.unit})" if c.unit else "")


def items(c: Comparison) -> str:
    """How many items a comparison rests on, and of what kind they are."""
    parts = [f"{c.n:,} items"]
    parts += [f"{c.clusters:,} clusters"] if c.clusters < c.n else []
    return ", ".join(parts) + (f" of {c.tasks} tasks" if c.tasks > 1 else "")


def interval(c: Comparison) -> str:
    """Bounds of the difference."""
    return f"{c.show(c.low, signed=True)} to {c.show(c.high, signed=True)}"


def legend(confidence: float, retention: bool = False) -> str:
    """How to read the tables."""
    text = (
        f"Interval of the difference: {100 * confidence:g} %, each measure by itself; of right or wrong a score interval (Tango "
        "1998) that agrees with the test, else paired bootstrap over items. gained, lost: items on which the second is better, "
        "worse. p: exact McNemar test for right or wrong, else sign-flip permutation; of metrics of a whole corpus, such as "
        "chrF, both answers to an item change places. adjusted: Holm, over all measures and models in which an item differs. "
        "Better and worse are said where the interval and the adjusted p agree on it. detectable: a true difference that would "
        "be shown four times in five. Items that belong together are drawn together."
    )
    said = f" no loss beyond x: a true loss above x is excluded, one-sided, at {100 * confidence:g} %, for each measure alone."
    return text + said * retention


def one_a_task(made: Iterable[Comparison]) -> list[Comparison]:
    """The comparison by which each task's flipped items are shown: right or wrong says more than a score or a loss."""
    found: dict[str, Comparison] = {}
    for c in sorted(made, key=lambda c: (not c.binary, c.metric in {"loss", *LOG_LIKELIHOODS})):
        found.setdefault(c.task, c)
    return list(found.values())


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def number(value: object) -> str:
    """Counts with separators, other values as they are."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
