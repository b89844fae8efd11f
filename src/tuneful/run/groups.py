"""Sensitive groups of the rows that are learned: who they are, whether they can be compared, and what each step has of
them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Begins, ComparesGroups, Regulariser
from tuneful.core.types import Layout, Row, Said
from tuneful.data.labels import LabelSet
from tuneful.recipe import Recipe
from tuneful.run.balance import Cells
from tuneful.run.regularised import comparing
from tuneful.run.resolve import Resolved
from tuneful.schedules.episodes import EpisodeSteps
from tuneful.schedules.epochs import EpochSteps
from tuneful.schedules.selftrain import SelfTrainSteps

Steps = TypeVar("Steps", EpochSteps, SelfTrainSteps, EpisodeSteps)
MOST = 50  # groups that are compared in training
ROUNDING = 1e-6  # of a row: shares are sums of many floats


def names_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """In the order of their ids."""
    return tuple(sorted({row.example.group for row in rows if row.example.group is not None}))


def begun(recipe: Recipe, rows: Sequence[Row]) -> list[Regulariser]:
    """The regularisers of a run, those that keep something from update to update begun anew."""
    if not any(isinstance(part, Begins) for part in recipe.regularisers):
        return list(recipe.regularisers)
    counts = Cells.of_groups(rows).counts(rows)
    return [part.begin(counts) if isinstance(part, Begins) else part for part in recipe.regularisers]


def stratified(schedule: Steps, recipe: Recipe) -> Steps:
    """The schedule, each step of which has its share of each group (and class) where these are compared."""
    parts = comparing(recipe)
    if not parts or not isinstance(schedule, EpochSteps):
        return schedule
    return replace(schedule, strata=_stratum(schedule.strata, by_label=any(part.by_label for part in parts)))


def _stratum(given: Callable[[Row], Hashable] | None, *, by_label: bool) -> Callable[[Row], Hashable]:
    """Within those that the schedule has already."""

    def own(row: Row) -> Hashable:
        return (row.example.group, row.target) if by_label else row.example.group

    return own if given is None else lambda row: (given(row), own(row))


def check_groups(resolved: Resolved, labels: LabelSet | None, rows: Sequence[Row], *, streams: bool) -> list[Said]:
    """What a report has to say of the groups. Raises RecipeError where they are compared and cannot be."""
    recipe, parts = resolved.recipe, comparing(resolved.recipe)
    names = names_of(rows)
    if not parts:
        return []
    problems = list(_problems(resolved, rows, names, streams=streams)) or list(_small(resolved, labels, rows))
    if problems:
        raise RecipeError(problems)
    unknown = sum(row.example.group is None for row in rows)
    kinds = ", ".join(part.kind for part in recipe.regularisers if isinstance(part, ComparesGroups))
    facts = {"groups": ", ".join(names[:8]), "count": len(names), "how": kinds}
    return [Said("groups_compared", facts), *([Said("groups_unknown", {"n": unknown})] if unknown else [])]


def _problems(resolved: Resolved, rows: Sequence[Row], names: Sequence[str], *, streams: bool) -> Iterator[str]:
    kinds = ", ".join(part.kind for part in resolved.recipe.regularisers if isinstance(part, ComparesGroups))
    if resolved.objective.layout is not Layout.LABELS:
        yield f"regularisers: {kinds} compares what is answered of groups, and these rows have no labels; leave it out"
    if streams:
        yield f"regularisers: {kinds} counts the rows of each group, which are held; --set data.streaming=false"
    if (problem := not_comparable(names, f"regularisers: {kinds}")) is not None:
        yield problem
    elif any(part.by_label for part in comparing(resolved.recipe)) and _tells_label(rows):
        yield (f"regularisers: {kinds} compares groups of one class, and here the group tells the class of every row; "
               "compare whole groups (given: nothing), or bring rows of each group of each class")  # fmt: skip


def not_comparable(names: Sequence[str], what: str) -> str | None:
    """Why these groups of the training rows cannot be compared; `what` wants to."""
    if not names:
        return (f"{what} compares groups, and no training row with a label has one; name their column (data.group), or "
                "the kinds of people whose mention makes them (data.mentions)")  # fmt: skip
    if len(names) == 1:
        return f"{what} compares groups, and all training rows are of one ('{names[0]}'); leave it out"
    if len(names) > MOST:
        return f"{what} compares at most {MOST} groups, and found {len(names)}; is data.group the right column?"
    return None


def _tells_label(rows: Sequence[Row]) -> bool:
    """No group has rows of two classes."""
    seen: dict[str, Hashable] = {}
    return all(seen.setdefault(row.example.group, row.target) == row.target for row in rows if row.example.group)


def _small(resolved: Resolved, labels: LabelSet | None, rows: Sequence[Row]) -> Iterator[str]:
    """Cells of which a step would have fewer than a penalty needs."""
    for part in comparing(resolved.recipe):
        stratum = _stratum(None, by_label=part.by_label)
        drawn: Counter[Hashable] = Counter()
        for row in rows:
            if row.example.group is not None:
                drawn[stratum(row)] += row.times  # type: ignore[assignment]
        share = min(drawn.values()) / sum(row.times for row in rows)
        rarest = min(drawn, key=lambda cell: drawn[cell])
        if share * resolved.rows_per_step < part.least - ROUNDING:
            name = _cell(rarest, labels)
            wanted = -(-part.least // share)
            yield (f"regularisers: {part.kind} needs {part.least} rows of each group{' and class' * part.by_label} in "
                   f"an update, and of {resolved.rows_per_step} about {share * resolved.rows_per_step:.1f} are of "
                   f"group {name}; --set optimiser.rows_per_step={wanted:.0f}, or draw cells alike "
                   "(data.balance: group_sampling)")  # fmt: skip


def _cell(stratum: Hashable, labels: LabelSet | None) -> str:
    if not isinstance(stratum, tuple):
        return f"'{stratum}'"
    group, target = stratum
    return f"'{group}' and class '{labels.names[target] if labels else target}'"
