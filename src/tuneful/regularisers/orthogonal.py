"""What a task changes reads other directions than what earlier tasks changed."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.turns import AddsFactors
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.units import ONE_OF_MANY


class Orthogonal(Spec):
    """The LoRA of a task is kept orthogonal to those of earlier tasks: strength * sum over layers and earlier tasks i
    of |A_i A_t'|^2, the squares of all products of a row of one with a row of the other (O-LoRA, Wang et al. 2023,
    arXiv:2310.14152, L_orth of section 3; their released code adds up absolute values). Squares fall off as the aim is
    reached; the slope of absolute values does not, and outweighs that of the loss where the gradient is clipped.

    No row of earlier tasks is needed, and nothing is kept but their LoRA. For `adapter: {kind: lora, turns: added}`
    under `schedule: lifelong` or `tuneful learn`; while the first task is learned it says nothing.
    """

    suits: ClassVar[frozenset[Answer]] = ONE_OF_MANY
    in_turn: ClassVar[bool] = True
    measures_weights: ClassVar[bool] = True

    kind: Literal["orthogonal"] = "orthogonal"
    strength: NonNegativeFloat = 0.5
    """Weight beside the loss of the task; 0 = the tasks' factors lie as they like."""

    def problems(self, policy: Policy) -> list[str]:
        """There must be factors for each task."""
        if isinstance(policy.attached, AddsFactors):
            return []
        return ["regularisers: orthogonal keeps the LoRA of a task apart from those of earlier tasks, and here tasks "
                "have none of their own; --set adapter.kind=lora --set adapter.turns=added"]  # fmt: skip

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        total = terms.losses.new_zeros(())
        if not self.strength or not isinstance(policy.attached, AddsFactors):
            return total
        for earlier_KI, own_RI in policy.attached.factors():
            total = total + (earlier_KI @ own_RI.T).square().sum()
        return self.strength * total
