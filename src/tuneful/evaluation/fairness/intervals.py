"""How sure is a rate, and does it differ from that of the rest?"""

from __future__ import annotations

import numpy as np

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
SURE = 0.05  # p below which something is off what chance gives
Pair = tuple[float, float]


def wilson(hits: float, n: float) -> Pair:
    """95 % interval of a share (Wilson 1927)."""
    share, weight = hits / n, Z**2 / n
    middle = (share + weight / 2) / (1 + weight)
    half = Z * np.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def percentile(draws: np.ndarray) -> Pair:
    """The middle 95 % (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def padded(share: np.ndarray, n: np.ndarray, draws: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws (B, G) of shares (G,) that vary no less than if two rows more had it and two had not (Agresti and Coull
    1998): a bootstrap of rows that all agree does not vary at all, and yet the next row may not agree. `noise` (B, G)
    is standard normal, the same for systems that are compared, so that it does not tell them apart."""
    moved = (share * n + 2) / (n + 4)
    missing = moved * (1 - moved) / (n + 4) - draws.var(0)
    return draws + noise * np.sqrt(np.maximum(missing, 0))


def differs(hits: np.ndarray, n: np.ndarray, all_hits: int, all_n: int) -> np.ndarray:
    """(G,) two-sided p that a share of a group is that of all other rows: two proportions, pooled (z), or Fisher's
    exact test where a cell would be expected to hold fewer than 5 rows. NaN where one side has no row."""
    from scipy.stats import fisher_exact, norm  # type: ignore[import-untyped]

    rest_hits, rest, found = all_hits - hits, all_n - n, np.full(len(n), np.nan)
    for g in np.flatnonzero((n > 0) & (rest > 0)):
        share = all_hits / all_n
        if min(n[g], rest[g]) * min(share, 1 - share) < 5:
            table = [[hits[g], n[g] - hits[g]], [rest_hits[g], rest[g] - rest_hits[g]]]
            found[g] = fisher_exact(np.round(table).astype(int))[1]
        else:
            spread = np.sqrt(share * (1 - share) * (1 / n[g] + 1 / rest[g]))
            found[g] = 2 * norm.sf(abs(hits[g] / n[g] - rest_hits[g] / rest[g]) / spread)
    return found


def holm(p: np.ndarray) -> np.ndarray:
    """p values so adjusted that one wrong "differs" among all of them stays as rare as wanted (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
