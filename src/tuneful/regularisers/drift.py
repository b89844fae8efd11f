"""Staying near the model one started from."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.units import TOKENS, mean_over_units


class ReferenceKL(Spec):
    """strength * mean over learned tokens of KL(before tuning || now), over the whole vocabulary.

    Learning without Forgetting for next tokens (Li and Hoiem 2016, arXiv:1606.09282, equation 2, temperature 1).
    For generators; a fresh class head has no 'before'.
    """

    suits: ClassVar[frozenset[Answer]] = TOKENS

    kind: Literal["reference_kl"] = "reference_kl"
    strength: PositiveFloat = 0.1
    """Weight beside the loss of the task, which is a mean over tokens too."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        kl_M = terms.outputs.token_kl(policy.reference(batch), batch.targets["where"])
        return self.strength * mean_over_units(kl_M, batch)


class L2SP(Spec):
    """strength / 2 * the squared distance of the weights from where they began, of LoRA that of its whole updates
    (alpha / rank) B A. A new head began nowhere, and is left alone.

    Li et al. 2018, arXiv:1802.01483, equation 5 without its second term.
    """

    measures_weights: ClassVar[bool] = True

    kind: Literal["l2_sp"] = "l2_sp"
    strength: PositiveFloat = 0.01
    """Weight of half the squared distance."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return 0.5 * self.strength * policy.distance()
