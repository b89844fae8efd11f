"""Several runs side by side: each task draws its rows as it would alone, and an update reads those of all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuneful.core.types import Row
from tuneful.schedules.epochs import EpochSteps


@dataclass(frozen=True, slots=True)
class BesideSteps(EpochSteps):
    """Update n holds the rows of update n of every task that has one; `rows` are those of all."""

    members: Mapping[str, EpochSteps] = field(default_factory=dict)  # by task, each as in a run of its own

    @classmethod
    def of(cls, members: Mapping[str, EpochSteps]) -> BesideSteps:
        """Cut as the first of them is."""
        first = next(iter(members.values()))
        rows = [row for member in members.values() for row in member.rows]  # type: ignore[union-attr]
        total = max(member.total for member in members.values())
        return cls(rows, first.collate, first.cut, total, first.seed, members=members)

    def visits(self, rows: Sequence[Row], start: int = 0) -> Iterator[list[Row]]:
        own = [replace(member, vary=self.vary) for member in self.members.values()]
        drawn = [member.visits(member.rows, start) for member in own]  # type: ignore[arg-type]
        for _ in range(start, self.total):
            yield [row for visits in drawn for row in next(visits, [])]

    def _place(self, row: Row) -> Any:
        """Rows of one task together."""
        return list(self.members).index(row.example.task), row.ids.tolist()
