"""Settings of the selection of rows, as options of `nlpft convert` (its Config inherits them, so that they need no prefix)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nlpft.data.select.splits import Split, parse_splits, weights
from nlpft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Selection:
    splits: tuple[str, ...] = ()
    """Splits as NAME=SHARE, the shares adding up to 1 (train=0.98 eval=0.02); none: one dataset. A row's content decides."""
    weights: tuple[str, ...] = ()
    """How often each row of an input is taken, as FILE_OR_GLOB=WEIGHT: 0.3 takes three in ten, 2.5 each two or three times."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Leave out rows that say again what an earlier one says: none, those of equal content, or near duplicates too."""
    duplicates_threshold: float = 0.8
    """Jaccard similarity of the sets of word 5-grams from which on two rows are near duplicates, 0.5 to 1."""
    contamination: tuple[str, ...] = ()
    """Benchmark files (JSON, JSONL or text): rows that hold a run of words of one of their items are left out."""
    contamination_words: int = 13
    """Length of such a run in words, 6 to 50; GPT-3 took 8 to 13."""
    contamination_share: float = 0.0
    """Share of an item's runs that a row must hold to be left out, 0 to 1; at 0 one run is enough, as for GPT-3."""
    seed: int = 0
    """Decides, with a row's content, its split and the number of its copies."""


def check(selection: Selection, files: Sequence[str]) -> tuple[tuple[Split, ...], dict[str, float]]:
    """The splits, and the weight of each of the input `files`. Raises ConfigError where a setting cannot be followed."""
    if not 0.5 <= selection.duplicates_threshold <= 1:
        raise ConfigError(f"duplicates_threshold {selection.duplicates_threshold:g}: a similarity from 0.5 to 1")
    if not 6 <= selection.contamination_words <= 50:
        raise ConfigError(f"contamination_words {selection.contamination_words}: 6 to 50 words")
    if not 0 <= selection.contamination_share <= 1:
        raise ConfigError(f"contamination_share {selection.contamination_share:g}: a share from 0 to 1")
    return parse_splits(selection.splits), weights(files, selection.weights)
