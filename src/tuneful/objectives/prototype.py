"""Rows as vectors by their classes, so that classes which were never learned are told apart by one row each, or few."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms


class Prototype(Spec):
    """Prototypical networks (Snell et al. 2017, arXiv:1703.05175, equations 1 and 2): the class whose mean is nearest.

    Differs from the paper: nearness is the cosine over a temperature, as sentence encoders are made for it, where the
    paper takes the squared distance; and no row is kept for prototypes alone. Every row is asked about against the mean
    of the other rows of its class in the batch, so that a class of N rows is N questions with N - 1 shots each. What is
    read together is part of the objective, as a row is told apart from the classes it is read with.
    """

    layout: ClassVar[Layout] = Layout.CLASSES

    kind: Literal["prototype"] = "prototype"
    temperature: PositiveFloat = 0.05
    """Small: the nearest wrong class counts most."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        _, own_R = batch.targets["labels"].unique(return_inverse=True)
        scores_RC = nearness(outputs.embeddings(), own_R) / self.temperature
        alone_R = torch.bincount(own_R)[own_R] == 1
        losses = F.cross_entropy(scores_RC, own_R, reduction="none").masked_fill(alone_R, 0.0)
        with torch.no_grad():
            asked = (~alone_R).float()
            right = float(((scores_RC.argmax(1) == own_R) * asked).sum() / asked.sum().clamp(min=1))
        return Terms(losses=losses, outputs=outputs, metrics={"accuracy": right})


def nearness(vectors_RD: Tensor, own_R: Tensor) -> Tensor:
    """(R, C) cosine of each row and the mean of each class 0..C-1; of its own class, the mean of the others, and 0
    where there are none. Vectors are of unit length."""
    classes = int(own_R.max()) + 1
    sums_CD = vectors_RD.new_zeros(classes, vectors_RD.shape[1]).index_add(0, own_R, vectors_RD)
    others_RD = sums_CD[own_R] - vectors_RD
    own = (vectors_RD * F.normalize(others_RD, dim=1)).sum(1, keepdim=True)
    return (vectors_RD @ F.normalize(sums_CD, dim=1).T).scatter(1, own_R[:, None], own)
