"""What stands against the regularisers of a recipe, said before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tuneful.adapters import Head
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import (
    Adapter,
    Climbs,
    ComparesGroups,
    ComparesTwins,
    InTurn,
    MeasuresWeights,
    Replaces,
    Suits,
    WeighsTasks,
)
from tuneful.core.types import Answer, Layout, Row
from tuneful.recipe import Recipe
from tuneful.schedules import Lifelong, Mixture

SAID = {
    Answer.TOKENS: "these are tokens",
    Answer.CLASS: "here each is one class",
    Answer.LABELS: "here each is several labels",
    Answer.NUMBER: "these are numbers",
    Answer.CHOICE: "here whole answers are preferred",
    Answer.OWN: "here a model learns from its own",
    Answer.NONE: "an encoder by itself gives none",
}


def answer_of(layout: Layout, rows: Sequence[Row]) -> Answer:
    """What is told of a unit of these rows."""
    if layout in (Layout.TOKENS, Layout.MASKED):
        return Answer.TOKENS
    if layout.prefers or layout.rates:
        return Answer.CHOICE
    if layout.plays:
        return Answer.OWN
    target = next((row.target for row in rows if row.target is not None), None)
    if layout is not Layout.LABELS or target is None:
        return Answer.NONE
    if isinstance(target, np.ndarray):
        return Answer.LABELS
    return Answer.NUMBER if isinstance(target, float | np.floating) else Answer.CLASS


def comparing(recipe: Recipe) -> list[ComparesGroups]:
    """What of a recipe compares groups while it learns."""
    return [part for part in recipe.regularisers if isinstance(part, ComparesGroups)]


def comparing_twins(recipe: Recipe) -> list[ComparesTwins]:
    """What of it compares a row with the same about another group."""
    return [part for part in recipe.regularisers if isinstance(part, ComparesTwins)]


def check_regularisers(recipe: Recipe, adapter: Adapter, answer: Answer) -> None:
    """Raises RecipeError for those that would mean nothing here."""
    problems = []
    for regulariser in recipe.regularisers:
        kind = regulariser.kind
        if isinstance(regulariser, Suits) and answer not in regulariser.suits:
            kinds = ", ".join(sorted(regulariser.suits))
            problems.append(f"regularisers: {kind} is about answers that are {kinds}; {SAID[answer]}; leave it out")
        if isinstance(regulariser, MeasuresWeights) and (recipe.sharded or getattr(adapter, "dora", False)):
            problems.append(f"regularisers: {kind} measures whole weights; leave out sharded and dora")
        if isinstance(regulariser, InTurn) and not isinstance(recipe.schedule, Lifelong):
            problems.append(f"regularisers: {kind} is about earlier tasks; take schedule: lifelong, or `tuneful learn`")
        if isinstance(regulariser, WeighsTasks) and not (
            len(recipe.tasks) > 1 and isinstance(recipe.schedule, Mixture)
        ):
            problems.append(f"regularisers: {kind} weighs tasks that are learned together, with schedule: mixture; "
                            "leave it out")  # fmt: skip
    problems += _problems_of_offsets(recipe)
    problems += _problems_of_soup(recipe, adapter, answer)
    problems += _problems_of_interpolation(recipe, adapter, answer)
    given = [regulariser.kind for regulariser in recipe.regularisers]
    if repeated := sorted({kind for kind in given if given.count(kind) > 1}):
        problems.append(f"regularisers: {', '.join(repeated)} is given twice; give each once")
    others = [kind for kind, part in zip(given, recipe.regularisers, strict=True) if isinstance(part, Replaces)]
    if len(others) > 1:
        problems.append(f"regularisers: {' and '.join(others)} each put another loss in the place of one; keep one")
    if problems:
        raise RecipeError(problems)


def _problems_of_interpolation(recipe: Recipe, adapter: Adapter, answer: Answer) -> Iterator[str]:
    if recipe.interpolate is None:
        return
    if recipe.choose.enabled is True and answer is Answer.CLASS:
        yield "interpolate: ways of learning few labels are compared before the way back is taken; leave choose out"
    if recipe.sharded or getattr(adapter, "dora", False):
        yield "interpolate: the way back to the start needs whole weights; leave out sharded and dora"
    if isinstance(adapter, Head) and answer is not Answer.TOKENS:
        yield "interpolate: under adapter head nothing that was there before learns; leave it out"


def _problems_of_soup(recipe: Recipe, adapter: Adapter, answer: Answer) -> Iterator[str]:
    if not recipe.soup:
        return
    if recipe.sharded or adapter.freezes:
        yield (
            "soup: whole weights are averaged, and the mean of low-rank factors is not that of their products; use "
            "full or top_layers, without sharded"
        )
    if recipe.choose.enabled is True and answer is Answer.CLASS:
        yield "soup: ways of learning few labels are compared by single runs; leave choose out"


def _problems_of_offsets(recipe: Recipe) -> Iterator[str]:
    """Of losses that are counted anew, without what the objective adds to the scores."""
    shifted = recipe.task.data.balance is not None and recipe.task.data.balance.kind == "logits"
    if not shifted and not getattr(recipe.task.objective, "offsets", None):
        return
    for kind in ("mixup", "label_smoothing"):
        if any(part.kind == kind for part in recipe.regularisers):
            yield (f"regularisers: {kind} counts the loss without the head starts of classes (data.balance: logits, "
                   "objective.offsets); leave one of the two out")  # fmt: skip


def check_updates(recipe: Recipe, steps: int) -> None:
    """Raises RecipeError for what changes updates where a head is solved without any."""
    named = [name for name in ("regularisers", "average", "soup", "interpolate") if getattr(recipe, name)]
    named += ["gradient"] if isinstance(recipe.gradient, Climbs) else []
    named += ["schedule.curriculum"] if getattr(recipe.schedule, "curriculum", None) else []
    if named and not steps:
        raise RecipeError([f"{name}: this head is solved at one go, so there are no updates; leave {name} out"
                           for name in named])  # fmt: skip


def check_looked_at(recipe: Recipe, rows: Sequence[Row]) -> None:
    """Raises RecipeError where something is to be found by the validation rows, of which there are none."""
    if recipe.interpolate == "auto" and not rows:
        raise RecipeError(["interpolate: auto asks the validation rows, and there are none; give a number below 1, or "
                           "hold some out (data.validation)"])  # fmt: skip


def check_own_text(recipe: Recipe, layout: Layout) -> None:
    """Raises RecipeError where nothing writes."""
    if isinstance(recipe.schedule, Lifelong) and recipe.schedule.own_text and not layout.writes:
        raise RecipeError(["schedule.own_text: is what a model writes, and an encoder writes nothing; leave it out"])
