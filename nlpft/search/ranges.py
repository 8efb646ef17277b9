"""Ranges of a recipe's settings as a search space: KEY=LOW..HIGH, KEY=LOW..HIGH:log, KEY=LOW..HIGH:STEP, or KEY=A|B|C.

optim.lr=1e-5..1e-3:log    tuning.rank=4..64:log    tuning.dropout=0..0.3:0.1    tuning.targets=all-linear|q_proj v_proj
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nlpft import plugins
from nlpft.errors import ConfigError
from nlpft.samplers._dimensions import Point, Space

FORMS = "KEY=LOW..HIGH, with :log or :STEP behind it, or KEY=A|B|C"
FIXED = (
    "output_dir",
    "seed",
    "resume",
    "trackers",
    "data.train",
    "data.eval",
    "data.test",
)  # what a search may not choose


def space_of(texts: Sequence[str], settings: dict[str, Any]) -> Space:
    """The dimensions that `texts` name. settings: the recipe's, by dotted key, which say what there is, and of which type.

    Raises ConfigError for a key that the recipe does not have, or that is not the search's to choose, and for no range.
    """
    found: Space = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not values:
            raise ConfigError(f"space {text!r}: {FORMS}")
        if key in found:
            raise ConfigError(f"space {key}: named twice")
        if key in FIXED:
            raise ConfigError(f"space {key}: not a setting to search over; leave it out")
        if key not in settings:
            raise ConfigError(f"space {key}: the recipe and its plug-ins have no such setting{_near(key, settings)}")
        found[key] = _choices(key, values) if ".." not in values else _range(text, values, settings[key])
    return found


def ends(space: Space) -> list[Point]:
    """The values that a space reaches to, each as a candidate of one dimension: what can be checked before anything is run."""
    return [{key: value} for key, dimension in space.items() for value in _ends(dimension)]


def document(settings: dict[str, Any], point: Point, plug_ins: Collection[str] = ()) -> str:
    """YAML of `settings` (by dotted key) with what a candidate says.

    plug_ins: groups of settings that are a plug-in's, such as tuning: of one that is exchanged, no settings are left.
    """
    changed = tuple(f"{n}." for n in plug_ins if point.get(f"{n}.name", settings[f"{n}.name"]) != settings[f"{n}.name"])
    kept = {key: value for key, value in settings.items() if not (changed and key.startswith(changed))}
    said = {key: _typed(value, settings.get(key)) for key, value in point.items()}
    return yaml.safe_dump(_nested({**kept, **said}), sort_keys=False, allow_unicode=True)


def _ends(dimension: Any) -> Sequence[Any]:
    if isinstance(dimension, CategoricalDistribution):
        return dimension.choices
    return dimension.low, dimension.high


def _typed(value: Any, before: Any) -> Any:
    """A choice as the setting has it: words where there were several."""
    return value.split() if isinstance(before, list) and isinstance(value, str) else value


def _near(key: str, settings: dict[str, Any]) -> str:
    near = plugins.suggest(key, list(settings))
    leaf = key.rpartition(".")[2]
    same = [name for name in settings if name.rpartition(".")[2] == leaf]
    return f"; did you mean {same[0]!r}?" if same and not near else near


def _choices(key: str, values: str) -> BaseDistribution:
    choices = [choice.strip() for choice in values.split("|")]
    if len(set(choices)) < len(choices) or "" in choices:
        raise ConfigError(f"space {key}={values}: each choice once, and none empty")
    return CategoricalDistribution(choices)


def _range(text: str, values: str, before: Any) -> BaseDistribution:
    """A range of whole numbers where the setting is one, else of any."""
    span, _, more = values.partition(":")
    low, _, high = span.partition("..")
    numbers = [_number(text, part) for part in (low, high)]
    step = None if more in ("", "log") else _number(text, more)
    whole = all(float(x).is_integer() for x in (*numbers, step or 1)) and not isinstance(before, float)
    if not numbers[0] < numbers[1] or (more == "log" and numbers[0] <= 0) or (step is not None and step <= 0):
        raise ConfigError(f"space {text!r}: from a lower number to a higher one; above 0 with :log; a step above 0")
    if isinstance(before, int) and not whole:
        raise ConfigError(f"space {text!r}: whole numbers, as the setting is one")
    if whole:
        return IntDistribution(int(numbers[0]), int(numbers[1]), log=more == "log", step=int(step or 1))
    return FloatDistribution(numbers[0], numbers[1], log=more == "log", step=step)


def _number(text: str, part: str) -> float:
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"space {text!r}: {part.strip()!r} is no number; {FORMS}")
    return number


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Mappings of mappings, from dotted keys."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, leaf = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return tree
