"""The page of a dataset, for `nlpft inspect --html`: what its rows hold, what is learnt, what became of every row read.

Self-contained: one HTML file with inline SVG and no network. Its content security policy lets only its own few lines of
script run, whatever stands in the data.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from nlpft.data import provenance, statistics, store, view
from nlpft.data.ledger import REJECTED
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import UserError
from nlpft.evaluation.answers import clip
from nlpft.evaluation.report.page import environment
from nlpft.evaluation.report.svg import PAGE, STYLE, element
from nlpft.evaluation.report.tokens import shown
from nlpft.files import write_text

HEAD, TAIL = 1_500, 300  # tokens of a row that are shown, from its beginning and its end
EXAMPLES = 12  # repaired, and rejected, rows that are shown, one for each reason
COPIES = 10  # groups of rows that are alike
FILES = 100  # lines of the ledger by file
SPECIALS = 20  # special tokens that are counted on the page
WIDTH = 40  # letters that fit below a chart
SCRIPT = """
const bar = document.getElementById("token");
document.addEventListener("click", (event) => {
  const token = event.target.closest("[title]");
  bar.textContent = token ? token.title : "";
  bar.hidden = !token;
});
"""


def write_page(
    target: Path,
    table: pa.Table,
    dataset: Path,
    tokenizer: TextTokenizer,
    rows: Sequence[int],
    rejected: Sequence[dict[str, Any]],
    *,
    one: bool = False,
) -> Path:
    """Write the page of `dataset`, whose rows are `table`, to `target`, whole or not at all; returns where it is.

    `rows` and `rejected` are shown and, unless `one` place was asked for, a row for each repair and each reason for rejection.
    Raises UserError where `target` cannot be written, ModelError where `tokenizer` is not the dataset's.
    """
    why = provenance.reasons(table, dataset)
    if not one:
        rows, rejected = [*rows, *_repaired(table, why, rows)], _first_rejected(dataset)
    text = render(table, dataset, tokenizer, why, rows, rejected)
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); choose another file by --html") from error
    return target


def render(
    table: pa.Table,
    dataset: Path,
    tokenizer: TextTokenizer,
    why: Sequence[provenance.Reason],
    rows: Sequence[int],
    rejected: Sequence[dict[str, Any]],
) -> str:
    """The page as HTML."""
    facts = store.facts(dataset)
    masks, contents = statistics.masks(table), statistics.contents(table)
    return (
        environment(Path(__file__).parent)
        .get_template("inspect.html.j2")
        .render(
            name=dataset.resolve().name,
            dataset=dataset,
            summary=statistics.summary(masks),
            outcomes=provenance.outcomes(facts)[: 1 + FILES],
            shared=provenance.is_split(dataset),
            tokens_lost=facts.get("tokens_lost", 0),
            reasons=why,
            figures=figures(masks),
            counts=tables(contents, facts, table, tokenizer),
            copies=statistics.copies(table, contents, COPIES),
            rows=[shown(table, number, tokenizer, HEAD, TAIL) for number in rows],
            rejected=[_rejected(row) for row in rejected],
            made_from=made_from(facts),
            template=facts.get("template", ""),
            script=Markup(SCRIPT),
            script_hash=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        )
    )


def figures(masks: statistics.Masks) -> list[dict[str, Any]]:
    """Distributions over rows, each with a title, a description for who cannot see it, and its SVG."""
    drawn = {
        "Rows by length in tokens": statistics.by_doubling(masks.lengths),
        "Rows by answers (runs of learnt tokens)": statistics.by_number(masks.answers),
        "Rows by share learnt": statistics.by_share(masks.learnt, masks.lengths),
    }
    return [
        {
            "title": title,
            "text": f"{title}: " + ", ".join(f"{name}: {rows:,}" for name, rows in counts.items()),
            "svg": chart(counts, f"f{i}"),
        }
        for i, (title, counts) in enumerate(drawn.items())
    ]


def chart(counts: dict[str, int], prefix: str) -> Markup:
    """A bar for each name, as inline SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.6), layout="constrained")
        axes = figure.subplots()
        places = range(len(counts))
        axes.bar(places, list(counts.values()), color=PAGE.series[0], width=0.8)
        axes.set_xlim(-0.7, max(len(counts), 6) - 0.3)  # a lone bar is a bar, not a wall
        every = -(-len(counts) * (2 + max(map(len, counts))) // WIDTH)
        axes.set_xticks(places[::every], list(counts)[::every])
        axes.grid(axis="y", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.locator_params(axis="y", nbins=5, integer=True)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    return element(figure, prefix)


def tables(
    contents: statistics.Contents, facts: dict[str, Any], table: pa.Table, tokenizer: TextTokenizer
) -> list[tuple[str, dict[str, int]]]:
    """(title, counts by name) of what the rows hold; what is not known is left out."""
    scripts = statistics.scripts(table, tokenizer)
    special = dict(list(statistics.special(contents, tokenizer).items())[:SPECIALS])
    found = [
        ("Tokens by role", facts.get("tokens_by_class", {})),
        ("Special tokens", special),
        (f"Rows by main script of the learnt text ({scripts.rows:,} rows looked at)", scripts.main),
        ("Learnt letters by script, in the same rows", scripts.letters),
    ]
    return [(title, counts) for title, counts in found if counts]


def made_from(facts: dict[str, Any]) -> dict[str, str]:
    """What the dataset was made from, as far as it says so."""
    names = ("model", "max_length", "template_hash", "tokenizer_hash", "fingerprint")
    found = {name.replace("_", " "): str(facts[name]) for name in names if facts.get(name)}
    files = facts.get("files") or ()
    return {**found, "files": ", ".join(map(str, files))} if files else found


def _repaired(table: pa.Table, why: Iterable[provenance.Reason], rows: Sequence[int]) -> list[int]:
    """Numbers of rows that show each repair once, as far as `rows` do not."""
    found: dict[int, None] = {}
    for reason in why:
        if reason.outcome != REJECTED and len(found) < EXAMPLES:
            numbers = provenance.repaired_by(table, reason.phrase)
            if not {*rows, *found}.intersection(numbers):
                found[numbers[0]] = None
    return list(found)


def _first_rejected(dataset: Path) -> list[dict[str, Any]]:
    """The first rejected row of each reason."""
    found: dict[str, dict[str, Any]] = {}
    for row in provenance.rejected(dataset):
        if row["reason"] not in found and len(found) < EXAMPLES:
            found[row["reason"]] = row
    return list(found.values())


def _rejected(row: dict[str, Any]) -> dict[str, str]:
    """A line of `rejected.jsonl` as text."""
    text = row.get("row")
    shown = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, indent=1)
    found = {name: str(row.get(name) or "") for name in ("source", "offset", "id", "reason", "detail", "remedy")}
    return {**found, "row": clip(view.visible(shown))}
