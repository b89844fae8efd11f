"""An adapter of its own for every task: what a recipe may say beside it, and what there is then one of a task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from tuneful.adapters import Lora
from tuneful.adapters.each import AttachedEach, attach_each
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Adapter, Attached
from tuneful.core.types import Layout, Row
from tuneful.data.layouts import Collator
from tuneful.engine.each import Updaters
from tuneful.engine.update import Sum, Updater
from tuneful.models.load import Loaded
from tuneful.recipe import Recipe
from tuneful.run.added import attach_turns
from tuneful.schedules import Mixture
from tuneful.schedules.beside import BesideSteps
from tuneful.schedules.epochs import Cut, Epochs, EpochSteps

if TYPE_CHECKING:
    from tuneful.run.prepare import Prepared

KEY = "adapter.each_task"
FOLDER = re.compile(r"\w[\w .-]*")  # what a task may be called that has one
BESIDE = ("tasks.json", "router.safetensors", "readme.md")  # what lies beside these folders
READ = (Layout.TOKENS, Layout.LABELS)  # rows that are told apart by nothing else than themselves
OF_ONE = ("average", "soup", "interpolate", "repair", "regularisers", "sharded")  # of a recipe, about one model


def each_of(recipe: Recipe) -> tuple[str, ...]:
    """The tasks that have adapters of their own, in order; empty where there is one for all."""
    own = isinstance(recipe.adapter, Lora) and recipe.adapter.each_task
    return tuple(task.name for task in recipe.tasks) if own else ()


def check_each(recipe: Recipe) -> None:
    """Raises RecipeError for what adapters of several tasks cannot have, before any row is read."""
    if each_of(recipe) and (problems := list(_against(recipe))):
        raise RecipeError(problems)


def _against(recipe: Recipe) -> Iterator[str]:
    if recipe.start is not None:
        yield f"{KEY}: a run whose tasks have adapters of their own is not taught further; fit the new task alone"
    elif not isinstance(recipe.schedule, Mixture):
        yield f"{KEY}: several tasks learn beside one another, which takes schedule mixture; leave one of the two out"
    if isinstance(recipe.adapter, Lora) and recipe.adapter.dora:
        yield "adapter.dora: measures whole weights, which tasks with adapters of their own share; leave it out"
    usual = Mixture()
    for name in ("temperature", "cap", "apart") if isinstance(recipe.schedule, Mixture) else ():
        if getattr(recipe.schedule, name) != getattr(usual, name):
            yield f"schedule.{name}: each task draws its rows as in a run of its own ({KEY}); leave it out"
    for name in OF_ONE:
        if getattr(recipe, name):
            yield f"{name}: is about one model, and every task has its own here ({KEY}); leave it out"
    if recipe.gradient != Sum():
        yield f"gradient: tasks with adapters of their own share no gradient ({KEY}); leave it out"
    if recipe.optimiser.gradient_checkpointing:
        yield f"optimiser.gradient_checkpointing: not with {KEY}; lower optimiser.micro_tokens instead"
    if recipe.save.merged:
        yield "save.merged: not for several adapters; afterwards: tuneful.load(run, task=NAME).save_merged(folder)"
    asked = recipe.evaluate.bias if isinstance(recipe.evaluate.bias, list) else []
    if asked or recipe.gates.bias_probe_increase:
        yield f"evaluate.bias: a probe asks one model, and every task has its own here ({KEY}); leave it out"
    for number, task in enumerate(recipe.tasks):
        if task.weight != 1:
            yield f"tasks.{number}.weight: each task draws its rows as in a run of its own ({KEY}); leave it out"
        if not FOLDER.fullmatch(task.name):
            yield f"tasks.{number}.name: '{task.name}' will be a folder; take letters, digits, spaces, '_', '.' and '-'"
        elif task.name.lower() in BESIDE:
            yield f"tasks.{number}.name: a file beside the adapters is called '{task.name}'; take another name"
        elif same := next((one.name for one in recipe.tasks[:number] if one.name.lower() == task.name.lower()), None):
            yield (f"tasks.{number}.name: '{task.name}' and '{same}' will be folders, which not every system tells "
                   "apart by capitals; take another name")  # fmt: skip


def check_read(recipe: Recipe, layout: Layout) -> None:
    """Raises RecipeError for rows that are told apart by those beside them."""
    if each_of(recipe) and layout not in READ:
        raise RecipeError([f"{KEY}: is for text to write and for labels; leave it out"])


def settled_each(recipe: Recipe) -> Recipe:
    """Layers are not computed twice, as the second time nobody would say whose tokens are whose; a later run is taught
    nothing, so nothing is kept for it."""
    if not each_of(recipe):
        return recipe
    optimiser = recipe.optimiser.model_copy(update={"gradient_checkpointing": False})
    return recipe.model_copy(update={"optimiser": optimiser, "save": recipe.save.model_copy(update={"memory": 0.0})})


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    return [row for row in rows if row.example.task == task]


def attach(prepared: Prepared, loaded: Loaded, adapter: Adapter) -> Attached:
    """The adapter of a run, or those of its tasks. Raises RecipeError where this model does not read tasks packed."""
    tasks = each_of(prepared.recipe)
    if not tasks or not isinstance(adapter, Lora):
        return attach_turns(prepared.recipe, loaded.module, adapter, labels=prepared.starts_new)
    longest = max((len(row) for part in ("train", "validation", "test") for row in prepared.rows(part)), default=0)
    if not loaded.network.packed or not loaded.network.reaches(longest):
        raise RecipeError([f"{KEY}: rows of several tasks are read packed, which {prepared.recipe.model} does not "
                           "allow; make one run of each task"])  # fmt: skip
    attached = attach_each(adapter, loaded.module, tasks, labels=prepared.starts_new)
    attached.tell_apart(classes_of(prepared))
    return attached


def classes_of(prepared: Prepared) -> dict[str, list[int]]:
    """Of each task those that are its own, where answers are classes."""
    if prepared.labels is None:
        return {}
    rows = [row for part in ("train", "validation", "test") for row in prepared.rows(part)]
    return {
        task: sorted({int(row.target) for row in of_task(rows, task) if row.target is not None})
        for task in each_of(prepared.recipe)
    }


def steps_of(prepared: Prepared, collate: Collator, cut: Cut) -> BesideSteps:
    """Each task's own updates, drawn as in a run of it alone."""
    seed, own = prepared.recipe.seed, prepared.resolved.each
    return BesideSteps.of({
        task: EpochSteps(
            Epochs().learns(of_task(prepared.repeated, task)), collate, replace(cut, rows_per_step=plan.rows_per_step),
            plan.steps, seed,
        )
        for task, plan in own.items()
    })  # fmt: skip


def updaters_of(prepared: Prepared, attached: Attached, **given: Any) -> Updaters:
    """One for each task; `given` is for every one of them."""
    assert isinstance(attached, AttachedEach)
    settings = prepared.recipe.optimiser
    return Updaters({
        task: Updater(settings, attached.learned_by(task), steps=plan.steps, **given)
        for task, plan in prepared.resolved.each.items()
    })  # fmt: skip


def learned_by_each(attached: Attached) -> Mapping[str, Mapping[str, nn.Parameter]]:
    """The weights of each task; empty where there are not several."""
    return {task: attached.learned_by(task) for task in attached.tasks} if isinstance(attached, AttachedEach) else {}
