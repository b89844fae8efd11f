"""Several tasks at once: each update draws from all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from tuneful.core.errors import RecipeError
from tuneful.core.spec import Spec
from tuneful.core.types import Row
from tuneful.schedules.curriculum import CURRICULA
from tuneful.schedules.epochs import Collate, Cut, EpochSteps, Streamed, pace_of


class Mixture(Spec):
    """Tasks are drawn with p ~ min(rows, cap)^(1/temperature), so that large ones do not crowd out small ones (Raffel
    et al. 2020, arXiv:1910.10683, section 3.5.2). An epoch has as many rows as there are, and each update its share of
    every task."""

    several: ClassVar[Literal["together", "in turn"]] = "together"
    rounds: ClassVar[int] = 1
    usual_epochs: ClassVar[int] = 3

    kind: Literal["mixture"] = "mixture"
    temperature: Annotated[float, Field(ge=1)] = 2.0
    """1 draws by the number of rows; the higher, the more alike."""
    cap: PositiveInt | None = None
    """Rows of a task beyond which more do not make it come more often. None: none."""
    apart: bool = False
    """Rows of different tasks are not read together, and each task's mean loss counts alike, whatever the number of its
    rows in an update; slower. A gradient rule that tells tasks apart needs it."""
    epochs: PositiveFloat | None = None
    """Updates that draw as many rows as there are, so often. None: the objective's own number."""
    steps: PositiveInt | None = None
    """Updates; given, it stands instead of `epochs`."""
    curriculum: CURRICULA.field | None = None  # type: ignore[name-defined]
    """From easy rows of each task to hard ones: by `length`, or by the model's own `loss` before it learns. None: by
    lot alone."""

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        """Those with something to learn, as often beside others as their tasks are drawn."""
        counting = [row for row in rows if row.counts]
        often = self.times(Counter(map(task_of, counting)))
        return [replace(row, times=row.times * often[row.example.task]) for row in counting]

    def times(self, rows: Mapping[str, int]) -> dict[str, float]:
        """How often a row of each task is drawn, where 1 is as often as without any mixing."""
        shares = {task: min(count, self.cap or count) ** (1 / self.temperature) for task, count in rows.items()}
        scale = sum(rows.values()) / sum(shares.values())
        return {task: scale * shares[task] / count for task, count in rows.items()}

    def over(self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int) -> EpochSteps:
        """The steps of a run. Raises RecipeError where rows are not held."""
        if isinstance(rows, Streamed):
            raise RecipeError(["schedule: 'mixture' draws from rows that are held; set data.streaming=false"])
        apart = task_of if self.apart else None
        return EpochSteps(self.learns(rows), collate, cut, total, seed, strata=task_of, apart=apart,
                          pace=pace_of(self.curriculum))  # fmt: skip


def task_of(row: Row) -> str:
    """Whose it is."""
    return row.example.task


def shares_of(rows: Sequence[Row]) -> dict[str, float]:
    """Of what is drawn, what each task has."""
    names = list(dict.fromkeys(map(task_of, rows)))
    drawn = np.array([sum(row.times for row in rows if row.example.task == name) for name in names])
    return dict(zip(names, (drawn / drawn.sum()).tolist(), strict=True))
