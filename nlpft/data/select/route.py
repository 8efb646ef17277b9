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

    def key(self, row: Conversation, file: str) -> int:
        """What decides where a row of `file` goes; 0 where nothing is to be decided."""
        return content_key(row) if len(self.splits) > 1 or self.weights.get(file, 1.0) != 1 else 0

    def copies(self, key: int, file: str) -> int:
        """How many times the row of that key is taken."""
        weight = self.weights.get(file, 1.0)
        return 1 if weight == 1 else copies(key, self.seed, weight)

    def places(self, keys: Sequence[int], file: str) -> dict[str, list[int]]:
        """Numbers of the rows of each split that has any, each as often as it is taken; `keys` of the rows as they were read."""
        if len(self.splits) < 2 and self.weights.get(file, 1.0) == 1:
            return {self.names[0]: list(range(len(keys)))} if keys else {}
        out: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            out.setdefault(split_of(key, self.seed, self.splits), []).extend([number] * self.copies(key, file))
        return {split: numbers for split, numbers in out.items() if numbers}
