"""The training loop: a generator of records. Whoever holds it evaluates, saves, prunes or stops."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from tuneful.core.device import give_back_freed_memory, memory_refused, place
from tuneful.core.errors import Diverged, OutOfMemory
from tuneful.core.policy import Policy
from tuneful.core.protocols import Consolidates, GradientRule, Objective, Regulariser, Schedule
from tuneful.core.types import Boundary, Record, Step
from tuneful.engine.update import Sum, Updater, gradient_norm


def fit(
    policy: Policy,
    objectives: Mapping[str, Objective],
    schedule: Schedule,
    optimiser: Updater,
    *,
    regularisers: Sequence[Regulariser] = (),
    gradient: GradientRule | None = None,
    clip: float = 1.0,
    start: int = 0,
) -> Iterator[Record]:
    """One record an update, after `start` updates that are done. Raises Diverged before a bad update is made."""
    gradient = gradient or Sum()
    number, began = start, time.perf_counter()
    for step in schedule.steps(policy, start):
        if isinstance(step, Boundary):
            _consolidate(policy, [*objectives.values(), *regularisers], step)
            yield Record(number, "boundary", step.task)
            continue
        number += 1
        policy.module.train()
        metrics = _within_memory(policy, objectives, step, regularisers, gradient)
        parameters = list(policy.trainable().values())
        gradient.finish(parameters)
        metrics["gradient_norm"] = gradient_norm(parameters, clip)
        _check(number, metrics, policy)
        metrics["learning_rate"] = optimiser.step(number)
        metrics |= {"rows": step.rows, "tokens": step.tokens, "seconds": time.perf_counter() - began}
        yield Record(number, "train", _task(step), metrics)
        began = time.perf_counter()


def _within_memory(
    policy: Policy,
    objectives: Mapping[str, Objective],
    step: Step,
    regularisers: Sequence[Regulariser],
    gradient: GradientRule,
) -> dict[str, float]:
    """`_gradients`, begun again with smaller batches as often as the system refuses memory. Raises OutOfMemory."""
    while True:
        try:
            return _gradients(policy, objectives, step, regularisers, gradient)
        except (RuntimeError, MemoryError) as error:
            if not memory_refused(error):
                raise
        gradient.restart(list(policy.trainable().values()))
        policy.forget()
        give_back_freed_memory()
        if (smaller := step.smaller()) is None:
            raise OutOfMemory(
                "the system refuses the memory for one row of an update; lower data.max_tokens, set "
                "optimiser.gradient_checkpointing=true, or take a smaller model"
            )
        step = smaller


def _gradients(
    policy: Policy,
    objectives: Mapping[str, Objective],
    step: Step,
    regularisers: Sequence[Regulariser],
    gradient: GradientRule,
) -> dict[str, float]:
    """Adds up the gradient of a step. Each task's losses are summed over the whole step and divided once, by the
    units of the whole step, so cutting a step in micro-batches changes nothing; a penalty counts once a step."""
    parameters = list(policy.trainable().values())
    units: dict[str, float] = defaultdict(float)
    for batch in step.batches:
        units[batch.task] += batch.units
    everything = sum(units.values()) or 1.0
    metrics: dict[str, float] = defaultdict(float)
    for batch in (place(batch, policy.device) for batch in step.batches):
        terms = objectives[batch.task](policy, batch)
        share = batch.units / everything
        loss = (terms.losses * batch.weights).sum() / (units[batch.task] or 1.0)
        penalty = share * sum((regulariser(policy, batch, terms) for regulariser in regularisers), loss.new_zeros(()))
        gradient.add(batch.task, loss + penalty, parameters)
        metrics["loss"] += float(loss.detach())
        metrics["units"] += batch.units
        metrics["read"] += batch.tokens
        if regularisers:
            metrics["penalty"] += float(penalty.detach())
        for name, value in terms.metrics.items():
            metrics[name] += value * share
        policy.forget()
    return dict(metrics)


def _check(number: int, metrics: Mapping[str, float], policy: Policy) -> None:
    """Stops before the update when a number is not finite, and says which."""
    if all(math.isfinite(metrics[name]) for name in ("loss", "gradient_norm")):
        return
    if not math.isfinite(metrics["loss"]):
        found = f"the loss of step {number} is {metrics['loss']}"
    else:
        bad = next((name for name, p in policy.trainable().items() if _broken(p)), "some weight")
        found = f"the gradient of step {number} is not finite, first in {bad}"
    raise Diverged(f"{found}; that update was not made. Try a lower optimiser.learning_rate, or --set precision=fp32.")


def _broken(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and not bool(parameter.grad.isfinite().all())


def _consolidate(policy: Policy, components: Sequence[object], boundary: Boundary) -> None:
    for component in components:
        if isinstance(component, Consolidates):
            component.consolidate(policy, boundary)


def _task(step: Step) -> str:
    tasks = {batch.task for batch in step.batches}
    return tasks.pop() if len(tasks) == 1 else "all"
