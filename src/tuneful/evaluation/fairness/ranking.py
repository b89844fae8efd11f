"""Does a score put rows of the positive class above the others, inside a group and across its border?

Borkan et al. 2019, arXiv:1903.04561, section 3: three areas under the ROC curve of a group against its background, all
rows that are not of it. `subgroup`: rows of the group alone. `bpsn`: positive rows of the background and negative rows
of the group; low where the group's negative rows are scored too high. `bnsp`: negative rows of the background and
positive rows of the group; low where the group's positive rows are scored too low.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

KINDS = ("subgroup", "bpsn", "bnsp")
BLOCK = 2_000_000  # numbers of one array at once: bounds memory for many rows


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows in the order of their score."""

    order: np.ndarray  # (K,) where each stands in the input
    score: np.ndarray  # (K,)
    positive: np.ndarray  # (K,) bool
    mask: np.ndarray  # (K, G) bool

    def areas(self, weights: np.ndarray) -> np.ndarray:
        """(3, B, G) in the order of `KINDS`, of rows that count as often as weights (B, K) say; NaN where a side has
        no row. Equal scores count half (the Mann-Whitney statistic).

        The background is everybody but the group, so pairs across the border are pairs of the group with all rows, less
        pairs inside the group; with everybody a row is compared once for all groups."""
        weights = weights[:, self.order]
        positives, negatives = weights * self.positive, weights * ~self.positive
        mask = self.mask.astype(np.float64)
        below = _below(negatives, self.score)
        above = positives.sum(1, keepdims=True) - _below(positives, self.score)
        inside = np.stack([self._inside(positives, negatives, g) for g in range(mask.shape[1])], 1)
        ours = (positives @ mask, negatives @ mask)
        rest = (positives.sum(1, keepdims=True) - ours[0], negatives.sum(1, keepdims=True) - ours[1])
        pairs = (inside, (negatives * above) @ mask - inside, (positives * below) @ mask - inside)
        of = (ours[0] * ours[1], rest[0] * ours[1], ours[0] * rest[1])
        return np.stack([divided(*both) for both in zip(pairs, of, strict=True)])

    def _inside(self, positives: np.ndarray, negatives: np.ndarray, group: int) -> np.ndarray:
        """(B,) pairs of a group's own rows that stand in the right order."""
        own = np.flatnonzero(self.mask[:, group])
        return (positives[:, own] * _below(negatives[:, own], self.score[own])).sum(1)


def ranked(score: np.ndarray, positive: np.ndarray, mask: np.ndarray) -> Ranked:
    """`score` (K,), `positive` (K,) and `mask` (K, G) in any order of rows."""
    order = np.argsort(score, kind="stable")
    return Ranked(order, score[order], positive[order].astype(bool), mask[order])


def _below(weights: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(B, K) the weight of all rows with a lower score, and half of those with the same. `score` (K,) rises."""
    sums = np.zeros((len(weights), len(score) + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    start, end = (np.searchsorted(score, score, side) for side in ("left", "right"))
    return (sums[:, start] + sums[:, end]) / 2


def divided(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    """NaN of nothing."""
    return np.divide(hits, of, out=np.full(np.broadcast(hits, of).shape, np.nan), where=of > 0)


def power_mean(areas: np.ndarray, power: float = -5.0) -> np.ndarray:
    """(...,) of areas (..., G): a mean that the worst groups rule, (mean of area ** power) ** (1 / power).

    It is not in the paper: it comes from the competition that its authors held with the same areas (Jigsaw Unintended
    Bias in Toxicity Classification, Kaggle 2019), where the power is -5."""
    return (np.maximum(areas, 1e-9) ** power).mean(-1) ** (1 / power)


def redrawn(rows: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks (b, rows) of how often each row is drawn, with replacement and as many as there are."""
    most = max(1, BLOCK // rows)
    for start in range(0, draws, most):
        size = min(most, draws - start)
        places = rng.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(places.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
