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
ENOUGH = 12  # rows; an interval drawn from fewer may have no width at all
MANY = 30  # rows it has not learned, below which a gap that looks small says nothing
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


def judged_by(counts: Mapping[str, int]) -> str | None:
    """The part that tells, of those that have so many rows: test rows, as validation rows have chosen the weights;
    those all the same where they are more than a handful of test rows. None: all rows are learned."""
    rows = {part: counts[part] for part in ("test", "validation") if part in counts}
    if rows.get("test", 0) >= MANY:
        return "test"
    return max(rows, key=rows.__getitem__, default=None)


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


def learned_nothing(train: Told, unseen: Told) -> Said | None:
    """Says so where rows that were not learned are not surely more often right than by the commonest class alone:
    within two standard errors."""
    if train.right is None or unseen.right is None or train.targets is None or unseen.targets is None:
        return None
    commonest = int(np.bincount(train.targets).argmax())  # asked about rows that may be spread otherwise
    chance = float((unseen.targets == commonest).mean())
    learned, right = (float(mean(hits.sum(0))) for hits in (train.right, unseen.right))
    if right > chance + 2 * math.sqrt(chance * (1 - chance) / len(unseen.right)):
        return None
    shares = {"right": right, "learned": learned, "chance": chance}
    return Said("gap_nothing", {name: round(100 * share) for name, share in shares.items()})


def flattered(parts: Mapping[str, Told]) -> Said | None:
    """Says so where the loss of test rows lies surely above that of the validation rows, which chose the weights."""
    test, validation = parts.get("test"), parts.get("validation")
    if test is None or validation is None or min(len(test.sums), len(validation.sums)) < ENOUGH:
        return None
    found = apart(test.sums, validation.sums, mean)
    if found.low <= 0:
        return None
    return Said("gap_flattered", {"test": _short(test.loss), "validation": _short(validation.loss),
                                  "low": _short(found.low), "high": _short(found.high)})  # fmt: skip


def advice(parts: Mapping[str, Told], *, still_falling: bool) -> Said:
    """One sentence, about the part that tells."""
    part = judged_by({part: len(of.sums) for part, of in parts.items()})
    if part is None:
        return Said("gap_unknown")
    unseen, found = parts[part], gap(parts["train"], parts[part])
    loss, rows = unseen.loss, len(unseen.sums)
    if rows >= ENOUGH and (nothing := learned_nothing(parts["train"], unseen)):
        return nothing
    facts = {"gap": _short(found.delta), "low": _short(found.low), "high": _short(found.high)}
    large = found.delta >= max(LARGE * loss, LEAST)
    if large and found.low > 0 and rows >= ENOUGH:
        return Said("gap_over", {**facts, "percent": round(100 * found.delta / loss)})
    if easier := flattered(parts):
        return easier
    if large or rows < MANY:
        return Said("gap_unsure", {**facts, "n": rows, "setting": f"data.{part}"})
    return Said("gap_under", facts) if still_falling and loss > LEAST else Said("gap_fine", facts)


def settled(found: Mapping[str, Any], helped: str) -> dict[str, Any]:
    """The report's `generalisation` when the verdict is known: that nothing needs to be done is said only where tuning
    has surely helped."""
    told = found.get("advice")
    if not told or told["key"] != "gap_fine":
        return dict(found)
    sentence = Said("gap_fine_helped") if helped == "yes" else Said("gap_fine_unhelped")
    return {**found, "advice": {**told, "key": sentence.key}}


def _short(value: float) -> float:
    return float(f"{value:.3g}")
