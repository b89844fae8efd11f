"""Which rows are learned, and how often: those that were given, others beside them, and classes made even."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuneful.core.protocols import Objective
from tuneful.core.types import Row, Said
from tuneful.data.rows import Rows, is_generated
from tuneful.data.splits import Split
from tuneful.evaluation.primary import check_curve
from tuneful.recipe import Recipe
from tuneful.run.augment import augmented
from tuneful.run.balance import balanced
from tuneful.run.canaries import CANARIES, canary_rows
from tuneful.run.decided import Decided
from tuneful.run.encoded import Encoded
from tuneful.run.further import further_rows
from tuneful.run.select import Selection
from tuneful.run.teacher import told
from tuneful.run.unseen import notes

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """What an epoch is made of."""

    objective: Objective
    built: Mapping[str, Rows]
    repeated: list[Row]  # the training rows, as often as their sources' weights say, and what is learned beside them
    further: Sequence[Row]  # of these, what is learned beside them
    chosen: Selection | None
    notes: list[Said]


def learn(decided: Decided, rows: Encoded, say: Say) -> Learned:
    """Raises RecipeError where what is to be learned beside the rows does not fit them."""
    recipe, gathered, parts = decided.recipe, decided.gathered, rows.parts
    if gathered.teaches:
        say("all labels are the teacher's: quality will say how often the two agree, not how often either is right")
    given = _weighed(_repeat(rows.built["train"].rows, gathered.weights, recipe.seed), recipe)
    held = None if gathered.sampled else len(given)
    further = [
        *further_rows(recipe, rows.objective, rows.labels, parts, rows.processor, rows.limit, say),
        *canary_rows(recipe, rows.objective.layout, rows.processor, rows.limit, held, say),
    ]
    check_curve(recipe.evaluate, rows.objective.layout, rows.labels)
    repeated, chosen = [*given, *further], rows.chosen
    told_of = [*rows.patched.notes(), *_notes(decided, parts, rows.built, further, sum(row.counts for row in repeated))]
    even = balanced(recipe, rows.objective, rows.labels, repeated, rows.built)
    told_of += even.notes
    if chosen is not None:
        told_of += chosen.notes
        # What is learned beside the rows is learned beside random ones too, or the two could not be compared.
        drawn = [*_repeat(list(chosen.drawn), gathered.weights, recipe.seed), *further]
        chosen = replace(chosen, drawn=drawn)
    return Learned(even.objective, even.built, even.repeated, further, chosen, told_of)


def _notes(
    decided: Decided, parts: Split, built: Mapping[str, Rows], further: Sequence[Row], learned: int
) -> Iterator[Said]:
    """What a report has to say of classes that are held out, a teacher, and rows that a model wrote."""
    if decided.unseen:
        yield from notes(parts, built["train"].rows)
    if (teacher := decided.recipe.task.data.teacher) is not None:
        yield told(teacher, measured=decided.gathered.teaches and bool(built["test"].rows))
    yield from augmented(decided.recipe)
    if written := sum(map(is_generated, further)):
        yield Said("generated", {"n": written, "percent": round(100 * written / learned)})
    if planted := sum(row.example.place.source == CANARIES for row in further):
        yield Said("canaries", {"n": planted, "percent": round(100 * planted / learned, 1)})


def _weighed(rows: list[Row], recipe: Recipe) -> list[Row]:
    """Drawn as often as the weights of their tasks say."""
    weights = {task.name: task.weight for task in recipe.tasks if task.weight != 1}
    return [replace(row, times=weights.get(row.example.task, 1.0)) for row in rows] if weights else rows


def _repeat(rows: list[Row], weights: Mapping[str, float], seed: int) -> list[Row]:
    """Weight 2 = twice an epoch, 0.5 = a seeded half."""
    if all(weight == 1 for weight in weights.values()):
        return rows
    rng = np.random.default_rng([seed, 7])
    repeated: list[Row] = []
    for row in rows:
        weight = weights.get(row.example.place.source, 1.0)
        repeated += [row] * (int(weight) + (rng.random() < weight % 1))
    return repeated
