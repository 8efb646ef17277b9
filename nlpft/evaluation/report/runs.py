"""Several runs side by side: what they differ in, what each came to, and their measures under one correction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nlpft.evaluation import comparison, tables
from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.report import metrics
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.plots import distinct

MISSING = "–"


class Compared(NamedTuple):
    """One model of a run against the base model."""

    name: str
    number: int  # of its colour: its run's, where each run has one model
    comparisons: Sequence[Comparison]


class Measure(NamedTuple):
    """One measure, over all models of all runs; the bases and the items may differ where runs do not share them."""

    name: str
    rows: Sequence[tuple[str, Comparison]]
    bases: Sequence[tuple[str, Comparison]]  # (whose, its comparison); one without a name where all have the same
    items: str  # on which all models of it were asked; nothing where they were asked on others


def corrected(found: Sequence[Run]) -> list[Compared]:
    """Every model of every run under one correction (Holm)."""
    names, single = distinct(found), all(len(run.others) <= 1 for run in found)
    every = [(i, versus) for i, run in enumerate(found) for versus in run.others if versus.comparisons]
    compared = [
        Compared(names[i] if single else f"{names[i]}: {versus.label}", i if single else number, versus.comparisons)
        for number, (i, versus) in enumerate(every)
    ]
    together = iter(comparison.corrected([c for one in compared for c in one.comparisons]))
    return [one._replace(comparisons=[next(together) for _ in one.comparisons]) for one in compared]


def measures(compared: Sequence[Compared]) -> list[Measure]:
    """Each measure with the models that have it, in the order of their first appearance."""
    found: dict[tuple[str, str, str], list[tuple[str, Comparison]]] = {}
    for one in compared:
        for c in one.comparisons:
            found.setdefault((c.task, c.metric, c.filter), []).append((one.name, c))
    return [_measure(rows) for rows in found.values()]


def _measure(rows: Sequence[tuple[str, Comparison]]) -> Measure:
    asked = {tables.items(c) for _, c in rows}
    return Measure(tables.measure(rows[0][1]), rows, _bases(rows), asked.pop() if len(asked) == 1 else "")


def without(found: Sequence[Run]) -> list[tuple[str, str]]:
    """(run, why) of what could not be compared, or says nothing: other evaluations, failed tasks, inactive adapters."""
    names = distinct(found)
    missing = [
        (name, "not compared, " + ("no evaluation of the base model (eval/base)" if run.evaluated else "no evaluation"))
        for name, run in zip(names, found, strict=True)
        if not run.others and not run.heads
    ]
    refused = [
        (f"{name}: {versus.label}", f"not compared, {versus.error}")
        for name, run in zip(names, found, strict=True)
        for versus in run.others
        if versus.error
    ]
    faults = [
        (name, fault)
        for name, run in zip(names, found, strict=True)
        for fault in dict.fromkeys(fault for versus in run.others for fault in versus.faults)
    ]
    return missing + refused + faults


def summary(found: Sequence[Run]) -> list[tuple[str, dict[str, str]]]:
    """(run, facts by name): what training came to, and how much of the model it trained."""
    return [
        (name, {**dict(metrics.facts(run.metrics, run.targets)), **_trained(run)})
        for name, run in zip(distinct(found), found, strict=True)
    ]


def differing(found: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(setting, its value in each run) of those settings, versions and data in which the runs differ."""
    flat = [{**run.settings, **_circumstances(run)} for run in found]
    keys = dict.fromkeys(key for of in flat for key in of if key != "output_dir")
    rows = [(key, [_said(of.get(key, MISSING)) for of in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _circumstances(run: Run) -> dict[str, Any]:
    said = {f"{split} fingerprint": of.get("fingerprint", MISSING) for split, of in run.data.items()}
    return {**said, **{key: value for key, value in run.environment.items() if key not in ("command", "seed")}}


def _trained(run: Run) -> dict[str, str]:
    return {"trainable parameters": f"{sum(block.trains for block in run.blocks):,}"} if run.blocks else {}


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or MISSING
    return MISSING if value is None else str(value)


def _bases(rows: Sequence[tuple[str, Comparison]]) -> list[tuple[str, Comparison]]:
    """A line for each base that differs in its value or its items; it is named by the models compared with it."""
    found: dict[tuple[float, str], list[tuple[str, Comparison]]] = {}
    for name, c in rows:
        found.setdefault((c.base, tables.items(c)), []).append((name, c))
    if len(found) == 1:
        return [("", rows[0][1])]
    return [(", ".join(name for name, _ in some), some[0][1]) for some in found.values()]
