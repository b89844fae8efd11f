"""Rows of which every label comes as often in every group. A cell is a label in a group."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tuneful.core.errors import DataError

# Rows (units are not counted: where one unit is a whole cell, a fold asks about it without having learned any of it) of
# every cell; twice the folds of a balanced head, so that each has some to learn and some to ask.
LEAST = 10


def cells_of(labels_N: Tensor, groups_N: Tensor, classes: int) -> np.ndarray:
    """(N,) the cell of each row, 0..G*C-1. Raises DataError."""
    names, places = groups_N.unique(return_inverse=True)
    if len(names) < 2:
        raise DataError(f"rows cannot be balanced: found {len(names)} groups, expected two or more; give the group "
                        "of each row, or leave them as they are")  # fmt: skip
    cells = (places * classes + labels_N).cpu().numpy()
    counts = np.bincount(cells, minlength=len(names) * classes)
    if counts.min() < LEAST:
        few = int(counts.argmin())
        raise DataError(f"rows cannot be balanced: found {counts[few]} rows of label {few % classes} in group "
                        f"{int(names[few // classes])}, expected at least {LEAST} of every label in every group; give "
                        "more rows, or leave that group out")  # fmt: skip
    return cells


def even(cells_N: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Places of rows, as many of each cell as the smallest has, none twice."""
    members = [np.flatnonzero(cells_N == cell) for cell in np.unique(cells_N)]
    least = min(map(len, members))
    return torch.from_numpy(np.concatenate([rng.permutation(places)[:least] for places in members]))


def spread(cells_N: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Places of at most that many rows, in their order: small cells whole, and of large ones as many of each."""
    members = sorted((np.flatnonzero(cells_N == cell) for cell in np.unique(cells_N)), key=len)
    kept, left = [], most
    for number, places in enumerate(members):
        share = min(len(places), left // (len(members) - number))
        kept.append(rng.permutation(places)[:share])
        left -= share
    return np.sort(np.concatenate(kept))
