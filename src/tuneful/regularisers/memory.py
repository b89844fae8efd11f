"""Holding on to what was learned in earlier tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.earlier import Earlier
from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import FORGOTTEN, Answer, Batch, Boundary, Terms
from tuneful.regularisers.units import ONE_OF_MANY, mean_over_units


class Previous(Spec):
    """Answers stay near those of the model as it was when the last task had ended: strength * T^2 * mean KL(then ||
    now), over the classes that were known then, whatever rows are read. No row of earlier tasks is needed.

    Learning without Forgetting (Li and Hoiem 2016, arXiv:1606.09282, equations 2 and 3; T^2 as in Hinton et al. 2015,
    arXiv:1503.02531, section 2). Of text, the KL of next tokens at the tokens that are learned, without T: it holds the
    new task back as well. One more forward pass, and memory for a copy of what learns (under LoRA also for the frozen
    weights in the order of their products). For `schedule: lifelong` and `tuneful learn`; before the first task has
    ended it says nothing, nor does it of rows that are to be forgotten, whose answers are to change.
    """

    suits: ClassVar[frozenset[Answer]] = ONE_OF_MANY
    in_turn: ClassVar[bool] = True
    measures_weights: ClassVar[bool] = True

    kind: Literal["previous"] = "previous"
    strength: PositiveFloat = 1.0
    """Weight beside the loss of the task, which is a mean over units too."""
    temperature: PositiveFloat = 2.0
    """T: above 1 what was unlikely counts more. For classes."""

    def begin(self, counts_GC: np.ndarray) -> RunningPrevious:
        """At work in one run."""
        return RunningPrevious(self)


class RunningPrevious:
    """The model as it was at the last boundary, in one run."""

    def __init__(self, settings: Previous) -> None:
        self._settings = settings
        self._earlier: Earlier | None = None
        self._known: int | None = None  # classes, then

    def consolidate(self, policy: Policy, boundary: Boundary) -> None:
        self._earlier, self._known = Earlier(policy), boundary.classes

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        if self._earlier is None or batch.task.startswith(FORGOTTEN):
            return terms.losses.new_zeros(())
        then = self._earlier(batch)
        if self._known is None:
            apart_U = terms.outputs.token_kl(then, batch.targets["where"])
        else:
            apart_U = self._classes_apart(then.all_class_logits(), terms.outputs.all_class_logits())
        return self._settings.strength * mean_over_units(apart_U, batch)

    def _classes_apart(self, then_RC: Tensor, now_RC: Tensor) -> Tensor:
        """(R,) nats, times T^2."""
        heat = self._settings.temperature
        then_RK, now_RK = ((logits[:, : self._known] / heat).log_softmax(-1) for logits in (then_RC, now_RC))
        return heat**2 * (then_RK.exp() * (then_RK - now_RK)).sum(-1)

    def state(self) -> Mapping[str, Any]:
        return {"known": self._known}

    def load(self, state: Mapping[str, Any]) -> None:
        self._known = state.get("known")

    def tensors(self) -> Mapping[str, Tensor]:
        return {} if self._earlier is None else self._earlier.tensors()

    def restore(self, policy: Policy, tensors: Mapping[str, Tensor]) -> None:
        self._earlier = Earlier(policy) if tensors else None
        if self._earlier is not None:
            self._earlier.load(tensors)
