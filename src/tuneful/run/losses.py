"""The objective's loss on rows of each part, with the weights as they are and without dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuneful.core.device import rank, world
from tuneful.core.types import Batch, Layout, Row
from tuneful.evaluation.reading import Collate, mean_loss, mean_loss_of, some
from tuneful.evaluation.rewarded import played_out
from tuneful.objectives import OnPolicyDistil
from tuneful.run.build import Built
from tuneful.run.each import of_task
from tuneful.run.prepare import Prepared
from tuneful.run.resolve import mean_tokens
from tuneful.schedules.episodes import EpisodeSteps
from tuneful.schedules.rewarded import figures
from tuneful.schedules.rollouts import RolloutSteps

LOOKED_AT = ("reward", "length", "truncated", "broken")
LEAST_LOOKED = 64  # validation rows of a look
SAMPLE = 500  # rows of a part on which the loss is measured at the end
PARTS = ("train", "validation", "test")


def looked_at(built: Built, step: int | None = None) -> list[Row]:
    """The validation rows of a look, none where fewer than two can be told apart; of classes, which rows are drawn from
    them is another matter. After update `step` those of tasks that are due then, where each learns by itself."""
    resolved, rows = built.prepared.resolved, built.prepared.rows("validation")
    if isinstance(built.schedule, EpisodeSteps):
        return rows if built.schedule.classes_in(rows) > 1 else []
    if isinstance(built.schedule, RolloutSteps):  # a teacher says more than rewards do
        return [] if isinstance(resolved.objective, OnPolicyDistil) else rows[:LEAST_LOOKED]
    if resolved.each:
        due = {task: own for task, own in resolved.each.items() if step is None or own.due(step)}
        most = {task: own.look_every * own.rows_per_step // 2 for task, own in due.items()}
        return [row for task in most for row in of_task(rows, task)[: max(LEAST_LOOKED, most[task])]]
    # A look costs a third of an update for each row; half the rows of an interval keep it near a sixth of the time.
    rows = rows[: max(LEAST_LOOKED, resolved.look_every * resolved.rows_per_step // 2)]
    if resolved.objective.layout is Layout.PAIRS:
        batches = of_pairs(rows, built.collate, _together(built, rows))
        return rows if sum(batch.units for batch in batches) >= 2 else []
    return rows


def validation_metrics(built: Built, rows: list[Row]) -> dict[str, float]:
    """Of a look; all ranks ask together."""
    objective = built.prepared.resolved.objective
    if isinstance(built.schedule, EpisodeSteps):
        batches = built.schedule.measured(rows, built.schedule.classes_in(rows))
        return mean_loss_of(built.policy, objective, batches)
    if isinstance(built.schedule, RolloutSteps):
        return _of_answers(built, built.schedule, rows)
    if objective.layout is Layout.PAIRS:
        return mean_loss_of(built.policy, objective, of_pairs(rows, built.collate, _together(built, rows)))
    if built.prepared.resolved.each:
        return _of_each(built, rows)
    return mean_loss(built.policy, objective, rows, built.collate, rank=rank(), ranks=world())


def _of_each(built: Built, rows: list[Row]) -> dict[str, float]:
    """Of every task that has rows, by name, and the mean of these."""
    objective, found = built.prepared.resolved.objective, {}
    for task in built.prepared.resolved.each:
        if own := of_task(rows, task):
            found[task] = mean_loss(built.policy, objective, own, built.collate, rank=rank(), ranks=world())
    means = {name: float(np.mean([own[name] for own in found.values()])) for name in next(iter(found.values()))}
    return {**means, **{f"{name}/{task}": value for task, own in found.items() for name, value in own.items()}}


def _of_answers(built: Built, schedule: RolloutSteps, rows: Sequence[Row]) -> dict[str, float]:
    """Minus the mean reward of the likeliest answers, which stands for a loss, and what they look like."""
    assert schedule.rounds is not None
    told = figures([[one] for one in played_out(built.policy, schedule.rounds.player, rows)])
    return {"loss": -told.get("reward", -np.inf), **{name: value for name, value in told.items() if name in LOOKED_AT}}


def sampled(prepared: Prepared) -> dict[str, list[Row]]:
    """The rows of each part that are measured at the end: all, or a seeded sample."""
    rows = {part: [row for row in prepared.rows(part) if row.counts] for part in PARTS}
    rng = np.random.default_rng(prepared.recipe.seed)
    for part, own in rows.items():
        if len(own) > SAMPLE:
            rows[part] = [own[index] for index in rng.choice(len(own), SAMPLE, replace=False)]
    return rows


def by_part(built: Built) -> dict[str, float | None]:
    """At the end; None for a part without rows. Classes, and documents, are told apart from as many others in every
    part, or the figures could not be compared."""
    if isinstance(built.schedule, EpisodeSteps):
        rows = {part: [row for row in built.prepared.rows(part) if row.counts] for part in PARTS}
        return _by_part_of_classes(built, built.schedule, rows)
    if isinstance(built.schedule, RolloutSteps):
        parts = {part: some(built.prepared.rows(part), built.recipe.evaluate.generate) for part in PARTS}
        return {part: round(_of_answers(built, built.schedule, rows)["loss"], 5) if rows else None
                for part, rows in parts.items()}  # fmt: skip
    rows, objective = sampled(built.prepared), built.prepared.resolved.objective
    if objective.layout is Layout.PAIRS:
        return _by_part_of_pairs(built, rows)
    return {
        part: round(mean_loss(built.policy, objective, own, built.collate)["loss"], 5) if own else None
        for part, own in rows.items()
    }


def of_pairs(rows: Sequence[Row], collate: Collate, size: int) -> list[Batch]:
    """So many rows a batch, dealt by lot and the same each time, as the loss of a query grows with the documents it is
    told apart from; what fills no batch is left out."""
    order = np.random.default_rng(0).permutation(len(rows))
    starts = range(0, len(rows) - size + 1, size)
    return [collate([rows[index] for index in order[start : start + size]]) for start in starts]


def _together(built: Built, *parts: Sequence[Row]) -> int:
    """How many pairs are told apart when a loss is measured: about as many as a step computes at once, two at least,
    and no more than any part has."""
    resolved = built.prepared.resolved
    room = int(resolved.recipe.optimiser.micro_tokens / mean_tokens(built.prepared.repeated))
    most = max(2, min(resolved.rows_per_step, room))
    return max(2, min((len(rows) // -(-len(rows) // most) for rows in parts if len(rows) > 1), default=2))


def _by_part_of_pairs(built: Built, rows: dict[str, list[Row]]) -> dict[str, float | None]:
    size, objective = _together(built, *rows.values()), built.prepared.resolved.objective
    batches = {part: of_pairs(own, built.collate, size) for part, own in rows.items()}
    return {
        part: round(mean_loss_of(built.policy, objective, found)["loss"], 5)
        if any(batch.units for batch in found)
        else None
        for part, found in batches.items()
    }


def _by_part_of_classes(built: Built, schedule: EpisodeSteps, rows: dict[str, list[Row]]) -> dict[str, float | None]:
    there = {part: schedule.classes_in(own) for part, own in rows.items()}
    ways = min(count for count in there.values() if count > 1)
    objective = built.prepared.resolved.objective
    return {
        part: round(mean_loss_of(built.policy, objective, schedule.measured(own, ways))["loss"], 5)
        if there[part] > 1
        else None
        for part, own in rows.items()
    }
