"""Can rows that are to be forgotten be told from rows that were never learned? By their loss, which is what an attack
on a model's training data begins with (Yeom et al. 2018, arXiv:1709.01604, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LEAST = 10  # rows of each kind, below which nothing is said
DRAWS = 1000
Losses = Sequence[float] | np.ndarray


def told_apart(forgotten: Losses, unseen: Losses) -> float:
    """Of all pairs of a forgotten row and one never seen, the share in which the forgotten one has the lower loss; a
    tie is half. 0.5: not told apart (the area under the curve of an attack with every threshold)."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    ranks = rankdata([*forgotten, *unseen])
    n, m = len(forgotten), len(unseen)
    return float(1 - (ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def membership(forgotten: Sequence[float], unseen: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """`attack`: see `told_apart`, with `low` and `high` of a 95 % interval over rows drawn again (percentiles), None
    where rows are too few; and the mean losses in nats."""
    found: dict[str, Any] = {"loss": float(np.mean(forgotten))}
    if unseen:
        found["unseen_loss"] = float(np.mean(unseen))
    if min(len(forgotten), len(unseen)) < LEAST:
        return found
    rng = np.random.default_rng(seed)
    ours, theirs = np.asarray(forgotten), np.asarray(unseen)
    drawn = [told_apart(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {**found, "attack": told_apart(ours, theirs), "low": float(low), "high": float(high)}
