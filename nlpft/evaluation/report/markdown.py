"""The tables of the page as Markdown, for a pull request, a note, or the model card."""

from collections.abc import Iterable, Sequence
from typing import Any

from nlpft.data import provenance
from nlpft.evaluation import tables
from nlpft.evaluation.report import metrics, runs, side_by_side
from nlpft.evaluation.report.facts import BASE, Run, Versus
from nlpft.evaluation.report.heads import HeadScores
from nlpft.evaluation.report.plots import distinct

TELLING = 5  # tokens of a row that are written
MATRIX = 12  # labels up to which the confusion matrix is written as a whole


def render(run: Run) -> str:
    """One run."""
    lines = [f"# {run.name}", "", *evaluation(run, 2), *training(run, 2), *data(run, 2), *settings(run, 2)]
    return "\n".join(lines).rstrip() + "\n"


def render_all(found: Sequence[Run]) -> str:
    """Several runs, compared."""
    lines = [f"# {len(found)} runs", "", *_heading(2, "Evaluation"), *beside(found, 3)]
    for measure in runs.measures(runs.corrected(found)):
        asked = "" if measure.items else ", {}"
        rows = [
            [(f"base of {whose}" if whose else "base") + asked.format(tables.items(c)), c.show(c.base), "", "", "", ""]
            for whose, c in measure.bases
        ]
        rows += [
            [
                name + asked.format(tables.items(c)),
                c.show(c.other),
                c.show(c.difference, True),
                tables.interval(c),
                f"{c.p_adjusted:.2g}",
                _verdict(c),
            ]
            for name, c in measure.rows
        ]
        header = ("model", "value", "difference", "interval", "p adjusted", "verdict")
        lines += [
            *_heading(3, f"{measure.name}: {measure.items or 'other items for each base'}"),
            *tables.markdown(
                header,
                rows,
                (
                    "model",
                    "verdict",
                ),
            ),
            "",
        ]
    lines += [line for name, why in runs.without(found) for line in (f"{name}: {why}", "")]
    facts = runs.summary(found)
    keys = list(dict.fromkeys(key for _, of in facts for key in of))
    lines += [
        *_heading(2, "Training"),
        *_by_run(keys, [[of.get(key, runs.MISSING) for _, of in facts] for key in keys], found),
    ]
    differing = runs.differing(found)
    lines += [
        *_heading(2, "What differs"),
        *_by_run([key for key, _ in differing], [values for _, values in differing], found),
    ]
    return "\n".join(lines).rstrip() + "\n"


def evaluation(run: Run, level: int) -> list[str]:
    """Every evaluation against the base model's; where there is none, scores by themselves."""
    lines = _heading(level, "Evaluation")
    if run.heads:
        tables_ = [line for scores in run.heads for line in heads(scores, level + 1)]
        return [*lines, *tables_, *gaps(run, level + 1), *attributed(run, level + 1)]
    for versus in run.others:
        lines += [*_heading(level + 1, f"{versus.label} against {BASE}"), *_compared(versus), ""]
    if any(versus.comparisons for versus in run.others):
        c = next(c for versus in run.others for c in versus.comparisons)
        return [*lines, tables.legend(c.confidence, any(v.retained for v in run.others)), ""]
    lines += [line for one in run.failed for line in (f"{one[0]}: {one[1]} failed: {one[2]}.", "") if not run.others]
    if not run.scores:
        return [*lines, "No evaluation yet.", ""] if not run.failed else lines
    rows = [[label, f"{task} {metric}", f"{value:.3f}"] for label, task, metric, value in run.scores]
    return [*lines, *tables.markdown(("evaluation", "measure", "value"), rows), ""]


def heads(scores: HeadScores, level: int) -> list[str]:
    """Measures of a head, its classes, its confusions, and its calibration."""
    values = [[name, f"{value:.4f}"] for name, value in scores.values]
    values += [[f"ECE, {c.name}", f"{c.error:.4f}"] for c in scores.confidences]
    lines = [
        *_heading(level, f"{scores.label}: {scores.rows:,} rows"),
        *tables.markdown(("measure", "value"), values),
        "",
    ]
    if scores.classes:
        rows = [
            [c.name, f"{c.true:,}", f"{c.said:,}", *(f"{x:.3f}" for x in (c.precision, c.recall, c.f1))]
            for c in (*scores.classes, *scores.means)
        ]
        header = ["label", scores.each, "said", "precision", "recall", "F1"]
        lines += [*tables.markdown(header, rows, header[:1]), ""]
    if scores.confusion is not None and len(scores.labels) <= MATRIX:
        header = ["true, said:", *scores.labels]
        counts = [[label, *map(str, row)] for label, row in zip(scores.labels, scores.confusion.tolist(), strict=True)]
        lines += [*tables.markdown(header, counts, header[:1]), ""]
    elif scores.confused:
        header = ["true", "said", "rows"]
        pairs = [[true, said, str(rows)] for true, said, rows in scores.confused]
        lines += [*tables.markdown(header, pairs, header[:2]), ""]
    return lines


def gaps(run: Run, level: int) -> list[str]:
    """A head's measures by group, and the gaps between groups."""
    lines: list[str] = []
    for found in run.gaps:
        header = ["group", "rows", *found.measures]
        rows = [[g.name, f"{g.rows:,}", *(f"{x:.3f}" for x in g.values)] for g in found.groups]
        chances = ["" if p is None else f" (p {p:.2g})" for p in found.chances]
        rows.append(["gap", "", *(f"{x:.3f}{p}" for x, p in zip(found.gaps, chances, strict=True))])
        lines += [*_heading(level, f"{found.label} by {found.column}"), *tables.markdown(header, rows, header[:1]), ""]
    return lines


def beside(found: Sequence[Run], level: int) -> list[str]:
    """Measures of several heads with their intervals."""
    lines: list[str] = []
    for table in side_by_side.tables(found):
        rows = []
        for s in table.scores:
            d = s.difference
            apart = [f"{d.value:+.3f}", f"{d.low:+.3f} to {d.high:+.3f}"] if d else ["", ""]
            rows.append([s.run, f"{s.value:.3f}", f"{s.low:.3f} to {s.high:.3f}", *apart])
        header = ("run", "value", "interval", f"to {table.scores[0].run}", "interval of that")
        title = f"{table.label}: {table.measure}, {table.rows:,} rows"
        lines += [*_heading(level, title), *tables.markdown(header, rows, header[:1]), ""]
    return lines


def attributed(run: Run, level: int) -> list[str]:
    """The tokens on which answers rest most."""
    lines: list[str] = []
    for found in run.attributed:
        rows = []
        for r in found.rows:
            adds = sorted((p for p in r.parts if p.adds), key=lambda p: -abs(p.adds))[:TELLING]
            told = ", ".join(f"{p.text.strip()} {p.adds:+.2f}" for p in adds)
            said = f"{r.word}: {r.said}" if r.word else r.said
            rows.append([r.place, said, r.true, told, f"{r.found.difference:+.3f}", f"{abs(r.found.gap):.1g}"])
        header = ["row", "says", "is", "tokens that add most", "all", "gap"]
        lines += [
            *_heading(level, f"What the answers rest on: {found.label}"),
            *tables.markdown(header, rows, header[:4]),
            "",
        ]
    return lines


def training(run: Run, level: int) -> list[str]:
    """What training came to."""
    facts = metrics.facts(run.metrics, run.targets)
    if run.blocks:
        facts.append(("trainable parameters", f"{sum(block.trains for block in run.blocks):,}"))
    said = _pairs(facts) if facts else ["No training steps are recorded."]
    return [*_heading(level, "Training"), *said, ""]


def data(run: Run, level: int) -> list[str]:
    """What became of the rows of each split."""
    lines = _heading(level, "Data")
    for split, said in run.data.items():
        found = provenance.outcomes(said)
        if found:
            rows = [[o.name, f"{o.rows_read:,}", *(f"{n:,}" for n in o.counts.values())] for o in found]
            header = ["file", "read", *found[0].counts]
            lines += [*_heading(level + 1, split), *tables.markdown(header, rows, ("file",)), ""]
        reasons = [[o, why, f"{n:,}"] for o, by in (said.get("reasons") or {}).items() for why, n in by.items()]
        if reasons:
            header = ["outcome", "reason", "rows"]
            lines += [
                *tables.markdown(
                    header,
                    reasons,
                    (
                        "outcome",
                        "reason",
                    ),
                ),
                "",
            ]
    return lines if run.data else [*lines, "No summary of the data.", ""]


def settings(run: Run, level: int) -> list[str]:
    """Configuration and environment."""
    found = [(key, value) for key, value in {**run.settings, **run.environment}.items() if value not in (None, [])]
    return [*_heading(level, "Settings"), *(_pairs(found) if found else ["None are recorded."]), ""]


def _compared(versus: Versus) -> list[str]:
    if versus.error:
        return [f"Not compared. {versus.error}"]
    notes = [line for note in versus.notes for line in ("", note)]
    return [*tables.comparisons(versus.comparisons, BASE, versus.label), *notes]


def _verdict(c: Any) -> str:
    return c.forgotten if c.retention else c.verdict


def _by_run(keys: Sequence[str], values: Iterable[Sequence[str]], found: Sequence[Run]) -> list[str]:
    header = ("", *distinct(found))
    rows = [[key, *row] for key, row in zip(keys, values, strict=True)]
    return [*tables.markdown(header, rows, header), ""] if rows else ["Nothing.", ""]


def _pairs(found: Sequence[tuple[str, Any]]) -> list[str]:
    rows = [[str(key), ", ".join(map(str, value)) if isinstance(value, list) else str(value)] for key, value in found]
    return tables.markdown(
        ("name", "value"),
        rows,
        (
            "name",
            "value",
        ),
    )


def _heading(level: int, text: str) -> list[str]:
    return [f"{'#' * level} {text}", ""]
