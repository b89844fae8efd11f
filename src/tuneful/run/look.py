"""A look at the validation rows on the way."""

from __future__ import annotations

from collections.abc import Generator

from tuneful.core.types import Record
from tuneful.run.build import Built
from tuneful.run.losses import looked_at, validation_metrics
from tuneful.run.settle import averaged
from tuneful.run.watch import Watch


def look(built: Built, watch: Watch, step: int) -> Generator[Record, None, bool]:
    """Measures the validation rows when it is time; returns whether to stop."""
    recipe, resolved = built.recipe, built.prepared.resolved
    due = step % resolved.look_every == 0 or step == len(built.schedule)
    due = due and built.turns is None  # rows of tasks that are yet to come would decide
    rows = looked_at(built) if recipe.evaluate.enabled and due else []
    if not rows:
        return False
    watch.looks_at(rows)
    with averaged(built):
        with built.policy.gathered():
            metrics = validation_metrics(built, rows)
        over = watch.look(step, metrics, built.policy)
    yield Record(step, "validation", recipe.about, metrics)
    return over
