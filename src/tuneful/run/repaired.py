"""A trained classifier that is repaired before it is saved and measured, and what that changed on the test rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tuneful.core.types import Row
from tuneful.data.splits import units_of
from tuneful.evaluation.readers import Decide
from tuneful.evaluation.reading import class_logits, read_last
from tuneful.evaluation.standing import standing
from tuneful.evaluation.treatment import shares
from tuneful.models.last import put
from tuneful.recipe import Recipe
from tuneful.repairs import REPAIRS, Thresholds
from tuneful.repairs.cells import spread
from tuneful.repairs.settings import Seen
from tuneful.repairs.thresholds import fit_thresholds
from tuneful.run.build import Built
from tuneful.run.decisions import Decisions
from tuneful.run.groups import names_of
from tuneful.run.mentions import axes_of
from tuneful.run.repairable import fitted_on, positive_of, told_apart

Say = Callable[[str], None]
MOST = 20_000  # rows whose vectors are held; a linear layer is settled long before, and 768 columns take 61 MB


@dataclass(frozen=True, slots=True)
class Repaired:
    """The report's `repair` block, and the thresholds, where there are any."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    decisions: Decisions | None = None

    @property
    def decide(self) -> Decide | None:
        """How rows are answered, where it is not the model alone that answers."""
        return None if self.decisions is None else self.decisions.of_rows


def repair(built: Built, say: Say, test: Sequence[Row]) -> Repaired:
    """Changes the last layer in place. Each repair is told by what it changed on the `test` rows, where there are
    any."""
    parts = in_order(built.recipe)
    if not parts:
        return Repaired()
    say(f"repairing the classifier: {', '.join(part.kind for part in parts)}")
    built.policy.autocast = None  # as the saved model is read: in bf16 the numbers of a solved head would be rounded
    seen: tuple[nn.Linear, Seen] | None = None
    decisions, told, before = None, [], _standing(built, test)
    for part in parts:
        began = time.perf_counter()
        if isinstance(part, Thresholds):
            decisions, facts = _decided(built, part)
        else:
            seen = seen or _seen(built)
            mended = part.mend(*seen)
            put(seen[0], mended.layer)
            built.policy.forget()
            facts = {"part": "train", **mended.facts}
        seconds = round(time.perf_counter() - began, 2)
        after = _standing(built, test, decisions)
        changed = {name: {"before": before[name], "after": after[name]} for name in before}
        told.append({"kind": part.kind, **facts, "seconds": seconds, "changed": changed})
        before = after
    return Repaired({"n": len(test), "parts": told}, decisions)


def in_order(recipe: Recipe) -> list[Any]:
    """A head is solved before the group is taken out of what it reads, and scores are cut when they are final."""
    order = list(REPAIRS)
    return sorted(recipe.repair, key=lambda part: order.index(type(part)))


def _seen(built: Built) -> tuple[nn.Linear, Seen]:
    """Of the training rows whose class and group are known, or of a sample of them."""
    prepared, rows = built.prepared, told_apart(built.prepared.rows("train"))
    assert prepared.labels is not None
    names = {name: place for place, name in enumerate(names_of(rows))}
    classes = len(prepared.labels.names)
    cells = np.array([names[str(row.example.group)] * classes + int(row.target) for row in rows])
    rows = [rows[place] for place in spread(cells, MOST, np.random.default_rng([built.recipe.seed, 3]))]
    layer, vectors = read_last(built.policy, rows, built.collate)
    groups = torch.tensor([names[str(row.example.group)] for row in rows])
    labels, units = torch.tensor([int(row.target) for row in rows]), units_of([row.example for row in rows])
    return layer, Seen(vectors, labels, groups, units, classes, built.recipe.seed)


def _decided(built: Built, part: Thresholds) -> tuple[Decisions, dict[str, Any]]:
    """The thresholds, and what the report tells of them."""
    prepared, recipe = built.prepared, built.recipe
    assert prepared.labels is not None
    where = fitted_on(prepared.built)
    rows = told_apart(prepared.rows(where))
    positive = positive_of(part, prepared.rows("train"), prepared.labels)
    scores = shares(class_logits(built.policy, rows, built.collate).astype(np.float64))[:, positive]
    truth = np.array([int(row.target) == positive for row in rows]).astype(np.int64)
    groups = [str(row.example.group) for row in rows]
    rule = fit_thresholds(scores.clip(0, 1), truth, groups, part.constraint, part.objective)
    data = recipe.task.data
    decisions = Decisions(
        rule, prepared.labels.names, positive, None if data.mentions else data.group or "group", axes_of(recipe),
        recipe.seed,
    )  # fmt: skip
    facts = {"part": where, "rows": len(rows), "constraint": part.constraint, "objective": part.objective,
             "positive": prepared.labels.names[positive], "groups": sorted(set(groups))}  # fmt: skip
    return decisions, facts


def _standing(built: Built, test: Sequence[Row], decisions: Decisions | None = None) -> dict[str, float]:
    """Nothing where no test row is measured."""
    if not test:
        return {}
    assert built.prepared.labels is not None
    logits = class_logits(built.policy, test, built.collate)
    said = logits.argmax(1) if decisions is None else decisions.of_rows(test, logits)
    truth = np.array([int(row.target) for row in test])
    return standing(truth, said, [row.example.group for row in test], len(built.prepared.labels.names))
