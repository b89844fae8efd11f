"""What became of rows that were to be forgotten: how likely they are, beside rows that were never learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tuneful.core.types import Layout, Record, Row
from tuneful.data.duplicates import alike
from tuneful.evaluation.membership import LEAST, membership, told_apart
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.regularisers.unlearning import RunningForget
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.unlearning import forgets

MEMBERSHIP = "membership"  # a record's kind


def looked_up(built: Built, step: int) -> Iterator[Record]:
    """How likely the rows are now, and, once an epoch, how unlikely they are to become."""
    if not forgets(built.recipe) or not _due(built, step):
        return
    forgotten, unseen = rows_of(built)
    with built.policy.gathered():
        theirs, ours = losses(built, unseen), losses(built, forgotten)
    if theirs:
        for part in built.regularisers:
            if isinstance(part, RunningForget):
                part.aim(levels_by(by_text(forgotten, ours), by_text(unseen, theirs)))
    found = membership(by_text(forgotten, ours), by_text(unseen, theirs), built.recipe.seed)
    yield Record(step, MEMBERSHIP, built.recipe.tasks[-1].name, found)


def levels_by(forgotten: Sequence[float], unseen: Sequence[float]) -> list[float]:
    """As unlikely as test rows are at this time, for these change as well. 0, at which all rows are let be, while the
    rows as a whole are no likelier than test rows: what is learned beside them moves them, too."""
    return list(unseen) if told_apart(forgotten, unseen) > 0.5 else [0.0]


def _due(built: Built, step: int) -> bool:
    resolved = built.prepared.resolved
    return step % max(1, round(resolved.steps / max(1.0, resolved.epochs))) == 0 or step == len(built.schedule)


def rows_of(built: Built) -> tuple[list[Row], list[Row]]:
    """Those to be forgotten, and those that were never learned."""
    name, prepared = built.recipe.tasks[-1].name, built.prepared
    forgotten = [row for row in prepared.rows("train") if row.counts and row.example.task == name]
    return forgotten, [row for row in prepared.rows("test") if row.counts]


def by_text(rows: Sequence[Row], losses: Sequence[float]) -> list[float]:
    """One number of all rows that say the same, for these are not told apart independently: the mean."""
    found: dict[str, list[float]] = defaultdict(list)
    for row, loss in zip(rows, losses, strict=True):
        found[alike(row.example)].append(loss)
    return [float(np.mean(alike)) for alike in found.values()]


def losses(built: Built, rows: Sequence[Row]) -> list[float]:
    """Nats of each row: of its class, or of a learned token in the mean."""
    if not rows:
        return []
    if built.prepared.layout is Layout.TOKENS:
        found = token_losses(built.policy, rows, built.collate)
        return (found[:, 0] / found[:, 1]).tolist()
    logits_RC = torch.from_numpy(class_logits(built.policy, rows, built.collate)).double()
    wanted_R = torch.tensor([row.target for row in rows])
    told: list[float] = torch.nn.functional.cross_entropy(logits_RC, wanted_R, reduction="none").tolist()
    return told


def unlearned(built: Built, folder: RunFolder) -> dict[str, Any]:
    """The report's `forgetting.unlearned`; empty for other runs."""
    if not forgets(built.recipe):
        return {}
    records = [record.metrics for record in folder.read_records() if record.kind == MEMBERSHIP]
    forgotten, unseen = (by_text(rows, [0.0] * len(rows)) for rows in rows_of(built))
    told = {"rows": len(forgotten), "unseen": len(unseen), "least": LEAST}
    return {"unlearned": {**told, "before": dict(records[0]), "after": dict(records[-1])}} if records else {}
