"""report.html: what improved and how sure that is, how training went, what it was trained on; of one run, or several compared.

Self-contained: one HTML file with inline SVG, no script and no network, which its content security policy forbids besides.
What a run folder lacks is stated as missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nlpft import __version__
from nlpft.data import provenance, view
from nlpft.data.ledger import OUTCOMES
from nlpft.evaluation import compare, tables
from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.report import head_plots, labelled_tokens, metrics, plots, runs, side_by_side, tokens
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.plots import Plot
from nlpft.evaluation.report.svg import PAGE, element

HERE = Path(__file__).parent
FILES = 40  # lines of the ledger by file
LEFT_OUT = (
    "files",
    "shards",
    "template",
    "reasons",
    *OUTCOMES,
    "rows_read",
)  # of data.json's counts: they stand elsewhere


def environment(*folders: Path) -> jinja2.Environment:
    """Templates of this folder and of `folders`; whatever they show is escaped."""
    # `.html.j2` is not among the endings for which jinja2 escapes by itself
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": tables.number,
        "minus": lambda text: str(text).replace("-", "\N{MINUS SIGN}"),
        "visible": lambda value: view.visible(str(value)),
        "repairs": provenance.repairs,
    }
    made.globals |= {
        "items": tables.items,
        "style": Markup((HERE / "_style.css").read_text(encoding="utf-8")),
        "version": __version__,
    }
    return made


def render(run: Run) -> str:
    """The page of one run as HTML."""
    labelled, no_labelled = labelled_tokens.rows(run) if run.has_head else ([], "")
    shown, why = ([], no_labelled) if run.has_head else tokens.rows(run)
    figures = [*plots.curves([run], PAGE), *([plots.parameters(run.blocks, PAGE)] if run.blocks else [])]
    return environment().get_template("run.html.j2").render(
        run=run,
        name=run.name,
        figures=elements(figures, "f"),
        forest=elements(plots.forest(plots.models(run), PAGE), "d"),
        numbered=head_plots.NUMBERED,
        judged=elements(head_plots.figures(run.heads, run.maps, PAGE), "h"),
        facts=metrics.facts(run.metrics, run.targets),
        ledger=[_ledger(split, said) for split, said in run.data.items()],
        rows=shown,
        labelled=labelled,
        no_rows=why,
        bars=bars,
        inactive=(compare.INACTIVE, compare.PROBED),
        best=metrics.best(run.metrics.evals),
    )  # fmt: skip


def render_all(found: Sequence[Run]) -> str:
    """The page that compares several runs as HTML."""
    compared = runs.corrected(found)
    return environment().get_template("runs.html.j2").render(
        runs=found,
        name=f"{len(found)} runs",
        summary=runs.summary(found),
        differing=runs.differing(found),
        figures=elements(plots.curves(found, PAGE), "f"),
        forest=elements(plots.forest(compared, PAGE), "d"),
        measures=runs.measures(compared),
        judged=side_by_side.tables(found),
        without=runs.without(found),
        names=plots.distinct(found),
    )  # fmt: skip


def elements(drawn: Sequence[Plot], prefix: str) -> list[dict[str, Any]]:
    """Figures as the templates take them; `prefix` keeps the ids of one page's figures apart."""
    return [
        {"title": plot.title, "text": plot.text, "keys": plot.keys, "svg": element(plot.figure, f"{prefix}{i}")}
        for i, plot in enumerate(drawn)
    ]


def bars(comparisons: Sequence[Comparison], c: Comparison) -> dict[str, float]:
    """Where `c`'s interval lies in its little drawing, from -1 to 1; measures of one unit share a scale."""
    unit = c.unit or c.metric
    scale = (
        max(abs(x) for d in comparisons if (d.unit or d.metric) == unit for x in (d.low, d.high, d.difference)) or 1.0
    )
    return {key: getattr(c, key) / scale for key in ("low", "high", "difference")}


def unaccounted(said: dict[str, Any]) -> int:
    """Rows read that have no outcome in the ledger: 0, or a bug."""
    return sum(o.rows_read - sum(o.counts.values()) for o in provenance.outcomes(said)[:1])


def _ledger(split: str, said: dict[str, Any]) -> dict[str, Any]:
    """What data.json says of a split."""
    reasons = said.get("reasons") or {}
    outcomes = provenance.outcomes(said)
    return {
        "split": split,
        "outcomes": outcomes[: 1 + FILES] if len(outcomes) > 2 else outcomes[:1],
        "more": max(0, len(outcomes) - 1 - FILES),
        "reasons": [(outcome, why, n) for outcome, by in reasons.items() for why, n in by.items()],
        "unaccounted": unaccounted(said),
        "facts": {
            k.replace("_", " "): v for k, v in said.items() if k not in LEFT_OUT and not isinstance(v, dict | list)
        },
        "roles": said.get("tokens_by_class") or {},
    }
