"""Compare evaluations item by item: which is better, by how much, how sure that is, and what was forgotten."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nlpft.errors import ConfigError
from nlpft.evaluation import answers, compare, items, tables
from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.finite import dumps
from nlpft.evaluation.items import Evaluation, Pair

COLOURS = {"better": "bold green", "worse": "bold red", "no difference shown": "default"}


@dataclass(frozen=True, kw_only=True)
class Config(compare.Settings):
    base: tyro.conf.Positional[Path]
    """Evaluation folder to compare against: it holds results.json and samples_TASK.jsonl."""
    others: tyro.conf.Positional[tuple[Path, ...]]
    """Evaluation folders of the same items by other models, such as the base model with one adapter or another."""
    flips: int = 0
    """Items of each task shown side by side, that turned right and as many that turned wrong."""
    markdown: bool = False
    """Print Markdown tables."""
    json: bool = False
    """Print JSON, for programs: every figure, notes, and the doc_id of items gained and lost."""


def run(config: Config) -> int:
    if not config.others:
        raise ConfigError("nothing to compare with: name two evaluation folders or more, the base's first")
    if config.json and config.markdown:
        raise ConfigError("--json and --markdown: one of them")
    base, *others = [items.read(folder) for folder in (config.base, *config.others)]
    compared = compare.compare_all(base, others, config)
    names = items.labels([base, *others])
    notes = [compare.notes(base, other) for other in others]
    faults = [compare.faults(base, other) for other in others]
    found = [Against(base, names[0], *row) for row in zip(others, names[1:], compared, notes, faults, strict=True)]
    if config.json:
        print(dumps(_plain(config, found), indent=2))
    else:
        (_print_markdown if config.markdown else _print)(config, found)
    return int(any(faults))


class Against(NamedTuple):
    """One evaluation against the base's, each with its name."""

    base: Evaluation
    base_name: str
    other: Evaluation
    name: str
    comparisons: list[Comparison]
    notes: list[str]
    faults: list[str]  # those of the notes that make the numbers worthless, or fewer


def _print(config: Config, found: Sequence[Against]) -> None:
    console = Console(highlight=False)
    for one in found:
        if len(found) > 1:
            console.print(f"[bold]{escape(one.name)}[/] against {escape(one.base_name)}")
        for kept in (False, True):
            if shown := [c for c in one.comparisons if c.retention == kept]:
                console.print(table(shown, one.base_name, one.name))
        if one.notes:
            console.print(*(f"{_kind(one, note)} {escape(note)}" for note in one.notes), sep="\n")
        for title, pairs, c in _flipped(one, config.flips):
            console.print(f"[bold]{escape(title)}[/]", *(side_by_side(pair, c, one) for pair in pairs), sep="\n")
    console.print(_legend(config, found))


def _kind(one: Against, note: str) -> str:
    return "[bold red]error:[/]" if note in one.faults else "[bold yellow]note:[/]"


def _print_markdown(config: Config, found: Sequence[Against]) -> None:
    lines: list[str] = []
    for one in found:
        lines += [f"**{one.name}** against {one.base_name}", ""] if len(found) > 1 else []
        lines += [*tables.comparisons(one.comparisons, one.base_name, one.name), ""]
        lines += [line for note in one.notes for line in (note, "")]
        for title, pairs, c in _flipped(one, config.flips):
            header = ("prompt", "expected", one.base_name, one.name)
            lines += [title, "", *tables.markdown(header, [_texts(pair, c) for pair in pairs], text=header), ""]
    print("\n".join([*lines, _legend(config, found)]))


def _legend(config: Config, found: Sequence[Against]) -> str:
    return tables.legend(config.confidence, any(c.retention for one in found for c in one.comparisons))


def _plain(config: Config, found: Sequence[Against]) -> dict[str, Any]:
    """All of it as JSON can hold it."""
    return {
        "base": {"label": found[0].base_name, "folder": str(found[0].base.folder)},
        "confidence": config.confidence,
        "others": [
            {
                "label": one.name,
                "folder": str(one.other.folder),
                "notes": one.notes,
                "faults": one.faults,
                "comparisons": [_figures(one, c) for c in one.comparisons],
            }
            for one in found
        ],
    }


def _figures(one: Against, c: Comparison) -> dict[str, Any]:
    gained, lost = compare.flips(one.base, one.other, c.task, c.metric, c.filter)
    return {**asdict(c), "verdict": c.verdict, "gained": _by_task(gained), "lost": _by_task(lost)}


def _by_task(pairs: Iterable[Pair]) -> dict[str, list[Any]]:
    """Numbers of items by task."""
    found: dict[str, list[Any]] = {}
    for row, _ in pairs:
        found.setdefault(row["task"], []).append(row["doc_id"])
    return found


def _flipped(one: Against, number: int) -> Iterator[tuple[str, list[Pair], Comparison]]:
    """(title, items, comparison): up to `number` items of each task that turned right, and that turned wrong."""
    for c in tables.one_a_task(one.comparisons) if number else ():
        both = compare.flips(one.base, one.other, c.task, c.metric, c.filter)
        for word, pairs in zip(("gained", "lost"), both, strict=True):
            if pairs:
                shown = pairs[:number]
                yield f"{c.task} {c.metric}: {word}, {len(shown)} of {len(pairs)}", shown, c


def side_by_side(pair: Pair, c: Comparison, one: Against) -> Table:
    """One item for the terminal: what was asked and expected, and both answers beside each other."""
    before, after = answers.marks(pair, c.metric, c.binary)
    asked, *said = _texts(pair, c)
    made = Table(
        box=box.ROUNDED, title=escape(f"{answers.source(pair[0])}: {asked}"), title_justify="left", expand=True
    )
    sides = [f"{name}: {mark}" if mark else name for name, mark in ((one.base_name, before), (one.name, after))]
    for name in ("expected", *sides):
        made.add_column(escape(name), overflow="fold", ratio=1)
    made.add_row(*map(escape, said))
    return made


def _texts(pair: Pair, c: Comparison) -> list[str]:
    """Prompt, expected answer, and both answers."""
    said = [answers.answer(row, c.metric) for row in pair]
    scores = answers.marks(pair, c.metric, False)
    shown = [score if text is None else text for text, score in zip(said, scores, strict=True)]
    return [answers.prompt(pair[1])[-1][1], answers.expected(pair[1]), *shown]


def table(comparisons: Iterable[Comparison], base: str, other: str) -> Table:
    """For the terminal: narrow, with the details of a measure below it."""
    comparisons = list(comparisons)
    title = "Retention: what was forgotten" if comparisons[0].retention else None
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, leading=1, title=title, title_justify="left")
    for name in ("measure", base, other, "difference", "verdict"):
        made.add_column(escape(name), justify="left" if name in ("measure", "verdict") else "right", overflow="fold")
    for c in comparisons:
        power = f"\ndetectable: {c.show(c.detectable)}" if c.detectable else ""
        verdict = c.forgotten if c.retention else c.verdict
        made.add_row(
            f"{escape(tables.measure(c))}\n[dim]{tables.items(c)}\n{c.other_only:,} gained, {c.base_only:,} lost[/]",
            c.show(c.base),
            c.show(c.other),
            f"{c.show(c.difference, signed=True)}\n[dim]{tables.interval(c)}{power}[/]",
            f"[{COLOURS[c.verdict]}]{verdict}[/]\n[dim]p {c.p_value:.2g}\nadjusted {c.p_adjusted:.2g}[/]",
        )
    return made
