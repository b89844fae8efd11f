"""What a probe asks a language model, and the numbers that come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tuneful.core.types import Place

Pair = tuple[str, str]  # what the model has read, and what is then asked about: (prompt, continuation)


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a probe: several texts that are held against one another. Of each only the continuation counts;
    an empty prompt means that all of the text counts."""

    key: str  # tells items of one probe apart, the same in every run
    group: str  # the bias type, or whatever the finding is broken down by
    texts: tuple[Pair, ...]
    part: str = ""  # a second division that a sample keeps the shares of: "ambig", "disambig"
    facts: Mapping[str, str] = field(default_factory=dict)
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What one item adds to a score."""

    key: str
    group: str
    numbers: Mapping[str, float]
    target: str = ""  # the term it is about, where scores are averaged over terms


def sample(items: Sequence[Item], rows: int, seed: int) -> list[Item]:
    """At most `rows` of them in their own order, drawn from each (group, part) in proportion to its size (largest
    remainders), so that the score of the sample estimates that of the whole."""
    if len(items) <= rows:
        return list(items)
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        strata[item.group, item.part].append(number)
    ordered = [strata[name] for name in sorted(strata)]
    rng = np.random.default_rng(seed)
    chosen = [
        number
        for members, count in zip(ordered, _shares([len(members) for members in ordered], rows), strict=True)
        for number in rng.choice(members, count, replace=False).tolist()
    ]
    return [items[number] for number in sorted(chosen)]


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to `sizes` that add up to `total`."""
    wanted = np.asarray(sizes) * total / sum(sizes)
    found = np.floor(wanted).astype(int)
    found[np.argsort(found - wanted, kind="stable")[: total - int(found.sum())]] += 1
    return found.tolist()
