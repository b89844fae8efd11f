"""Staying near the model one started from."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Terms


class ReferenceKL(Spec):
    """strength * mean over learned tokens of KL(before tuning || now), over the whole vocabulary.

    Learning without Forgetting for next tokens (Li and Hoiem 2016, arXiv:1606.09282, equation 2, temperature 1).
    For generators; a fresh class head has no 'before'.
    """

    kind: Literal["reference_kl"] = "reference_kl"
    strength: PositiveFloat = 0.1
    """Weight beside the loss of the task, which is a mean over tokens too."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        kl_M = terms.outputs.token_kl(policy.reference(batch), batch.targets["where"])
        return self.strength * (kl_M * batch.weights).sum() / batch.weights.sum().clamp(min=1.0)
