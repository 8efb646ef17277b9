"""Write the page of a run, or of several compared: what improved and how sure that is, curves, answers, data, settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nlpft.errors import ConfigError
from nlpft.evaluation import compare


@dataclass(frozen=True, kw_only=True)
class Config(compare.Settings):
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders: what --output_dir of the training named. Several are compared on one page."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write (default: report.html in the run folder; of several runs, in the folder you work in)."""
    markdown: bool = False
    """Write the same tables as Markdown, too, beside the page (.md)."""
    plots: Path | None = None
    """Folder for each plot as PNG and SVG."""
    groups: str | None = None
    """Column of the labelled files by whose values a head's rows are measured in groups, with the gap between them; of a single
    run."""
    attributions: int = 0
    """Rows of each of a head's evaluations, half of them wrong ones, whose tokens are coloured by what they add to the answer
    (integrated gradients, by captum); of a single run, whose model is loaded for it."""
    map: bool = False
    """A map of what a head reads: features of held-out rows in two dimensions (PCA), by label; of a single run, whose model is
    loaded for it."""
    card: bool = True
    """Write the model card, README.md in the run's model folder, unless somebody has written one; of a single run."""


def run(config: Config) -> None:
    from nlpft.evaluation.report import card, write  # with matplotlib and huggingface_hub, which take a second

    if not config.runs:
        raise ConfigError("no run: name its folder, which --output_dir of the training named")
    for name in ("groups", "attributions", "map"):
        if getattr(config, name) and len(config.runs) > 1:
            raise ConfigError(f"--{name}: is for a single run; name one")
    if config.attributions < 0:
        raise ConfigError(f"--attributions {config.attributions}: a number of rows, 0 or more")
    found = write.read(config.runs, config)
    if config.groups:
        from nlpft.evaluation.report import groups

        found = [groups.with_gaps(found[0], config.groups)]
    if config.attributions:
        from nlpft.evaluation.report import attributed  # with torch and transformers

        found = [attributed.with_attributions(found[0], config.attributions)]
    if config.map:
        from nlpft.evaluation.report import embeddings

        found = [embeddings.with_maps(found[0])]
    target = config.output or (found[0].folder.report if len(found) == 1 else Path("report.html"))
    print(write.write_report(found, target))
    if config.markdown:
        print(write.write_markdown(found, target.with_suffix(".md")))
    for path in write.write_plots(found, config.plots) if config.plots else ():
        print(path)
    if config.card and len(found) == 1 and (written := card.write_card(found[0])):
        print(written)
