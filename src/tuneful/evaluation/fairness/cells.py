"""Rows that are alike in group, truth and answer, counted once: a bootstrap of rows is then one draw a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.evaluation.fairness.answers import Rate
from tuneful.evaluation.fairness.ranking import divided


@dataclass(frozen=True, slots=True)
class Cells:
    """What D kinds of rows there are and how many of each; `said` holds the answers of one system or of several on the
    same rows."""

    mask: np.ndarray  # (D, G) 1.0 where it is of the group
    truth: np.ndarray  # (D,)
    said: tuple[np.ndarray, ...]  # each (D,)
    counts: np.ndarray  # (D,)

    def draws(self, times: int, rng: np.random.Generator) -> np.ndarray:
        """(B, D) how often each cell is drawn where rows are drawn with replacement: the same law as drawing rows one
        by one, for all that is asked of rows is their cell."""
        rows = int(self.counts.sum())
        return rng.multinomial(rows, self.counts / rows, size=times).astype(np.float64)

    def sums(self, rate: Rate, counts: np.ndarray, system: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(..., G) rows of each group that answer so, and those that count. `counts` (..., D)."""
        hits = rate.hits(self.truth, self.said[system])
        among = rate.among(self.truth)
        return counts[..., hits] @ self.mask[hits], counts[..., among] @ self.mask[among]

    def rates(self, rate: Rate, counts: np.ndarray, system: int = 0) -> np.ndarray:
        """(..., G), NaN where no row counts."""
        return divided(*self.sums(rate, counts, system))


def cells(mask: np.ndarray, truth: np.ndarray, said: Sequence[np.ndarray]) -> Cells:
    """`mask` (K, G), `truth` and each of `said` (K,)."""
    found, counts = np.unique(np.column_stack([mask, truth, *said]).astype(np.int64), axis=0, return_counts=True)
    groups = mask.shape[1]
    answered = tuple(found[:, groups + 1 + n] for n in range(len(said)))
    return Cells(found[:, :groups].astype(np.float64), found[:, groups], answered, counts)
