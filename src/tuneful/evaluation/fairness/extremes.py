"""How sure is the largest of many differences, and how much larger is it than another system's?

A percentile bootstrap of a maximum is off: the maximum of noisy rates lies above the true one, and that of redrawn
rates lies higher once more. How far above depends on how many differences are truly near the largest, which rows cannot
tell. So each end of an interval takes what is worst for it: one as if only the difference found largest could be it (no
bias), the other as if all that rows do not rule out were as large (the most bias); compare Fang and Santos 2019,
arXiv:1404.3763, who estimate that set. Two groups get nearly the usual interval of a difference; with many small groups
the ends are cautious.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.evaluation.fairness.intervals import Pair, Z

ALIKE = 1e-6  # the least standard error: two names of the same rows differ by nothing
LEVEL = 0.95
PART = 0.975  # the level of each of two intervals that both hold in `LEVEL` of samples


@dataclass(frozen=True, slots=True)
class Drawn:
    """One number of each of G groups, as it was found and in each of B bootstrap draws."""

    found: np.ndarray  # (G,)
    draws: np.ndarray  # (B, G)


@dataclass(frozen=True, slots=True)
class Contrasts:
    """What a maximum is taken over."""

    found: np.ndarray  # (P,)
    errors: np.ndarray  # (B, P) drawn less found

    @property
    def spread(self) -> np.ndarray:
        """(P,) standard errors."""
        return np.maximum(self.errors.std(0), ALIKE)

    def reach(self, level: float) -> float:
        """So many standard errors hold all contrasts at once (as Tukey 1953 for means), and no fewer than hold one."""
        return max(Z, float(np.quantile((np.abs(self.errors) / self.spread).max(1), level)))

    @property
    def top(self) -> float:
        return float(self.found.max())

    @property
    def largest(self) -> np.ndarray:
        """(P,) which may be the largest."""
        half = self.reach(LEVEL) * self.spread
        return self.found + half >= (self.found - half).max()

    @property
    def least_error(self) -> np.ndarray:
        """(B,) of the maximum, if only what was found largest could be it."""
        return self.errors[:, self.found.argmax()]

    @property
    def most_error(self) -> np.ndarray:
        """(B,) of the maximum, if all that may be the largest were as large."""
        return self.errors[:, self.largest].max(1)


def pairs(part: Drawn) -> Contrasts:
    """Each group less each other."""
    one, other = np.triu_indices(len(part.found), 1)
    found, errors = part.found[one] - part.found[other], (part.draws - part.found).astype(np.float32)
    differences = errors[:, one] - errors[:, other]
    return Contrasts(np.concatenate([found, -found]), np.concatenate([differences, -differences], 1))


def below(part: Drawn) -> Contrasts:
    """How low each group is."""
    return Contrasts(-part.found, part.found - part.draws)


def widest(parts: Sequence[Drawn]) -> tuple[float, Pair]:
    """The largest difference between two groups, over all parts, with an interval for the largest true one."""
    every = _joined(pairs, parts)
    low, high = _interval(every)
    return every.top, (max(0.0, low), min(1.0, high))


def lowest(parts: Sequence[Drawn]) -> tuple[float, Pair]:
    """The least of all groups' numbers, with an interval for the least true one."""
    every = _joined(below, parts)
    low, high = _interval(every)
    return -every.top, (max(0.0, -high), min(1.0, -low))


def wider(before: Sequence[Drawn], after: Sequence[Drawn]) -> Pair:
    """An interval for how much larger the largest true difference is after than before, of systems that were drawn on
    the same rows."""
    return _rise(pairs, before, after)


def higher(before: Sequence[Drawn], after: Sequence[Drawn]) -> Pair:
    """The same of how much higher the lowest group is."""
    low, high = _rise(below, before, after)
    return -high, -low


def _interval(every: Contrasts) -> Pair:
    tail = (1 - LEVEL) / 2
    low = every.top - float(np.quantile(every.most_error, 1 - tail))
    return low, every.top - float(np.quantile(every.least_error, tail))


def _rise(contrasts: Callable[[Drawn], Contrasts], before: Sequence[Drawn], after: Sequence[Drawn]) -> Pair:
    """What two intervals both allow. One is that of two maxima, as above. The other knows that systems which answer
    alike err alike: a maximum rises by no less than what was largest before has risen, and by no more than what is
    largest after has; which these are is not known, so all that may be count."""
    old, new = _joined(contrasts, before), _joined(contrasts, after)
    change = Contrasts(new.found - old.found, new.errors - old.errors)
    half, tail = change.reach(PART) * change.spread, (1 - PART) / 2
    low = new.top - old.top - float(np.quantile(new.most_error - old.least_error, 1 - tail))
    high = new.top - old.top - float(np.quantile(new.least_error - old.most_error, tail))
    return (
        max(low, float((change.found - half)[old.largest].min())),
        min(high, float((change.found + half)[new.largest].max())),
    )


def _joined(contrasts: Callable[[Drawn], Contrasts], parts: Sequence[Drawn]) -> Contrasts:
    every = [contrasts(part) for part in parts]
    return Contrasts(np.concatenate([own.found for own in every]), np.concatenate([own.errors for own in every], 1))
