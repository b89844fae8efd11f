"""Rows that say nearly the same: found by MinHash over character shingles, confirmed by exact Jaccard similarity.

Broder 1997, "On the resemblance and containment of documents"; banding after Leskovec et al., "Mining of Massive
Datasets", chapter 3.4. Linear in the number of rows, works for any script.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tuneful.core.types import Example

SHINGLE = 5  # characters
HASHES, BANDS = 64, 16
NEAREST = 50  # members of a bucket that one is compared with
FEW, POLLED, COMMON = 8, 2000, 0.8  # rows from which shingles that this share of a sample have are left out
SIMILAR = 0.85  # Jaccard similarity of shingles from which two rows count as one
PRIME = np.uint64((1 << 61) - 1)


def said_in(example: Example) -> str:
    """What two rows are compared by: everything that is not the answer, or the whole of a plain text."""
    if example.messages:
        learned = [message.content for message in example.messages if not message.learned and message.role != "system"]
        return "\n".join(learned or [message.content for message in example.messages])
    return "\n".join(part for part in (example.text, example.second) if part)


def alike(example: Example) -> str:
    """The same of rows that say the same, but for case, width and punctuation."""
    return normal(said_in(example))


def whole(example: Example) -> str:
    """What a row says in full, for data in which one question may have several answers."""
    return "\n".join([said_in(example), *([example.positive] if example.positive is not None else [])])


def clusters(texts: Sequence[str], similar: float = SIMILAR) -> list[int]:
    """For each text the number of its cluster, which is that of its first member; near-duplicates share one."""
    first: dict[str, int] = {}
    leader = [first.setdefault(normal(text), index) for index, text in enumerate(texts)]
    shingles = _telling({index: _shingles(text) for text, index in first.items()})

    def root(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for one, other in _candidates(shingles):
        low, high = sorted((root(one), root(other)))
        if low != high and _jaccard(shingles[one], shingles[other]) >= similar:
            leader[high] = low
    return [root(index) for index in range(len(texts))]


def _telling(shingles: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Without what nearly every row says: a common instruction does not make different requests alike."""
    if len(shingles) < FEW:
        return shingles
    order = np.random.default_rng(0).permutation(list(shingles))[:POLLED]
    values, counts = np.unique(np.concatenate([shingles[index] for index in order]), return_counts=True)
    common = values[counts > COMMON * len(order)]
    kept = {index: np.setdiff1d(found, common, assume_unique=True) for index, found in shingles.items()}
    return {index: kept[index] if len(kept[index]) else shingles[index] for index in shingles}


def mark(text: str) -> str:
    """Stands for a text, and for no other but by a chance of one in four billion, where its words need not be known."""
    return hashlib.blake2b(normal(text).encode(), digest_size=4).hexdigest()


def normal(text: str) -> str:
    """Case, width, accents of punctuation and spaces do not make a different row."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum()) or folded.strip()


def _shingles(text: str) -> np.ndarray:
    """The set of hashes of all runs of SHINGLE characters, sorted."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if not len(codes):
        return np.zeros(1, dtype=np.uint64)
    return _roll(codes, min(SHINGLE, len(codes)))


def _roll(codes: np.ndarray, width: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(codes, width)
    powers = np.uint64(1000003) ** np.arange(width, dtype=np.uint64)
    return np.unique((windows * powers).sum(-1, dtype=np.uint64) & np.uint64(0xFFFFFFFF))


def _candidates(shingles: Mapping[int, np.ndarray]) -> Iterable[tuple[int, int]]:
    """Pairs that agree on one band of their signatures, each once."""
    rng = np.random.default_rng(0)
    slope = rng.integers(1, 1 << 29, HASHES, dtype=np.uint64)
    shift = rng.integers(0, 1 << 29, HASHES, dtype=np.uint64)
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for index, values in shingles.items():
        signature = ((values[:, None] * slope + shift) % PRIME).min(0).reshape(BANDS, -1)
        for band, part in zip(buckets, signature, strict=True):
            band[part.tobytes()].append(index)
    seen: set[tuple[int, int]] = set()
    for band in buckets:
        for members in band.values():
            for place, one in enumerate(members):
                # A crowded bucket says little; each member is compared with the next few only.
                for other in members[place + 1 : place + 1 + NEAREST]:
                    if (one, other) not in seen:
                        seen.add((one, other))
                        yield one, other


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
