"""The ledger: every row read ends as exactly one of kept or rejected(reason), and the sum says so."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpft.errors import RowRejected


@dataclass
class Ledger:
    """Counts by file, filled while rows go by; `close` proves that none is missing."""

    read: Counter[str] = field(default_factory=Counter)  # file -> rows
    kept: Counter[str] = field(default_factory=Counter)  # file -> rows
    rejected: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # file -> reason
    tokens: int = 0
    learnt_tokens: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)  # the rejected ones, for rejected.jsonl

    def reject(self, source: str, why: RowRejected, row: Any) -> None:
        self.rejected[file_of(source)][why.reason] += 1
        self.rows.append({"source": source, "reason": why.reason, "detail": why.detail, "row": row})

    def reasons(self) -> Counter[str]:
        """Rejected rows by reason, over all files."""
        return sum(self.rejected.values(), Counter())

    def summary(self) -> dict[str, Any]:
        """What `ledger.json` holds. Raises AssertionError where a row is unaccounted for: a bug of ours."""
        reasons = self.reasons()
        assert self.read.total() == self.kept.total() + reasons.total(), "a row was lost between reading and writing"
        return {
            "rows_read": self.read.total(),
            "kept": self.kept.total(),
            "rejected": dict(reasons.most_common()),
            "tokens": self.tokens,
            "learnt_tokens": self.learnt_tokens,
            "files": {
                name: {"rows_read": rows, "kept": self.kept[name], "rejected": dict(self.rejected[name])}
                for name, rows in self.read.items()
            },
        }

    def write(self, folder: Path) -> None:
        """Write `ledger.json` and `rejected.jsonl` (one rejected row a line: place, reason, the row itself)."""
        (folder / "ledger.json").write_text(json.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")
        with (folder / "rejected.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as out:
            for row in self.rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def file_of(source: str) -> str:
    """'chats.json:17' -> 'chats.json'."""
    return source.rpartition(":")[0]
