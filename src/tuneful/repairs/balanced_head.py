"""The last layer learned anew from rows in which every label comes as often in every group, on vectors that stay as
they are: what a model knows is mostly there, and a head that learned a shortcut beside it can be replaced.

Deep feature reweighting of Kirichenko, Izmailov and Wilson 2023, "Last layer re-training is sufficient for robustness
to spurious correlations" (arXiv:2204.02937, section 4): columns at unit variance, the smallest cell decides how many
rows are drawn of each, logistic regression, weights averaged over several such draws. Differs from the paper: the
penalty is of squares (theirs of absolute values), and its strength is chosen by cross-validation over the rows at hand,
so nothing has to be held back for it; rows that the body has not learned do better, as the paper's own did.

Shapes: N rows, D width, C classes. A cell is a label in a group.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tuneful.data.folds import folds
from tuneful.models.probe import Probe, fit_probe, right
from tuneful.repairs.cells import cells_of, even

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the losses beside the penalty, as C of scikit-learn
FOLDS = 5
DRAWS = 10


@dataclass(frozen=True, slots=True)
class SolvedHead:
    """The head, for vectors as they are, and how it came about."""

    probe: Probe  # weight (C, D), bias (C,)
    strength: float
    worst: float  # share of right answers in the worst cell, each row asked of a head that did not learn it; of a body
    # that learned these rows, and the best of five strengths, so more than rows that are new will show
    rows: int  # of each cell in a draw


def fit_balanced_head(
    vectors_ND: Tensor,
    labels_N: Tensor,
    groups_N: Tensor,
    *,
    classes: int,
    seed: int = 0,
    units: Sequence[Hashable] | None = None,
) -> SolvedHead:
    """Labels 0..C-1 and group ids; rows with -1 for either are left out. Rows of one of the `units` (N,) are asked
    about together. Raises DataError where a cell has fewer than `cells.LEAST` rows, or there is but one group."""
    known = (labels_N >= 0) & (groups_N >= 0)
    vectors, labels = vectors_ND[known].float(), labels_N[known].long()
    cells = cells_of(labels, groups_N[known], classes)
    mean, scale = vectors.mean(0), vectors.std(0, unbiased=False)
    scale = torch.where(scale > 1e-6 * scale.max(), scale, 1.0)  # a column without variance says nothing
    vectors = (vectors - mean) / scale
    kept = None if units is None else [unit for unit, is_known in zip(units, known.tolist(), strict=True) if is_known]
    strength, worst = _best_strength(vectors, labels, cells, folds(cells.tolist(), FOLDS, seed, kept), seed, classes)
    rng = np.random.default_rng([seed, 1])
    probes: list[Probe] = []
    for drawn in (even(cells, rng) for _ in range(DRAWS)):
        start = probes[-1] if probes else None
        probes.append(fit_probe(vectors[drawn], labels[drawn], strength, start, classes=classes))
    weight = torch.stack([probe.weight for probe in probes]).mean(0) / scale
    bias = torch.stack([probe.bias for probe in probes]).mean(0) - weight @ mean
    return SolvedHead(Probe(weight, bias), strength, worst, int(np.bincount(cells).min()))


def cell_accuracies(logits_NC: Tensor, labels_N: Tensor, cells_N: np.ndarray) -> np.ndarray:
    """Share of right answers in each cell there is, in the order of their ids."""
    found = right(logits_NC, labels_N).cpu().numpy()
    return np.array([found[cells_N == cell].mean() for cell in np.unique(cells_N)])


def _best_strength(
    vectors: Tensor, labels: Tensor, cells: np.ndarray, parts: np.ndarray, seed: int, classes: int
) -> tuple[float, float]:
    """The one to take, and the share of its worst cell. All held rows are asked about; those that are learned are
    drawn evenly."""
    rng = np.random.default_rng([seed, 0])
    logits = {strength: vectors.new_zeros(len(vectors), classes) for strength in STRENGTHS}
    for part in np.unique(parts):
        others, held = np.flatnonzero(parts != part), torch.from_numpy(parts == part)
        drawn, probe = torch.from_numpy(others)[even(cells[others], rng)], None
        for strength in STRENGTHS:
            probe = fit_probe(vectors[drawn], labels[drawn], strength, probe, classes=classes)
            logits[strength][held] = probe.logits(vectors[held])
    shares = {strength: cell_accuracies(found, labels, cells) for strength, found in logits.items()}
    best = best_of(shares)
    return best, float(shares[best].min())


def best_of(shares: Mapping[float, np.ndarray]) -> float:
    """The strength whose worst cell is best; of equals that with the best mean of cells, then the stronger penalty."""
    return max(sorted(shares), key=lambda strength: (shares[strength].min(), shares[strength].mean()))
