"""Rows dealt to folds, so that each can be asked about by something that has not seen it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

MANY = 400  # rows beyond which two folds tell enough


def usual(rows: int) -> int:
    """How many folds so many rows are dealt to."""
    return 2 if rows > MANY else 3


def folds(classes: Sequence[Hashable], count: int, seed: int = 0) -> np.ndarray:
    """(N,) fold of each row. Every class is spread as evenly as it can be; one with a single row is in one fold, and
    nothing can be said of it from the others."""
    rng = np.random.default_rng([seed, count, len(classes)])
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, name in enumerate(classes):
        members[name].append(row)
    found = np.zeros(len(classes), dtype=np.int64)
    behind = 0  # classes begin where the last one ended, so folds are equal in size too
    for name in members:
        order = rng.permutation(members[name])
        found[order] = (behind + np.arange(len(order))) % count
        behind += len(order)
    return found
