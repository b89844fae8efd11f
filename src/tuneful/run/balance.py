"""Classes of uneven size, evened while they are learned: rows that are drawn more often, rows that count more, or
logits with a head start, all from the numbers of training rows. Where a loss is measured rows count as they do in
training; quality is measured as ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Row, Said
from tuneful.data.labels import LabelSet
from tuneful.data.rows import Rows
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.schedules import SelfTrain

OTHERS = {"class": "classes", "labels": "several labels a row", "number": "numbers"}


@dataclass(frozen=True, slots=True)
class Balanced:
    """What is learned, and how each row of any part counts."""

    objective: Objective
    repeated: list[Row]
    built: Mapping[str, Rows]
    notes: Sequence[Said] = field(default_factory=list)


def balanced(
    recipe: Recipe, objective: Objective, labels: LabelSet | None, repeated: list[Row], built: Mapping[str, Rows]
) -> Balanced:
    """As they are where the recipe does not ask for more. Raises RecipeError."""
    balance = recipe.task.data.balance
    _check_offsets(objective, labels)
    if balance is None:
        return Balanced(objective, repeated, built)
    _check(recipe, objective, labels, repeated)
    assert labels is not None and isinstance(objective, Classify)  # noqa: PT018
    counts = np.bincount([int(row.target) for row in repeated], minlength=len(labels.names))
    weights = balance.weights(counts)
    weights = weights / weights[[int(row.target) for row in repeated]].mean()
    weighed = {part: replace(rows, rows=[_counting(row, weights) for row in rows.rows]) for part, rows in built.items()}
    learned = [replace(row, times=float(weights[row.target])) if balance.draws else _counting(row, weights)
               for row in repeated]  # fmt: skip
    objective = objective.model_copy(update={"offsets": balance.offsets(counts) or objective.offsets})
    there = counts[counts > 0]
    facts = {"balance": balance.kind, "few": int(there.min()), "many": int(there.max())}
    return Balanced(objective, learned, weighed, [Said("balanced", facts)])


def _counting(row: Row, weights_C: np.ndarray) -> Row:
    return row if row.target is None else replace(row, weight=float(weights_C[row.target]))


def _check(recipe: Recipe, objective: Objective, labels: LabelSet | None, repeated: Sequence[Row]) -> None:
    problems = []
    if labels is None or labels.kind != "class" or not isinstance(objective, Classify):
        found = "rows without labels" if labels is None else OTHERS[labels.kind]
        kind = objective.kind  # type: ignore[attr-defined]
        problems.append(f"data.balance: evens classes, of which a row has one, under objective 'classify'; found "
                        f"{found} under '{kind}'. Leave data.balance out")  # fmt: skip
    elif objective.pooling == "mean":
        problems.append("data.balance: a head over means starts from each class's own mean and is solved over all rows "
                        "as they are; leave objective.pooling or data.balance out")  # fmt: skip
    if isinstance(recipe.schedule, SelfTrain) or any(row.target is None for row in repeated):
        problems.append("data.balance: how many rows a class has must be known before they are learned, and here some "
                        "have no label; leave data.balance out")  # fmt: skip
    if recipe.task.data.streaming is True:
        problems.append("data.balance: rows of each class are counted and drawn from rows that are held; "
                        "--set data.streaming=false")  # fmt: skip
    if problems:
        raise RecipeError(problems)


def _check_offsets(objective: Objective, labels: LabelSet | None) -> None:
    if isinstance(objective, Classify) and objective.offsets:
        wanted = len(labels.names) if labels is not None and labels.kind == "class" else 0
        if len(objective.offsets) != wanted:
            raise RecipeError([f"tasks.0.objective.offsets: found {len(objective.offsets)} numbers for {wanted} "
                               "classes; data.balance: logits fills them in"])  # fmt: skip
