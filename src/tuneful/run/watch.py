"""Whether training goes on: the validation rows decide, and the best weights are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Row

ROUNDING = 1e-6  # sums of many rows in another order differ by as much


@dataclass(slots=True)
class Watch:
    """Early stopping. For classes accuracy decides where it differs by more than chance, one standard error of the
    looked-at rows; between equals, and for all else, the loss decides."""

    patience: int
    later: bool = False  # of equal looks the later is better
    rows: int = 0  # looked at each time
    best: tuple[float, float] = (float("inf"), float("inf"))  # what is watched, smaller is better
    best_step: int = 0
    weights: dict[str, Tensor] | None = None
    worse: int = 0
    seen: list[dict[str, float]] = field(default_factory=list)

    def look(self, step: int, metrics: Mapping[str, float], policy: Policy) -> bool:
        """Notes one look at the validation rows; True when enough looks have brought nothing better."""
        self.seen.append({"step": step, **metrics})
        if self.note(step, metrics):
            self.weights = None  # first: both at once would be a second copy of the model
            self.weights = {name: tensor.cpu().clone() for name, tensor in policy.attached.state().items()}
        return self.over

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether this is the best there was."""
        now = (-metrics.get("accuracy", 0.0), metrics["loss"])
        if not self._better(now):
            self.worse += 1
            return False
        self.best, self.best_step, self.worse = now, step, 0
        return True

    def looks_at(self, rows: Sequence[Row]) -> None:
        """What each look measures."""
        self.rows = len(rows)

    def _better(self, now: tuple[float, float]) -> bool:
        share = min(max(-self.best[0], 0.0), 1.0)
        chance = math.sqrt(share * (1 - share) / self.rows) if self.rows else 0.0
        if abs(now[0] - self.best[0]) > chance + ROUNDING:
            return now[0] < self.best[0]
        return now[1] < self.best[1] or (self.later and now[1] == self.best[1])

    @property
    def over(self) -> bool:
        """Enough looks in a row brought nothing better."""
        return bool(self.patience) and self.worse >= self.patience

    def restore(self, policy: Policy) -> None:
        """Gives the policy the best weights seen."""
        if self.weights is not None:
            policy.attached.load(self.weights)
            policy.forget()

    def notes(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights."""
        return {"best": list(self.best), "best_step": self.best_step, "worse": self.worse, "seen": self.seen}

    def load(self, notes: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        first, second = notes["best"]
        self.best, self.best_step, self.worse = (
            (float(first), float(second)),
            notes["best_step"],
            notes["worse"],
        )
        self.seen = list(notes["seen"])
        self.weights = dict(weights) if weights is not None else None
