"""Validation and test of classes that are never learned: whole classes are held out, not rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Example
from tuneful.data.duplicates import clusters, said_in
from tuneful.data.labels import LabelSet, label_set, name_of
from tuneful.data.splits import Split, without_leaks

LEAST = 2  # classes of any part, or nothing in it can be told apart


def split_classes(given: Mapping[str, Sequence[Example]], *, validation: float, test: float, seed: int) -> Split:
    """`validation` and `test` are shares of the training rows' classes, or how many classes from 1 on, used where
    `given` has no such rows; 0 holds none out. Raises DataError when too few classes are left, or where classes of a
    part that is given are learned as well."""
    train = list(given.get("train", ()))
    held = {part: list(given.get(part, ())) for part in ("validation", "test")}
    _refuse_unfit(train, held)
    classes = _several(train)
    order = np.random.default_rng([seed, len(classes)]).permutation(len(classes)).tolist()
    names = [classes[place] for place in order]
    for part, size in {"test": test, "validation": validation}.items():
        if not held[part] and size > 0:
            wanted = int(size) if size >= 1 else max(LEAST, round(size * len(classes)))
            if wanted < LEAST or len(names) - wanted < LEAST:
                raise _too_few(len(classes), part, wanted)
            taken, names = set(names[:wanted]), names[wanted:]
            held[part] = [example for example in train if name_of(example.label) in taken]
            train = [example for example in train if name_of(example.label) not in taken]
    train, leaked = without_leaks(train, held)
    if len(_several(train)) < LEAST:
        raise DataError(
            "fewer than two classes with several different rows are left to learn from, and a class is told apart from "
            "others by other rows; give more rows and classes, or --set data.test=0 --set data.validation=0"
        )
    duplicates = len(train) - len(set(clusters([said_in(example) for example in train])))
    return Split(train, held["validation"], held["test"], leaked, duplicates)


def identities(split: Split) -> LabelSet:
    """Every class of every part, so that each row can say which is its own. Raises DataError."""
    return label_set([*split.train, *split.validation, *split.test], "class")


def _several(examples: Sequence[Example]) -> list[str]:
    """The classes that have a row to be known by and another, which says something else, to be asked about."""
    said: dict[str, set[str]] = {}
    for example in examples:
        said.setdefault(name_of(example.label), set()).add(said_in(example))
    return sorted(name for name, texts in said.items() if len(texts) > 1)


def _refuse_unfit(train: Sequence[Example], held: Mapping[str, Sequence[Example]]) -> None:
    learned = {name_of(example.label) for example in train}
    for part, examples in held.items():
        if both := sorted({name_of(example.label) for example in examples} & learned):
            raise DataError(
                f"{len(both)} classes of the {part} rows are in the training rows too, the first: '{both[0]}'. What is "
                f"measured here are classes that were never learned: give a {part} file of other classes, or none, and "
                "whole classes are held out"
            )
        if examples and len(_several(examples)) < LEAST:
            raise DataError(
                f"fewer than two classes of the {part} rows have several different rows, so none can be told apart by "
                f"one and asked about by another; give a {part} file of more, or none"
            )


def _too_few(classes: int, part: str, wanted: int) -> DataError:
    if wanted < LEAST:
        return DataError(f"data.{part} asks for {wanted} class, and one is told apart from another: ask for more, or 0")
    return DataError(
        f"the training rows have {classes} classes of several rows; {wanted} of them for {part} would leave fewer than "
        f"two to learn from. Give rows of more classes, or --set data.test=0 --set data.validation=0"
    )
