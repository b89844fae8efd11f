"""Linear heads over what an encoder makes of rows: the vectors, and the best head there is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.folds import folds
from tuneful.evaluation.reading import Collate, embeddings
from tuneful.models.probe import STRENGTHS, Probe, best_strength, fit_probe, out_of_fold

FOLDS = 5  # by which the strength of a penalty is chosen


def vectors(policy: Policy, rows: Sequence[Row], collate: Collate, *, original: bool = False) -> Tensor:
    """(N, D) of unit length, as the policy reads the rows now, or read them before tuning."""
    return torch.from_numpy(embeddings(policy, rows, collate, original=original)).float()


def targets(rows: Sequence[Row]) -> Tensor:
    """(N,) classes or (N, C) memberships."""
    return torch.from_numpy(np.asarray([row.target for row in rows]))


def solved(
    vectors_ND: Tensor, targets_N: Tensor, count: int, seed: int, units: Sequence[Hashable] | None = None
) -> Probe:
    """The best linear head there is, the strength of its penalty chosen by cross-validation, in which rows of one of
    the `units` (N,) stay together."""
    return fit_probe(vectors_ND, targets_N, strength_of(vectors_ND, targets_N, count, seed, units), classes=count)


def strength_of(
    vectors_ND: Tensor, targets_N: Tensor, count: int, seed: int, units: Sequence[Hashable] | None = None,
    extra: Callable[[Tensor], tuple[Tensor, Tensor] | None] = lambda _: None,
) -> float:  # fmt: skip
    """The penalty's. `extra` as in `out_of_fold`."""
    parts = folds([str(target) for target in targets_N.tolist()], FOLDS, seed, units)
    found = out_of_fold(vectors_ND, targets_N, parts, STRENGTHS, classes=count, extra=extra)
    return best_strength(found, targets_N)
