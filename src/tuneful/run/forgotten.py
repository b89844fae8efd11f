"""What became of rows that were to be forgotten: how likely they are, beside rows that were never learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tuneful.core.types import FORGOTTEN, Layout, Record, Row
from tuneful.evaluation.membership import LEAST, membership
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.regularisers.unlearning import RunningForget
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder

MEMBERSHIP = "membership"  # a record's kind


def forgets(built: Built) -> bool:
    """The run is there to unlearn rows."""
    return built.recipe.tasks[-1].name.startswith(FORGOTTEN)


def looked_up(built: Built, step: int) -> Iterator[Record]:
    """How likely the rows are now. Before the first update, it is also said how unlikely they are to become."""
    if not forgets(built):
        return
    forgotten, unseen = rows_of(built)
    with built.policy.gathered():
        found = membership(losses(built, forgotten), losses(built, unseen), built.recipe.seed)
    if step == 0 and "unseen_loss" in found:
        for part in built.regularisers:
            if isinstance(part, RunningForget):
                part.aim(found["unseen_loss"])
    yield Record(step, MEMBERSHIP, built.recipe.tasks[-1].name, found)


def rows_of(built: Built) -> tuple[list[Row], list[Row]]:
    """Those to be forgotten, and those that were never learned."""
    name, prepared = built.recipe.tasks[-1].name, built.prepared
    forgotten = [row for row in prepared.rows("train") if row.counts and row.example.task == name]
    return forgotten, [row for row in prepared.rows("test") if row.counts]


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
    if not forgets(built):
        return {}
    records = [record.metrics for record in folder.read_records() if record.kind == MEMBERSHIP]
    forgotten, unseen = rows_of(built)
    told = {"rows": len(forgotten), "unseen": len(unseen), "least": LEAST}
    return {"unlearned": {**told, "before": dict(records[0]), "after": dict(records[-1])}} if records else {}
