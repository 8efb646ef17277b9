"""Compare two evaluations item by item: which is better, by how much, and how sure that is."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nlpft.evaluation import compare as paired

COLOURS = {"better": "bold green", "worse": "bold red", "no difference shown": "default"}


@dataclass(frozen=True)
class Config:
    base: tyro.conf.Positional[Path]
    """Evaluation folder to compare against: it holds results.json and samples_TASK.jsonl."""
    other: tyro.conf.Positional[Path]
    """Evaluation folder of the same items by the other model, such as the base model with an adapter."""
    confidence: float = 0.95
    """Share of intervals that hold the true difference; a verdict needs a corrected p-value of at most 1 minus this."""
    markdown: bool = False
    """Print a Markdown table."""


def run(config: Config) -> int:
    base, other = paired.read(config.base), paired.read(config.other)
    comparisons = paired.compare(base, other, config.confidence)
    notes = paired.notes(base, other)
    names = (base.label, other.label) if base.label != other.label else (str(config.base), str(config.other))
    if config.markdown:
        print("\n".join([*markdown(comparisons, *names), "", legend(config.confidence), *(f"\n{n}" for n in notes)]))
    else:
        console = Console(highlight=False)
        console.print(table(comparisons, *names), legend(config.confidence), sep="\n")
        console.print(*(f"[bold yellow]note:[/] {escape(note)}" for note in notes), sep="\n")
    return int(paired.INACTIVE in notes)


def table(comparisons: Iterable[paired.Comparison], base: str, other: str) -> Table:
    """For the terminal: narrow, with the details of a measure below it."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, leading=1)
    for name in ("measure", base, other, "difference", "verdict"):
        made.add_column(escape(name), justify="left" if name in ("measure", "verdict") else "right", overflow="fold")
    for c in comparisons:
        power = f"\ndetectable: {c.show(c.detectable)}" if c.detectable else ""
        made.add_row(
            f"{escape(measure(c))}\n[dim]{c.n:,} items\n{c.other_only:,} gained, {c.base_only:,} lost[/]",
            c.show(c.base),
            c.show(c.other),
            f"{c.show(c.difference, signed=True)}\n[dim]{interval(c)}{power}[/]",
            f"[{COLOURS[c.verdict]}]{c.verdict}[/]\n[dim]p {c.p_value:.2g}\nadjusted {c.p_adjusted:.2g}[/]",
        )
    return made


def markdown(comparisons: Iterable[paired.Comparison], base: str, other: str) -> list[str]:
    """Lines of a Markdown table, with a column for each figure."""
    header = ["measure", "items", base, other, "difference", "interval", "detectable", "p", "p adjusted"]
    header += ["gained", "lost", "verdict"]
    rule = ["---" if name in ("measure", "verdict") else "---:" for name in header]
    lines = [
        [
            measure(c), f"{c.n}", c.show(c.base), c.show(c.other), c.show(c.difference, signed=True), interval(c),
            c.show(c.detectable) if c.detectable else "", f"{c.p_value:.2g}", f"{c.p_adjusted:.2g}",
            f"{c.other_only}", f"{c.base_only}", c.verdict,
        ]
        for c in comparisons
    ]  # fmt: skip
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in (header, rule, *lines)]


def measure(c: paired.Comparison) -> str:
    """Task, metric, filter and unit."""
    return f"{c.task} {c.metric}" + (f", {c.filter}" if c.filter != "none" else "") + (f" ({c.unit})" if c.unit else "")


def interval(c: paired.Comparison) -> str:
    """Bounds of the difference."""
    return f"{c.show(c.low, signed=True)} to {c.show(c.high, signed=True)}"


def legend(confidence: float) -> str:
    """How to read the table."""
    return (
        f"Interval of the difference: {100 * confidence:g} %, paired bootstrap over items. gained, lost: items on which the "
        "second is better, worse. p: exact McNemar test for right or wrong, else sign-flip permutation; adjusted: Holm, "
        "over all measures. detectable: a true difference that would be shown four times in five."
    )
