"""Rows that ways of learning are compared by: training rows that a way has not learned when it is asked about them. No
test row is among them, and none that a way keeps its best weights by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.types import Place, Row
from tuneful.data.folds import folds, usual
from tuneful.data.splits import units_of
from tuneful.evaluation.fairness import LEAST
from tuneful.evaluation.treatment import Exchanged, exchange
from tuneful.run.further import unseen
from tuneful.run.prepare import Prepared
from tuneful.run.vary import reader_of

THIRDS = 3
ENOUGH = 100  # rows of every class of every group, with which one third is asked about and not all in turn


@dataclass(frozen=True, slots=True)
class Deal:
    """Which part each row is in, and the parts that are asked about, one after the other."""

    parts: np.ndarray  # (N,)
    asked: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(self.parts.max()) + 1


def deal(rows: Sequence[Row], seed: int) -> Deal:
    """Every class of every group is spread evenly, and what says nearly the same stays together. One third is set apart
    where it holds `ENOUGH`; else all rows are asked about in turn (cross-validation)."""
    kinds = [(row.example.group, row.target) for row in rows]
    units = units_of([row.example for row in rows])
    parts = folds(kinds, THIRDS, seed, units)
    sizes = Counter(group for group, _ in kinds if group is not None)
    compared = {kind for kind in kinds if kind[0] is not None and sizes[kind[0]] >= LEAST}
    first = Counter(kind for kind, part in zip(kinds, parts, strict=True) if part == 0)
    if compared and all(first[kind] >= ENOUGH for kind in compared):
        return Deal(parts, (0,))
    count = usual(len(rows))
    return Deal(folds(kinds, count, seed, units), tuple(range(count)))


@dataclass(frozen=True, slots=True)
class Questions:
    """What every way is asked."""

    rows: Sequence[Row]  # R
    parts: np.ndarray  # (R,) which part each is in
    home: dict[Place, int]  # of all training rows
    deal: Deal
    exchanged: Exchanged  # rows that mention a group, about another one

    def of(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of a part's rows, and of its exchanged rows."""
        return np.flatnonzero(self.parts == part), np.flatnonzero(self.parts[self.exchanged.places] == part)

    def learned(self, repeated: Sequence[Row], part: int) -> list[Row]:
        """Of what a run would learn, all that does not know of the rows of a part."""
        own = [row for row in repeated if self.home.get(row.example.place, part) != part]
        beside = [row for row in repeated if row.example.place not in self.home]
        return [*own, *(unseen(beside, [self.rows[place] for place in self.of(part)[0]]) if beside else [])]


def questions(prepared: Prepared) -> Questions:
    """From the rows of the plain way."""
    rows, seed = prepared.rows("train"), prepared.recipe.seed
    dealt = deal(rows, seed)
    asked = np.flatnonzero(np.isin(dealt.parts, dealt.asked))
    own = [rows[place] for place in asked]
    exchanged = exchange(own, reader_of(prepared).read, seed=seed)
    home = {row.example.place: int(part) for row, part in zip(rows, dealt.parts, strict=True)}
    return Questions(own, dealt.parts[asked], home, dealt, exchanged)
