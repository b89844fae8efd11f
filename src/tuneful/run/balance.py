"""Classes and groups of uneven size, evened while they are learned: rows that are drawn more often, rows that count
more, or logits with a head start, all from the numbers of training rows. Where a loss is measured rows count as they do
in training; quality is measured as ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Row, Said
from tuneful.data.balance import Jtt
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
    if balance.grouped:
        check_grouped(recipe, objective, labels, repeated)
        cells = Cells.of_groups(repeated)
    else:
        _check(recipe, objective, labels, repeated)
        if isinstance(balance, Jtt):  # rows are weighed when they are found (run/twice.py)
            return Balanced(objective, repeated, built)
        assert labels is not None
        cells = Cells((len(labels.names),))
    counts = cells.counts(repeated)
    weights = balance.weights(counts)
    weights = weights / np.mean([weights[place] for row in repeated if (place := cells.place(row))])
    weighed = {part: replace(rows, rows=[cells.counting(row, weights) for row in rows.rows])
               for part, rows in built.items()}  # fmt: skip
    learned = [cells.drawn(row, weights) if balance.draws else cells.counting(row, weights) for row in repeated]
    if isinstance(objective, Classify):
        objective = objective.model_copy(update={"offsets": balance.offsets(counts) or objective.offsets})
    there = counts[counts > 0]
    facts = {"balance": balance.kind, "few": int(there.min()), "many": int(there.max())}
    return Balanced(objective, learned, weighed, [Said("balanced", facts)])


@dataclass(frozen=True, slots=True)
class Cells:
    """What rows are counted by: their class, or their group and class."""

    shape: tuple[int, ...]
    groups: Mapping[str, int] = field(default_factory=dict)  # places on the first axis; none: by class alone

    @classmethod
    def of_groups(cls, rows: Sequence[Row]) -> Cells:
        names = sorted({row.example.group for row in rows if row.example.group is not None})
        classes = 1 + max((int(row.target) for row in rows if _of_class(row)), default=0)
        return cls((len(names), classes), {name: place for place, name in enumerate(names)})

    def place(self, row: Row) -> tuple[int, ...]:
        """() where it is not known."""
        if not self.groups:
            return () if row.target is None else (int(row.target),)
        group = self.groups.get(row.example.group or "")
        return () if group is None else (group, int(row.target) if _of_class(row) else 0)

    def counts(self, rows: Sequence[Row]) -> np.ndarray:
        """Of the shape; nothing where there are no groups to count."""
        found = np.zeros(self.shape, dtype=np.int64)
        for row in rows:
            if found.size and (place := self.place(row)):
                found[place] += 1
        return found

    def counting(self, row: Row, weights: np.ndarray) -> Row:
        """What is not known counts as the mean row does, 1."""
        place = self.place(row)
        return replace(row, weight=float(weights[place])) if place else row

    def drawn(self, row: Row, weights: np.ndarray) -> Row:
        place = self.place(row)
        return replace(row, times=float(weights[place])) if place else row


def _of_class(row: Row) -> bool:
    return isinstance(row.target, int | np.integer)


def check_grouped(recipe: Recipe, objective: Objective, labels: LabelSet | None, rows: Sequence[Row]) -> None:
    """Raises RecipeError where groups cannot be evened."""
    kind, problems = recipe.task.data.balance.kind, []  # type: ignore[union-attr]
    known = {row.example.group for row in rows if row.example.group is not None}
    if len(known) < 2:
        problems.append(f"data.balance: {kind} evens groups, and the training rows have {len(known)}; name their "
                        "column: data.group, or data.mentions")  # fmt: skip
    if kind == "reweighing" and (labels is None or labels.kind != "class"):
        found = "rows without labels" if labels is None else OTHERS[labels.kind]
        problems.append(f"data.balance: reweighing is about groups and classes; found {found}; take group_sampling")
    if getattr(objective, "pooling", None) == "mean":
        problems.append("data.balance: a head over means is solved over all rows as they are; leave objective.pooling "
                        "or data.balance out")  # fmt: skip
    if recipe.task.data.streaming is True:
        problems.append("data.balance: rows of each group are counted and drawn from rows that are held; "
                        "--set data.streaming=false")  # fmt: skip
    if problems:
        raise RecipeError(problems)


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
