"""Answering a text and the same about another group alike."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.cells import nothing
from tuneful.regularisers.units import OF_ROWS, TOKENS


class CounterfactualPairing(Spec):
    """strength * mean over the rows with a twin of |logits - the twin's|, mean over classes. A twin is the same text
    with words of one group put in the place of those of another; it is read in the same batch and never learned.

    Counterfactual logit pairing: Garg et al. 2019, arXiv:1809.10610. Differs: one twin a visit stands for
    the mean over all. A generator's logit is the mean log-likelihood, in nats, of the tokens that are learned: |that of
    the row - that of its twin|. A row whose side or whose twin's side has no such token is left out. Needs no labels.
    """

    suits: ClassVar[frozenset[Answer]] = OF_ROWS | TOKENS

    kind: Literal["counterfactual_pairing"] = "counterfactual_pairing"
    strength: PositiveFloat = 1.0
    """Weight beside the loss."""
    squared: bool = False
    """The square of the difference in place of its size: large ones count more, small ones hardly."""
    axes: tuple[str, ...] | None = None
    """Along which groups are exchanged (gender, religion, ...). None: all that are known."""
    across: bool = False
    """A group of one kind may stand for one of another (`augment: counterfactual` has the same)."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        twin_R = batch.targets.get("twin")
        if twin_R is None:
            return nothing(terms)
        answers_RC, told_R = _answers(batch, terms, len(twin_R))
        rows = torch.nonzero((twin_R >= 0) & told_R & told_R[twin_R]).flatten()
        if not len(rows):
            return nothing(terms)
        apart_KC = answers_RC[rows] - answers_RC[twin_R[rows]]
        return self.strength * (apart_KC.square() if self.squared else apart_KC.abs()).mean()


def _answers(batch: Batch, terms: Terms, count: int) -> tuple[Tensor, Tensor]:
    """(R, C) what should be alike of `count` rows, and (R,) which of them say anything."""
    if "labels" in batch.targets:
        logits_RC = terms.outputs.class_logits()
        return logits_RC, torch.ones(count, dtype=torch.bool, device=logits_RC.device)
    rows_M = batch.targets["rows"]
    tokens_R = torch.bincount(rows_M, minlength=count)
    sums_R = terms.losses.new_zeros(count).index_add(0, rows_M, -terms.losses)
    return (sums_R / tokens_R.clamp(min=1))[:, None], tokens_R > 0
