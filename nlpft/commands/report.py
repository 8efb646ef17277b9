"""Write the page of a run: what improved and how sure that is, curves, sample answers, data and settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nlpft.evaluation.report import write_report


@dataclass(frozen=True)
class Config:
    run: tyro.conf.Positional[Path]
    """Run folder: what --output_dir of the training named."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write (default: report.html in the run folder)."""


def run(config: Config) -> None:
    print(write_report(config.run, config.output))
