"""Rows dealt to folds, so that each can be asked about by something that has not seen it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

MANY = 400  # rows beyond which two folds tell enough


def usual(rows: int) -> int:
    """How many folds so many rows are dealt to."""
    return 2 if rows > MANY else 3


def folds(
    classes: Sequence[Hashable], count: int, seed: int = 0, units: Sequence[Hashable] | None = None
) -> np.ndarray:
    """(N,) fold of each row. Every class is spread as evenly as it can be; one with a single row is in one fold, and
    nothing can be said of it from the others. Rows of one of the `units` (N,) are in one fold, as
    each would give another's answer away."""
    units = range(len(classes)) if units is None else units
    rng = np.random.default_rng([seed, count, len(classes)])
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, name in enumerate(classes):
        members[name].append(row)
    dealt: dict[Hashable, int] = {}  # one behind the other, also from class to class, so folds are equal in size too
    for name in members:
        for row in rng.permutation(members[name]):
            dealt.setdefault(units[row], len(dealt) % count)
    return np.array([dealt[unit] for unit in units], dtype=np.int64)
