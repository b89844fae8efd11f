"""Rows drawn by their class: so many classes, and of each so many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tuneful.core.types import Row

Group = list[Row]  # rows of one class


def by_class(rows: Iterable[Row]) -> list[Group]:
    """The rows of each class that has several, in the order of the classes' numbers. A row that stands twice in a class
    counts once, or it would be known by itself."""
    found: dict[int, dict[bytes, Row]] = {}
    for row in rows:
        if row.target is not None:
            found.setdefault(int(row.target), {}).setdefault(row.ids.tobytes(), row)
    return [list(found[number].values()) for number in sorted(found) if len(found[number]) > 1]


def drawn(groups: Sequence[Group], classes: int, rows: int, seed: Sequence[int]) -> list[Group]:
    """`rows` of each of so many `classes`, all that there are where there are fewer; the same for the same seed."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(groups))[:classes]
    return [[groups[c][r] for r in rng.permutation(len(groups[c]))[:rows]] for c in chosen]


def parted(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """Whole classes in so many parts, as equal in number as can be."""
    return [[groups[place] for place in part] for part in np.array_split(np.arange(len(groups)), parts)]
