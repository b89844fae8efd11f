"""Tasks of several kinds over one body: each prepared as a run of its own would be, all of them built as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.joint import JointAttached, share_body
from tuneful.core.device import prepare_process, seed_everything, seed_own
from tuneful.core.joint import Joint
from tuneful.core.policy import Policy
from tuneful.core.types import Layout
from tuneful.engine.cost import Cost
from tuneful.recipe import Recipe
from tuneful.run.build import (
    Built,
    check_parts,
    collator_of,
    cost,
    loaded_with_adapter,
    policy_over,
    schedule_of,
    told_of,
    updater_of,
)
from tuneful.run.groups import begun, names_of
from tuneful.run.kinds import weight_of
from tuneful.run.prepare import Prepared
from tuneful.run.regularised import comparing
from tuneful.run.resolve import LOOKS
from tuneful.run.tasks import sha256_of
from tuneful.run.vary import tokens_seen
from tuneful.schedules.together import TogetherSteps

Say = Callable[[str], None]
Kinds = Mapping[str, Prepared]


def counts_of(recipe: Recipe, kinds: Kinds) -> dict[str, int]:
    """Updates that rows of each kind are part of: as many as a run of its own would make, times its weight; with
    `schedule.steps` in proportion, the most frequent in all of so many. Raises nothing: every kind has one at least."""
    wished = {name: weight_of(kind.recipe) * kind.resolved.steps for name, kind in kinds.items()}
    scale = (recipe.schedule.steps or max(wished.values())) / max(wished.values())
    return {name: max(1, round(scale * count)) for name, count in wished.items()}


def joined(recipe: Recipe, kinds: Kinds) -> Prepared:
    """What is decided of the run as a whole, beside the tasks themselves: the first kind's, but for what is said here.
    All learn at the lowest of the rates that the kinds would take, and heads that start from nothing at the highest."""
    first, counts = next(iter(kinds.values())), counts_of(recipe, kinds)
    steps = max(counts.values())
    every = recipe.evaluate.every or max(1, round(steps / LOOKS))
    save = recipe.checkpoint.every or every
    decided = [kind.recipe for kind in kinds.values()]
    whole = recipe.model_copy(update={
        "name": recipe.name or "-".join(task.name for task in recipe.tasks[:3]),
        "model": first.recipe.model,
        "adapter": first.recipe.adapter,
        "precision": first.recipe.precision,
        "tasks": [task for one in decided for task in one.tasks],
        "schedule": recipe.schedule.model_copy(update={"steps": steps, "epochs": None}),
        "optimiser": recipe.optimiser.model_copy(update=_rates(recipe, decided)),
        "evaluate": recipe.evaluate.model_copy(update={"every": every}),
        "checkpoint": recipe.checkpoint.model_copy(update={"every": save}),
    })  # fmt: skip
    resolved = replace(first.resolved, recipe=whole, steps=steps, look_every=every, save_every=save)
    return replace(first, resolved=resolved, data_sha256=sha256_of([kind.data_sha256 for kind in kinds.values()]))


def _rates(recipe: Recipe, decided: Iterable[Recipe]) -> dict[str, Any]:
    rates = [float(one.optimiser.learning_rate or 0) for one in decided]
    head = recipe.optimiser.head_rate if "head_rate" in recipe.optimiser.model_fields_set else max(rates) / min(rates)
    checkpointing = any(one.optimiser.gradient_checkpointing for one in decided)
    return {"learning_rate": min(rates), "head_rate": head, "gradient_checkpointing": checkpointing}


def build_joint(recipe: Recipe, kinds: Kinds, say: Say = lambda _: None) -> Built:
    """Loads the model once for each kind and has all stand on one body. Everything random comes from the seed."""
    prepare_process()
    seed_everything(recipe.seed)
    whole = joined(recipe, kinds)
    policy, views = _policies(kinds, say)
    for view in views.values():
        check_parts([*whole.recipe.regularisers], view)
    counts = counts_of(recipe, kinds)
    kinds = {name: _as_learned(kind, whole.recipe, counts[name]) for name, kind in kinds.items()}
    rows = [row for kind in kinds.values() for row in kind.repeated]
    collates = {name: collator_of(kind, views[name], name) for name, kind in kinds.items()}
    if comparing(whole.recipe):  # groups of all kinds are counted together, so they are numbered alike
        collates = {name: replace(collate, groups=names_of(rows)) for name, collate in collates.items()}
    schedules = {name: schedule_of(kind, views[name], collates[name]) for name, kind in kinds.items()}
    policy.module.train()
    schedule = TogetherSteps(schedules, counts, max(counts.values()))  # type: ignore[arg-type]
    told = told_of(policy, [(views[name], kind) for name, kind in kinds.items()])
    optimiser = updater_of(whole.recipe, policy, len(schedule), **told)
    at_work = begun(whole.recipe, rows)
    parts = {
        name: Built(kind, views[name], collates[name], schedules[name], optimiser, at_work, cost(kind, views[name]))
        for name, kind in kinds.items()
    }
    seed_own(recipe.seed)
    first = next(iter(parts.values()))
    return Built(whole, policy, first.collate, schedule, optimiser, at_work, _cost(parts, len(schedule)), parts)


def _as_learned(kind: Prepared, whole: Recipe, steps: int) -> Prepared:
    """The kind as it is learned here: so many updates, at the rates of the run."""
    resolved = kind.resolved
    epochs = steps * resolved.rows_per_step / max(1, len(kind.repeated))
    rates = {name: getattr(whole.optimiser, name) for name in ("learning_rate", "head_rate")}
    recipe = resolved.recipe.model_copy(update={
        "optimiser": resolved.recipe.optimiser.model_copy(update=rates),
        "schedule": resolved.recipe.schedule.model_copy(update={"steps": steps, "epochs": epochs or None}),
    })  # fmt: skip
    return replace(kind, resolved=replace(resolved, recipe=recipe, steps=steps, epochs=epochs))


def _policies(kinds: Kinds, say: Say) -> tuple[Policy, dict[str, Policy]]:
    """All that write are read by one model."""
    writer = next((name for name, kind in kinds.items() if kind.layout.writes), None)
    own = [name for name, kind in kinds.items() if name == writer or not kind.layout.writes]
    loaded = {name: loaded_with_adapter(kinds[name], say) for name in own}
    attached = {name: found for name, (_, found) in loaded.items()}
    share_body(list(attached.values()))  # type: ignore[arg-type]
    if (seen := _seen(kinds)) is not None:
        body = next(iter(attached.values()))
        assert isinstance(body, AttachedWeights)
        body.see(seen)
    views = {name: policy_over(kinds[name], *loaded[name]) for name in own}
    views = {name: views[name if name in views else str(writer)] for name in kinds}
    return Joint(views, JointAttached(list(attached.values()))), views  # type: ignore[arg-type]


def _seen(kinds: Kinds) -> torch.Tensor | None:
    """The tokens that any kind learns from, where the rest of an embedding need not learn."""
    narrows = not any(
        kind.resolved.adapter.freezes or kind.recipe.optimiser.weight_decay or kind.layout in (Layout.MASKED,)
        or kind.layout.writes for kind in kinds.values()
    )  # fmt: skip
    seen = [tokens_seen(kind) for kind in kinds.values()] if narrows else [None]
    known = [torch.from_numpy(ids) for ids in seen if ids is not None]
    return torch.cat(known) if len(known) == len(seen) else None


def _cost(parts: Mapping[str, Built], steps: int) -> Cost:
    """That of all, in so many updates."""
    costs = [part.cost for part in parts.values()]
    return Cost(
        steps=steps,
        seconds=round(sum(one.seconds for one in costs), 1),
        memory_mb=max(one.memory_mb for one in costs),
        tflop=sum(one.tflop for one in costs),
        gflops=costs[0].gflops,
    )
