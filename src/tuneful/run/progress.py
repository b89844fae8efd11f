"""What a run has done so far, over all its sittings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tuneful.core.types import Dropped, Record, Said
from tuneful.run.watch import Watch

LISTED = 100  # skipped rows listed one by one


@dataclass(slots=True)
class Skipped:
    """Streamed rows that could not be learned: how many, and the first of them."""

    count: int = 0
    first: list[dict[str, str]] = field(default_factory=list)

    def add(self, rows: Sequence[Dropped]) -> None:
        self.count += len(rows)
        self.first += [{"row": str(row.place), "reason": row.reason} for row in rows[: LISTED - len(self.first)]]


@dataclass(slots=True)
class Progress:
    """Counts, and what was seen on the way."""

    step: int = 0
    tokens: int = 0  # of the rows
    read: int = 0  # of these by the model: a shared prefix counts once
    seconds: float = 0.0
    skipped: Skipped = field(default_factory=Skipped)
    watch: Watch = field(default_factory=lambda: Watch(0))
    kept: list[Said] = field(default_factory=list)  # how the weights that are kept came of those that were learned
    stopped: Said = field(default_factory=lambda: Said("schedule_ended"))

    def count(self, record: Record) -> None:
        """Notes an update."""
        if record.kind == "train":
            self.step = record.step
            self.tokens += int(record.metrics["tokens"])
            self.read += int(record.metrics["read"])
            self.seconds += record.metrics["seconds"]

    def counts(self) -> dict[str, float]:
        """What a resumed run goes on counting from."""
        return {"step": self.step, "tokens": self.tokens, "read": self.read, "seconds": self.seconds}

    def go_on_from(self, counts: dict[str, float]) -> None:
        self.step, self.tokens = int(counts["step"]), int(counts["tokens"])
        self.read, self.seconds = int(counts.get("read", self.tokens)), float(counts["seconds"])
