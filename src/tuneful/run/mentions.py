"""Where no column says whose rows they are: the groups of people that a text mentions make its group."""

from __future__ import annotations

from dataclasses import replace

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Example
from tuneful.data.identity import known_groups, mentioned
from tuneful.data.splits import Split
from tuneful.recipe import Recipe

ALL, NOBODY, SEVERAL = "all", "nobody", "several"


def with_mentions(parts: Split, recipe: Recipe) -> Split:
    """Each row's group is the one its text mentions along the axes of `data.mentions`, `several`, or `nobody`. Raises
    RecipeError."""
    axes = axes_of(recipe)
    if not axes:
        return parts
    train, validation, test = (
        [_told(example, axes) for example in part] for part in (parts.train, parts.validation, parts.test)
    )
    return replace(parts, train=train, validation=validation, test=test)


def axes_of(recipe: Recipe) -> frozenset[str]:
    """The kinds of people that count. Raises RecipeError where one is not known, or there is a column as well."""
    data = recipe.task.data
    if data.mentions is None:
        return frozenset()
    if data.group is not None:
        raise RecipeError(["data.mentions: data.group says whose rows they are; leave one of the two out"])
    known, named = known_groups(), [data.mentions] if isinstance(data.mentions, str) else data.mentions
    if named == [ALL]:
        return frozenset(known)
    if odd := [axis for axis in named if axis not in known]:
        raise RecipeError([f"data.mentions: no kind of people is called '{odd[0]}'; known: {', '.join(sorted(known))}, "
                           f"{ALL}"])  # fmt: skip
    return frozenset(named)


def _told(example: Example, axes: frozenset[str]) -> Example:
    if example.text is None:
        raise DataError(f"{example.place} is no text with a label; data.mentions reads texts that are told apart")
    return replace(example, group=group_in(example.text, example.second, axes))


def group_in(text: str, second: str | None, axes: frozenset[str]) -> str:
    """The group that a text, or a pair of texts, mentions."""
    groups = {group for group in mentioned(f"{text}\n{second or ''}") if group.axis in axes}
    return str(next(iter(groups))) if len(groups) == 1 else SEVERAL if groups else NOBODY
