"""A look at the validation rows on the way."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from statistics import fmean

from tuneful.core.types import Record, Row
from tuneful.run.apart import WatchEach
from tuneful.run.build import Built
from tuneful.run.losses import looked_at, validation_metrics
from tuneful.run.settle import averaged
from tuneful.run.watch import Watch

LEAST = 0.1  # nats


def look(built: Built, watch: Watch, step: int) -> Generator[Record, None, bool]:
    """Measures the validation rows when it is time; returns whether to stop."""
    recipe = built.recipe
    due = _due(built, step) and built.turns is None  # rows of tasks that are yet to come would decide
    if not (recipe.evaluate.enabled and due):
        return False
    parts = (built.parts or {recipe.about: built}).items()
    rows = {name: found for name, part in parts if (found := looked_at(part, None if built.parts else step))}
    if not rows:
        return False
    watch.looks_at([row for own in rows.values() for row in own])
    with averaged(built):
        with built.policy.gathered():
            metrics = _metrics(built, rows, watch)
        if isinstance(watch, WatchEach):
            watch.ended = _ended(built, step)
            metrics = watch.beside_others(metrics)
        over = watch.look(step, metrics, built.policy)
    yield Record(step, "validation", recipe.about, metrics)
    return over


def _due(built: Built, step: int) -> bool:
    resolved = built.prepared.resolved
    if resolved.each and not built.parts:  # one of few updates is looked at as often as one of many
        return any(own.due(step) for own in resolved.each.values())
    return step % resolved.look_every == 0 or step == len(built.schedule)


def _ended(built: Built, step: int) -> set[str]:
    """Tasks that have made all their updates while others go on."""
    each, last = built.prepared.resolved.each, len(built.schedule)
    return {task for task, own in each.items() if own.steps <= step and own.steps < last}


def _metrics(built: Built, rows: Mapping[str, list[Row]], watch: Watch) -> dict[str, float]:
    """Of tasks of one kind as the objective has them. Of several kinds the loss of each, as `loss/NAME`, and as `loss`
    the mean of what they are beside those of the first look, as losses of different kinds have no common unit; a first
    loss below `LEAST` counts as that, or a task that was nearly solved would decide alone."""
    if not built.parts:
        return validation_metrics(built, rows[built.recipe.about])
    losses = {name: validation_metrics(built.parts[name], own)["loss"] for name, own in rows.items()}
    named = {f"loss/{name}": loss for name, loss in losses.items()}
    first = watch.seen[0] if watch.seen else named
    return {"loss": fmean(loss / max(first[name], LEAST) for name, loss in named.items()), **named}


def of_part(seen: Sequence[Mapping[str, float]], name: str) -> Iterator[dict[str, float]]:
    """What looks at a whole run saw of one of its kinds of task."""
    for look in seen:
        if f"loss/{name}" in look:
            yield {"step": look["step"], "loss": look[f"loss/{name}"]}
