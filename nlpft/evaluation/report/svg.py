"""matplotlib's figures as elements of a page that follow its style sheet, and as PNG and SVG files."""

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from nlpft.errors import UserError

METADATA: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
DPI = 200  # of a PNG file


class Colours(NamedTuple):
    """What a figure is drawn with."""

    ink: str
    text: str  # on a coloured ground
    grid: str
    better: str
    worse: str
    series: tuple[str, ...]


# On a page these stand for colours of the style sheet, which differ in dark mode.
PAGE = Colours(
    "#010101",
    "#0b0b0b",
    "#020202",
    "#030303",
    "#040404",
    ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a"),
)
CSS = {
    PAGE.ink: "var(--muted)",
    PAGE.text: "var(--text)",
    PAGE.grid: "var(--line)",
    PAGE.better: "var(--better)",
    PAGE.worse: "var(--worse)",
    PAGE.series[0]: "var(--accent)",
    PAGE.series[1]: "var(--second)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(PAGE.series[2:], 2)},
}
PRINT = Colours(
    "#4a5458",
    "#1d2326",
    "#dfe2e1",
    "#0a7466",
    "#b0431b",
    ("#2f6db3", "#c2611f", "#0a7466", "#8a4fbf", "#a8326b", "#7a6a1b"),
)


def style(colours: Colours) -> dict[Any, Any]:
    """matplotlib's settings for a figure in `colours`."""
    return {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "nlpft",  # the same run gives the same page
        "font.size": 12,
        "text.color": colours.ink,
        "axes.edgecolor": colours.grid,
        "axes.labelcolor": colours.ink,
        "xtick.color": colours.ink,
        "ytick.color": colours.ink,
        "grid.color": colours.grid,
    }


STYLE = style(PAGE)


def element(figure: Figure, prefix: str) -> Markup:
    """`figure`, drawn in PAGE's colours, as an element of a page; `prefix` makes its ids its own."""
    with matplotlib.rc_context(STYLE):
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=METADATA)
    return Markup(inline(text.getvalue(), prefix))


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """`figure` as NAME.png and NAME.svg in `folder`, which is made; returns both. Raises UserError where it cannot be written."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(style(PRINT)):
            figure.savefig(paths[0], dpi=DPI, facecolor="white")
            figure.savefig(paths[1], facecolor="white", metadata=METADATA)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder by --plots") from error
    return paths


def inline(svg: str, prefix: str) -> str:
    """matplotlib's SVG file as an element of a page: its size and colours by style sheet, its ids its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}-", svg)
    for colour, variable in CSS.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1)
