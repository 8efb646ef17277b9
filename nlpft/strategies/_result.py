"""What a comparison says: one table, the differences, and in plain words what does not beat what."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from nlpft import config
from nlpft.errors import ConfigError
from nlpft.evaluation.tables import markdown
from nlpft.strategies import _compare
from nlpft.strategies._cells import Cell, Plan
from nlpft.strategies._compare import Difference, Ranks, Summary

TEXT = ("strategy", "against", "verdict")


def result(
    cfg: Any, plans: Sequence[Plan], cells: Sequence[Cell], joined: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """All that result.json holds. cfg: settings measure, against, confidence, resamples, budget. joined: other such results."""
    own = {plan.label: [cell for cell in cells if cell.label == plan.label] for plan in plans}
    counts = {label: np.array([cell.counts for cell in some]) for label, some in own.items()}
    draws = _compare.drawn(counts, cfg.resamples, 0)
    summaries = _compare.summaries(counts, draws, cfg.confidence)
    found = _compare.differences(counts, draws, references(cfg.against, plans), cfg.confidence)
    values = {label: {str(cell.seed): cell.value for cell in some} for label, some in own.items()}
    blocks = _compare.blocks(values, list(own), "")
    for place, other in zip(cfg.join, joined, strict=True):
        blocks += _compare.blocks({k: v["seeds"] for k, v in other["strategies"].items()}, list(own), str(place))
    settings = {plan.label: config.flat(plan.settings) for plan in plans}
    strategies = {
        label: {
            **summaries[label]._asdict(),
            "seeds": values[label],
            "loss": mean(cell.loss for cell in some),
            "spent": {key: mean(cell.spent[key] for cell in some) for key in some[0].spent},
            "settings": settings[label],
            "notes": {str(cell.seed): cell.notes for cell in some},
        }
        for label, some in own.items()
    }
    return {
        "measure": cfg.measure,
        "budget": config.flat(cfg.budget),
        "confidence": cfg.confidence,
        "items": int(next(iter(counts.values())).shape[2]),
        "strategies": strategies,
        "differences": [{**d._asdict(), "verdict": d.verdict} for d in found],
        "ranks": _compare.as_json(_compare.ranks(blocks)),
    }


def references(against: Sequence[str], plans: Sequence[Plan]) -> list[str]:
    """Labels to compare with: `against`, or the first strategy. Raises ConfigError for one that is not compared."""
    labels = [plan.label for plan in plans]
    unknown = [label for label in against if label not in labels]
    if unknown:
        raise ConfigError(f"against {unknown[0]!r}: no strategy has that label; there are {', '.join(labels)}")
    return list(against) or labels[:1]


def lines(found: dict[str, Any]) -> list[str]:
    """result.md."""
    ranks = Ranks(**found["ranks"]) if found["ranks"] else None
    differences = [Difference(*(d[name] for name in Difference._fields)) for d in found["differences"]]
    unit = "steps" if found["budget"]["steps"] else "seconds"
    seeds = len(next(iter(found["strategies"].values()))["seeds"])
    share = f"{100 * found['confidence']:g} %"
    return [
        f"{found['measure']} on data.test in per cent; {found['budget'][unit]:g} {unit} for each strategy, {seeds} seeds, "
        f"{found['items']:,} items. Interval: {share}, the wider of a bootstrap over seeds and items and Student's t over seeds. "
        "steps: steps' worth of rows through the model, evaluations included; updates: optimiser steps; all means over seeds.",
        "",
        *_table(found["strategies"], ranks),
        "",
        *_plainly(differences),
        "",
        *markdown(["strategy", "against", "difference", "interval", "verdict"], map(_row, differences), TEXT),
        "",
        f"Intervals of differences: as above, of the same seeds and items, with Bonferroni's correction for "
        f"{len(differences)} comparisons at {share} together.",
        "",
        *_ranked(ranks, 1 - found["confidence"]),
    ]


def _table(strategies: dict[str, Any], ranks: Ranks | None) -> list[str]:
    header = ["strategy", "mean", "interval", "deviation", "rank", "loss", "steps", "updates", "seconds"]
    rows = []
    for label, one in sorted(strategies.items(), key=lambda pair: -pair[1]["mean"]):
        own, spent = Summary(*(100 * one[name] for name in Summary._fields)), one["spent"]
        rank = f"{ranks.mean[label]:.1f}" if ranks else ""
        figures = [
            f"{own.mean:.1f}",
            f"{own.low:.1f} to {own.high:.1f}",
            f"{own.deviation:.1f}",
            rank,
            f"{one['loss']:.3f}",
        ]
        rows.append(
            [label, *figures, f"{spent['steps']:.1f}", f"{spent['optimizer_steps']:.0f}", f"{spent['seconds']:.1f}"]
        )
    return markdown(header, rows, TEXT)


def _plainly(differences: Sequence[Difference]) -> list[str]:
    """A sentence for each reference and verdict."""
    said = []
    for against in dict.fromkeys(d.against for d in differences):
        own = [d for d in differences if d.against == against]
        groups = {v: [d.label for d in own if d.verdict == v] for v in ("better", "worse", "no difference shown")}
        if groups["better"]:
            said.append(f"Better than {against}: {', '.join(groups['better'])}.")
        else:
            said.append(f"Nothing beats {against}.")
        if groups["no difference shown"]:
            said.append(f"Does not beat {against} (no difference shown): {', '.join(groups['no difference shown'])}.")
        if groups["worse"]:
            said.append(f"Worse than {against}: {', '.join(groups['worse'])}.")
    return [f"- {line}" for line in said]


def _row(d: Difference) -> list[str]:
    return [d.label, d.against, f"{100 * d.mean:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", d.verdict]


def _ranked(ranks: Ranks | None, level: float) -> list[str]:
    if ranks is None:
        return ["No ranks: they need three strategies and two blocks."]
    labels = list(ranks.mean)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :] if ranks.nemenyi[a][b] <= level]
    apart = [" before ".join(sorted(pair, key=lambda label: ranks.mean[label])) for pair in pairs]
    return [
        f"Ranks over {ranks.blocks} blocks (seeds and datasets): Friedman's test p = {ranks.friedman:.2g}. Nemenyi's test shows "
        f"at {level:.2g}: {', '.join(apart) or 'no pair apart'}."
    ]
