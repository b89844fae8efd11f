"""A built run learns: the one place where the engine is handed what a recipe decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective, Schedule
from tuneful.core.types import OWN_TEXT, Record
from tuneful.engine.fit import fit
from tuneful.objectives.distil import Distil
from tuneful.run.build import Built
from tuneful.run.settle import settle
from tuneful.run.tasks import tasks_of
from tuneful.run.watch import Watch


class Interrupted(Exception):
    """The person asked to stop; everything that was begun is saved."""


def updates(built: Built, schedule: Schedule | None = None, *, start: int = 0) -> Iterator[Record]:
    """Every update from `start` on, of the run's schedule or of one that stands for it."""
    recipe = built.recipe
    return fit(
        built.policy,
        objectives_of(built),
        schedule or built.schedule,
        built.optimiser,
        regularisers=built.regularisers,
        gradient=recipe.gradient,
        clip=recipe.optimiser.clip,
        start=start,
    )


def objectives_of(built: Built) -> dict[str, Objective]:
    """By what batches may be of."""
    if built.parts:
        return {name: part.prepared.resolved.objective for name, part in built.parts.items()}
    return {**dict.fromkeys(tasks_of(built.recipe), built.prepared.resolved.objective), OWN_TEXT: Distil()}


def tried(built: Built, should_stop: Callable[[], bool]) -> Iterator[Record]:
    """The same where nothing of it is saved. Raises Interrupted."""
    for record in updates(built):
        if should_stop():
            raise Interrupted
        yield record
    settle(built, Watch(0))
    built.optimiser.forget()


@contextmanager
def undone(policy: Policy) -> Iterator[None]:
    """What is learned inside is forgotten afterwards."""
    start = {name: tensor.clone() for name, tensor in policy.attached.state().items()}
    yield
    policy.attached.load(start)
    policy.forget()
