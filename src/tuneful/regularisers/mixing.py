"""Learning between rows."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.units import OF_ROWS, mean_over_units


class Mixup(Spec):
    """Rows of a batch are mixed two by two, lambda to 1 - lambda, and so are their answers; lambda is drawn from
    Beta(alpha, alpha) for each.

    Zhang et al. 2018, arXiv:1710.09412, equation 1, on the vectors that the last layer of the head reads (senMixup of
    Guo et al. 2019, arXiv:1905.08941): that layer is linear, so its answers are mixed here, which is the same. Rows
    are mixed with those that are computed together, so larger `optimiser.micro_tokens` mix more widely.
    """

    suits: ClassVar[frozenset[Answer]] = OF_ROWS
    replaces: ClassVar[bool] = True

    kind: Literal["mixup"] = "mixup"
    alpha: PositiveFloat = 0.4
    """How evenly: near 0 rows stay as they are, at 1 every share is as likely."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        logits_RC, labels = terms.outputs.class_logits(), batch.targets["labels"]
        rows = torch.nonzero(batch.weights > 0).flatten()
        other = rows[torch.randperm(len(rows), device=rows.device)]
        drawn = torch.distributions.Beta(self.alpha, self.alpha).sample((len(rows),))
        share_R1 = drawn.to(logits_RC)[:, None]
        mixed_RC = share_R1 * logits_RC[rows] + (1 - share_R1) * logits_RC[other]
        truth_RC = _as_numbers(labels, logits_RC.shape[1]).to(logits_RC)
        wanted_RC = share_R1 * truth_RC[rows] + (1 - share_R1) * truth_RC[other]
        losses_U = terms.losses.index_copy(0, rows, _losses(mixed_RC, wanted_RC, labels))
        return mean_over_units(losses_U - terms.losses, batch)


def _as_numbers(labels: Tensor, classes: int) -> Tensor:
    """(R, C) what each answer should be."""
    if labels.dim() == 2:
        return labels
    return labels[:, None] if labels.is_floating_point() else F.one_hot(labels, classes)


def _losses(logits_RC: Tensor, wanted_RC: Tensor, labels: Tensor) -> Tensor:
    """(R,) as the objective `classify` counts."""
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits_RC, wanted_RC, reduction="none").mean(-1)
    if labels.is_floating_point():
        return 0.5 * (logits_RC - wanted_RC).square().mean(-1)
    return F.cross_entropy(logits_RC, wanted_RC, reduction="none")
