"""Training, validation and test rows: seeded, stratified by label, and no near-duplicate on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Dropped, Example
from tuneful.data.duplicates import clusters, said_in, whole
from tuneful.data.labels import name_of

MOST = {"validation": 500, "test": 1000}  # rows; more make the numbers hardly surer and the run longer


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a task by what they are for."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    leaked: list[Dropped]  # training rows taken out because a test or validation row says the same
    duplicates: int  # training rows that nearly repeat another


def split(
    given: Mapping[str, Sequence[Example]], *, validation: float, test: float, seed: int, labelled: bool
) -> Split:
    """`validation` and `test` are shares of the training rows, or counts from 1 on, used where `given` has no such
    rows; 0 makes none. Raises DataError when too few rows are left to learn from."""
    train = list(given.get("train", ()))
    held = {part: list(given.get(part, ())) for part in ("validation", "test")}
    train, leaked = without_leaks(train, held)
    rows = len(train)
    for number, (part, size) in enumerate({"test": test, "validation": validation}.items()):
        if not held[part] and size > 0:
            wanted = int(size) if size >= 1 else min(MOST[part], max(1, round(size * rows)))
            if size >= 1 and wanted > len(train) - 1:
                raise DataError(f"data.{part} asks for {wanted} rows and there are {len(train)}")
            held[part], train = _take(train, wanted, seed + number, labelled)
    train, more = without_leaks(train, held)
    leaked += more
    if not train and leaked:
        raise DataError(
            f"every training row says the same as a row held out, the first: {leaked[0].place} {leaked[0].reason}"
        )
    if not train:
        raise DataError("no rows are left to learn from; give more rows, or --set data.test=0 --set data.validation=0")
    duplicates = len(train) - len(set(clusters([whole(example) for example in train])))
    return Split(train, held["validation"], held["test"], leaked, duplicates)


def _take(examples: list[Example], wanted: int, seed: int, labelled: bool) -> tuple[list[Example], list[Example]]:
    """Takes whole clusters, class by class, until the part is large enough; what is taken, and the rest."""
    wanted = max(0, min(wanted, len(examples) - 2))
    units: dict[str, list[list[int]]] = defaultdict(list)
    for members in _units(examples).values():
        label = examples[members[0]].label
        units[name_of(label) if labelled and not isinstance(label, list | tuple) else ""].append(members)
    rng = np.random.default_rng([seed, len(examples)])
    taken: set[int] = set()
    for label in sorted(units):
        taken |= _share_of(units[label], wanted / len(examples), rng)
    chosen = [example for index, example in enumerate(examples) if index in taken]
    return chosen, [example for index, example in enumerate(examples) if index not in taken]


def _share_of(units: list[list[int]], share: float, rng: np.random.Generator) -> set[int]:
    """A share of one class; what a class cannot give in whole rows is drawn by lot, so the total comes out."""
    rows = sum(map(len, units))
    exact = share * rows
    quota = int(exact) + (1 if rng.random() < exact - int(exact) else 0)
    quota = min(quota, rows - 1)  # one row of every class is left to learn from
    taken: set[int] = set()
    for index in rng.permutation(len(units)):
        if len(taken) + len(units[index]) <= quota:
            taken |= set(units[index])
    if quota and not taken:  # every unit is larger than what is wanted
        smallest = min(units, key=len)
        taken = set(smallest) if len(smallest) < rows else set()
    return taken


def _units(examples: Sequence[Example]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, unit in enumerate(units_of(examples)):
        found[unit].append(index)
    return found


def units_of(examples: Sequence[Example]) -> list[Hashable]:
    """(N,) which rows must stay together: those of one named cluster, and near-duplicates."""
    near = clusters([said_in(example) for example in examples])
    home: dict[int, Hashable] = {}
    for cluster, example in zip(near, examples, strict=True):
        if example.cluster is not None:
            home.setdefault(cluster, f"cluster {example.cluster}")
    return [
        home.get(cluster, cluster) if example.cluster is None else f"cluster {example.cluster}"
        for cluster, example in zip(near, examples, strict=True)
    ]


def without_leaks(train: list[Example], held: Mapping[str, Sequence[Example]]) -> tuple[list[Example], list[Dropped]]:
    """Training rows that nearly repeat a held-out row would make the test too easy."""
    outside = [(part, example) for part, examples in held.items() for example in examples]
    near = clusters([said_in(example) for _, example in outside] + [said_in(example) for example in train])
    where = dict(zip(near, outside, strict=False))
    kept: list[Example] = []
    leaked: list[Dropped] = []
    for example, cluster in zip(train, near[len(outside) :], strict=True):
        if cluster in where:
            part, other = where[cluster]
            leaked.append(Dropped(example.place, f"says the same as {other.place}, which is for {part}"))
        else:
            kept.append(example)
    return kept, leaked
