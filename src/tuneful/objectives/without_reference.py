"""Of two answers to one prompt the better becomes likelier than the worse, whatever the model was before tuning."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.answers import Told, compared, log_odds, pairs, preferred, told


class Orpo(Spec):
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691, equations 6 and 7): the loss of the
    chosen answer, a token, and `weight` times -log sigmoid(log odds of the chosen - log odds of the rejected answer),
    the odds of the mean log-probability of its tokens. It learns to answer and to prefer at once, so it suits a base
    model."""

    layout: ClassVar[Layout] = Layout.PREFERENCES

    kind: Literal["orpo"] = "orpo"
    weight: PositiveFloat = 0.1
    """Of what is preferred, beside the loss of the chosen answer (lambda in the paper)."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        now = told(outputs, batch)
        odds_T = log_odds(now.means)
        better_R, worse_R = pairs(odds_T)
        losses_R = -pairs(now.means)[0] + self.weight * preferred(better_R - worse_R)
        return Terms(losses=losses_R, outputs=outputs, metrics=compared(odds_T))

    def rewards(self, now: Told, before_T: Tensor) -> Tensor:
        """(T,) of each answer, whatever it was before."""
        return log_odds(now.means)


class Simpo(Spec):
    """Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734, equation 6): -log sigmoid(r_w - r_l - gamma),
    where the reward of an answer is r = beta times the mean log-probability of its tokens. With no reference nothing
    holds the model where it was but a small learning rate."""

    layout: ClassVar[Layout] = Layout.PREFERENCES

    kind: Literal["simpo"] = "simpo"
    beta: PositiveFloat = 2.5
    """Scale of the rewards."""
    gamma: NonNegativeFloat = 1.375
    """By how much the chosen answer is to win."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        rewards_T = self.beta * told(outputs, batch).means
        better_R, worse_R = pairs(rewards_T)
        losses_R = preferred(better_R - worse_R - self.gamma)
        return Terms(losses=losses_R, outputs=outputs, metrics=compared(rewards_T))

    def rewards(self, now: Told, before_T: Tensor) -> Tensor:
        """(T,) of each answer, whatever it was before."""
        return self.beta * now.means
