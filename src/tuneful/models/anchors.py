"""Classes known by name alone: where their names lie, and what texts without labels say about that.

Everything here ends in a linear head over vectors of unit length, so a model that was never shown a label is saved and
loaded like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneful.models.probe import Probe

SCALE = 20.0  # of cosines, as sentence encoders are trained (Reimers and Gurevych 2019 and their library's default)
DOUBT = 10.0  # rows of each class that are believed to have come as expected before any are seen
PER_CLASS = 10  # unlabelled rows a class from which on they may move a name
ROUNDS = 10


def named(names_CD: Tensor, texts_ND: Tensor, prior_C: Tensor | None = None) -> Probe:
    """A head for classes of which only the names are known: (C, D) vectors of names, (N, D) vectors of texts without
    labels, both of unit length. With few texts the names are only calibrated; with many they move to where the texts
    around them lie, and are calibrated where the person knows how often each class comes (`prior_C`)."""
    if len(texts_ND) < PER_CLASS * len(names_CD):
        return calibrated(names_CD, texts_ND, prior_C)
    moved = refined(names_CD, texts_ND)
    return (
        Probe(SCALE * moved, moved.new_zeros(len(moved))) if prior_C is None else calibrated(moved, texts_ND, prior_C)
    )


def calibrated(anchors_CD: Tensor, texts_ND: Tensor, prior_C: Tensor | None = None) -> Probe:
    """Batch calibration (Zhou et al. 2024, arXiv:2309.17249, equation 3, with the log of the mean probability): a class
    that all texts are drawn to is taken back by as much. Differs from the paper: the mean is damped by DOUBT rows of
    each class, so that a handful of texts changes little, and it aims at `prior_C` instead of equal shares."""
    classes = len(anchors_CD)
    prior = anchors_CD.new_full((classes,), 1 / classes) if prior_C is None else prior_C
    seen = (SCALE * texts_ND @ anchors_CD.T).softmax(1).sum(0) if len(texts_ND) else torch.zeros_like(prior)
    expected = DOUBT * classes * prior
    share = (seen + expected) / (seen.sum() + expected.sum())
    return Probe(SCALE * anchors_CD, prior.clamp(min=1e-9).log() - share.clamp(min=1e-9).log())


def refined(names_CD: Tensor, texts_ND: Tensor, keep: float = 1.0) -> Tensor:
    """Soft k-means on the sphere that starts at the names and is held by them with the weight `keep` of one mean
    (constrained clustering by seeding, Basu et al. 2002; von Mises-Fisher mixtures, Banerjee et al. 2005)."""
    anchors = names_CD
    for _ in range(ROUNDS):
        belongs = (SCALE * texts_ND @ anchors.T).softmax(1)
        anchors = F.normalize(F.normalize(belongs.T @ texts_ND, dim=-1) + keep * names_CD, dim=-1)
    return anchors
