"""Of two answers to one prompt the better gets the larger number, by which others can then be judged."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.answers import compared, pairs, preferred


class BradleyTerry(Spec):
    """A reward model (Bradley and Terry 1952; of language models Stiennon et al. 2020, arXiv:2009.01325, equation 1).

    With r the number that a head of one output gives a prompt with an answer, w the chosen and l the rejected answer,
    the loss of a pair is -log sigmoid(r_w - r_l): log 2 where the head says nothing. Only differences within a pair
    count there, so `centring` adds centring (r_w + r_l)^2, which keeps rewards around 0 and makes them comparable over
    prompts (Eisenstein et al. 2023, arXiv:2312.09244, section 2).
    """

    layout: ClassVar[Layout] = Layout.REWARDS

    kind: Literal["reward_model"] = "reward_model"
    centring: NonNegativeFloat = 0.01
    """How firmly the rewards of a pair are held around 0; 0 leaves them where they happen to be."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        rewards_T = outputs.class_logits()[:, 0]
        better_R, worse_R = pairs(rewards_T)
        losses_R = preferred(better_R - worse_R) + self.centring * (better_R + worse_R).square()
        return Terms(losses=losses_R, outputs=outputs, metrics=compared(rewards_T))
