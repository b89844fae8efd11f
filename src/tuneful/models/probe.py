"""A linear head over fixed vectors, fitted to the optimum: logistic regression with L2.

The floor of everything with few labels, and the head of whatever was tuned. Convex, so there is nothing to choose but
the strength of the penalty, and that is chosen by cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STRENGTH = 10.0  # C where nothing chooses it, for vectors of unit length
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # C among which cross-validation chooses
ITERATIONS, EXACT = 100, 1e-5


@dataclass(frozen=True, slots=True)
class Probe:
    """logits = Z W' + b"""

    weight: Tensor  # (C, D)
    bias: Tensor  # (C,)

    def logits(self, vectors_ND: Tensor) -> Tensor:
        return vectors_ND @ self.weight.T + self.bias


def fit_probe(vectors_ND: Tensor, targets: Tensor, strength: float, start: Probe | None = None, *,
              classes: int) -> Probe:  # fmt: skip
    """Minimises strength * (sum of losses) + |W|^2 / 2, which is scikit-learn's LogisticRegression with C = `strength`.
    `targets` are (N,) classes, or (N, C) float memberships, each of which is a yes or no of its own. `start` is where
    the search begins."""
    vectors, rows = vectors_ND.float(), max(1, len(vectors_ND))  # of none, all weights are 0
    weight = vectors.new_zeros(classes, vectors.shape[1]) if start is None else start.weight.clone()
    bias = vectors.new_zeros(classes) if start is None else start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, history_size=10, tolerance_grad=EXACT, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        found = losses(vectors @ weight.T + bias, targets).sum() / rows
        found = found + weight.square().sum() / (2 * strength * rows)
        found.backward()
        return found

    with torch.enable_grad():
        search.step(loss)
    return Probe(weight.detach(), bias.detach())


def averaged(learned: Probe, solved: Probe, weight: float) -> Probe:
    """One head of two: the mean of their logits, the solved one counting `weight` times, after its weights were brought
    to the size of the learned ones. What all classes share says nothing, and is left out of that size."""
    sizes = [float((probe.weight - probe.weight.mean(0)).norm()) for probe in (learned, solved)]
    share = weight * sizes[0] / max(sizes[1], 1e-12)
    return Probe(*(
        (ours + share * theirs) / (1 + weight)
        for ours, theirs in ((learned.weight, solved.weight), (learned.bias, solved.bias))
    ))  # fmt: skip


def out_of_fold(
    vectors_ND: Tensor, targets: Tensor, folds: np.ndarray, strengths: Sequence[float], *, classes: int,
    extra: Callable[[Tensor], tuple[Tensor, Tensor] | None] = lambda _: None,
) -> dict[float, Tensor]:  # fmt: skip
    """(N, C) logits of every row by a probe that has not seen its fold, for each strength. `extra` gives vectors and
    targets that are learned as well where the rows marked in (N,) are asked about."""
    found = {strength: vectors_ND.new_zeros(len(vectors_ND), classes) for strength in strengths}
    for fold in np.unique(folds):
        held = torch.from_numpy(folds == fold)
        known, answers = vectors_ND[~held], targets[~held]
        if (more := extra(held)) is not None:
            known, answers = torch.cat([known, more[0]]), torch.cat([answers, more[1]])
        probe = None
        for strength in sorted(strengths):
            probe = fit_probe(known, answers, strength, probe, classes=classes)
            found[strength][held] = probe.logits(vectors_ND[held])
    return found


def best_strength(logits: dict[float, Tensor], targets: Tensor) -> float:
    """The strength with the smallest out-of-fold loss: how often answers are right jumps about with few rows."""
    return min(logits, key=lambda strength: float(losses(logits[strength], targets).mean()))


def right(logits_NC: Tensor, targets: Tensor) -> Tensor:
    """(N,) 1 where the answer is right, all of it for memberships."""
    if targets.dim() == 2:
        return ((logits_NC > 0) == (targets > 0.5)).all(1).float()
    return (logits_NC.argmax(1) == targets).float()


def losses(logits_NC: Tensor, targets: Tensor) -> Tensor:
    if targets.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits_NC, targets, reduction="none").sum(1)
    return F.cross_entropy(logits_NC, targets, reduction="none")
