"""The ledger: every row read ends as exactly one of kept, repaired, truncated or rejected, and the sum says so."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nlpft.data.select.contamination import REASON as CONTAMINATED
from nlpft.data.select.duplicates import NEAR, SAME
from nlpft.data.select.route import NO_COPY
from nlpft.errors import RowRejected

KEPT, REPAIRED, TRUNCATED, REJECTED = "kept", "repaired", "truncated", "rejected"
OUTCOMES = (KEPT, REPAIRED, TRUNCATED, REJECTED)
LEAK = "text is also in another split"  # reasons of labelled rows
SAME_LABELLED = "same text and label as an earlier row"
CHOSEN_OUT = (SAME, NEAR, CONTAMINATED, NO_COPY, LEAK, SAME_LABELLED)  # by the user's own wish


class Rejection(NamedTuple):
    """A row that is not in the dataset, and why."""

    source: str
    offset: int  # byte of the (unpacked) file at which the row begins
    id: str
    why: RowRejected
    row: Any  # as it was read

    def as_dict(self, remedy: str) -> dict[str, Any]:
        """A line of `rejected.jsonl`."""
        file, _, row = self.source.rpartition(":")
        return {
            "source": self.source,
            "file": file,
            "line": int(row) if row.isdigit() else None,
            "offset": self.offset,
            "id": self.id,
            "reason": self.why.reason,
            "detail": self.why.detail,
            "remedy": remedy,
            "row": self.row,
        }


@dataclass
class Tally:
    """Counts of the rows of one file, or of a part of it."""

    rows_read: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # OUTCOMES -> rows
    repairs: Counter[str] = field(default_factory=Counter)  # reason -> rows; a row may have several
    rejections: Counter[str] = field(default_factory=Counter)  # reason -> rows
    tokens: Counter[str] = field(default_factory=Counter)  # class (template, user, assistant ...) -> tokens
    learnt_tokens: int = 0
    tokens_lost: int = 0  # by truncation
    extra_rows: int = 0  # of the dataset: pieces of a long raw text, copies by a file's weight

    def reject(self, why: RowRejected) -> None:
        self.outcomes[REJECTED] += 1
        self.rejections[why.reason] += 1

    def keep(self, notes: Iterable[str], lost: int = 0) -> None:
        """A row that is in the dataset; `notes`: its repairs, `lost`: the tokens that truncation took."""
        self.outcomes[TRUNCATED if lost else REPAIRED if notes else KEPT] += 1
        self.repairs.update(notes)
        self.tokens_lost += lost

    def add(self, other: "Tally") -> None:
        """Count `other`'s rows too."""
        for name in ("outcomes", "repairs", "rejections", "tokens"):
            getattr(self, name).update(getattr(other, name))
        for name in ("rows_read", "learnt_tokens", "tokens_lost", "extra_rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def summary(self) -> dict[str, Any]:
        """Raises AssertionError where a row is unaccounted for: a bug of ours."""
        assert self.rows_read == self.outcomes.total(), "a row was lost between reading and writing"
        assert self.rejections.total() == self.outcomes[REJECTED], "a row was rejected without a reason"
        return {
            "rows_read": self.rows_read,
            **{outcome: self.outcomes[outcome] for outcome in OUTCOMES},
            "reasons": {
                "repaired": dict(self.repairs.most_common()),
                "rejected": dict(self.rejections.most_common()),
            },
            "tokens": self.tokens.total(),
            "learnt_tokens": self.learnt_tokens,
            "tokens_lost": self.tokens_lost,
            "tokens_by_class": dict(self.tokens.most_common()),
            "extra_rows": self.extra_rows,
        }

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Tally":
        return cls(**{k: Counter(v) if isinstance(v, dict) else v for k, v in values.items()})  # type: ignore[arg-type]


@dataclass
class Ledger:
    """Tallies by file; `summary` proves that no row is missing."""

    files: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    facts: dict[str, Any] = field(default_factory=dict)  # what else is worth knowing: proofs, packs, files cut off

    @property
    def total(self) -> Tally:
        total = Tally()
        for tally in self.files.values():
            total.add(tally)
        return total

    def summary(self) -> dict[str, Any]:
        """What `ledger.json` holds. Raises AssertionError where a row is unaccounted for."""
        by_file = {name: tally.summary() for name, tally in self.files.items()}
        return {**self.total.summary(), **self.facts, "files": by_file}

    def write(self, folder: Path) -> None:
        """Write `ledger.json`."""
        (folder / "ledger.json").write_text(
            json.dumps(self.summary(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def dataset_rows(summary: Mapping[str, Any]) -> int:
    """Rows of the input that are in the dataset, by a ledger's summary."""
    return sum(summary[outcome] for outcome in (KEPT, REPAIRED, TRUNCATED))


def rejected_share(summary: Mapping[str, Any]) -> float:
    """Share of the rows read that could not be used; those that the user chose to leave out do not count."""
    chosen = sum(summary["reasons"]["rejected"].get(reason, 0) for reason in CHOSEN_OUT)
    return (summary["rejected"] - chosen) / max(1, summary["rows_read"])
