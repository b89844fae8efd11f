"""Classes known by name alone: where their names lie, and what texts without labels say about that.

Everything here ends in a linear head over vectors of unit length, so a model that was never shown a label is saved and
loaded like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneful.models.probe import Probe

SPREAD = 3.0  # logits of a text deviate by as much from class to class; cosines of some encoders lie all near 0.8
DOUBT = 10.0  # rows of each class that are believed to have come as expected before any are seen
PER_CLASS = 10  # unlabelled rows a class from which on they may move a name
ROUNDS = 10


def named(names_CD: Tensor, texts_ND: Tensor, prior_C: Tensor | None = None) -> Probe:
    """A head for classes of which only the names are known: (C, D) vectors of names, (N, D) vectors of texts without
    labels, both of unit length. What all of them have in common is taken out first. With few texts the names are then
    only calibrated; with many they move to where the texts around them lie, and are calibrated where the person knows
    how often each class comes (`prior_C`)."""
    centre = torch.cat([texts_ND, names_CD]).mean(0)
    anchors, texts = F.normalize(names_CD - centre, dim=-1), texts_ND - centre
    spread = (texts @ anchors.T).std(1).mean() if len(texts) else (anchors @ anchors.T).std()
    scale = SPREAD / spread.clamp(min=1e-3)
    many = len(texts) >= PER_CLASS * len(anchors)
    if many:
        anchors = refined(anchors, texts, scale)
    bias = -scale * (anchors @ centre)
    if prior_C is not None or not many:
        bias = bias + correction(scale * texts @ anchors.T, prior_C)
    return Probe(scale * anchors, bias)


def correction(logits_NC: Tensor, prior_C: Tensor | None = None, *, doubt: float = DOUBT) -> Tensor:
    """(C,) what batch calibration adds (Zhou et al. 2024, arXiv:2309.17249, equation 3, with the log of the mean
    probability): a class that all texts are drawn to is taken back by as much. Differs from the paper: the mean is
    damped by `doubt` rows of each class, so that a handful of texts changes little, and it aims at `prior_C` instead of
    equal shares."""
    classes = logits_NC.shape[1]
    prior = logits_NC.new_full((classes,), 1 / classes) if prior_C is None else prior_C
    seen, expected = logits_NC.softmax(1).sum(0), doubt * classes * prior
    share = (seen + expected) / (seen.sum() + expected.sum())
    return prior.clamp(min=1e-9).log() - share.clamp(min=1e-9).log()


def refined(names_CD: Tensor, texts_ND: Tensor, scale: Tensor | float, keep: float = 1.0) -> Tensor:
    """Soft k-means on the sphere that starts at the names and is held by them with the weight `keep` of one mean
    (constrained clustering by seeding, Basu et al. 2002; von Mises-Fisher mixtures, Banerjee et al. 2005)."""
    anchors = names_CD
    for _ in range(ROUNDS):
        belongs = (scale * texts_ND @ anchors.T).softmax(1)
        anchors = F.normalize(F.normalize(belongs.T @ texts_ND, dim=-1) + keep * names_CD, dim=-1)
    return anchors
