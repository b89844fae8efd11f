"""Is one system better than another on the same rows, and how sure is that?

Paired percentile bootstrap (Efron and Tibshirani 1993, chapter 13): rows are drawn with replacement, both systems are
scored on the same draw, and the middle 95 % of the differences is the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tuneful.core.types import Said
from tuneful.evaluation.metrics import Summed

DRAWS = 2000
BLOCK = 250  # draws at once: bounds memory for many rows


@dataclass(frozen=True, slots=True)
class Difference:
    """tuned - other, with the middle 95 % of bootstrap draws."""

    delta: float
    low: float
    high: float

    def better(self, higher_is_better: bool) -> bool:
        """The whole interval lies on the good side."""
        return self.low > 0 if higher_is_better else self.high < 0

    def worse(self, higher_is_better: bool) -> bool:
        return self.high < 0 if higher_is_better else self.low > 0

    def as_json(self) -> dict[str, Any]:
        return {"delta": round(self.delta, 5), "ci95": [round(self.low, 5), round(self.high, 5)]}


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of several systems on the same rows."""

    metric: str
    higher_is_better: bool
    n: int
    values: Mapping[str, float]  # by system
    against: Mapping[str, Difference] = field(default_factory=dict)  # tuned minus each other system
    of: Literal["rows", "classes"] = "rows"  # what `n` counts


@dataclass(frozen=True, slots=True)
class Examined:
    """Scores, which of them decides, and row by row what each system answered."""

    scores: list[Score]
    primary: str
    answers: list[dict[str, Any]]
    notes: list[Said] = field(default_factory=list)  # what a report says beside them


def score(
    metric: Summed, truth: Sequence[Any], predicted: Mapping[str, Sequence[Any] | np.ndarray], *, seed: int = 0
) -> Score:
    """`predicted` by system; "tuned", when it is there, is compared with every other."""
    # One call over all systems, so that metrics which name classes name the same ones for all.
    together = metric.statistics(
        [item for _ in predicted for item in truth],
        [item for answers in predicted.values() for item in answers],
    )
    statistics = dict(zip(predicted, np.split(together, len(predicted)), strict=True))
    values = {system: float(metric.value(rows.sum(0))) for system, rows in statistics.items()}
    against = {}
    if "tuned" in statistics:
        for system in statistics.keys() - {"tuned"}:
            against[system] = difference(metric, statistics["tuned"], statistics[system], seed=seed)
    return Score(metric.name, metric.higher_is_better, len(truth), values, against)


def difference(metric: Summed, ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0) -> Difference:
    """Statistics (n, k) of two systems on the same n rows."""
    rng, n = np.random.default_rng(seed), len(ours)
    draws = []
    for _ in range(DRAWS // BLOCK):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=BLOCK).astype(np.float64)
        draws.append(metric.value(counts @ ours) - metric.value(counts @ theirs))
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    delta = float(metric.value(ours.sum(0)) - metric.value(theirs.sum(0)))
    return Difference(delta, float(low), float(high))


def apart(
    ours: np.ndarray, theirs: np.ndarray, value: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> Difference:
    """The same of statistics (n, k) and (m, k) of different rows, each drawn by itself; `value` takes sums (..., k)."""
    rng, draws = np.random.default_rng(seed), []
    for _ in range(DRAWS // BLOCK):
        one, other = (
            rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=BLOCK).astype(np.float64) @ rows
            for rows in (ours, theirs)
        )
        draws.append(value(one) - value(other))
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    return Difference(float(value(ours.sum(0)) - value(theirs.sum(0))), float(low), float(high))
