"""Steps of a few classes with several rows each, for objectives that tell a row by others of its class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Vary
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Row, Step
from tuneful.data.episodes import Group, by_class, drawn, parted
from tuneful.schedules.epochs import Collate, Cut, Room, Streamed

Several = Annotated[int, Field(ge=2)]
MEASURED = 512  # rows by which a loss is measured, about
MEASURING = 1 << 31  # in a seed: beyond the number of any step


class Episodes(Spec):
    """Each step draws some classes, and some rows of each (Snell et al. 2017, arXiv:1703.05175, algorithm 1), whatever
    the number of rows a class has.

    More classes than will be told apart afterwards make the better encoder (the same, section 2.6).
    """

    rounds: ClassVar[int] = 1
    usual_epochs: ClassVar[int] = 3

    kind: Literal["episodes"] = "episodes"
    classes: Several = 32
    """Classes of a step, at most."""
    rows: Several = 4
    """Rows of a class in a step, at most; one less are the shots by which it is known."""
    epochs: PositiveFloat | None = None
    """Steps that draw as many rows as there are, so often. None: the objective's own number."""
    steps: PositiveInt | None = None
    """Updates; given, it stands instead of `epochs`."""

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        """Those of classes with several different rows."""
        return [row for group in by_class(rows) for row in group]

    def drawn(self, rows: Sequence[Row]) -> int:
        """How many rows a step has at most; fewer where it draws a class that has not so many."""
        return sum(sorted((min(self.rows, len(group)) for group in by_class(rows)), reverse=True)[: self.classes])

    def over(
        self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int
    ) -> EpisodeSteps:
        """The steps of a run. Raises RecipeError where rows are not held or nothing can be told apart."""
        if isinstance(rows, Streamed):
            raise RecipeError(["schedule: 'episodes' draws rows by their class from rows that are held; "
                               "--set data.streaming=false holds them"])  # fmt: skip
        return EpisodeSteps(by_class(rows), collate, cut, total, self, seed)


@dataclass(frozen=True, slots=True)
class EpisodeSteps:
    """Step number n is a function of seed and n, so a resumed run sees what an uninterrupted one would."""

    groups: Sequence[Group]
    collate: Collate
    cut: Cut
    total: int
    settings: Episodes
    seed: int = 0
    vary: Vary | None = None

    def __len__(self) -> int:
        return self.total

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        room = Room(self.cut.micro_tokens)
        for number in range(start, self.total):
            groups = self._varied(drawn(self.groups, self.settings.classes, self.settings.rows, [self.seed, number]),
                                  number)  # fmt: skip
            rows = [row for group in groups for row in group]
            yield self._step(self._parts(groups, room.tokens), room, len(rows), sum(map(len, rows)))

    def _varied(self, groups: list[Group], number: int) -> list[Group]:
        """As the rows are in this step."""
        if self.vary is None:
            return groups
        return [[self.vary(row, [self.seed, number, where, place]) for place, row in enumerate(group)]
                for where, group in enumerate(groups)]  # fmt: skip

    def classes_in(self, rows: Sequence[Row]) -> int:
        """How many classes of these can be told apart at once, whichever they are."""
        groups, each = by_class(rows), self.settings.rows
        longest = sorted((sum(sorted(map(len, group))[-each:]) for group in groups), reverse=True)
        fitting = int((np.cumsum(longest[: self.settings.classes]) <= self.cut.micro_tokens).sum())
        return min(len(groups), max(2, fitting))

    def measured(self, rows: Sequence[Row], classes: int) -> list[Batch]:
        """Batches of so many classes of these rows, by which a loss is measured: the same at every look, and never cut,
        as a row that is told from fewer classes has a smaller loss."""
        groups, each = by_class(rows), self.settings.rows
        count = max(1, min(MEASURED, sum(map(len, groups))) // (classes * each))
        found = [drawn(groups, classes, each, [self.seed, MEASURING, number]) for number in range(count)]
        return [self._collated(chosen) for chosen in found]

    def _parts(self, groups: list[Group], most: int) -> list[list[Group]]:
        """A step is cut between classes, never inside one: so that no part holds more tokens, or as small as can be."""
        for number in range(1, _finest(groups)):
            if max(map(_tokens, parts := parted(groups, number))) <= most:
                return parts
        return parted(groups, _finest(groups))

    def _step(self, parts: list[list[Group]], room: Room, rows: int = 0, tokens: int = 0) -> Step:
        return Step([self._collated(part) for part in parts], rows, tokens, smaller=lambda: self._smaller(parts, room))

    def _smaller(self, parts: list[list[Group]], room: Room) -> Step | None:
        groups = [group for part in parts for group in part]
        if len(parts) >= _finest(groups):
            return None
        smaller = parted(groups, len(parts) + 1)
        room.tokens = min(room.tokens, max(map(_tokens, smaller)))  # later steps read no more at once
        return self._step(smaller, room)

    def _collated(self, part: Sequence[Group]) -> Batch:
        return self.collate([row for group in part for row in group])


def _finest(groups: Sequence[Group]) -> int:
    """How many parts there may be: a class is told apart from another."""
    return max(1, len(groups) // 2)


def _tokens(part: Sequence[Group]) -> int:
    return sum(len(row) for group in part for row in group)
