"""What is learned from data of this layout with a model of this kind, where nobody says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Layout
from tuneful.data.formats import PAIRS, Format
from tuneful.models.processors import TextProcessor
from tuneful.objectives import Classify, Grpo, Masked, NextToken, Retrieve
from tuneful.recipe import Recipe
from tuneful.run.few import data_has_names_only, writes
from tuneful.run.preferences import check_form, usual
from tuneful.schedules import Lifelong

Say = Callable[[str], None]
EITHER = (Layout.LABELS, Layout.REWARDS)  # learned by models that write, and by encoders


def reads(recipe: Recipe, form: Format) -> bool:
    """An encoder is wanted, by the data or by the person."""
    given: Objective | None = recipe.task.objective
    if recipe.task.environment is not None:
        return False
    if given is None:
        return has_labels(recipe, form) or form.name == PAIRS
    return not (given.layout.writes or given.layout.rates)


def has_labels(recipe: Recipe, form: Format) -> bool:
    return form.name in ("labelled", "labelled_pair") or data_has_names_only(recipe, form)


def choose_objective(recipe: Recipe, form: Format, folder: Path, say: Say) -> Objective:
    """The objective of the recipe, or the one made for data and model. Raises RecipeError where they do not go
    together."""
    given: Objective | None = recipe.task.objective
    labelled = has_labels(recipe, form)
    if given is None and recipe.task.environment is not None:
        say("an environment judges: objective grpo (--set objective=... changes that)")
        return Grpo()
    if given is None:
        return _in_turn(recipe, _usual(form, folder, labelled, say))
    if given.layout.labelled and not labelled:
        kind = given.kind  # type: ignore[attr-defined]
        raise RecipeError([f"tasks.0.objective: '{kind}' needs a text and a label; the data is in the layout "
                           f"'{form.name}'. Name the columns: --set data.text=... --set data.label=..."])  # fmt: skip
    if given.layout.alone and form.name not in ("labelled", "text"):
        raise RecipeError([f"tasks.0.objective: an encoder learns from plain texts; the data is in the layout "
                           f"'{form.name}'. Name the column: --set data.text=..."])  # fmt: skip
    if given.layout is Layout.CLASSES and form.name != "labelled":
        raise RecipeError([f"tasks.0.objective: 'prototype' learns single texts with labels; the data is in the layout "
                           f"'{form.name}'"])  # fmt: skip
    check_form(given, form, writes=writes(folder))
    if not given.layout.writes and given.layout not in EITHER and writes(folder):
        raise RecipeError(["tasks.0.objective: this is for encoders, and the model writes text; "
                           "give --model an encoder, or learn with objective=next_token"])  # fmt: skip
    if given.layout is Layout.PAIRS:
        _check_finds(form, folder)
    elif form.name == PAIRS:
        raise RecipeError(["tasks.0.objective: the data is queries and documents, from which 'retrieve' learns; leave "
                           "objective out, or name other columns"])  # fmt: skip
    return given


def _in_turn(recipe: Recipe, usual: Objective) -> Objective:
    """Where tasks come one after the other, the classes of each start where their texts lie, unless the adapter's file
    holds no such head."""
    frozen = recipe.quantise is not None or (recipe.adapter is not None and recipe.adapter.freezes)
    if isinstance(usual, Classify) and isinstance(recipe.schedule, Lifelong) and not frozen:
        return usual.model_copy(update={"pooling": "mean"})
    return usual


def _check_finds(form: Format, folder: Path) -> None:
    """Raises RecipeError where there is nothing to find, or nothing to find it with."""
    if form.name != PAIRS:
        raise RecipeError([
            f"tasks.0.objective: 'retrieve' needs queries and documents; the data is in the layout '{form.name}'. "
            "Name the columns: --set data.query=... --set data.positive=..."
        ])  # fmt: skip
    if writes(folder):
        raise RecipeError([
            "model: documents are found by an encoder, and this model writes text; leave --model out, or name an "
            "encoder"
        ])  # fmt: skip


def _usual(form: Format, folder: Path, labelled: bool, say: Say) -> Objective:
    if not form.learns:
        raise RecipeError([
            f"tasks.0.objective: the data is in the layout '{form.name}', and this version has no objective "
            "made for it. --set objective=next_token learns the wanted answers"
        ])  # fmt: skip
    chosen: Objective = Classify() if labelled else NextToken()
    if (preferring := usual(form)) is not None:
        check_form(preferring, form, writes=writes(folder))
        chosen = preferring
    if form.name == PAIRS:
        _check_finds(form, folder)
        chosen = Retrieve()
    if form.name == "text" and not labelled and not writes(folder):
        chosen = Masked()
    say(f"layout {form.name}: objective {chosen.kind} (--set objective=... changes that)")  # type: ignore[attr-defined]
    return chosen


def with_mask(objective: Objective, processor: TextProcessor) -> Objective:
    """The same, knowing the token that hides others. Raises RecipeError where the tokenizer has none."""
    if not isinstance(objective, Masked) or objective.token is not None:
        return objective
    try:
        return objective.model_copy(update={"token": processor.mask_id})
    except DataError as problem:
        raise RecipeError([f"tasks.0.objective: {problem}; objective=contrast needs none"]) from None
