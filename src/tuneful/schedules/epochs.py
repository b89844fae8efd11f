"""Every row once an epoch, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Row, Step


class Epochs(Spec):
    """The whole data again and again."""

    kind: Literal["epochs"] = "epochs"
    epochs: PositiveFloat | None = None
    """How often each row is seen; parts of an epoch are allowed. None: the objective's own number."""
    steps: PositiveInt | None = None
    """Updates; given, it stands instead of `epochs`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How rows become steps, and steps micro-batches."""

    rows_per_step: int
    micro_tokens: int  # memory: a micro-batch holds no more, except a single longer row


@dataclass(frozen=True, slots=True)
class EpochSteps:
    """Step number n is a function of n, so a resumed run sees what an uninterrupted one would."""

    rows: Sequence[Row]
    collate: Callable[[Sequence[Row]], Batch]
    cut: Cut
    total: int
    seed: int = 0

    def __len__(self) -> int:
        return self.total

    @property
    def steps_per_epoch(self) -> int:
        return max(1, -(-len(self.rows) // self.cut.rows_per_step))

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for number in range(start, self.total):
            if number // self.steps_per_epoch != epoch:
                epoch = number // self.steps_per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            part = np.array_split(order, self.steps_per_epoch)[number % self.steps_per_epoch]
            yield self._step([self.rows[index] for index in part])

    def _step(self, rows: list[Row]) -> Step:
        # Neighbours in token order share prefixes; within a step order means nothing else.
        rows.sort(key=lambda row: row.ids.tolist())
        parts: list[list[Row]] = [[]]
        held = 0
        for row in rows:
            if parts[-1] and held + len(row) > self.cut.micro_tokens:
                parts.append([])
                held = 0
            parts[-1].append(row)
            held += len(row)
        return Step([self.collate(part) for part in parts], len(rows), sum(map(len, rows)))
