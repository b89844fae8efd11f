"""What would a gap between groups be if the group did not matter? Groups are dealt anew to the same answers.

Permutation test (Fisher 1935; p as (1 + as extreme) / (1 + dealt), Phipson and Smyth 2010, arXiv:1603.05766). The mean
of what was dealt is what chance alone shows: the largest of many differences is never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.evaluation.fairness.answers import Rate
from tuneful.evaluation.fairness.ranking import BLOCK, Ranked

Reduced = Callable[[Sequence[np.ndarray]], np.ndarray]  # rates, each (T, G), become (T,) gaps
SLACK = 1e-9  # by which equal sums of floats may differ


@dataclass(frozen=True, slots=True)
class Chance:
    mean: float
    p: float


def chance(found: float, dealt: np.ndarray, *, high: bool) -> Chance:
    """`dealt` (T,) values where the group does not matter; `high`: large ones are extreme, or else small ones."""
    extreme = dealt >= found - SLACK if high else dealt <= found + SLACK
    return Chance(float(dealt.mean()), float((1 + extreme.sum()) / (1 + len(dealt))))


def dealt(strata: np.ndarray, times: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks (t, K) of places in a random order that leaves every row among those of its stratum. `strata` (K,)."""
    most = max(1, BLOCK // len(strata))
    places = [np.flatnonzero(strata == stratum).astype(np.int32) for stratum in np.unique(strata)]
    for start in range(0, times, most):
        size = min(most, times - start)
        order = np.empty((size, len(strata)), dtype=np.int32)
        for own in places:
            order[:, own] = rng.permuted(np.broadcast_to(own, (size, len(own))), axis=1)
        yield order


def dealt_rates(
    rates: Sequence[tuple[Rate, np.ndarray]], truth: np.ndarray, said: np.ndarray, mask: np.ndarray,
    order: np.ndarray, reduced: Reduced,
) -> np.ndarray:  # fmt: skip
    """(t,) gaps where answers go, with their truth, to the groups of other rows. `rates` come with the groups (places
    in mask (K, G)) that each is measured of; `order` (t, K) from `dealt`: within classes for rates among one class, so
    that as many rows of a group count as before."""
    found = []
    for rate, groups in rates:
        ours = mask[:, groups].astype(np.float32)  # sums of ones: exact up to 16 million rows
        hits = rate.hits(truth, said).astype(np.float32)[order] @ ours
        found.append(hits / (rate.among(truth).astype(np.float64) @ ours))
    return reduced(found)


def dealt_bpsn(ranks: Ranked, groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(t, G) BPSN areas of `groups` where groups are dealt among the negative rows and the positive rows keep theirs.
    `order` (t, N) of the N negative rows, in the order of their score."""
    negative = np.flatnonzero(~ranks.positive)
    found = []
    for group in groups:
        background = ranks.positive & ~ranks.mask[:, group]
        above = _share_above(background, ranks.score, negative)
        ours = ranks.mask[negative, group].astype(np.float64)
        found.append(above[order] @ ours / ours.sum())
    return np.stack(found, 1)


def _share_above(counted: np.ndarray, score: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N,) of the counted rows, the share that has a higher score than the row at each place, equal ones half."""
    own = score[counted]
    low, high = (np.searchsorted(own, score[places], side) for side in ("left", "right"))
    return 1 - (low + high) / (2 * len(own))
