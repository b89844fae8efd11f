"""Means of groups: how far they lie apart, and how far they would if the group did not matter.

An item is of one group, or says something of each of them; rows are (N, 2 G), the values of an item, 0 where it says
nothing of a group, and beside them 1 where it says something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.evaluation.probes.findings import ratio
from tuneful.evaluation.probes.intervals import BLOCK, SHUFFLES, shuffled_means
from tuneful.evaluation.probes.items import Measured


def rows_of(groups: Sequence[str]) -> Callable[[Sequence[Measured]], np.ndarray]:
    def rows(measured: Sequence[Measured]) -> np.ndarray:
        values = [[one.numbers.get(name, 0.0) for name in groups] for one in measured]
        there = [[float(name in one.numbers) for name in groups] for one in measured]
        return np.concatenate([np.array(values), np.array(there)], axis=1)

    return rows


def means(sums: np.ndarray) -> np.ndarray:
    """(..., G) from sums of rows; NaN for a group without any."""
    values, there = np.split(sums, 2, axis=-1)
    return ratio(values, there)


def spread(sums: np.ndarray) -> np.ndarray:
    """The highest mean less the lowest, of the groups that have one."""
    found = means(sums)
    none = np.isnan(found)
    widest: np.ndarray = np.where(none, -np.inf, found).max(-1) - np.where(none, np.inf, found).min(-1)
    return np.where(np.isfinite(widest), widest, np.nan)


@dataclass(frozen=True, slots=True)
class Shuffled:
    """What groups would show if values were dealt to them by lot: within items where all say something of every
    group, else over all items."""

    found: np.ndarray  # (G,) the means as they are
    counts: np.ndarray  # (G,)
    drawn: np.ndarray  # (SHUFFLES, G)

    @staticmethod
    def of(rows_NK: np.ndarray, seed: int) -> Shuffled:
        values, there = np.split(rows_NK, 2, axis=1)
        paired = bool(there.all())
        drawn = shuffled_means(values, seed) if paired else _dealt(values, there > 0, seed)
        return Shuffled(means(rows_NK.sum(0)), there.sum(0), drawn)

    @property
    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        """How far means lie from that of all values, which shuffling leaves as it is."""
        middle = float(self.found @ self.counts) / float(self.counts.sum())
        return self.found - middle, self.drawn - middle

    @property
    def by_chance(self) -> float:
        """The mean spread."""
        return float((self.drawn.max(1) - self.drawn.min(1)).mean())

    def p(self) -> float:
        """That groups do not differ: their squared distances from the middle, by how many values they have."""
        ours, drawn = (apart**2 @ self.counts for apart in self._apart)
        return float(_as_far(drawn, ours))

    def p_of_groups(self) -> list[float]:
        """That a group does not lie apart from the middle."""
        ours, drawn = (np.abs(apart) for apart in self._apart)
        return [float(p) for p in _as_far(drawn, ours)]


def _as_far(drawn: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """The data themselves are one of the draws, so it is never 0."""
    found: np.ndarray = (1 + np.sum(drawn >= ours - 1e-12, axis=0)) / (len(drawn) + 1)
    return found


def _dealt(values_NG: np.ndarray, there_NG: np.ndarray, seed: int) -> np.ndarray:
    """(SHUFFLES, G) means where all values there are change places."""
    rng, groups = np.random.default_rng(seed), np.nonzero(there_NG)[1]
    flat = values_NG[there_NG]
    owns = (groups[:, None] == np.arange(there_NG.shape[1])).astype(np.float64)  # (M, G)
    drawn = [
        rng.permuted(np.broadcast_to(flat, (BLOCK, len(flat))), axis=1) @ owns / owns.sum(0)
        for _ in range(SHUFFLES // BLOCK)
    ]
    return np.concatenate(drawn)
