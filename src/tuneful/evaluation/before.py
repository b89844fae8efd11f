"""What an encoder knew of the classes before it was tuned: its vectors of the training rows, and the best head over
them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.folds import folds
from tuneful.data.splits import units_of
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import Collate
from tuneful.models.probe import Probe, best_strength, fit_probe, out_of_fold

MOST = 2000  # training rows
FOLDS, STRENGTHS = 3, (10.0, 100.0)  # by which, and among which, the strength of a head's penalty is chosen


@dataclass(frozen=True, slots=True)
class Before:
    policy: Policy
    collate: Collate
    vectors: Tensor  # (N, D)
    targets: Tensor  # (N,)
    units: Sequence[Hashable]  # rows of one belong together
    classes: int

    def head(self, seed: int) -> Probe:
        parts = folds(self.targets.tolist(), FOLDS, seed, self.units)
        found = out_of_fold(self.vectors, self.targets, parts, STRENGTHS, classes=self.classes)
        return fit_probe(self.vectors, self.targets, best_strength(found, self.targets), classes=self.classes)

    def logits(self, head: Probe, rows: Sequence[Row]) -> np.ndarray:
        """(R, C)"""
        return head.logits(vectors(self.policy, rows, self.collate, original=True)).numpy()


def before(policy: Policy, rows: Sequence[Row], collate: Collate, classes: int, seed: int) -> Before:
    """Of a seeded sample where there are many."""
    if len(rows) > MOST:
        rows = [rows[place] for place in np.random.default_rng(seed).choice(len(rows), MOST, replace=False)]
    units = units_of([row.example for row in rows])
    return Before(policy, collate, vectors(policy, rows, collate, original=True), targets(rows), units, classes)
