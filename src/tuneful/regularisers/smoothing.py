"""Keeping answers from becoming too sure, or from hanging on what dropout took away."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.dropout import drops
from tuneful.core.policy import Outputs, Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.units import ALL_BUT_NUMBERS, ONE_OF_MANY, TOKENS, entropy, logits_of, mean_over_units


class LabelSmoothing(Spec):
    """A share of every answer is dealt to all answers alike: (1 - strength) * loss + strength * loss against an even
    distribution.

    Szegedy et al. 2016, arXiv:1512.00567, section 7. Of independent labels, each is drawn towards a half.
    """

    suits: ClassVar[frozenset[Answer]] = ALL_BUT_NUMBERS

    kind: Literal["label_smoothing"] = "label_smoothing"
    strength: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return self.strength * mean_over_units(_against_even(terms.outputs, batch) - terms.losses, batch)


class ConfidencePenalty(Spec):
    """Minus strength * mean entropy of the answers' distributions, in nats (Pereyra et al. 2017, arXiv:1701.06548,
    section 3)."""

    suits: ClassVar[frozenset[Answer]] = ALL_BUT_NUMBERS

    kind: Literal["confidence_penalty"] = "confidence_penalty"
    strength: PositiveFloat = 0.1
    """Weight of a nat beside the loss."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        found = logits_of(terms.outputs, batch)
        if found is None:
            spread_U = terms.outputs.token_entropy(batch.targets["where"])
        else:
            spread_U = entropy(found[0], each=found[1])
        return -self.strength * mean_over_units(spread_U, batch)


class Focal(Spec):
    """Answers that are right already count less: (1 - p)^gamma * loss, p the probability of the right answer.

    Lin et al. 2017, arXiv:1708.02002, equation 4. The loss that is shown stays the plain one; the penalty is the rest.
    """

    suits: ClassVar[frozenset[Answer]] = ONE_OF_MANY
    replaces: ClassVar[bool] = True

    kind: Literal["focal"] = "focal"
    gamma: PositiveFloat = 2.0
    """How much less."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        wrong_U = -(-terms.losses).expm1()
        return mean_over_units((wrong_U.clamp(min=1e-6) ** self.gamma - 1) * terms.losses, batch)


class Dft(Spec):
    """Tokens count by how likely they are now: p * loss, with no slope through p (dynamic fine-tuning, Wu et al. 2025,
    arXiv:2508.05629, equation 9). What the model finds unlikely is learned less, instead of most."""

    suits: ClassVar[frozenset[Answer]] = TOKENS
    replaces: ClassVar[bool] = True

    kind: Literal["dft"] = "dft"

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        share_U = (-terms.losses.detach()).exp()
        return mean_over_units((share_U - 1) * terms.losses, batch)


class RDrop(Spec):
    """Two looks at a batch under different dropout should answer alike: strength * (KL(1 || 2) + KL(2 || 1)) / 2.

    Liang et al. 2021, arXiv:2106.14448, equations 2 and 4; the paper sums the loss of both looks, here it is that
    of the first, so its alpha is twice this strength. A second forward and backward pass.
    """

    suits: ClassVar[frozenset[Answer]] = ALL_BUT_NUMBERS

    kind: Literal["r_drop"] = "r_drop"
    strength: PositiveFloat = 1.0
    """Weight of a nat beside the loss."""

    def problems(self, policy: Policy) -> list[str]:
        """A model without dropout answers the same twice."""
        if drops(policy.module):
            return []
        return ["regularisers: r_drop compares two looks under dropout, and nothing of this model drops anything; "
                "leave r_drop out"]  # fmt: skip

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        again = policy.again(batch)
        return 0.5 * self.strength * mean_over_units(_apart(terms.outputs, again, batch), batch)


def _against_even(outputs: Outputs, batch: Batch) -> Tensor:
    """(U,) the loss if all answers were equally right."""
    found = logits_of(outputs, batch)
    if found is None:
        return -outputs.token_mean_logprob(batch.targets["where"])
    logits_RC, each = found
    if each:
        even = logits_RC.new_full(logits_RC.shape, 0.5)
        return F.binary_cross_entropy_with_logits(logits_RC, even, reduction="none").mean(-1)
    return -logits_RC.log_softmax(-1).mean(-1)


def _apart(first: Outputs, second: Outputs, batch: Batch) -> Tensor:
    """(U,) KL(first || second) + KL(second || first), which is what each gains over the other, summed."""
    found = logits_of(first, batch)
    if found is None:
        return first.token_apart(second, batch.targets["where"])
    (one, each), two = found, second.class_logits()
    if each:
        return ((one.sigmoid() - two.sigmoid()) * (one - two)).mean(-1)
    logs_1, logs_2 = one.log_softmax(-1), two.log_softmax(-1)
    return ((logs_1.exp() - logs_2.exp()) * (logs_1 - logs_2)).sum(-1)
