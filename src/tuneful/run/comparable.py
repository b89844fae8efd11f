"""Before training: will a report be able to compare the groups of the test rows, and if not, how many would do?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import numpy as np

from tuneful.core.types import Row, Said
from tuneful.data.labels import LabelSet
from tuneful.data.rows import Rows
from tuneful.evaluation.fairness import LEAST
from tuneful.evaluation.fairness.members import memberships, tells_label
from tuneful.recipe import Recipe

HELD = 1.5  # times as many rows of a kind as are held out there must be, or few are left to learn from
Cell = tuple[str, int | None]  # a group, and of two classes one


def comparable(recipe: Recipe, labels: LabelSet | None, built: Mapping[str, Rows], *, streams: bool) -> list[Said]:
    """What there is to say of a column that was named, or of mentions, in the test rows of a classifier. Of rows that
    are read from disk (`streams`) `built` holds a sample."""
    data, test = recipe.task.data, built["test"].rows
    if data.group is None and data.mentions is None:
        return []
    measured = recipe.evaluate.enabled and recipe.evaluate.by_group
    if labels is None or labels.kind != "class" or not test or not measured:
        return []
    feature = data.group or "group"
    parts, notes = memberships({feature: [row.example.group for row in test]}, len(test))
    for part in parts:
        truth = np.array([row.target for row in test])[part.known]
        if tells_label(part, truth):
            notes.append(Said("fairness_group_is_label", {"feature": feature}))
        else:
            rows = [row for one in built.values() for row in one.rows]
            classes = (0, 1) if len(labels.names) == 2 else (None,)
            notes.extend(_wanting(feature, part.names[: part.compared], classes, test, rows, streams=streams))
    return notes


def _wanting(
    feature: str, groups: Sequence[str], classes: Sequence[int | None], test: Sequence[Row], rows: Sequence[Row], *,
    streams: bool,
) -> Iterator[Said]:  # fmt: skip
    """How many test rows would be needed for one more group, or for two, if they were like all `rows` there are. A rate
    is about the rows of one class; those of several classes are not told apart."""
    have, there = _counts(test, classes), _counts(rows, classes)
    enough = min(sum(have[group, one] >= LEAST for group in groups) for one in classes)
    if enough == len(groups):
        return
    target = max(2, enough + 1)
    scarcest = min(sorted((there[group, one] for group in groups), reverse=True)[target - 1] for one in classes)
    facts = {"feature": feature, "count": len(groups), "enough": enough, "least": LEAST, "target": target}
    if scarcest >= HELD * LEAST or (streams and scarcest):
        yield Said("groups_some_rows", {**facts, "wanted": ceil(LEAST * len(rows) / scarcest)})
    elif not streams:
        yield Said("groups_too_few", {**facts, "rows": len(rows)})


def _counts(rows: Sequence[Row], classes: Sequence[int | None]) -> Counter[Cell]:
    groups = [(row.example.group, row.target) for row in rows if row.example.group is not None]
    return Counter((group, None if None in classes else int(target)) for group, target in groups)
