"""Training rows that are read, understood and encoded when a step draws them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.order import Scattered
from tuneful.core.types import Drawn, Dropped, Example, Row
from tuneful.data.columns import Columns
from tuneful.data.duplicates import alike
from tuneful.data.formats import Format, understand
from tuneful.data.rows import Rows
from tuneful.data.sources import Raw
from tuneful.data.tables import Table

TRIES = 1000  # rows drawn instead of one that cannot be used, until one can
Encode = Callable[[Sequence[Example]], Rows]


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one file that are trained on."""

    table: Table
    form: Format
    columns: Columns
    weight: float = 1.0
    left_out: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # sorted rows of the table

    @property
    def rows(self) -> int:
        return len(self.table) - len(self.left_out)

    @property
    def length(self) -> int:
        """Rows an epoch."""
        return round(self.weight * self.rows)

    def understood(self, rows: Sequence[Raw | Dropped]) -> tuple[list[Example], list[Dropped]]:
        """Every row that can be used, and every other with its reason."""
        good, bad = understand([row for row in rows if not isinstance(row, Dropped)], self.form, self.columns)
        return good, [*(row for row in rows if isinstance(row, Dropped)), *bad]


class HeldOut:
    """What must not be learned because it is measured with: the words of the rows held out, and their clusters."""

    def __init__(self, by_part: Sequence[tuple[str, Sequence[Example]]]) -> None:
        self._said: dict[bytes, str] = {}
        self._clusters: dict[str, str] = {}
        for part, examples in by_part:
            for example in examples:
                where = f"{example.place}, which is for {part}"
                self._said.setdefault(_key(example), where)
                if example.cluster is not None:
                    self._clusters.setdefault(example.cluster, where)

    def objection(self, example: Example) -> str | None:
        """Why an example may not be learned."""
        if example.cluster in self._clusters:
            return f"is of one cluster with {self._clusters[example.cluster]}"
        where = self._said.get(_key(example))
        return f"says the same as {where}" if where else None


class StreamedRows:
    """Training rows by their place in an epoch. A place is an example: a long text that is cut brings all its rows.

    What a place brings is a function of the place and the seed alone, so a resumed run sees the same."""

    def __init__(self, parts: Sequence[Part], encode: Encode, held_out: HeldOut, seed: int) -> None:
        self._parts, self._encode, self._held_out, self._seed = parts, encode, held_out, seed
        self._ends = np.cumsum([part.length for part in parts])
        # A weight of 1.5 is a whole round and a scattered half.
        self._scattered = [Scattered(part.rows, [seed, 11, number]) for number, part in enumerate(parts)]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def draw(self, places: np.ndarray) -> Drawn:
        """The rows at these places, and those for which others stand in. Raises DataError when no row of a file
        can be used any more."""
        drawn = Drawn([], [])
        for place in places.tolist():
            self._draw(place, drawn)
        return drawn

    def _draw(self, place: int, drawn: Drawn) -> None:
        number = int(np.searchsorted(self._ends, place, side="right"))
        part, inside = self._parts[number], place - int(self._ends[number] - self._parts[number].length)
        turn, row = divmod(inside, part.rows)
        if turn == int(part.weight):
            row = int(self._scattered[number].at(np.array([row]))[0])
        found = self._row(part, row)
        if isinstance(found, Dropped):
            drawn.skipped.append(found)
            found = self._instead(part, [self._seed, 13, number, inside], found)
        drawn.rows.extend(found)

    def _instead(self, part: Part, key: list[int], first: Dropped) -> list[Row]:
        """Another row, so that a step keeps its size: drawn by lot, for bad rows often lie side by side."""
        rng = np.random.default_rng(key)
        for _ in range(TRIES):
            found = self._row(part, int(rng.integers(part.rows)))
            if not isinstance(found, Dropped):
                return found
        raise DataError(f"{first.place}: {first.reason}; and none of {TRIES} other rows drawn instead can be used")

    def _row(self, part: Part, row: int) -> list[Row] | Dropped:
        """`row` counts those of the table that are not left out."""
        gaps = part.left_out - np.arange(len(part.left_out))
        examples, dropped = part.understood([part.table.read(row + int(np.searchsorted(gaps, row, side="right")))])
        if dropped:
            return dropped[0]
        objection = self._held_out.objection(examples[0])
        if objection:
            return Dropped(examples[0].place, objection)
        built = self._encode(examples)
        if built.dropped:
            return built.dropped[0]
        return built.rows or Dropped(examples[0].place, "nothing in this row would be learned")


def _key(example: Example) -> bytes:
    return hashlib.blake2b(alike(example).encode(errors="surrogatepass"), digest_size=16).digest()
