"""The training loop: a generator of records. Whoever holds it evaluates, saves, prunes or stops."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from tuneful.core.device import give_back_freed_memory, memory_refused, place, world
from tuneful.core.errors import Diverged, OutOfMemory, RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import (
    Advances,
    Climbs,
    Consolidates,
    Disturbs,
    GradientRule,
    KeepsGradients,
    Measures,
    Objective,
    Objects,
    Regulariser,
    Replaces,
    Schedule,
    Starts,
)
from tuneful.core.ranks import add_up, totals
from tuneful.core.sharded import is_sharded, whole
from tuneful.core.types import Batch, Boundary, Record, Step, Terms
from tuneful.engine.update import Sum, Updater

GAVE_UP = "gave_up"  # among what ranks tell one another of an update


def fit(
    policy: Policy,
    objectives: Mapping[str, Objective],
    schedule: Schedule,
    optimiser: Updater,
    *,
    regularisers: Sequence[Regulariser] = (),
    gradient: GradientRule | Starts | None = None,
    clip: float = 1.0,
    start: int = 0,
) -> Iterator[Record]:
    """One record an update, after `start` updates that are done. Raises Diverged before a bad update is made,
    and RecipeError before the first where the gradient rule cannot be used."""
    gradient = _at_work(gradient or Sum(), policy, start)
    number, began = start, time.perf_counter()
    for step in schedule.steps(policy, start):
        if isinstance(step, Boundary):
            ended = replace(step, objective=objectives.get(step.task))
            _consolidate(policy, [*objectives.values(), *regularisers], ended)
            yield Record(number, "boundary", step.task)
            continue
        number += 1
        policy.module.train()
        metrics, fitting = _gradients(policy, objectives, step, regularisers, gradient)
        parameters = list(policy.trainable().values())
        if isinstance(gradient, Climbs):
            _add_up(gradient, sorted(objectives), parameters)  # all ranks climb to the same place
            before = gradient.climb(parameters)
            try:
                _gradients(policy, objectives, fitting, regularisers, gradient)
            finally:
                gradient.back(parameters, before)
        _add_up(gradient, sorted(objectives), parameters)
        gradient.finish(parameters)
        metrics |= gradient.measured() if isinstance(gradient, Measures) else {}
        metrics["gradient_norm"] = optimiser.clip(clip)
        _check(number, metrics, policy)
        metrics["learning_rate"] = optimiser.step(number)
        for regulariser in regularisers:
            if isinstance(regulariser, Advances):
                regulariser.advance()
        metrics |= {"rows": step.rows, "tokens": step.tokens, "seconds": time.perf_counter() - began, **step.metrics}
        yield Record(number, "train", _task(step), metrics)
        began = time.perf_counter()


def _at_work(gradient: GradientRule | Starts, policy: Policy, done: int) -> GradientRule:
    if isinstance(gradient, Objects) and (problems := gradient.problems(policy)):
        raise RecipeError(problems)
    return gradient.at_work(done) if isinstance(gradient, Starts) else gradient


def _gradients(
    policy: Policy,
    objectives: Mapping[str, Objective],
    step: Step,
    regularisers: Sequence[Regulariser],
    gradient: GradientRule,
) -> tuple[dict[str, float], Step]:
    """This rank's part of the gradient of a step. Each task's losses are summed over the whole step and divided once,
    by the units of the whole step on all ranks, so cutting a step in micro-batches changes nothing; a penalty counts
    once a step, a loss in place of another as that would. The metrics are those of all ranks.

    As often as the system refuses memory, it begins again with smaller batches; the step is returned as it fitted.
    Raises OutOfMemory."""
    units = totals(_units(step, objectives))
    parameters = list(policy.trainable().values())
    # Ranks that share weights out make their passes together, so none can begin again, or end in peace, alone.
    alone = not any(map(is_sharded, parameters)) or world() == 1
    found: dict[str, float] = {GAVE_UP: 1.0}
    tried: Step | None = step
    while tried is not None:
        step = tried
        try:
            found = _passes(policy, objectives, step, regularisers, gradient, units)
            break
        except (RuntimeError, MemoryError) as error:
            if not (alone and memory_refused(error)):
                raise
        gradient.restart(parameters)
        for regulariser in regularisers:
            if isinstance(regulariser, Advances):
                regulariser.restart()
        policy.forget()
        give_back_freed_memory()
        tried = tried.smaller()
    found = totals(found)
    if found.pop(GAVE_UP, 0.0):
        raise OutOfMemory(
            "the system refuses the memory for an update; lower data.max_tokens or optimiser.micro_tokens, set "
            "optimiser.gradient_checkpointing=true, or take a smaller model"
        )
    return found, step


def _units(step: Step, tasks: Iterable[str]) -> dict[str, float]:
    """Of each task, in the batches of a step."""
    found = dict.fromkeys(tasks, 0.0)
    for share in (share for batch in step.batches for share in batch.shares):
        found[share.task] += share.counted
    return found


def _losses(batch: Batch, terms: Terms, units: Mapping[str, float]) -> dict[str, Tensor]:
    """What this batch adds to the loss of each of its tasks."""
    weighted = terms.losses * batch.weights
    found: dict[str, Tensor] = {}
    for share in batch.shares:
        more = weighted[share.units].sum() / (units[share.task] or 1.0)
        found[share.task] = found[share.task] + more if share.task in found else more
    return found


def _passes(
    policy: Policy,
    objectives: Mapping[str, Objective],
    step: Step,
    regularisers: Sequence[Regulariser],
    gradient: GradientRule,
    units: Mapping[str, float],
) -> dict[str, float]:
    """Forward and backward over the batches; `units` are those of the whole step by task."""
    parameters = list(policy.trainable().values())
    everything, alongside = sum(units.values()) or 1.0, sum(map(bool, units.values())) or 1
    metrics: dict[str, float] = defaultdict(float, loss=0.0, units=0.0, read=0.0)  # of a step without batches, too
    learned = [task for task, count in units.items() if count]
    by_task = len(learned) > 1 or any(batch.beside for batch in step.batches)  # of several, the last to end too
    if by_task:
        metrics |= {f"{name}/{task}": 0.0 for task in learned for name in ("loss", "read")}
    for batch in (place(batch, policy.device) for batch in step.batches):
        share, own = batch.units / everything, batch.units / (units[batch.task] or 1.0)
        reader = policy.of(batch.task)
        with policy.gathered(), disturbed(regularisers, reader, batch):
            terms = objectives[batch.task](reader, batch)
            losses = _losses(batch, terms, units)
            loss = torch.stack([*losses.values()]).sum()
            penalty = loss.new_zeros(())
            for regulariser in regularisers:  # what stands in the place of a loss is divided as that loss is
                part = own if isinstance(regulariser, Replaces) else share
                penalty = penalty + part * regulariser(reader, batch, terms)
            gradient.add(batch.task, loss + penalty, parameters)
        metrics["loss"] += float(loss.detach()) / (alongside if batch.beside else 1)
        metrics["units"] += batch.units
        metrics["read"] += batch.tokens
        for task, own_loss in losses.items() if by_task else ():
            metrics[f"loss/{task}"] += float(own_loss.detach())
        if by_task and not batch.beside:
            metrics[f"read/{batch.task}"] += batch.tokens
        if regularisers:
            metrics["penalty"] += float(penalty.detach())
        for name, value in terms.metrics.items():
            metrics[name] += value * share
        policy.forget()
    return metrics


@contextmanager
def disturbed(regularisers: Sequence[Regulariser], policy: Policy, batch: Batch) -> Iterator[None]:
    with ExitStack() as stack:
        for regulariser in regularisers:
            if isinstance(regulariser, Disturbs):
                stack.enter_context(regulariser.during(policy, batch))
        yield


def _add_up(gradient: GradientRule, tasks: Sequence[str], parameters: Sequence[nn.Parameter]) -> None:
    """Sums what each rank has found. Of sharded weights that has been done in the backward pass."""
    own = [parameter for parameter in parameters if not is_sharded(parameter)]
    if world() == 1 or not own:
        return
    known = torch.tensor([float(parameter.grad is not None) for parameter in own], device=own[0].device)
    add_up([known])
    learned = [parameter for parameter, ranks in zip(own, known.tolist(), strict=True) if ranks]
    for parameter in learned:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    kept = gradient.kept(tasks, own) if isinstance(gradient, KeepsGradients) else ()
    add_up([*(parameter.grad for parameter in learned if parameter.grad is not None), *kept])


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
    return parameter.grad is not None and not bool(whole(parameter.grad).isfinite().all())


def _consolidate(policy: Policy, components: Sequence[object], boundary: Boundary) -> None:
    for component in components:
        if isinstance(component, Consolidates):
            component.consolidate(policy, boundary)


def _task(step: Step) -> str:
    tasks = {batch.task for batch in step.batches}
    return tasks.pop() if len(tasks) == 1 else "all"
