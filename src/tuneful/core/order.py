"""An order of very many things that is computed where it is asked for, not kept; and answers in the order of what was
asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Answer = TypeVar("Answer")

ROUNDS = 6
FIRST, SECOND, SHIFT = (np.uint64(number) for number in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 31))


def answered(owners: Sequence[str], answer: Callable[[str, list[int]], Sequence[Answer]]) -> list[Answer]:
    """An answer at each place, in order; `answer` is asked once for each owner, with all of its places."""
    found: dict[int, Answer] = {}
    for owner in dict.fromkeys(owners):
        own = [place for place, one in enumerate(owners) if one == owner]
        found.update(zip(own, answer(owner, own), strict=True))
    return [found[place] for place in range(len(owners))]


class Scattered:
    """A permutation of range(count) that depends on `key` alone and takes no memory.

    A Feistel network over the next even power of two; what falls outside the range is sent through again (Black and
    Rogaway 2002, "Ciphers with Arbitrary Finite Domains", cycle walking)."""

    def __init__(self, count: int, key: Sequence[int]) -> None:
        self._count = count
        self._half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.default_rng(list(key)).integers(0, 1 << 63, ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        """(stop - start,) int64"""
        return self.at(np.arange(*part.indices(self._count)))

    def at(self, places: np.ndarray) -> np.ndarray:
        """What stands at these places; the shape of `places`, int64."""
        values = self._through(places.astype(np.uint64))
        while (outside := values >= self._count).any():
            values[outside] = self._through(values[outside])
        return values.astype(np.int64)

    def _through(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return (left << self._half) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """Each bit of the result depends on every bit given (the finaliser of SplitMix64; sums wrap around)."""
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> SHIFT)
