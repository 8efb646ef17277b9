"""All rows of all inputs of one dataset, and what is known of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nlpft.data.labelled.example import Example, Row
from nlpft.data.ledger import Rejection
from nlpft.errors import DataError

SPLITS = ("train", "dev", "eval", "valid", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """Rows in the order of their files; a step replaces those that it repairs or rejects."""

    rows: Sequence[Row]
    files: Sequence[str]  # [rows]
    splits: Sequence[str]  # [rows]; '' where there are none
    keys: Sequence[int]  # [rows]: equal for equal texts
    facts: dict[str, Any] = field(default_factory=dict)  # what else is worth knowing, for the ledger

    @property
    def numbers(self) -> list[int]:
        """Numbers of the rows that are not rejected."""
        return [i for i, row in enumerate(self.rows) if isinstance(row, Example)]

    @property
    def examples(self) -> list[Example]:
        """The rows that are not rejected. Raises DataError where there is none."""
        found = [row for row in self.rows if isinstance(row, Example)]
        if not found:
            raise DataError(self._nothing())
        return found

    @property
    def names(self) -> list[str]:
        """Of the splits: known ones from train to test, others in the order in which they come."""
        return sorted(
            dict.fromkeys(self.splits), key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS)
        )

    def of(self, split: str) -> list[Example]:
        """The rows of a split that are not rejected."""
        pairs = zip(self.rows, self.splits, strict=True)
        return [row for row, own in pairs if own == split and isinstance(row, Example)]

    def with_rows(self, rows: Sequence[Row], **facts: Any) -> "Rows":
        """After a step, which may have found something out."""
        return replace(self, rows=rows, facts={**self.facts, **facts})

    def _nothing(self) -> str:
        """Why no row can be used, with the first place of each reason."""
        lost = [row for row in self.rows if isinstance(row, Rejection)]
        first = {row.why.reason: row for row in reversed(lost)}
        lines = [
            f"  {count} x {reason}, first at {first[reason].source}"
            + (f" ({first[reason].why.detail})" if first[reason].why.detail else "")
            for reason, count in Counter(row.why.reason for row in lost).most_common()
        ]
        return "\n".join([f"none of {len(lost)} rows can be used; nothing was written", *lines])
