"""How sure a score is: resampled intervals, exact and permutation tests, and Holm's correction for many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Value = Callable[[np.ndarray], np.ndarray]  # sums over items (..., K) -> scores (...), NaN where there is none
RESAMPLES = 1000
FLIPS = 10_000  # many, as Holm's correction multiplies the least p there can be
SHUFFLES = 2000
BLOCK = 250  # draws at once: bounds memory


def interval(rows_NK: np.ndarray, value: Value, seed: int) -> tuple[float, float] | None:
    """Middle 95 % of the score over items drawn with replacement (percentile bootstrap, Efron and Tibshirani 1993,
    chapter 13). Draws without a score do not count; None where most have none."""
    rng, count = np.random.default_rng(seed), len(rows_NK)
    draws = []
    for _ in range(RESAMPLES // BLOCK):
        times = rng.multinomial(count, np.full(count, 1 / count), size=BLOCK).astype(np.float64)
        draws.append(value(times @ rows_NK))
    found = np.concatenate(draws)
    found = found[~np.isnan(found)]
    if 2 * len(found) <= RESAMPLES:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def halves(wins: float, losses: float) -> float | None:
    """Two-sided exact binomial p that either side is as likely; undecided items are left out. None: all are."""
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    decided = round(wins + losses)
    return float(binomtest(round(wins), decided, 0.5).pvalue) if decided else None


def flipped(values_N: np.ndarray, seed: int) -> float:
    """Two-sided p that the mean is 0, by flipping signs at random; the data themselves are one of the draws, so it is
    never 0."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(values_N)))
    drawn = np.abs(signs @ values_N)
    return float((1 + np.sum(drawn >= abs(values_N.sum()) - 1e-12)) / (FLIPS + 1))


def shuffled(values_NG: np.ndarray, seed: int) -> float:
    """p that the columns do not differ at all: the variance of the column means, held against that of shuffled ones."""
    drawn = shuffled_means(values_NG, seed).var(1)
    return float((1 + np.sum(drawn >= values_NG.mean(0).var() - 1e-12)) / (SHUFFLES + 1))


def shuffled_means(values_NG: np.ndarray, seed: int) -> np.ndarray:
    """(SHUFFLES, G) column means where within each row values change places at random."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(SHUFFLES // BLOCK):
        drawn.append(rng.permuted(np.broadcast_to(values_NG, (BLOCK, *values_NG.shape)), axis=2).mean(1))
    return np.concatenate(drawn)


def holm(chances: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values (Holm 1979): the k-th smallest of m times m - k + 1, never below the one before it, at most 1.
    None is no test and does not count."""
    known = sorted((p, place) for place, p in enumerate(chances) if p is not None)
    found: list[float | None] = [None] * len(chances)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        found[place] = least
    return found


def above_chance(right: float, count: int, chance: float) -> bool:
    """Whether a share of `count` answers lies more than 3 standard errors above chance."""
    return count > 0 and right > chance + 3 * float(np.sqrt(chance * (1 - chance) / count))
