"""Metrics of a whole corpus (BLEU, chrF, F1) from the answers that are kept: they are no means over items. Loads no torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nlpft import plugins
from nlpft.errors import UserError
from nlpft.evaluation import answer_metrics

CLOSE = 1e-6  # of itself: what is computed again must be as near to what was reported
Score = Callable[[np.ndarray], np.ndarray]  # of sums [..., n] to values [...]


class Corpus(NamedTuple):
    """What each item adds to a metric, in the answers of base and other, and the metric of sums of it."""

    base: np.ndarray  # [items, n]
    other: np.ndarray  # [items, n]
    score: Score


def corpus(
    metric: str, answers: Sequence[Sequence[Any]], wanted: Sequence[Any], said: Sequence[float]
) -> Corpus | None:
    """The items of `metric`, as results.json names it, from the `answers` of base and other and what was `wanted` [items].

    None where nlpft has no such metric of texts, labels or tags, or it does not give what was `said` of either.
    """
    *written, references = ([text for x in column if (text := _text(x)) is not None] for column in (*answers, wanted))
    found = _module(metric) if all(len(texts) == len(wanted) for texts in (*written, references)) else None
    if found is None:
        return None
    module, name = found
    made = [answer_metrics.READ[module.KIND](texts, references) for texts in written]
    base, other = (module.counts(theirs, true, **_options(module, options)) for theirs, true, options, _ in made)
    again = [module.score(x.sum(0))[name] for x in (base, other)]
    if not np.allclose(again, said, rtol=CLOSE, atol=CLOSE):
        return None
    return Corpus(base, other, lambda sums: np.asarray(module.score(sums)[name]))


def _text(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(x, str) for x in value):
        return " ".join(value)  # tags
    return value if isinstance(value, str) else None


def _module(metric: str) -> tuple[Any, str] | None:
    """The plug-in that reports `metric`, and its own name of it."""
    for name in plugins.names("metrics"):
        if metric == name or metric.startswith(f"{name}_"):
            try:
                module = plugins.load("metrics", name)
            except (UserError, ImportError):  # its library is not here: the value can still be told
                continue
            own = next((key for key in module.VALUES if answer_metrics.named(name, key) == metric), None)
            if own and hasattr(module, "counts") and module.KIND in answer_metrics.READ:
                return module, own
    return None


def _options(module: Any, options: dict[str, Any]) -> dict[str, Any]:
    taken = module.counts.__code__.co_varnames[: module.counts.__code__.co_argcount]
    return {key: value for key, value in options.items() if key in taken}
