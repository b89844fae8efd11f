"""Who is in the rows that a run would learn from, and what the tool offers where labels go with groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from tuneful.core.errors import RecipeError
from tuneful.core.types import Example, Row, Said
from tuneful.data.augment import Counterfactual
from tuneful.data.balance import GroupSampling
from tuneful.data.people import LEAST, people
from tuneful.evaluation.people import labels_of, sentences
from tuneful.recipe import Recipe
from tuneful.run.augment import check_augment
from tuneful.run.balance import check_grouped
from tuneful.run.looked import Looked
from tuneful.run.mentions import axes_of, group_in
from tuneful.run.prepare import Prepared

TRIED = 2000  # rows among which groups are looked for, to see whether a setting would be taken
AXES = 3  # in a suggestion


def people_in(looked: Looked) -> dict[str, Any]:
    """The coach's `people`: what was counted in the rows it looked at, and the same in sentences."""
    prepared, labels = looked.prepared, looked.labels
    found = people(looked.rows, kind=labels.kind if labels else None, column=_column(prepared.recipe, looked.rows))
    return {**found, "sentences": sentences(found, list(offers(prepared, found)), looked.language)}


def _column(recipe: Recipe, rows: Sequence[Example]) -> str | None:
    """What says whose rows they are; groups that `data.mentions` makes are no column's, and counted as mentions."""
    data = recipe.task.data
    if data.mentions is not None or all(row.group is None for row in rows):
        return None
    return data.group or "group"


def offers(prepared: Prepared, found: Mapping[str, Any]) -> Iterator[Said]:
    """Settings about what was found that this recipe does not name and would take; only for classes, of which a row
    has one."""
    if not prepared.tells_classes:
        return
    data, uneven = prepared.recipe.task.data, [axis for axis, _, _ in labels_of(found)]
    named = data.mentions is not None or any(axis["of"] == "column" for axis in found["axes"])
    axes = [] if named else _comparable(found, {axis["name"] for axis in uneven})
    if axes:
        yield Said("people_offer_mentions", {"axes": ", ".join(axes)})
    grouped = axes_of(prepared.recipe).union(axes)
    evened = any(axis["of"] == "column" or axis["name"] in grouped for axis in uneven)
    if evened and data.balance is None and _takes_sampling(prepared, axes):
        yield Said("people_offer_group_sampling_too") if axes else Said("people_offer_group_sampling")
    if any(axis["of"] == "words" for axis in uneven) and _takes_swaps(prepared):
        yield Said("people_offer_counterfactual")


def _comparable(found: Mapping[str, Any], uneven: set[str]) -> list[str]:
    """Axes that enough rows mention, and enough do not, to compare these; where labels go with some, only those."""
    enough = [axis["name"] for axis in found["axes"]
              if axis["of"] == "words" and LEAST <= axis["rows"] <= found["rows"] - LEAST]  # fmt: skip
    return ([axis for axis in enough if axis in uneven] or enough)[:AXES]


def _takes_sampling(prepared: Prepared, axes: Sequence[str]) -> bool:
    recipe, rows = prepared.recipe, prepared.repeated
    if axes:
        some = Random(recipe.seed).sample(rows, min(TRIED, len(rows)))
        rows = [_of_mentioned(row, frozenset(axes)) for row in some]
    asked = recipe.with_data(balance=GroupSampling())
    try:
        check_grouped(asked, prepared.resolved.objective, prepared.labels, rows)
    except RecipeError:
        return False
    return True


def _of_mentioned(row: Row, axes: frozenset[str]) -> Row:
    example = row.example
    return replace(row, example=replace(example, group=group_in(example.text or "", example.second, axes)))


def _takes_swaps(prepared: Prepared) -> bool:
    recipe = prepared.recipe
    if any(isinstance(one, Counterfactual) for one in recipe.augment):
        return False
    asked = recipe.model_copy(update={"augment": [*recipe.augment, Counterfactual()]})
    learned = recipe.schedule.learns(prepared.repeated)
    try:
        check_augment(asked, prepared.resolved, learned, streams=prepared.stream is not None)
    except RecipeError:
        return False
    return True
