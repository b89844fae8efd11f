"""Which of the tasks that are learned together helps which, looked at on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.device import rank, world
from tuneful.core.layers import blocks
from tuneful.core.types import Record, Row
from tuneful.engine.lookahead import Asked, affinities
from tuneful.evaluation.affinity import METRIC, affinity
from tuneful.run.build import Built, told_of
from tuneful.run.each import of_task
from tuneful.run.folder import RunFolder
from tuneful.run.tasks import asks_affinity
from tuneful.schedules.epochs import EpochSteps, cut_up

AFFINITY = "affinity"  # a record's kind
FEWEST = 8  # rows of a task in a look, where it has as many
SHARE = 0.25  # of the time of training, what all looks take, if nobody says how often
MARK = 23  # in the key of what is drawn, so that its chance is no other's


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where the rows of one task come from, and how many a look draws."""

    built: Built  # of its kind
    rows: Sequence[Row]
    count: int

    def asked(self, step: int, number: int) -> Asked:
        """As it is at this step: a function of seed, step and the number of the task."""
        seed, prepared, schedule = self.built.recipe.seed, self.built.prepared, self.built.schedule
        places = np.random.default_rng([seed, step, number, MARK]).permutation(len(self.rows))[: self.count].tolist()
        rows = [self.rows[place] for place in places]
        if isinstance(schedule, EpochSteps) and schedule.vary is not None:
            rows = [schedule.vary(row, [seed, step, place, MARK]) for row, place in zip(rows, places, strict=True)]
        rows.sort(key=lambda row: row.ids.tolist())
        most, collate = self.built.recipe.optimiser.micro_tokens, self.built.collate
        parts = [rows] if prepared.layout.compares else cut_up(rows, collate, most, even=False)
        batches = [collate(part) for part in parts[rank() :: world()]]
        return Asked(self.built.policy, prepared.resolved.objective, batches)


def drawings(built: Built) -> dict[str, Drawing]:
    """By task, or by kind of task where there are several; empty where nobody asks. Once a run: it goes through all
    rows."""
    if not asks_affinity(built.recipe):
        return {}
    if built.parts:
        each = {name: (part, _learned(part), _update(part)) for name, part in built.parts.items()}
    else:
        names, rows = [task.name for task in built.recipe.tasks], _learned(built)
        count = max(FEWEST, round(_update(built) / len(names)))
        each = {name: (built, of_task(rows, name), count) for name in names}
    return {name: Drawing(of, rows, min(count, len(rows))) for name, (of, rows, count) in each.items() if rows}


def _learned(built: Built) -> list[Row]:
    return [row for row in built.prepared.repeated if row.counts]


def _update(built: Built) -> int:
    return built.prepared.resolved.rows_per_step


def every(built: Built, drawn: Mapping[str, Drawing]) -> int:
    """Updates between looks. With B rows an update, a look of R rows of each of T tasks reads R T (T + 1) without and
    R T with their slopes, which costs three times as much: R T (T + 4) / 3 B updates."""
    if (given := built.recipe.evaluate.affinity_every) is not None:
        return given
    parts = built.parts.values() if built.parts else [built]
    update = sum(map(_update, parts))
    looked = sum(drawing.count for drawing in drawn.values())
    return max(1, math.ceil(looked * (len(drawn) + 4) / (3 * update * SHARE)))


def looked_ahead(built: Built, step: int, drawn: Mapping[str, Drawing]) -> Iterator[Record]:
    """A look, where one is due after this update."""
    if len(drawn) < 2 or step % every(built, drawn):
        return
    began, policy = time.perf_counter(), built.policy
    parts = list(built.parts.values()) or [built]
    for part in parts:
        part.policy.module.eval()
    if built.recipe.optimiser.gradient_checkpointing:
        for layer in (layer for part in parts for layer in blocks(part.policy.module)):
            layer.training = True  # of itself alone, for it is then computed twice; what it holds stays at rest
    heads = set(told_of(policy, [(part.policy, part.prepared) for part in parts])["heads"])
    learned = policy.trainable()
    found = affinities(
        {name: drawing.asked(step, number) for number, (name, drawing) in enumerate(drawn.items())},
        built.optimiser, learned, stay={name for name in learned if heads & set(name.split("."))},
        clip=built.recipe.optimiser.clip,
    )  # fmt: skip
    metrics = {METRIC.format(one=one, other=other): change for (one, other), change in found.items()}
    yield Record(step, AFFINITY, built.recipe.about, {**metrics, "seconds": time.perf_counter() - began})


def told_affinity(built: Built, folder: RunFolder) -> dict[str, Any]:
    """For the report's `forgetting`; empty where nothing was asked or no look was due."""
    if not (drawn := drawings(built)):
        return {}
    looks = [record.metrics for record in folder.read_records() if record.kind == AFFINITY]
    found = affinity(looks, list(drawn))
    rows = {name: drawing.count for name, drawing in drawn.items()}
    return {"affinity": {**found, "every": every(built, drawn), "rows": rows}} if found else {}
