"""How much each of several tasks counts while they are learned together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.ranks import gathered
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Terms
from tuneful.regularisers.units import mean_over_units


class Uncertainty(Spec):
    """Tasks count by one over their loss: sum over tasks of w * mean loss, with w ~ 1 / (mean loss of late).

    Kendall et al. 2018, arXiv:1705.07115, equation 7 learns s of sum exp(-s) * loss + s; the best s is log(loss), which
    gives this weight at once (Kirchdorfer et al. 2024, arXiv:2408.07985, section 3.2). Differs: the weights are scaled
    to a mean of 1 over the tasks, so that the learning rate keeps its meaning, and a running mean of the updates
    before this one stands for the loss. The first update of a task counts 1. The loss that is shown stays the plain
    one; the penalty is the rest.
    """

    replaces: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    kind: Literal["uncertainty"] = "uncertainty"
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the running mean that one more update leaves."""

    def begin(self, counts_GC: np.ndarray) -> RunningUncertainty:
        """At work in one run."""
        return RunningUncertainty(self)


class RunningUncertainty:
    """The losses of the tasks of late. Whoever makes the updates says `advance` after each."""

    replaces: ClassVar[bool] = True

    def __init__(self, settings: Uncertainty) -> None:
        self._settings = settings
        self._means: dict[str, float] = {}
        self._now: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # loss and units of this update

    def weight(self, task: str) -> float:
        """1 before the task was learned once."""
        if self._means.get(task, 0.0) <= 0:
            return 1.0
        whole = [1 / mean for mean in self._means.values() if mean > 0]
        return len(whole) / self._means[task] / sum(whole)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        found = self._now[batch.task]
        found[0] += float((terms.losses.detach() * batch.weights).sum())
        found[1] += batch.units
        return (self.weight(batch.task) - 1) * mean_over_units(terms.losses, batch)

    def advance(self) -> None:
        """An update was made, of however many batches on whatever rank; said again, it does nothing. All ranks say so
        together."""
        ranks = gathered({task: tuple(found) for task, found in self._now.items()})
        for task in sorted({task for rank in ranks for task in rank}):
            loss, units = (sum(rank[task][place] for rank in ranks if task in rank) for place in (0, 1))
            if units:
                kept = self._settings.memory if task in self._means else 0.0
                self._means[task] = kept * self._means.get(task, 0.0) + (1 - kept) * loss / units
        self.restart()

    def restart(self) -> None:
        self._now.clear()

    def state(self) -> Mapping[str, Any]:
        return {"means": dict(self._means)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._means = dict(state.get("means", {}))
