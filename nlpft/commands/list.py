"""Show what can be chosen by name: formats, templates, tuning methods, recipes and the like."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.text import Text

from nlpft import plugins, recipes_dir
from nlpft.errors import ConfigError

KINDS = {
    "recipes": "workflows: nlpft train NAME",
    "configs": "settings of recipes: nlpft copy NAME, then nlpft train RECIPE --config FILE",
    "formats": "of instruction files: nlpft convert --format NAME",
    "templates": "for models that bring none: nlpft convert --template NAME",
    "tuning": "which weights train: nlpft train RECIPE --tuning.name NAME",
    "objectives": "what is learnt: nlpft train RECIPE --objective.name NAME",
    "metrics": "of classification, tagging and generation",
    "samplers": "how a search picks candidates: nlpft train search_layers --search.name NAME",
    "strategies": "of transfer, compared at equal cost: nlpft train compare_strategies --strategies NAME ...",
    "serving": "where a finished model goes: nlpft export --to NAME",
    "commands": "nlpft NAME --help",
}


@dataclass(frozen=True)
class Config:
    kind: tyro.conf.Positional[str | None] = None
    """Only these: recipes, configs, formats, templates, tuning, objectives, metrics, samplers, strategies, serving or
    commands."""


def run(config: Config) -> int:
    if config.kind is not None and config.kind not in KINDS:
        near = plugins.suggest(config.kind, list(KINDS))
        raise ConfigError(f"unknown kind {config.kind!r}{near}; known: {', '.join(KINDS)}")
    found = {kind: entries(kind) for kind in ([config.kind] if config.kind else KINDS)}
    console = Console(highlight=False)
    width = console.width if console.is_terminal else 10_000  # a pipe gets each entry in one line
    for line in lines({kind: known for kind, known in found.items() if known or config.kind}, width):
        console.print(line, soft_wrap=True)
    return 0


def entries(kind: str) -> dict[str, str]:
    """Name -> first docstring line of all that nlpft has of `kind`. Imports none of it."""
    if kind == "recipes":
        return {name: recipes_dir.summary(name) for name in recipes_dir.recipe_names()}
    if kind == "configs":
        return {name: recipes_dir.summary(name) for name in recipes_dir.config_names()}
    return {name: plugins.summary(kind, name) for name in plugins.names(kind)}


def lines(found: dict[str, dict[str, str]], width: int) -> Iterator[Text]:
    """Each kind with its entries below it, the names in one column, wrapped at `width` characters."""
    column = max((len(name) for known in found.values() for name in known), default=0)
    for number, (kind, known) in enumerate(found.items()):
        yield Text.assemble("\n" if number else "", (kind, "bold"), (f": {KINDS[kind]}", "dim"))
        for name, summary in known.items():
            entry = textwrap.fill(f"  {name:<{column}}  {summary}", width, subsequent_indent=" " * (column + 4))
            text = Text(entry.rstrip())
            text.stylize("cyan", 2, 2 + len(name))
            yield text
