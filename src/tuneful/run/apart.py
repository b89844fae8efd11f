"""Tasks that learn beside one another, each watched by itself: its best weights are kept, and it stops by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from torch import Tensor

from tuneful.adapters.each import AttachedEach
from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.recipe import Recipe
from tuneful.run.each import each_of
from tuneful.run.watch import Watch
from tuneful.schedules import Rollouts


@dataclass(slots=True)
class WatchEach(Watch):
    """`weights` are the best of every task; one that has seen enough keeps what it has, whatever comes after."""

    members: dict[str, Watch] = field(default_factory=dict)  # by task
    ended: set[str] = field(default_factory=set)  # have made all their updates

    def look(self, step: int, metrics: Mapping[str, float], policy: Policy) -> bool:
        assert isinstance(policy.attached, AttachedEach)
        self.seen.append({"step": step, **metrics})
        for task, member in self.members.items():
            own = _of(task, metrics)
            if own and not member.over and member.note(step, own):
                learned = policy.attached.learned_by(task)
                kept = {name: parameter.detach().cpu().clone() for name, parameter in learned.items()}
                self.weights = {**(self.weights or {}), **kept}
                self.best_step = max(self.best_step, step)
        return self.over

    def beside_others(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """A look at some tasks, where the mean of all has the others as they were last seen, so that means of different
        looks are of the same tasks."""
        latest: dict[str, float] = {}
        for look in (*self.seen, metrics):
            latest |= {name: value for name, value in look.items() if "/" in name}
        for name in {name.split("/")[0] for name in latest} & metrics.keys():
            own = [latest[f"{name}/{task}"] for task in self.members if f"{name}/{task}" in latest]
            metrics = {**metrics, name: fmean(own)}
        return dict(metrics)

    def looks_at(self, rows: Sequence[Row]) -> None:
        counts = Counter(row.example.task for row in rows)
        for task, member in self.members.items():
            member.rows = counts[task]

    @property
    def over(self) -> bool:
        """Every task has seen enough or made all its updates, and each was looked at."""
        looked = all(member.best_step or member.worse for member in self.members.values())
        over = (member.over or task in self.ended for task, member in self.members.items())
        return bool(self.members) and looked and all(over)

    def restore(self, policy: Policy) -> None:
        if self.weights is not None:
            policy.attached.load({**policy.attached.state(), **self.weights})
            policy.forget()

    def notes(self) -> dict[str, Any]:
        each = {task: member.notes() for task, member in self.members.items()}
        return {"seen": self.seen, "each": each, "ended": sorted(self.ended)}

    def load(self, notes: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        for task, member in self.members.items():
            member.load(notes["each"][task], None)
        self.best_step = max(member.best_step for member in self.members.values())
        self.seen, self.ended = list(notes["seen"]), set(notes.get("ended", ()))
        self.weights = dict(weights) if weights is not None else None


def watching(recipe: Recipe) -> Watch:
    """The watch of a run."""
    patience = recipe.evaluate.patience
    if tasks := each_of(recipe):
        return WatchEach(patience, members={task: Watch(patience) for task in tasks})
    if isinstance(recipe.schedule, Rollouts):  # nothing may be earned for long before something is
        given = "patience" in recipe.evaluate.model_fields_set
        return Watch(patience if given else 0, later=True)
    return Watch(patience)


def _of(task: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of this task."""
    return {name.removesuffix(f"/{task}"): value for name, value in metrics.items() if name.endswith(f"/{task}")}
