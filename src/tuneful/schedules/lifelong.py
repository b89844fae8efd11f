"""One task after the other; a few rows of the earlier ones come back, so that they are not forgotten."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Vary
from tuneful.core.spec import Spec
from tuneful.core.turns import TakesTurns
from tuneful.core.types import MEMORY, OWN_TEXT, Batch, Boundary, Row, Step
from tuneful.models.discriminant import Gaussians
from tuneful.schedules.epochs import Collate, Cut, EpochSteps, Streamed
from tuneful.schedules.mixture import task_of

ROUNDING = 1e-9  # 0.07 of 100 rows are seven
LEAST = 10  # updates of a task, if there are so many for each


class Lifelong(Spec):
    """Tasks in the order of the recipe, with experience replay (Rolnick et al. 2019, arXiv:1811.11682): of each task
    that has ended a few rows are kept, of every class as large a share, and drawn again beside those of later tasks.

    A class is told apart from those of its own task and of the tasks before, never from those that are yet to come."""

    several: ClassVar[Literal["together", "in turn"]] = "in turn"
    rounds: ClassVar[int] = 1
    usual_epochs: ClassVar[int] = 3

    kind: Literal["lifelong"] = "lifelong"
    replay: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of each task's rows that is kept and comes back; 0 = none."""
    asymmetric: bool = True
    """Rows of a new task are told apart from one another alone, and rows that come back, some of the new task's among
    them, from all that is known, so that a new task does not push the earlier ones aside (ER-ACE, Caccia et al. 2022,
    arXiv:2104.05025, section 4). False: all from all."""
    mixed: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of an update that are rows which come back; so much larger it is than one without."""
    own_text: NonNegativeInt = 0
    """So many texts that the untuned model writes before anything is learned come back as well, as often as rows of
    tasks do, and what it expected of their tokens is learned (self-generated replay, Marek 2026, arXiv:2605.26097;
    `objectives.distil`). It keeps what the model knew before any tuning, and draws it away from earlier tasks unless
    rows of these come back too. For models that write."""
    behind: NonNegativeInt = 0
    """So many of the first tasks were learned in an earlier run: all rows there are of them come back."""
    epochs: PositiveFloat | None = None
    """How often each row is seen while its task is learned. None: the objective's own number."""
    steps: PositiveInt | None = None
    """Updates of all tasks; given, it stands instead of `epochs`."""

    @property
    def larger(self) -> float:
        """How much larger rows that come back make an update."""
        return 1 / (1 - self.mixed) if self.replay or self.own_text else 1.0

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        """Those with something to learn, of tasks that are yet to be learned."""
        counting = [row for row in rows if row.counts]
        earlier = set(list(dict.fromkeys(map(task_of, counting)))[: self.behind])
        return [row for row in counting if row.example.task not in earlier]

    def over(
        self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int
    ) -> LifelongSteps:
        """The steps of a run. Raises RecipeError where rows are not held."""
        if isinstance(rows, Streamed):
            raise RecipeError(["schedule: 'lifelong' keeps rows of each task, so they are held; set "
                               "data.streaming=false"])  # fmt: skip
        return LifelongSteps([row for row in rows if row.counts], collate, cut, total, self, seed)


@dataclass(slots=True)
class LifelongSteps:
    """Step number n is a function of seed and n; which boundaries are behind is its state."""

    rows: Sequence[Row]
    collate: Collate
    cut: Cut
    total: int
    settings: Lifelong
    seed: int = 0
    vary: Vary | None = None
    written: Sequence[Row] = ()  # by the model before anything was learned
    summed: tuple[int, Gaussians] | None = None  # of a head that is solved: the last task in its sums, and these
    known: int = 0  # classes of the head that an earlier run knew, of some of which no row may be left
    ended: int = field(default=0)  # tasks that were learned here and whose boundary has been told

    def __len__(self) -> int:
        return self.total

    @property
    def tasks(self) -> dict[str, list[Row]]:
        """The rows of each task, in the order they are learned."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            found[row.example.task].append(row)
        return dict(found)

    @property
    def ends(self) -> list[int]:
        """How many updates are done when each task that is learned here has ended: some for the smallest, the rest by
        the number of rows."""
        sizes = [len(rows) for rows in list(self.tasks.values())[self.settings.behind :]]
        least = min(LEAST, self.total // len(sizes))
        rest = (self.total - least * len(sizes)) / sum(sizes)
        return [round(end) for end in accumulate(least + rest * size for size in sizes)]

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step | Boundary]:
        begin, tasks = 0, self.tasks
        told = policy.attached if policy and isinstance(policy.attached, TakesTurns) else None
        for place, (number, end) in enumerate(zip(range(self.settings.behind, len(tasks)), self.ends, strict=True)):
            if start < end:
                if told is not None:
                    told.begin_task(number)
                yield from self.part(number, end - begin).steps(policy, max(0, start - begin))
            if start <= end and self.ended <= place:
                self.ended = place + 1
                if told is not None:
                    told.end_task(number)
                yield self.boundary(number)
            begin = end

    def boundary(self, number: int, *, since: int | None = None) -> Boundary:
        """The end of this task, with its training rows; `since`: with those of the tasks from that one on."""
        tasks = list(self.tasks.items())
        rows = [row for _, own in tasks[number if since is None else since : number + 1] for row in own]
        order = np.random.default_rng([self.seed, number, len(rows)]).permutation(len(rows))
        known = self.classes(number)
        alone = OneByOne([rows[place] for place in order], Knowing(self.collate, known, 0))
        return Boundary(tasks[number][0], alone, known)

    def part(self, number: int, total: int) -> EpochSteps:
        """The updates of one task."""
        own, kept = list(self.tasks.values())[number], self.kept(number)
        known = self.classes(number)
        first = (self.classes(number - 1) or 0) if number else 0
        new = {row.target for row in own}
        # One class alone, or one that was known before, is told apart from all.
        asymmetric = self.settings.asymmetric and bool(kept) and len(new) > 1 and 0 < first <= min(new)
        if asymmetric:
            kept = [*kept, *stored(own, self.settings.replay, self.seed + number)]
        often = self.settings.mixed / (1 - self.settings.mixed) * sum(row.times for row in own)
        again = {MEMORY: kept, OWN_TEXT: self.written} if self.settings.mixed else {}
        kinds = sum(bool(rows) for rows in again.values())
        back = [_back(row, often / kinds / len(rows), task) for task, rows in again.items() for row in rows]
        collate = Knowing(self.collate, known, first if asymmetric else 0)
        more = self.settings.larger if back else 1.0
        cut = replace(self.cut, rows_per_step=round(more * self.cut.rows_per_step))
        return EpochSteps([*own, *back], collate, cut, total, self.seed + number, self.vary, task_of, task_of)

    def kept(self, number: int) -> list[Row]:
        """Rows of the tasks before this one that come back."""
        earlier = list(self.tasks.values())[:number] if self.settings.replay else []
        return [
            row
            for place, rows in enumerate(earlier)
            for row in (rows if place < self.settings.behind else stored(rows, self.settings.replay, self.seed + place))
        ]

    def classes(self, number: int) -> int | None:
        """How many are known when this task is learned; None where rows have no class."""
        seen = [row.target for rows in list(self.tasks.values())[: number + 1] for row in rows]
        return None if any(not isinstance(target, int) for target in seen) else max(self.known, max(seen) + 1)

    def state(self) -> Mapping[str, Any]:
        return {"ended": self.ended}

    def load(self, state: Mapping[str, Any]) -> None:
        self.ended = state.get("ended", 0)


@dataclass(frozen=True, slots=True)
class Knowing:
    """Batches in which the classes that are known are told apart; of a new task, those from `first` on."""

    inner: Collate
    known: int | None  # None: rows have no class
    first: int

    def __call__(self, rows: Sequence[Row]) -> Batch:
        batch = self.inner(rows)
        if self.known is None:
            return batch
        first = 0 if task_of(rows[0]) == MEMORY else self.first
        targets = {**batch.targets, "labels": batch.targets["labels"] - first}
        return replace(batch, targets=targets, classes=slice(first, self.known))

    def added(self, row: Row, before: Row | None) -> int:
        return self.inner.added(row, before)


@dataclass(frozen=True, slots=True)
class OneByOne(Sequence[Batch]):
    """Batches of one row each, made when they are asked for."""

    rows: Sequence[Row]
    collate: Collate

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return OneByOne(self.rows[place], self.collate)
        return self.collate([self.rows[place]])


def _back(row: Row, times: float, task: str) -> Row:
    """As it comes back, so often beside a new row."""
    return replace(row, times=times, example=replace(row.example, task=task))


def stored(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """A share of the rows, of every class as large a one and at least one row; drawn by lot. Nothing for no share."""
    classes: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        classes[row.target if isinstance(row.target, int) else None].append(row)
    rng = np.random.default_rng([seed, len(rows)])
    chosen = []
    for own in classes.values():
        count = max(1, math.floor(share * len(own) + ROUNDING)) if share else 0
        chosen += [own[place] for place in sorted(rng.permutation(len(own))[:count])]
    return chosen
