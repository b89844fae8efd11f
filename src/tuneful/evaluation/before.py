"""What an encoder knew of the classes before it was tuned: its vectors of the training rows, the best head over them,
and whether that head does as well as the tuned model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Row, Said
from tuneful.data.folds import folds
from tuneful.data.splits import units_of
from tuneful.evaluation.compare import difference
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import Collate
from tuneful.models.probe import Probe, best_strength, fit_probe, out_of_fold

MOST = 2000  # training rows
LEAST = 12  # test rows; an interval drawn from fewer may have no width at all
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


def beside_head(
    tuned_RC: np.ndarray, head_RC: np.ndarray, targets_R: np.ndarray, against: Sequence[str]
) -> dict[str, Any]:
    """How often the tuned model and the head over the encoder as it was are right about the same rows, and what to do
    where the head is right as often. `against`: settings of the recipe that do not go with choosing between the two."""
    metric, truth = METRICS["accuracy"], targets_R.tolist()
    ours, theirs = (metric.statistics(truth, logits.argmax(1).tolist()) for logits in (tuned_RC, head_RC))
    gap = difference(metric, ours, theirs)
    tuned, head = (float(metric.value(sums.sum(0))) for sums in (ours, theirs))
    found = {"tuned": round(tuned, 5), "head": round(head, 5), "n": len(truth), **gap.as_json()}
    if gap.delta > 0 or len(truth) < LEAST:
        return found
    facts = {"tuned": _percent(tuned), "head": _percent(head), "low": _percent(-gap.high), "high": _percent(-gap.low),
             "n": len(truth)}  # fmt: skip
    sentence = Said("head_better", facts) if gap.worse(higher_is_better=True) else Said("head_as_good", facts)
    return {**found, "advice": {"key": sentence.key, **sentence.facts}, "against": list(against)}


def _percent(share: float) -> float:
    return round(100 * share, 1) + 0.0  # no minus before a zero
