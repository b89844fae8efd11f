"""Beside a row the same about another group, where a penalty compares the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tuneful.core.protocols import Vary
from tuneful.core.types import Example, Layout, Row
from tuneful.data.augment.reread import Reader, all_texts, with_all_texts
from tuneful.data.identity import swapped_together
from tuneful.run.prepare import Prepared
from tuneful.run.regularised import comparing_twins
from tuneful.run.vary import reader_of
from tuneful.schedules.episodes import EpisodeSteps
from tuneful.schedules.epochs import EpochSteps
from tuneful.schedules.selftrain import SelfTrainSteps

Steps = TypeVar("Steps", EpochSteps, SelfTrainSteps, EpisodeSteps)
MARK = 29  # in the key of a visit, so that its chance is no other's


@dataclass(frozen=True, slots=True)
class Twinned:
    """A row at a visit and its twin. Where an augmentation has changed the row, the twin is the row as it stands."""

    reader: Reader
    axes: Sequence[str] | None
    across: bool = False
    inner: Vary | None = None

    def __call__(self, row: Row, key: Sequence[int]) -> Row:
        seen = row if self.inner is None else self.inner(row, key)
        if not np.array_equal(seen.ids, row.ids):
            return replace(seen, twin=_of_nobody(row))
        example = exchanged(row.example, np.random.default_rng([*key, MARK]), self.axes, across=self.across)
        if example is None:
            return seen
        twin = self.reader.read(row, example)
        return seen if np.array_equal(twin.ids, row.ids) else replace(seen, twin=_of_nobody(twin))


def exchanged(
    example: Example, rng: np.random.Generator, axes: Sequence[str] | None, *, across: bool = False
) -> Example | None:
    """All of its texts about other groups, what is learned among them, by one mapping; None where they mention none."""
    new = swapped_together(all_texts(example), rng, axes, across=across)
    return None if new is None else with_all_texts(example, new)


def _of_nobody(row: Row) -> Row:
    """It would count twice among the rows of its group."""
    return replace(row, twin=None, example=replace(row.example, group=None))


def twinned(schedule: Steps, prepared: Prepared) -> Steps:
    """The schedule, whose rows bring their twins where a penalty compares them."""
    parts = comparing_twins(prepared.recipe)
    if not parts or prepared.layout not in (Layout.LABELS, Layout.TOKENS):
        return schedule
    return replace(schedule, vary=Twinned(reader_of(prepared), parts[0].axes, parts[0].across, schedule.vary))
