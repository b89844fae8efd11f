"""Who occurs in a data set: how often each group is mentioned, which are missing, and whether labels go with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.data.identity.detect import mentioned
from tuneful.data.identity.lexicon import LANGUAGES, Group, checked, known_groups, languages_of

RARE = 10  # a group with fewer than one of so many mentions of the most frequent one is rare
ROUNDING = 1e-7  # of a chance
WIDE = 1.959963984540054  # standard errors on each side of an interval of 95 %


@dataclass(frozen=True, slots=True)
class LabelRate:
    """One label among the rows that mention one group."""

    label: str
    rows: int  # of the group and of this label
    rate: float  # among labelled rows of the group
    difference: float  # from the rate among all labelled rows
    low: float  # Wilson interval of `rate`, 95 %
    high: float
    p: float  # Fisher's exact test, both sides: label against mention
    p_adjusted: float  # Holm, over all tests of the census


@dataclass(frozen=True, slots=True)
class GroupCount:
    """The rows that mention one group; `share` is of all rows. A row may mention several."""

    rows: int
    share: float
    labels: tuple[LabelRate, ...] = ()


@dataclass(frozen=True, slots=True)
class AxisCount:
    """One axis. `missing` groups never occur, `rare` ones less than a tenth as often as the most frequent.

    `diversity` in [0, 1]: entropy of the mentions over that of a uniform spread on all groups of the axis (Pielou 1966,
    doi 10.1016/0022-5193(66)90013-0); None where no row mentions any.
    """

    rows: int
    share: float
    groups: Mapping[str, GroupCount]  # most frequent first, those that never occur left out
    missing: tuple[str, ...]
    rare: tuple[str, ...]
    diversity: float | None


@dataclass(frozen=True, slots=True)
class Census:
    """Groups by axis. Of the axes that the languages of the texts have lists for."""

    rows: int
    mentioning: int  # rows that mention anybody
    axes: Mapping[str, AxisCount]

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dictionaries only."""
        return {**asdict(self), "axes": {axis: _listed(asdict(count)) for axis, count in self.axes.items()}}


def census(
    texts: Sequence[str],
    groups: Sequence[Iterable[Group]] | None = None,
    *,
    labels: Sequence[Hashable | None] | None = None,
    axes: Sequence[str] | None = None,
    tested: int | None = None,
) -> Census:
    """Counts who is mentioned.

    `groups` are those of each text, where they are known otherwise; None: the word lists say it. With `labels` (None:
    not known; a frozenset: several of one text) each group's rate of each label is compared with that of all rows, of
    each axis for the `tested` most frequent groups (None: all). `axes` None: all. Raises DataError if lengths differ or
    an axis is not known.
    """
    _check(texts, groups=groups, labels=labels)
    wanted = axes if groups is not None else checked(axes)
    found = [
        frozenset(group for group in own if wanted is None or group.axis in wanted)
        for own in (map(mentioned, texts) if groups is None else groups)
    ]
    known = {axis: names for axis, names in _known(texts, found).items() if wanted is None or axis in wanted}
    rates = {} if labels is None else _label_rates(found, labels, tested)
    counted = {axis: _axis(axis, names, found, rates) for axis, names in known.items()}
    return Census(len(texts), sum(bool(own) for own in found), counted)


def _check(texts: Sequence[str], **others: Sequence[Any] | None) -> None:
    for noun, given in others.items():
        if given is not None and len(given) != len(texts):
            raise DataError(f"census: there are {len(given)} {noun} for {len(texts)} texts; give one for each text")


def _known(texts: Sequence[str], found: Sequence[frozenset[Group]]) -> dict[str, list[str]]:
    """Groups that could have been mentioned in the languages of the texts, and those that were."""
    seen = {language for text in texts for language in languages_of(text)}
    listed = known_groups([one for one in LANGUAGES if one in seen])
    known = {axis: dict.fromkeys(names) for axis, names in listed.items()}
    for group in sorted(frozenset[Group]().union(*found)):
        known.setdefault(group.axis, {})[group.name] = None
    return {axis: list(names) for axis, names in known.items()}


def _axis(
    axis: str, names: Sequence[str], found: Sequence[frozenset[Group]], rates: Mapping[Group, tuple[LabelRate, ...]]
) -> AxisCount:
    counts = Counter(group.name for own in found for group in own if group.axis == axis)
    most = max(counts.values(), default=0)
    mentioning = sum(any(group.axis == axis for group in own) for own in found)
    every = max(1, len(found))
    listed = {
        name: GroupCount(rows, rows / every, rates.get(Group(axis, name), ()))
        for name, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    }
    missing = tuple(name for name in names if name not in counts)
    rare = tuple(name for name, one in listed.items() if one.rows * RARE < most)
    return AxisCount(
        mentioning, mentioning / every, listed, missing, rare, diversity(list(counts.values()), len(names))
    )


def diversity(counts: Sequence[int], groups: int) -> float | None:
    """Entropy of the counts over the logarithm of the number of groups, those with no count included: 0 where one has
    all, 1 where all have as many, None where there is nothing to count."""
    if sum(counts) == 0:
        return None
    if groups < 2:
        return 0.0
    shares = np.array([count for count in counts if count]) / sum(counts)
    return float(min(1.0, max(0.0, -(shares * np.log(shares)).sum() / np.log(groups))))


def _label_rates(
    found: Sequence[frozenset[Group]], labels: Sequence[Hashable | None], tested: int | None
) -> dict[Group, tuple[LabelRate, ...]]:
    known = [(own, _names(label)) for own, label in zip(found, labels, strict=True) if label is not None]
    overall = Counter(name for _, names in known for name in names)
    own_rows = Counter(group for own, _ in known for group in own)
    both = Counter((group, name) for own, names in known for group in own for name in names)
    cells = [(group, label) for group in _most_frequent(own_rows, tested) for label in sorted(overall)]
    tables = [_table(both[cell], own_rows[cell[0]], overall[cell[1]], len(known)) for cell in cells]
    p = [exact(table) for table in tables]
    rates: dict[Group, tuple[LabelRate, ...]] = {}
    for (group, label), one, adjusted in zip(cells, p, holm(p), strict=True):
        hits, rows = both[group, label], own_rows[group]
        low, high = wilson(hits, rows)
        difference = hits / rows - overall[label] / len(known)
        rate = LabelRate(label, hits, hits / rows, difference, low, high, one, adjusted)
        rates[group] = (*rates.get(group, ()), rate)
    return rates


def _names(label: Hashable) -> frozenset[str]:
    return frozenset(map(str, label)) if isinstance(label, frozenset) else frozenset([str(label)])


def _most_frequent(rows: Mapping[Group, int], most: int | None) -> list[Group]:
    """So many of each axis. Which ones is told by their rows alone, never by their labels, so that tests of them stay
    tests."""
    by_axis: dict[str, list[Group]] = {}
    for group in sorted(rows, key=lambda one: (-rows[one], one)):
        by_axis.setdefault(group.axis, []).append(group)
    return sorted(group for groups in by_axis.values() for group in groups[:most])


def _table(both: int, own: int, label: int, every: int) -> list[list[int]]:
    """Rows with and without the mention, columns with and without the label."""
    return [[both, own - both], [label - both, every - own - label + both]]


def exact(table: Sequence[Sequence[int]]) -> float:
    """p of Fisher's exact test, both sides: the share of all tables with these margins that are no likelier than this
    one. scipy's takes a hundred times as long where rows are many, and a census makes thousands."""
    from scipy.special import gammaln  # type: ignore[import-untyped]

    (both, own), (label, neither) = table
    rows, column, every = both + own, both + label, both + own + label + neither
    low = max(0, rows + column - every)
    hits = np.arange(low, min(rows, column) + 1)
    cells = (hits, rows - hits, column - hits, every - rows - column + hits)
    chances = -sum(gammaln(cell + 1.0) for cell in cells)
    chances = np.exp(chances - chances.max())
    # Tables that are as likely by symmetry differ by rounding.
    as_rare = chances <= chances[both - low] * (1 + ROUNDING)
    return float(chances[as_rare].sum() / chances.sum())


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Interval of a share, 95 % (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    rate, z = hits / rows, WIDE
    middle = (rate + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * (rate * (1 - rate) / rows + z * z / (4 * rows * rows)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted so that over all tests one false alarm or more is as unlikely as each p says (Holm 1979)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, tuple | list) else value
