"""Was more learned than is true of rows that were never seen? Losses row by row, so that the gap has an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tuneful.core.device import place
from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective
from tuneful.core.types import Row, Said
from tuneful.evaluation.compare import Difference, apart
from tuneful.evaluation.reading import Collate, batches

LARGE = 0.2  # of the validation loss, from which a gap that is sure is called over-fitting
LEAST = 0.05  # nats; below, both losses are so small that their share of one another says little
ENOUGH = 12  # validation rows; an interval drawn from fewer may have no width at all
FALLING = 0.05  # share that the validation loss loses in the last third of the looks while there is more to learn


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of the rows of one part."""

    sums: np.ndarray  # (R, 2) summed loss and units
    logits: np.ndarray | None = None  # (R, C) of a head that tells classes apart
    targets: np.ndarray | None = None  # (R,) their classes

    @property
    def loss(self) -> float:
        return float(mean(self.sums.sum(0)))

    @property
    def right(self) -> np.ndarray | None:
        """(R, 2) 1 where the class is the right one, and 1."""
        if self.logits is None:
            return None
        hits = self.logits.argmax(1) == self.targets
        return np.stack([hits, np.ones(len(hits))], 1).astype(np.float64)


def mean(sums: np.ndarray) -> np.ndarray:
    """Of sums (..., 2)."""
    return sums[..., 0] / sums[..., 1]


def told(policy: Policy, objective: Objective, rows: Sequence[Row], collate: Collate, *, classes: bool) -> Told:
    """The objective's losses without dropout; `classes` keeps the logits as well. For layouts whose units belong to
    rows: tokens and labels."""
    policy.module.eval()
    sums = np.zeros((len(rows), 2))
    logits: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for part, batch in batches(rows, collate):
            batch = place(batch, policy.device)
            terms = objective(policy, batch)
            if classes:
                logits.update(zip(part, terms.outputs.class_logits().cpu().numpy(), strict=True))
            policy.forget()
            weights = batch.weights.double().cpu()
            owners = batch.targets.get("rows", torch.arange(len(weights))).cpu()
            units = torch.stack([terms.losses.double().cpu() * weights, weights], 1)
            sums[part] = torch.zeros(len(part), 2, dtype=torch.float64).index_add_(0, owners, units).numpy()
    if not classes:
        return Told(sums)
    return Told(sums, np.stack([logits[row] for row in range(len(rows))]), np.array([row.target for row in rows]))


def gap(train: Told, unseen: Told) -> Difference:
    """Loss of rows that were never seen minus that of those that were learned, with the interval that drawing both anew
    would give."""
    return apart(unseen.sums, train.sums, mean)


def accuracies(parts: Mapping[str, Told]) -> dict[str, Any]:
    """By part, and how much more often rows that were learned are right than those of validation."""
    right = {part: found.right for part, found in parts.items()}
    shares = {part: round(float(mean(hits.sum(0))), 5) for part, hits in right.items() if hits is not None}
    learned, unseen = right.get("train"), right.get("validation")
    if learned is None or unseen is None:
        return {**shares, "gap": None}
    found = apart(learned, unseen, mean)
    return {**shares, "gap": round(found.delta, 5), "ci95": found.as_json()["ci95"]}


def falling(looks: Sequence[Mapping[str, float]]) -> bool:
    """The validation loss was at its lowest in the end, and much higher a third of the way before."""
    losses = [look["loss"] for look in looks]
    if len(losses) < 3 or losses[-1] > min(losses):
        return False
    before = losses[len(losses) * 2 // 3 - 1]
    return before - losses[-1] > FALLING * before


def learned_nothing(train: Told, validation: Told) -> Said | None:
    """Says so where validation rows are not surely more often right than by the commonest class alone: within two
    standard errors."""
    if train.right is None or validation.right is None or train.targets is None or validation.targets is None:
        return None
    commonest = int(np.bincount(train.targets).argmax())  # asked about rows that may be spread otherwise
    chance = float((validation.targets == commonest).mean())
    learned, right = (float(mean(hits.sum(0))) for hits in (train.right, validation.right))
    if right > chance + 2 * math.sqrt(chance * (1 - chance) / len(validation.right)):
        return None
    shares = {"right": right, "learned": learned, "chance": chance}
    return Said("gap_nothing", {name: round(100 * share) for name, share in shares.items()})


def advice(parts: Mapping[str, Told], found: Difference | None, *, still_falling: bool) -> Said:
    """One sentence. None: there were no rows to compare."""
    if found is None:
        return Said("gap_unknown")
    validation = parts["validation"]
    enough = len(validation.sums) >= ENOUGH
    if enough and (nothing := learned_nothing(parts["train"], validation)):
        return nothing
    loss = validation.loss
    facts = {"gap": _short(found.delta), "low": _short(found.low), "high": _short(found.high)}
    large = found.delta >= max(LARGE * loss, LEAST)
    if large and found.low > 0 and enough:
        return Said("gap_over", {**facts, "percent": round(100 * found.delta / loss)})
    if large or not enough:
        return Said("gap_unsure", facts)
    return Said("gap_under", facts) if still_falling and loss > LEAST else Said("gap_fine", facts)


def _short(value: float) -> float:
    return float(f"{value:.3g}")
