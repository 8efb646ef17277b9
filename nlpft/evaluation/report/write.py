"""Writes what is shown of runs: the page, its tables as Markdown, its plots as files, the model card."""

from collections.abc import Sequence
from pathlib import Path

from nlpft.errors import ConfigError, UserError, some
from nlpft.evaluation import compare
from nlpft.evaluation.report import facts, head_plots, markdown, page, plots, runs, svg
from nlpft.evaluation.report.facts import Run
from nlpft.files import write_text


def read(paths: Sequence[Path], settings: compare.Settings = compare.DEFAULT) -> list[Run]:
    """The runs in `paths`. Raises UserError where one is no run folder, ConfigError where one is named twice or a
    retention task was not evaluated."""
    folders = [path.resolve() for path in paths]
    if twice := [path for path, folder in zip(paths, folders, strict=True) if folders.count(folder) > 1]:
        raise ConfigError(f"{twice[0]}: named twice; a run is compared with others, name each once")
    found = [facts.read(path, settings, len(paths)) for path in paths]
    known = {name for run in found for name in facts.asked(run.folder.eval)}
    if unknown := [name for name in settings.retention if name not in known]:
        raise ConfigError(f"retention: no task {unknown[0]!r} was evaluated; there are {some(sorted(known), 20)}")
    return found


def write_report(found: Sequence[Run], target: Path) -> Path:
    """Write the page to `target`, whole or not at all. Raises UserError where it cannot be written."""
    return _write(target, page.render(found[0]) if len(found) == 1 else page.render_all(found))


def write_markdown(found: Sequence[Run], target: Path) -> Path:
    """Write the tables of the page as Markdown. Raises UserError where they cannot be written."""
    return _write(target, markdown.render(found[0]) if len(found) == 1 else markdown.render_all(found))


def write_plots(found: Sequence[Run], folder: Path) -> list[Path]:
    """Write every plot of the page as PNG and SVG. Raises UserError where they cannot be written."""
    drawn = plots.curves(found, svg.PRINT)
    if len(found) == 1:
        drawn += [plots.parameters(found[0].blocks, svg.PRINT)] if found[0].blocks else []
        drawn += plots.forest(plots.models(found[0]), svg.PRINT)
        drawn += head_plots.figures(found[0].heads, found[0].maps, svg.PRINT)
    else:
        drawn += plots.forest(runs.corrected(found), svg.PRINT)
    return [path for plot in drawn for path in svg.save(plots.titled(plot, svg.PRINT), folder, plot.name)]


def _write(target: Path, text: str) -> Path:
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); choose another place by -o") from error
    return target
