"""Answers that are wanted become likelier, others less likely, with no need for two answers to one prompt."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.answers import Told, before, told


class Kto(Spec):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306, equation 8).

    The reward of an answer is r = log(p / p before tuning), and z = max(0, the mean of log(p / p before) over answers
    to other prompts in the batch), an estimate of how far the model has moved that gets no gradient. The loss of a
    wanted answer is weight (1 - sigmoid(beta (r - z))), of another one weight (1 - sigmoid(beta (z - r))).

    Differs from the paper: which answer a prompt is mismatched with is settled before training (the next row of the
    file that is asked something else), so that p before tuning is computed once for it too, and two answers to one
    prompt are never taken for mismatched. z is a statistic of the rows that are computed at once
    (`optimiser.micro_tokens`), so how an update is cut is part of this objective, and one process computes it.
    """

    layout: ClassVar[Layout] = Layout.JUDGED

    kind: Literal["kto"] = "kto"
    beta: PositiveFloat = 0.1
    """How firmly the model is held where it was: large, and it moves less."""
    wanted: PositiveFloat | None = None
    """Weight of a wanted answer. None: the one with which wanted and unwanted training rows count alike in all."""
    unwanted: PositiveFloat = 1.0
    """Weight of another one."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        gained_T = told(outputs, batch).sums - before(policy, batch)
        mates_K = gained_T[batch.targets["mates"]].detach()
        moved = mates_K.mean().clamp(min=0) if len(mates_K) else gained_T.new_zeros(())
        gained_R, wanted_R = gained_T[batch.targets["own"]], batch.targets["wanted"]
        signed_R = torch.where(wanted_R, gained_R - moved, moved - gained_R)
        weights_R = torch.where(wanted_R, 1.0 if self.wanted is None else self.wanted, self.unwanted)
        right = ((gained_R.detach() > moved) == wanted_R).float().mean()
        metrics = {"accuracy": float(right), "moved": float(moved)}
        return Terms(losses=weights_R * (1 - (self.beta * signed_R).sigmoid()), outputs=outputs, metrics=metrics)

    def rewards(self, now: Told, before_T: Tensor) -> Tensor:
        """(T,) of each answer; `before_T` is its log p before tuning."""
        return self.beta * (now.sums - before_T)
