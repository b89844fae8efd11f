"""Answering sensitive groups alike: how far apart the answers to them lie, as a penalty.

All three are statistics of the rows that are computed together, so cutting an update in smaller batches changes them:
a small batch says more of chance than of groups. `least` is how many rows of each group (and class) an update must
have; larger `optimiser.micro_tokens` keep them together.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.cells import Cell, Given, mean_over_cells, nothing, problems_of_given, suited
from tuneful.regularisers.cells import cells as cells_of

Width = PositiveFloat | Literal["median"]
NARROWEST = 0.1  # median distance that is believed: a narrower kernel would magnify scores that are all nearly equal


class Mmd(Spec):
    """strength * squared maximum mean discrepancy between the scores of each group and those of all others, mean over
    groups and cells; a score is the probability of each class (of two classes: of the second).

    MinDiff: Prost et al. 2019, arXiv:1910.11779; the biased statistic of Gretton et al. 2012 (JMLR 13), which is
    never below zero, and above it by up to 1/n + 1/m for n and m rows of one distribution. The kernel is
    exp(-d^2 / width^2), as in TensorFlow's MinDiff. Differs: more than two groups.
    """

    kind: Literal["mmd"] = "mmd"
    strength: PositiveFloat = 1.0
    """Weight beside the loss."""
    given: Given = "label"
    """label: groups are compared within each class (equalised odds); positive or negative: within that one of two
    (equal opportunity); nothing: as wholes (demographic parity)."""
    width: Width = 0.1
    """Scores closer than this are near. median: the median distance of the scores that are compared, 0.1 at
    least."""
    least: PositiveInt = 8
    """Rows of each group, and class where these are given, that an update must have."""

    @property
    def suits(self) -> frozenset[Answer]:
        return suited(self.given)

    @property
    def by_label(self) -> bool:
        return self.given != "nothing"

    def problems(self, policy: Policy) -> list[str]:
        """Only one of two classes is the positive one."""
        return problems_of_given(self.kind, self.given, policy)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return self.strength * mean_over_cells(batch, terms, self.given, self._apart)

    def _apart(self, cell: Cell) -> Tensor:
        contrasts_GK = _contrasts(cell)
        return ((contrasts_GK @ _kernel(cell.scores, self.width)) * contrasts_GK).sum(-1).mean()


class Hsic(Spec):
    """strength * Hilbert-Schmidt independence criterion of scores and groups: tr(K H L H) / (n - 1)^2, mean over cells;
    K is exp(-d^2 / width^2) of the scores (see `mmd`), L is 1 where two rows are of one group.

    Gretton et al. 2005 (ALT); as a penalty in FFB (Han et al. 2023, arXiv:2306.09468), where it gave the
    best balance. Not normalised: divided by what scores are with themselves it is steep where all are nearly equal, as
    at the start of a run, and then wins over the loss. Differs: FFB's kernel of two groups is Gaussian too, which makes
    its value 1 - 1/e of this one.
    """

    kind: Literal["hsic"] = "hsic"
    strength: PositiveFloat = 1.0
    """Weight beside the loss."""
    given: Given = "nothing"
    """nothing: scores tell no group (demographic parity); label: none within each class (equalised odds); positive or
    negative: none within that one of two."""
    width: Width = 1.0
    """Scores closer than this are near. median: the median distance of the scores that are compared, 0.1 at
    least."""
    least: PositiveInt = 8
    """Rows of each group, and class where these are given, that an update must have."""

    @property
    def suits(self) -> frozenset[Answer]:
        return suited(self.given)

    @property
    def by_label(self) -> bool:
        return self.given != "nothing"

    def problems(self, policy: Policy) -> list[str]:
        """Only one of two classes is the positive one."""
        return problems_of_given(self.kind, self.given, policy)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return self.strength * mean_over_cells(batch, terms, self.given, self._apart)

    def _apart(self, cell: Cell) -> Tensor:
        scores_KK = _centred(_kernel(cell.scores, self.width))
        groups_KK = _centred((cell.groups[:, None] == cell.groups).to(scores_KK))
        return (scores_KK * groups_KK).sum() / (len(cell.groups) - 1) ** 2


class ParityGap(Spec):
    """strength * |mean probability of a class in a group - that in all others|, over groups and cells.

    Of two groups and two classes it is DiffDP of FFB (Han et al. 2023, arXiv:2306.09468), and given the positive class
    DiffEOpp; given labels, the mean over the classes stands for DiffEOdds. Of more classes half the sum of the
    differences, which for two is the same; of numbers the difference of the means, in standard deviations. Only means
    are compared: spreads may differ.
    """

    kind: Literal["parity_gap"] = "parity_gap"
    strength: PositiveFloat = 1.0
    """Weight beside the loss."""
    given: Given = "nothing"
    """nothing: whole groups (demographic parity); label: within each class (equalised odds); positive or negative:
    within that one of two (equal opportunity)."""
    over: Literal["mean", "max"] = "mean"
    """The mean over groups and cells, or the largest gap alone."""
    least: PositiveInt = 8
    """Rows of each group, and class where these are given, that an update must have."""

    @property
    def suits(self) -> frozenset[Answer]:
        return suited(self.given)

    @property
    def by_label(self) -> bool:
        return self.given != "nothing"

    def problems(self, policy: Policy) -> list[str]:
        """Only one of two classes is the positive one."""
        return problems_of_given(self.kind, self.given, policy)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        gaps = [_gaps(cell) for cell in cells_of(batch, terms, self.given)]
        if not gaps:
            return nothing(terms)
        if self.over == "max":
            return self.strength * torch.cat(gaps).max()
        return self.strength * torch.stack([gap_G.mean() for gap_G in gaps]).mean()


def _gaps(cell: Cell) -> Tensor:
    """(G,) how far each group's mean scores are from those of all others."""
    apart_G = (_contrasts(cell) @ cell.scores).abs().sum(-1)
    return apart_G / 2 if cell.scores.shape[1] > 1 else apart_G


def _contrasts(cell: Cell) -> Tensor:
    """(G, K) what a sum over rows is weighed with to give a group's mean less that of all others."""
    own_GK = (cell.groups.unique()[:, None] == cell.groups).to(cell.scores)
    others_GK = 1 - own_GK
    return own_GK / own_GK.sum(1, keepdim=True) - others_GK / others_GK.sum(1, keepdim=True)


def _kernel(scores_KS: Tensor, width: Width) -> Tensor:
    """(K, K) how near each score is to each other one, 1 = equal."""
    squared_KK = (scores_KS[:, None] - scores_KS).square().sum(-1)
    reach = _median_distance(squared_KK) if width == "median" else width
    return (-squared_KK / reach**2).exp()


def _median_distance(squared_KK: Tensor) -> float:
    """Of all pairs; a number, with no slope through it."""
    above = torch.ones_like(squared_KK, dtype=torch.bool).triu(1)
    return max(NARROWEST, float(squared_KK.detach()[above].median()) ** 0.5)


def _centred(kernel_KK: Tensor) -> Tensor:
    """H K H, with H = I - 1/n."""
    return kernel_KK - kernel_KK.mean(0) - kernel_KK.mean(1, keepdim=True) + kernel_KK.mean()
