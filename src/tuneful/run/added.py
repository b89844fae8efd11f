"""LoRA where tasks are learned one after the other: what stands against it, how wide it is, and what an earlier run
left in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from tuneful.adapters import Lora
from tuneful.adapters.turns import attach_added, attach_merged, wide
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Adapter, Attached
from tuneful.recipe import Recipe
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.schedules import Lifelong

KEY = "adapter.turns"


def check_turns(recipe: Recipe) -> None:
    """Raises RecipeError for what a LoRA of tasks in turn cannot have, before any row is read."""
    lora = recipe.adapter
    if isinstance(lora, Lora) and lora.turns != "same" and (problems := list(_against(recipe, lora))):
        raise RecipeError(problems)


def _against(recipe: Recipe, lora: Lora) -> Iterator[str]:
    if not isinstance(recipe.schedule, Lifelong):
        yield f"{KEY}: is for tasks that are learned one after the other; take schedule: lifelong, or leave it out"
    if lora.dora:
        yield f"adapter.dora: measures whole weights, of which each task has a part ({KEY}); leave it out"
    if recipe.sharded:
        yield f"sharded: no rank has the whole of what a task learns ({KEY}); leave it out"
    if lora.turns == "added" and recipe.optimiser.weight_decay:
        yield f"optimiser.weight_decay: would wear down what earlier tasks have learned ({KEY}); leave it out"


def rank_of(recipe: Recipe, lora: Lora) -> int:
    """Of the LoRA that lies on the model: with all that was learned before, and room for what is to be."""
    before = _before(recipe, lora)
    if lora.turns != "added":
        return before or lora.rank
    return before + _tasks(recipe) * lora.rank


def attach_turns(recipe: Recipe, module: nn.Module, adapter: Adapter, *, labels: bool) -> Attached:
    """The adapter of a run. Raises RecipeError where it does not go with that of the run it goes on from."""
    if not isinstance(adapter, Lora):
        return adapter.attach(module, labels=labels)
    before = _before(recipe, adapter)
    if adapter.turns == "added":
        return attach_added(adapter, module, labels=labels, before=before, first=_first(recipe), tasks=_tasks(recipe))
    whole = wide(adapter, before) if before else adapter
    if adapter.turns == "merged":
        return attach_merged(whole, module, labels=labels)
    return whole.attach(module, labels=labels)


def _first(recipe: Recipe) -> int:
    """The number of the first task that is learned here."""
    return recipe.schedule.behind if isinstance(recipe.schedule, Lifelong) else 0


def _tasks(recipe: Recipe) -> int:
    """How many are learned here."""
    return len(recipe.tasks) - _first(recipe)


def _before(recipe: Recipe, lora: Lora) -> int:
    """The rank of the LoRA of the run that this one goes on from; 0 without one, or where that would not fit. Raises
    RecipeError where its update counts otherwise than this one's."""
    folder = None if recipe.start is None else RunFolder(Path(recipe.start))
    known = None if folder is None else saved_lora(folder)
    if folder is None or not known:
        return 0
    if lora.turns != "added":
        theirs = recipe_of(folder.read_json(folder.lock)).adapter
        return int(known["r"]) if isinstance(theirs, Lora) and theirs.rank == lora.rank else 0
    was = known["lora_alpha"] / (known["r"] ** 0.5 if known["use_rslora"] else known["r"])
    now = lora.alpha / (lora.rank**0.5 if lora.rslora else lora.rank)
    if abs(was - now) > 1e-6 * was:
        raise RecipeError([f"adapter.alpha: what the run has learned is scaled by {was:g}, and this would be by "
                           f"{now:g}, and they become one adapter; leave rank, alpha and rslora out, or keep alpha / "
                           "rank"])  # fmt: skip
    return int(known["r"])


def saved_lora(folder: RunFolder) -> dict[str, Any]:
    """What PEFT wrote of a run's adapter, which may be wider than its recipe says; empty without one."""
    file = folder.adapter / "adapter_config.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found
