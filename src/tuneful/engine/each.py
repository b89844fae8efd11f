"""An optimiser for each of several tasks that are learned side by side, none of which knows of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from tuneful.engine.average import RunningAverage
from tuneful.engine.update import Updater


class Updaters(Updater):
    """Every task's weights are clipped by themselves, and stepped by themselves as long as its own run is to last."""

    def __init__(self, members: Mapping[str, Updater]) -> None:
        """`members` by task; no weight is of two."""
        self._members = dict(members)
        self.settings = next(iter(members.values())).settings
        self.steps = max(member.steps for member in members.values())

    def clip(self, most: float) -> float:
        """The longest gradient of a task, or one that is not finite."""
        norms = [member.clip(most) for member in self._members.values()]
        return next((norm for norm in norms if not math.isfinite(norm)), max(norms))

    def step(self, number: int) -> float:
        """One update of whoever is still learning; the highest rate."""
        rates = [member.step(number) for member in self._members.values() if number <= member.steps]
        return max(rates)

    @property
    def average(self) -> RunningAverage | None:
        """None is kept."""
        return None

    def clear(self) -> None:
        for member in self._members.values():
            member.clear()

    def forget(self) -> None:
        for member in self._members.values():
            member.forget()

    def state(self) -> dict[str, Tensor]:
        return {name: value for member in self._members.values() for name, value in member.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for member in self._members.values():
            own = {key: value for key, value in state.items() if member.knows(key.split("/", 1)[1])}
            member.load(own)
