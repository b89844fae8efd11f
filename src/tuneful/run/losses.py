"""The objective's loss on rows of each part, with the weights as they are and without dropout."""

from __future__ import annotations

import numpy as np

from tuneful.core.device import rank, world
from tuneful.core.types import Row
from tuneful.evaluation.reading import mean_loss, mean_loss_of
from tuneful.run.build import Built
from tuneful.schedules.episodes import EpisodeSteps

LEAST_LOOKED = 64  # validation rows of a look
SAMPLE = 500  # rows of a part on which the loss is measured at the end
PARTS = ("train", "validation", "test")


def looked_at(built: Built) -> list[Row]:
    """The validation rows of a look; of classes, which rows are drawn from them is another matter."""
    resolved, rows = built.prepared.resolved, built.prepared.rows("validation")
    if isinstance(built.schedule, EpisodeSteps):
        return rows if built.schedule.classes_in(rows) > 1 else []
    # A look costs a third of an update for each row; half the rows of an interval keep it near a sixth of the time.
    return rows[: max(LEAST_LOOKED, resolved.look_every * resolved.rows_per_step // 2)]


def validation_metrics(built: Built, rows: list[Row]) -> dict[str, float]:
    """Of a look; all ranks ask together."""
    objective = built.prepared.resolved.objective
    if isinstance(built.schedule, EpisodeSteps):
        batches = built.schedule.measured(rows, built.schedule.classes_in(rows))
        return mean_loss_of(built.policy, objective, batches)
    return mean_loss(built.policy, objective, rows, built.collate, rank=rank(), ranks=world())


def by_part(built: Built) -> dict[str, float | None]:
    """At the end; None for a part without rows. Classes are told apart from as many others in every part, or the
    figures could not be compared."""
    rows = {part: [row for row in built.prepared.rows(part) if row.counts] for part in PARTS}
    if isinstance(built.schedule, EpisodeSteps):
        return _by_part_of_classes(built, built.schedule, rows)
    rng = np.random.default_rng(built.recipe.seed)
    found: dict[str, float | None] = {}
    for part, own in rows.items():
        if len(own) > SAMPLE:
            own = [own[index] for index in rng.choice(len(own), SAMPLE, replace=False)]
        loss = mean_loss(built.policy, built.prepared.resolved.objective, own, built.collate)["loss"] if own else None
        found[part] = None if loss is None else round(loss, 5)
    return found


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
