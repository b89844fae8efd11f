"""Queries near their documents, and far from those of other queries."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms


class Retrieve(Spec):
    """InfoNCE over the documents of a batch: which of them belongs to a query?

    van den Oord et al. 2018 (arXiv:1807.03748, equation 4) with the negatives of Karpukhin et al. 2020
    (arXiv:2004.04906, equation 2): the other rows' documents, and every row's own negatives, which all queries are
    asked about. Differs from the papers: scores are cosines over a temperature, and a document that is right for a
    query, in this row or another, is no negative of it. The rows that are computed at once,
    `optimiser.micro_tokens` of them, are each other's negatives, so that how an update is cut is part of the
    objective, as with `contrast`, and one process computes it.
    """

    layout: ClassVar[Layout] = Layout.PAIRS

    kind: Literal["retrieve"] = "retrieve"
    temperature: PositiveFloat = 0.05
    """Small: the nearest wrong document counts most. 0.05 is a scale of 20 in sentence-transformers."""
    symmetric: bool = False
    """Each document is also asked which of the queries belongs to it, and the two losses are averaged."""
    query_prompt: str | None = None
    """What stands before every query. None: what the encoder's folder says, nothing where it says nothing."""
    document_prompt: str | None = None
    """What stands before every document. None: likewise."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs, targets = policy(batch), batch.targets
        vectors_TE = outputs.embeddings()
        queries_RE, documents_DE = vectors_TE[targets["queries"]], vectors_TE[targets["documents"]]
        scores_RD = queries_RE @ documents_DE.T / self.temperature
        own, right_RD = targets["positives"], targets["right"]
        losses = _told_apart(scores_RD, own, right_RD)
        if self.symmetric:
            rows = torch.arange(len(own), device=own.device)
            backwards = _told_apart(scores_RD[:, own].T, rows, right_RD[:, own].T)
            losses = (losses + backwards) / 2
        with torch.no_grad():
            hits_R = (_without(scores_RD, own, right_RD).argmax(1) == own).float()
            found = float((hits_R * batch.weights).sum() / max(batch.units, 1.0))
        return Terms(losses=losses, outputs=outputs, metrics={"found": found})


def _told_apart(scores_RD: Tensor, own_R: Tensor, right_RD: Tensor) -> Tensor:
    """(R,) cross-entropy of each row's own column among those that are wrong."""
    return F.cross_entropy(_without(scores_RD, own_R, right_RD), own_R, reduction="none")


def _without(scores_RD: Tensor, own_R: Tensor, right_RD: Tensor) -> Tensor:
    """The scores without what is right besides a row's own column."""
    others = right_RD.scatter(1, own_R[:, None], False)
    return scores_RD.masked_fill(others, float("-inf"))
