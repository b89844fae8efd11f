"""Texts as vectors without labels: two views of one text are near, those of different texts are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch.nn import functional as F

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.noise import chances, shortened


class Contrast(Spec):
    """SimCSE (Gao et al. 2021, arXiv:2104.08821, equation 1): which of the batch's other views belongs to a text?

    In the paper the two views differ by dropout alone; here the second also lacks some tokens, the noise of TSDAE (Wang
    et al. 2021, arXiv:2104.06979, section 3), so that a text is not known by its length. The texts that are computed
    at once, `optimiser.micro_tokens` of them, are each other's opposites, so that how an update is cut is part of the
    objective here, unlike anywhere else, and one process computes it.
    """

    layout: ClassVar[Layout] = Layout.TEXTS

    kind: Literal["contrast"] = "contrast"
    temperature: PositiveFloat = 0.05
    """Small: the nearest wrong text counts most."""
    deleted: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the tokens that the second view lacks; 0: dropout alone tells the views apart."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        ids, where = batch.inputs["input_ids"], batch.targets["where"]
        gone = torch.zeros(ids.shape[1], dtype=torch.bool, device=ids.device)
        gone[where] = chances(policy, batch) < self.deleted
        other = policy(replace(batch, inputs=shortened(batch.inputs, gone)))
        scores_RR = outputs.embeddings() @ other.embeddings().T / self.temperature
        own = torch.arange(len(scores_RR), device=scores_RR.device)
        with torch.no_grad():
            found = float((scores_RR.argmax(1) == own).float().mean())
        return Terms(
            losses=F.cross_entropy(scores_RR, own, reduction="none"), outputs=outputs, metrics={"found": found}
        )
