"""Where the rows of a file go: into which split, and how many times."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nlpft.data.select.keys import content_key
from nlpft.data.select.splits import Split, copies, split_of
from nlpft.types import Conversation

NO_COPY = "left out by its weight"  # the reason in the ledger


@dataclass(frozen=True)
class Route:
    """Splits and weights, decided by a row's content and a seed."""

    splits: tuple[Split, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)  # by file; 1 for files that are not in it
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Of the splits; one without a name where there are none."""
        return [split.name for split in self.splits] or [""]

    def copies(self, row: Conversation, file: str) -> int:
        """How many times a row of `file` is taken."""
        weight = self.weights.get(file, 1.0)
        return 1 if weight == 1 else copies(content_key(row), self.seed, weight)

    def places(self, rows: Sequence[Conversation], file: str) -> dict[str, list[int]]:
        """Numbers of the rows of each split that has any, each as often as it is taken."""
        if len(self.splits) < 2 and self.weights.get(file, 1.0) == 1:
            return {self.names[0]: list(range(len(rows)))} if rows else {}
        out: dict[str, list[int]] = {}
        weight = self.weights.get(file, 1.0)
        for number, row in enumerate(rows):
            key = content_key(row)
            times = 1 if weight == 1 else copies(key, self.seed, weight)
            out.setdefault(split_of(key, self.seed, self.splits), []).extend([number] * times)
        return {split: numbers for split, numbers in out.items() if numbers}
