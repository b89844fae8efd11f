"""Who is in the rows that are learned: the groups of people they mention, and those that a column says they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tuneful.core.types import Example
from tuneful.data.identity import Group, census, mentioned
from tuneful.data.identity.census import AxisCount, GroupCount
from tuneful.data.labels import Kind, as_list, name_of

LEAST = 30  # rows that mention anybody; of fewer nothing is said
LISTED = 50  # groups of one axis, the most frequent; no others are tested against labels
SURE = 0.05  # adjusted p below which a label goes with a group
COLUMN = "data.group"  # what a column's groups are along; word lists have no axis of that name


def people(examples: Sequence[Example], *, kind: Kind | None = None, column: str | None = None) -> dict[str, Any]:
    """Who is in these rows, as plain JSON.

    `kind` says what their labels are (None: there are none), `column` what the column of `Example.group` is called
    (None: no column says it). Returns how many `rows` were read, how many of them are `mentioning` anybody, and the
    `axes`: the column's first, then those of the word lists, these only if at least `LEAST` rows mention anybody.

    Of each axis: `rows` and `share` of all rows; how many groups occur (`count`), and the most frequent of them with
    the labels that go with each (p after Holm below 0.05): `rate` among the group's labelled rows, its Wilson interval,
    `overall` among all; groups that are `missing` (a column's are not known) or `rare` (the last 50 of `rare_count`);
    `diversity` in [0, 1] (data/identity/census.py).
    """
    texts = [told_in(example) for example in examples]
    named = [mentioned(text) for text in texts]
    groups = named if column is None else [_with_own(own, one) for own, one in zip(named, examples, strict=True)]
    labels = [_names(example, kind) for example in examples]
    found = census(texts, groups, labels=labels, tested=LISTED)
    mentioning = sum(bool(own) for own in named)
    axes = [_axis(axis, count, column) for axis, count in found.axes.items() if mentioning >= LEAST or axis == COLUMN]
    axes.sort(key=lambda axis: (axis["of"] != "column", -axis["rows"], axis["name"]))
    return {"rows": len(texts), "mentioning": mentioning, "axes": axes}


def told_in(example: Example) -> str:
    """All that a row says, asked and answered; not the system's turn, which is the same in most rows."""
    turns = (*example.messages, *example.chosen, *example.rejected)
    said = [turn.content for turn in turns if turn.role != "system"]
    texts = (*said, example.text, example.second, example.positive, *example.negatives)
    return "\n".join(text for text in texts if text)


def _with_own(mentioned_in: frozenset[Group], example: Example) -> frozenset[Group]:
    """A row whose field is empty is of no group of the column."""
    return mentioned_in if example.group is None else mentioned_in | {Group(COLUMN, example.group)}


def _names(example: Example, kind: Kind | None) -> frozenset[str] | None:
    if kind in (None, "number") or example.label is None:
        return None
    return frozenset(name_of(one) for one in (as_list(example) if kind == "labels" else [example.label]))


def _axis(name: str, count: AxisCount, column: str | None) -> dict[str, Any]:
    of_column = name == COLUMN
    return {
        "name": column if of_column else name,
        "of": "column" if of_column else "words",
        "rows": count.rows,
        "share": round(count.share, 6),
        "count": len(count.groups),
        "groups": [_group(one, rows) for one, rows in list(count.groups.items())[:LISTED]],
        "missing": list(count.missing),
        "rare": list(count.rare)[-LISTED:],
        "rare_count": len(count.rare),
        "diversity": None if count.diversity is None else round(count.diversity, 4),
    }


def _group(name: str, count: GroupCount) -> dict[str, Any]:
    labels = [
        {**asdict(rate), "overall": rate.rate - rate.difference} for rate in count.labels if rate.p_adjusted < SURE
    ]
    return {"name": name, "rows": count.rows, "share": round(count.share, 6), "labels": labels}
