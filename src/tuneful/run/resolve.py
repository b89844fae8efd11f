"""Every default of a recipe that depends on data, model or machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tuneful.adapters import Full, Head, Lora
from tuneful.core.device import machine, world
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Adapter, Draws, Objective, Pools
from tuneful.core.types import Layout, Row
from tuneful.data.names import Name
from tuneful.models.size import Size
from tuneful.recipe import Recipe
from tuneful.run.defaults import by_amount
from tuneful.run.each import check_read, each_of, of_task
from tuneful.run.regularised import answer_of, check_regularisers, comparing
from tuneful.schedules import Lifelong, Rollouts

MOST_TOKENS = 4096  # of an update whose size nobody named
MASKED_TOKENS = 2048  # the same where one in three tokens teaches anything, if there are rows for twenty an epoch
LOOKS = 10  # at the validation rows, a run
LEAST_EPOCHS = 5  # of labels
# Of the adapter's rate, where a batch may undo much of what an encoder knows.
CAREFUL = {
    Layout.TEXTS: 0.02, Layout.REBUILT: 0.02, Layout.CLASSES: 0.2, Layout.PAIRS: 0.2,
    Layout.PREFERENCES: 0.1, Layout.JUDGED: 0.1, Layout.ROLLOUTS: 0.1,  # of LoRA's rate too
}  # fmt: skip
JUDGED_ROWS = 16  # of an update: the more, the surer how far the model has moved in all
DECODER_RATE = 1e-3  # of a layer that starts from nothing beside an encoder that learns carefully
PAIRED_TOKENS = 8192  # of an update of pairs, all computed at once, as its rows are each other's negatives
PAIRED_SHARE = 0.8  # of these, that rows of mean length fill, so that one of longer rows seldom has to be cut
IN_TURN = 0.25  # of that rate, where each task should leave what those before have learned (docs/log.md)
POOLED_ROWS, POOLED_STEPS, POOLED_RATE = 64, 40, 0.4  # of a head that starts right: large updates, few, and careful


@dataclass(frozen=True, slots=True)
class OwnPlan:
    """How a task learns that learns by itself, beside others."""

    rows_per_step: int
    steps: int
    look_every: int

    def due(self, step: int) -> bool:
        """Whether it is looked at after this update; never once it has ended."""
        return step == self.steps or (step < self.steps and step % self.look_every == 0)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a recipe leaves open, decided. `recipe` says the same in the recipe's own fields."""

    recipe: Recipe
    objective: Objective
    adapter: Adapter
    steps: int
    epochs: float
    rows_per_step: int
    look_every: int
    save_every: int
    precision: Literal["fp32", "bf16"]
    each: Mapping[str, OwnPlan] = field(default_factory=dict)  # by task, where each learns an adapter of its own


def resolve(
    recipe: Recipe, objective: Objective, limit: int, rows: Sequence[Row], size: Size, count: int | None = None
) -> Resolved:
    """`limit` is the longest row in tokens, `rows` those of training, or some of `count`."""
    if recipe.sharded:
        _check_sharded(recipe)
    count, mean = (len(rows), mean_tokens(rows)) if count is None else (count, mean_tokens(rows, examples=True))
    labelled = objective.layout is Layout.LABELS
    reads = not objective.layout.writes and not (objective.layout.rates and size.causal)
    adapter: Adapter = recipe.adapter or (Full() if reads and recipe.quantise is None else Lora())
    pooled = pools(objective)
    answer = answer_of(objective.layout, rows)
    check_regularisers(recipe, adapter, answer)
    if not pooled:
        recipe = by_amount(recipe, adapter, answer, rows, count, size)
    if reads and objective.layout is not Layout.LABELS:
        _check_encoder(recipe, adapter, objective.layout)
    if objective.layout in (Layout.PAIRS, Layout.JUDGED) or comparing(recipe):
        recipe = _at_once(recipe)
    if pooled:
        _check_pooled(adapter)
    per_step = recipe.optimiser.rows_per_step or _rows_per_step(
        recipe.optimiser.tokens_per_step, count, mean, objective.layout, pooled
    )
    if isinstance(recipe.schedule, Rollouts):
        per_step = recipe.schedule.prompts
    per_step = max(1, min(per_step, count // _in_turn(recipe)))
    if isinstance(recipe.schedule, Draws):
        recipe, per_step = _drawn(recipe, recipe.schedule, rows)
    per_epoch = max(1, -(-count // per_step)) * getattr(recipe.schedule, "updates", 1)
    once = objective.layout.prefers or objective.layout.plays
    usual = 1.0 if once else _epochs(count, labelled)
    steps = 0 if pooled and isinstance(adapter, Head) else _steps(recipe, per_epoch, pooled, usual)
    each = _each(recipe, rows, objective.layout)
    if each:
        per_step, steps = sum(own.rows_per_step for own in each.values()), max(own.steps for own in each.values())
    every = _look_every(recipe, steps)
    resolved = Resolved(
        recipe=recipe,
        objective=objective,
        adapter=adapter,
        steps=steps,
        epochs=sum(own.steps * own.rows_per_step for own in each.values()) / count if each else steps / per_epoch,
        rows_per_step=per_step,
        look_every=every,
        save_every=recipe.checkpoint.every or every,
        precision=machine().fastest if recipe.precision == "auto" else recipe.precision,
        each=each,
    )
    careful = CAREFUL.get(objective.layout, 1.0) if not adapter.freezes or once else 1.0
    rate = adapter.rate(size.width) * (POOLED_RATE if pooled else careful)
    rate *= IN_TURN if pooled and isinstance(recipe.schedule, Lifelong) else 1.0
    return _written_out(resolved, limit, recipe.optimiser.learning_rate or rate)


def _each(recipe: Recipe, rows: Sequence[Row], layout: Layout) -> dict[str, OwnPlan]:
    """What a run of each task alone would decide; empty where they learn together, or in turn."""
    check_read(recipe, layout)
    found: dict[str, OwnPlan] = {}
    if isinstance(recipe.schedule, Lifelong):  # one after the other
        return found
    for task in each_of(recipe):
        own, given = of_task(rows, task), recipe.optimiser
        if not own:
            raise RecipeError([f"tasks: {task} has no training row to learn, so its adapter would learn nothing; hold "
                               "fewer rows out, or leave that task out"])  # fmt: skip
        per_step = given.rows_per_step or _rows_per_step(
            given.tokens_per_step, len(own), mean_tokens(own), layout, pooled=False
        )
        per_step = max(1, min(per_step, len(own)))
        steps = _steps(recipe, max(1, -(-len(own) // per_step)), False, _epochs(len(own), layout is Layout.LABELS))
        found[task] = OwnPlan(per_step, steps, _look_every(recipe, steps))
    return found


def _look_every(recipe: Recipe, steps: int) -> int:
    return recipe.evaluate.every or max(1, round(steps / LOOKS))


def _in_turn(recipe: Recipe) -> int:
    """How many tasks are learned one after the other."""
    return len(recipe.tasks) - recipe.schedule.behind if isinstance(recipe.schedule, Lifelong) else 1


def _steps(recipe: Recipe, per_epoch: int, pooled: bool, usual: float) -> int:
    """`usual` epochs, unless the person says how many, or a head starts right."""
    schedule = recipe.schedule
    if pooled and not (schedule.steps or schedule.epochs):
        return int(schedule.rounds * max(_in_turn(recipe) * POOLED_STEPS, schedule.usual_epochs * per_epoch))
    return schedule.steps or max(1, round((schedule.epochs or usual) * per_epoch))


def pools(objective: Objective) -> bool:
    """The class head of this objective reads the mean of a text's hidden states."""
    return isinstance(objective, Pools) and objective.pooling == "mean"


def _check_pooled(adapter: Adapter) -> None:
    if adapter.freezes:
        raise RecipeError([
            f"adapter: the class head reads the mean of a text here (objective.pooling=mean, which choosing a way "
            f"takes too), and a file of '{adapter.kind}' holds no such head; use full, top_layers or head"  # type: ignore[attr-defined]
        ])  # fmt: skip


def _check_encoder(recipe: Recipe, adapter: Adapter, layout: Layout) -> None:
    """What comes out is an encoder, which is saved whole and tuned further."""
    problems = []
    if layout.alone and (adapter.freezes or recipe.quantise is not None):
        problems.append(
            "adapter: an encoder that learns from texts alone is there to be tuned further, so its weights learn; "
            "use full or top_layers, without quantise"
        )
    elif recipe.quantise is not None:
        problems.append("quantise: an encoder is saved whole, with what was learned in its weights; leave quantise out")
    if layout.vectors and isinstance(adapter, Head):
        problems.append("adapter: there is no head here, so nothing would learn; use full, top_layers or lora")
    if layout.compares and world() > 1:
        problems.append("objective: rows that are told apart are computed together; this objective takes one process")
    if problems:
        raise RecipeError(problems)


def _drawn(recipe: Recipe, schedule: Draws, rows: Sequence[Row]) -> tuple[Recipe, int]:
    """How many rows the schedule puts in a step, which is computed at once unless the person says otherwise. Raises
    RecipeError where the optimiser is told of other rows, or there is nothing to draw."""
    per_step, given = schedule.drawn(rows), recipe.optimiser
    if len({row.target for row in rows}) < 2:
        raise RecipeError(["schedule: fewer than two classes have several different rows, so nothing can be told "
                           "apart; give more rows of each class"])  # fmt: skip
    if given.tokens_per_step is not None or given.rows_per_step not in (None, per_step):
        raise RecipeError([f"optimiser: schedule.classes and schedule.rows say how many rows a step has ({per_step}); "
                           "leave optimiser.rows_per_step and tokens_per_step out"])  # fmt: skip
    return _at_once(recipe, per_step * max(map(len, rows))), per_step


def _at_once(recipe: Recipe, tokens: int = PAIRED_TOKENS) -> Recipe:
    """An update of rows that are told apart is not cut, unless the person says where or memory asks for it."""
    if "micro_tokens" in recipe.optimiser.model_fields_set:
        return recipe
    return recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"micro_tokens": tokens})})


def _check_sharded(recipe: Recipe) -> None:
    problems = {
        "save.merged: not while the model is sharded; afterwards: tuneful.load(run).save_merged(folder)": (
            recipe.save.merged
        ),
        "quantise: quantised weights are not sharded; leave out one of the two": recipe.quantise is not None,
    }
    if any(problems.values()):
        raise RecipeError([words for words, found in problems.items() if found])


def _written_out(found: Resolved, limit: int, rate: float) -> Resolved:
    """The same with `recipe` filled in, for the lock file."""
    recipe = found.recipe
    tasks = [
        task.model_copy(
            update={"data": task.data.model_copy(update={"max_tokens": limit}), "objective": found.objective}
        )
        for task in recipe.tasks
    ]
    optimiser: dict[str, Any] = {"learning_rate": rate, "rows_per_step": found.rows_per_step}
    schedule = {"epochs": found.epochs or None, "steps": found.steps or None}
    looks: dict[str, Any] = {"every": found.look_every}
    if isinstance(recipe.schedule, Rollouts):  # the schedule says how many rows an update has
        optimiser = {"learning_rate": rate}
    if found.each:  # every task has its own, which is found again from what was given
        optimiser, schedule, looks = {"learning_rate": rate}, {}, {}
    if found.objective.layout is Layout.REBUILT and "head_rate" not in recipe.optimiser.model_fields_set:
        optimiser["head_rate"] = DECODER_RATE / rate
    changes: dict[str, Any] = {
        "name": recipe.name
        or "-".join(Path(Name.of(task.data.sources[0].path).path).name.split(".")[0] for task in recipe.tasks[:3]),
        "adapter": found.adapter,
        "precision": found.precision,
        "tasks": tasks,
        "schedule": recipe.schedule.model_copy(update=schedule),
        "optimiser": recipe.optimiser.model_copy(update=optimiser),
        "evaluate": recipe.evaluate.model_copy(update=looks),
        "checkpoint": recipe.checkpoint.model_copy(update={"every": found.save_every}),
    }
    return replace(found, recipe=recipe.model_copy(update=changes))


def mean_tokens(rows: Sequence[Row], *, examples: bool = False) -> float:
    """Of a row, or of an example, which may be cut in several rows."""
    return max(1.0, sum(map(len, rows)) / max(1, len({row.example.place for row in rows} if examples else rows)))


def _rows_per_step(tokens_per_step: int | None, rows: int, mean: float, layout: Layout, pooled: bool) -> int:
    """About a hundred updates an epoch where the rows allow it: LoRA learns more from many small updates."""
    if tokens_per_step is not None:
        return max(1, round(tokens_per_step / mean))
    if layout is Layout.MASKED:
        return max(8, min(round(MASKED_TOKENS / mean), rows // 20))
    if layout is Layout.PAIRS:
        return max(2, min(POOLED_ROWS, int(PAIRED_SHARE * PAIRED_TOKENS / mean)))
    if layout is Layout.JUDGED:
        return max(2, min(JUDGED_ROWS, int(PAIRED_SHARE * PAIRED_TOKENS / mean)))
    if pooled or layout in (Layout.TEXTS, Layout.REBUILT):
        return max(1, min(POOLED_ROWS, int(MOST_TOKENS / mean)))
    low, high = (4, 16) if layout.writes or layout.rates else (8, 32)
    return min(max(low, min(high, round(rows / 100))), max(1, int(MOST_TOKENS / mean)))


def _epochs(rows: int, labelled: bool) -> float:
    """Enough to see about 50,000 labels; three times for text, which is over-learned sooner."""
    return float(max(LEAST_EPOCHS, min(20, round(50_000 / max(1, rows))))) if labelled else 3.0
