"""From easy rows to hard ones: which rows may be drawn by an update."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tuneful.core.spec import Spec, Table
from tuneful.core.types import Row

ROUNDING = 1e-9  # three tenths of 10 rows are three


class Curriculum(Spec):
    """Rows are drawn by lot from the easiest ones, of every class and task as large a share, which grows until all may
    be drawn (curriculum learning, Bengio et al. 2009, ICML; the share is the competence c of Platanios et al. 2019,
    arXiv:1903.09848, equation 7, c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2)))."""

    start: Annotated[float, Field(gt=0, le=1)] = 0.2
    """c0, the share of rows that the first update may draw from."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """T, the share of the updates after which all rows are drawn, each once an epoch as without a curriculum."""

    def share(self, done: int, updates: int) -> float:
        """Of the rows that may be drawn when so many of the `updates` are done."""
        squared = done * (1 - self.start**2) / (self.until * updates) + self.start**2
        return 1.0 if squared >= 1 else math.sqrt(squared)


class Length(Curriculum):
    """Short rows first, in tokens."""

    kind: Literal["length"] = "length"


class Loss(Curriculum):
    """First what the model knows already: rows of little loss before anything is learned."""

    kind: Literal["loss"] = "loss"


CURRICULA: Table[Curriculum] = Table("curriculum", [Length, Loss])


@dataclass(frozen=True, slots=True)
class Pace:
    """A curriculum at work: how hard each row is, and how soon it may be drawn."""

    settings: Curriculum
    hard: Callable[[Row], float] = len

    def shares(self, rows: Sequence[Row]) -> np.ndarray:
        """(R,) of each row the share that must be open for it to be drawn: in its group its place by how hard it is,
        one for the easiest, over the number of rows; 0 for the easiest, so that every group is always there. Equally
        hard rows stand in the order they are given."""
        members: dict[Hashable, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            members[group_of(row)].append(place)
        found = np.zeros(len(rows))
        for own in members.values():
            by_hardness = np.argsort([self.hard(rows[place]) for place in own], kind="stable")
            found[np.array(own)[by_hardness]] = np.arange(1, len(own) + 1) / len(own)
            found[own[by_hardness[0]]] = 0.0
        return found

    def places(self, shares_R: np.ndarray, done: int, updates: int, size: int) -> np.ndarray | None:
        """The places of rows that the next update, of `size` rows, may draw from; None where it may from all."""
        share = self.settings.share(done, updates)
        if share >= 1 or size >= len(shares_R):
            return None
        least = np.partition(shares_R, size - 1)[size - 1]  # an update is filled, whatever the share
        return np.flatnonzero(shares_R <= max(share, least) + ROUNDING)


def group_of(row: Row) -> Hashable:
    """Its task, and its class if it has one."""
    target = row.target
    return row.example.task, int(target) if isinstance(target, int | np.integer) else None
