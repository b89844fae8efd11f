"""Some rows of each class stay, whatever a selector likes best: a class without a row is never answered."""

from __future__ import annotations

import numpy as np

from tuneful.core.errors import DataError
from tuneful.data.select import Pool, Select

LEAST = 4  # rows of a class; with fewer hardly anything is learned of it, nor can be said


def of_each_class(selector: Select, pool: Pool, chosen: np.ndarray, classes_N: np.ndarray, seed: int) -> np.ndarray:
    """(count,) the `chosen` places, of which the last ones of large classes are given up for what the selector likes
    best of classes that have fewer than LEAST among them, or fewer than there is room for. `classes_N` are those of the
    pool. Raises DataError where there are more classes than rows to be kept."""
    names, classes_N = np.unique(classes_N, return_inverse=True)
    if len(names) > len(chosen):
        raise DataError(
            f"data.select.keep: {len(chosen):,} rows cannot hold one of each of {len(names):,} classes, and a class "
            "without a row is never answered; keep more, or say which rows are wanted (kind: rds, with target)"
        )
    wanted = np.minimum(np.bincount(classes_N), min(LEAST, len(chosen) // len(names)))
    having = np.bincount(classes_N[chosen], minlength=len(names))
    added: list[np.ndarray] = []
    for name in np.flatnonzero(having < wanted):
        free = np.setdiff1d(np.flatnonzero(classes_N == name), chosen)
        added.append(free[selector.choose(pool.part(free), int(wanted[name] - having[name]), seed)])
    if not added:
        return chosen
    new = np.concatenate(added)
    return np.concatenate([_without(chosen, classes_N, having - wanted, len(new)), new])


def _without(chosen: np.ndarray, classes_N: np.ndarray, spare_C: np.ndarray, count: int) -> np.ndarray:
    """The chosen places less `count` of the last ones of classes that can spare them."""
    spare, kept = spare_C.copy(), []
    for place in chosen[::-1].tolist():
        if count and spare[classes_N[place]] > 0:
            spare[classes_N[place]] -= 1
            count -= 1
        else:
            kept.append(place)
    return np.array(kept[::-1], dtype=np.int64)
