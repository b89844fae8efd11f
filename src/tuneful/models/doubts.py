"""What two views believe of rows that neither has learned: a linear head, and a row's neighbours.

The head is regularised least squares on memberships, solved in closed form (Rifkin and Klautau 2004, "In defense of
one-vs-all classification", section 3): as good a judge of noisy labels as logistic regression, in a hundredth of the
time (docs/concepts/coach.md)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tuneful.models.confident import believed

NEIGHBOURS = 10
SHARPNESS = 8.0  # power of a cosine as the weight of a neighbour, as where labels spread (models/propagation.py)
PENALTY, SCALE = 1.0, 10.0  # of the head's weights; of what it gives, as logits
UNSEEN = 1e-3  # share of a class that no neighbour has, so that the head can still speak for it
BLOCK = 2048  # rows compared with all others at once: bounds memory


@dataclass(frozen=True, slots=True)
class Beliefs:
    """`shares` (N, C) by both views; `near` (N, K) places of a row's nearest neighbours, -1 where there is none."""

    shares: Tensor
    near: Tensor


def beliefs(
    vectors_ND: Tensor, given_N: Tensor, folds: np.ndarray, units: Sequence[Hashable], *, classes: int
) -> Beliefs:
    """Of each row by a head that has not seen its fold, and by neighbours that are not of its unit; all vectors of unit
    length."""
    members = F.one_hot(given_N, classes).float()
    logits = SCALE * unseen(vectors_ND, members, folds)
    near, weights = neighbours(vectors_ND, vectors_ND, _numbered(units))
    return Beliefs(_both(logits, votes(members, near, weights)), near)


def beliefs_of(asked_MD: Tensor, vectors_ND: Tensor, given_N: Tensor, *, classes: int) -> Beliefs:
    """The same of other rows by all N."""
    members = F.one_hot(given_N, classes).float()
    logits = SCALE * solve(vectors_ND, members)(asked_MD)
    near, weights = neighbours(asked_MD, vectors_ND)
    return Beliefs(_both(logits, votes(members, near, weights)), near)


@dataclass(frozen=True, slots=True)
class Doubts:
    """(N,) whether a label is likely wrong, the class that is believed instead, and how sure that is."""

    wrong: Tensor
    other: Tensor
    sure: Tensor


def doubts(shares_NC: Tensor, given_N: Tensor, limits_C: Tensor) -> Doubts:
    """A label is likely wrong where its row is counted confidently for another class: an entry beside the diagonal of
    the confident joint (Northcutt et al. 2021, arXiv:1911.00068, section 3.2, method 2). Differs from the paper: that
    class must have the larger share as well, for the threshold of a rare class is easily reached.

    `sure` is the other class's part of what both have, their shares under the root: the two views have seen the same
    rows, and as many times the evidence of one they would be surer than they are right (docs/concepts/coach.md)."""
    truth = believed(shares_NC, limits_C)
    own = shares_NC.gather(1, given_N[:, None])[:, 0]
    other = shares_NC.gather(1, truth.clamp(min=0)[:, None])[:, 0]
    wrong = (truth >= 0) & (truth != given_N) & (other > own)
    return Doubts(wrong, truth, other.sqrt() / (other.sqrt() + own.sqrt()).clamp(min=1e-12))


@dataclass(frozen=True, slots=True)
class Linear:
    """given = Z W + b"""

    weight: Tensor  # (D, C)
    bias: Tensor  # (C,)

    def __call__(self, vectors_ND: Tensor) -> Tensor:
        return vectors_ND @ self.weight + self.bias


def solve(vectors_ND: Tensor, wanted_NC: Tensor) -> Linear:
    """Minimises |Z W + b - Y|^2 + PENALTY (|W|^2 + |b|^2)."""
    return _solved(*_products(vectors_ND, wanted_NC))


def unseen(vectors_ND: Tensor, wanted_NC: Tensor, folds: np.ndarray) -> Tensor:
    """(N, C) what is given for each row by the solution over the other folds, each fold multiplied once."""
    parts = [torch.from_numpy(folds == fold) for fold in np.unique(folds)]
    products = [_products(vectors_ND[rows], wanted_NC[rows]) for rows in parts]
    squares, moments = (torch.stack(list(both)) for both in zip(*products, strict=True))
    found = torch.zeros_like(wanted_NC)
    for number, rows in enumerate(parts):
        line = _solved(squares.sum(0) - squares[number], moments.sum(0) - moments[number])
        found[rows] = line(vectors_ND[rows])
    return found


def neighbours(asked_MD: Tensor, among_ND: Tensor, units: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(M, K) places and weights of the nearest of N rows, none of a row's own unit (N,) where the M are those N."""
    most = min(NEIGHBOURS, len(among_ND))
    places, weights = [], []
    for start in range(0, len(asked_MD), BLOCK):
        cosine = asked_MD[start : start + BLOCK] @ among_ND.T
        if units is not None:
            cosine[units[start : start + BLOCK, None] == units[None]] = -1.0
        best, where = cosine.topk(most, dim=1)
        places.append(where.where(best > 0, -torch.ones_like(where)))
        weights.append(best.clamp(min=0.0) ** SHARPNESS)
    return torch.cat(places), torch.cat(weights)


def votes(members_NC: Tensor, near_MK: Tensor, weights_MK: Tensor) -> Tensor:
    """(M, C) the weighted share of a row's neighbours in each class; zeros where it has none."""
    found = torch.stack([weights @ members_NC[near] for near, weights in zip(near_MK, weights_MK, strict=True)])
    return found / weights_MK.sum(1, keepdim=True).clamp(min=1e-12)


def memberships(head_NC: Tensor, votes_NC: Tensor) -> Tensor:
    """(N, C) how likely each of several labels is by both views, each a yes or no of its own."""
    odds = (votes_NC + UNSEEN).log() - (1 - votes_NC + UNSEEN).log()
    return (SCALE * (head_NC - 0.5) + odds).sigmoid()


def flipped(yes_NC: Tensor, given_NC: Tensor, least: int) -> Tensor:
    """(N, C) True where a membership (0 or 1) is likely wrong: the other answer is at least as likely as where it is
    given, in the mean (confident learning, one class against the rest), and likelier than not. Nothing is said of a
    class that no more than `least` rows have, or lack."""
    has = given_NC > 0.5
    some, none = has.sum(0), (~has).sum(0)
    enough = (yes_NC * has).sum(0) / some.clamp(min=1)
    lack = ((1 - yes_NC) * ~has).sum(0) / none.clamp(min=1)
    judged = (some > least) & (none > least)
    added, taken = ~has & (yes_NC >= enough) & (yes_NC > 0.5), has & (1 - yes_NC >= lack) & (yes_NC < 0.5)
    return judged & (added | taken)


def _both(logits_NC: Tensor, votes_NC: Tensor) -> Tensor:
    """Both views as if each had seen something of its own: their shares multiplied."""
    votes = votes_NC + UNSEEN
    return (logits_NC.log_softmax(1) + votes.log()).softmax(1)


def _products(vectors_ND: Tensor, wanted_NC: Tensor) -> tuple[Tensor, Tensor]:
    ones = torch.cat([vectors_ND, vectors_ND.new_ones(len(vectors_ND), 1)], 1)
    return ones.T @ ones, ones.T @ wanted_NC


def _solved(squares: Tensor, moments: Tensor) -> Linear:
    penalty = PENALTY * torch.eye(len(squares), dtype=squares.dtype)
    weight = torch.linalg.solve(squares + penalty, moments)
    return Linear(weight[:-1], weight[-1])


def _numbered(units: Sequence[Hashable]) -> Tensor:
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(unit, len(numbers)) for unit in units])
