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
from tuneful.evaluation.fairness.members import MENTIONS, memberships, tells_label
from tuneful.recipe import Recipe

Kind = tuple[str, int | None]  # a group, and of two classes one


def comparable(recipe: Recipe, labels: LabelSet | None, built: Mapping[str, Rows]) -> list[Said]:
    """What there is to say of a column that was named, or of mentions, in the test rows of a classifier."""
    data, test = recipe.task.data, built["test"].rows
    if data.group is None and data.mentions is None:
        return []
    if labels is None or labels.kind != "class" or not test or not recipe.evaluate.by_group:
        return []
    feature = data.group or MENTIONS
    parts, notes = memberships({feature: [row.example.group for row in test]}, len(test))
    for part in parts:
        truth = np.array([row.target for row in test])[part.known]
        if tells_label(part, truth):
            notes.append(Said("fairness_group_is_label", {"feature": feature}))
        else:
            rows = [row for one in built.values() for row in one.rows]
            notes.extend(_wanting(feature, part.names[: part.compared], test, rows, two=len(labels.names) == 2))
    return notes


def _wanting(
    feature: str, groups: Sequence[str], test: Sequence[Row], rows: Sequence[Row], *, two: bool
) -> Iterator[Said]:
    """How many test rows would be needed, if they were like all `rows` there are."""
    have, there = _counts(test, two=two), _counts(rows, two=two)
    kinds = {group: [(group, target) for target in ((0, 1) if two else (None,))] for group in groups}
    enough = sum(min(have[kind] for kind in own) >= LEAST for own in kinds.values())
    if enough == len(groups):
        return
    scarcest = sorted((min(there[kind] for kind in own) for own in kinds.values()), reverse=True)
    wanted = scarcest[1] if enough < 2 else scarcest[-1]
    facts = {"feature": feature, "count": len(groups), "enough": enough, "least": LEAST, "rows": len(rows)}
    if 2 * wanted < 3 * LEAST:  # most of them would have to be held out
        yield Said("groups_too_few", facts)
    else:
        facts["wanted"] = ceil(LEAST * len(rows) / wanted)
        yield Said("groups_some_rows", facts) if enough < 2 else Said("groups_all_rows", facts)


def _counts(rows: Sequence[Row], *, two: bool) -> Counter[Kind]:
    return Counter((str(row.example.group), int(row.target) if two else None) for row in rows)
