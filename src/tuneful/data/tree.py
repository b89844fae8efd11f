"""Token prefixes that several rows share, found from the ids alone and stored once.

Rows become a forest of segments: a row is the path from a root to its last segment. Segments are written parents
first and depth first, so the descendants of a segment lie right behind it, which is what packed attention asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

MIN_SHARED = 8  # tokens; a shorter common prefix costs more in extra blocks than it saves


@dataclass(slots=True)
class Forest:
    """`segments` (start, end, parent) over the packed tokens `ids`; per row its last segment and its packed places."""

    ids: list[np.ndarray] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    last: list[int] = field(default_factory=list)  # per row
    places: list[np.ndarray] = field(default_factory=list)  # per row, (T,) packed index of each of its tokens
    tokens: int = 0

    def add(self, ids: np.ndarray, first_position: int, parent: int) -> int:
        """Appends a segment; its number."""
        self.ids.append(ids)
        self.positions.append(np.arange(first_position, first_position + len(ids)))
        self.segments.append((self.tokens, self.tokens + len(ids), parent))
        self.tokens += len(ids)
        return len(self.segments) - 1

    def end(self, row: int, segment: int) -> None:
        """Row `row` ends with this segment."""
        self.last[row] = segment
        path: list[np.ndarray] = []
        while segment >= 0:
            start, end, segment = self.segments[segment]
            path.append(np.arange(start, end))
        self.places[row] = np.concatenate(path[::-1])


def plant(
    rows: Sequence[np.ndarray],
    *,
    share: bool,
    min_shared: int = MIN_SHARED,
    owners: Sequence[int] = (),
) -> Forest:
    """`rows` are token ids; `share` False keeps every row whole, in the order given. Rows share nothing with those of
    another of the `owners`, if there are any; rows of one owner stand together."""
    forest = Forest(last=[-1] * len(rows), places=[np.empty(0, dtype=np.int64)] * len(rows))
    if not share:
        for number, ids in enumerate(rows):
            forest.end(number, forest.add(ids, 0, -1))
        return forest
    for _, own in groupby(range(len(rows)), key=lambda number: owners[number] if owners else 0):
        _grow(forest, rows, sorted(own, key=lambda number: rows[number].tolist()), 0, -1, min_shared)
    return forest


def _grow(forest: Forest, rows: Sequence[np.ndarray], order: list[int], done: int, parent: int, least: int) -> None:
    """Stores what `order` (sorted rows that agree up to `done`) has in common, then each branch."""
    first, last = rows[order[0]], rows[order[-1]]
    if len(order) == 1:
        forest.end(order[0], forest.add(first[done:], done, parent) if len(first) > done else parent)
        return
    agree = _agreement(first, last)
    if agree - done >= least:
        parent = forest.add(first[done:agree], done, parent)
        done = agree
    for token, branch in groupby(
        order, key=lambda number: int(rows[number][agree]) if len(rows[number]) > agree else -1
    ):
        if token >= 0:
            _grow(forest, rows, list(branch), done, parent, least)
        else:  # these rows are over
            for number in branch:
                _grow(forest, rows, [number], done, parent, least)


def added(row: np.ndarray, before: np.ndarray | None, min_shared: int = MIN_SHARED) -> int:
    """How many tokens a row adds to those of its neighbour in token order."""
    same = 0 if before is None else _agreement(row, before)
    return len(row) - same if same >= min_shared else len(row)


def _agreement(one: np.ndarray, other: np.ndarray) -> int:
    """How many leading tokens are equal."""
    shorter = min(len(one), len(other))
    different = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(different[0]) if len(different) else shorter
