"""Where texts lie: how many different ones there are, which lie alone, in what groups, and how to draw them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 10
BLOCK = 2048  # rows compared with all others at once: bounds memory
ROUNDS = 50


def vendi(vectors_ND: Tensor) -> float:
    """How many different texts there are in effect: 1 where all say the same, N where no two have anything in common.

    Friedman and Dieng 2023, "The Vendi Score" (arXiv:2210.02410), definition 3.1, of cosines: exp of the entropy of the
    eigenvalues of K / N. Those of Z'Z / N are the same, and there are D of them instead of N."""
    vectors = vectors_ND.double()
    values = torch.linalg.eigvalsh(vectors.T @ vectors / len(vectors)).clamp(min=0.0)
    values = values / values.sum()
    return float(torch.special.entr(values).sum().exp())


def plane(vectors_ND: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean (D,) and the two directions (D, 2) along which texts differ most (principal components), and the share of
    their variance that lies in those. Each direction points where its largest part is positive, so that a map is drawn
    the same way each time."""
    mean = vectors_ND.mean(0)
    centred = (vectors_ND - mean).double()
    values, directions = torch.linalg.eigh(centred.T @ centred)
    two = directions[:, -2:].flip(1)
    largest = two.gather(0, two.abs().argmax(0, keepdim=True))
    share = float(values[-2:].sum() / values.sum().clamp(min=1e-12))
    return mean, (two * largest.sign()).float(), share


def grouped(vectors_ND: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(N,) the group of each text, and (G, D) the groups' centres: k-means by cosine, started as k-means++ does
    (Arthur and Vassilvitskii 2007). Empty groups are left out."""
    rng = np.random.default_rng([seed, len(vectors_ND)])
    centres = vectors_ND[_spread(vectors_ND, min(count, len(vectors_ND)), rng)]
    groups = torch.full((len(vectors_ND),), -1)
    for _ in range(ROUNDS):
        found = (vectors_ND @ centres.T).argmax(1)
        if torch.equal(found, groups):
            break
        groups = found
        sums = torch.zeros_like(centres).index_add_(0, groups, vectors_ND)
        filled = torch.bincount(groups, minlength=len(centres)) > 0
        centres = torch.where(filled[:, None], F.normalize(sums, dim=1), centres)
    used, groups = groups.unique(return_inverse=True)
    return groups, centres[used]


def _spread(vectors_ND: Tensor, count: int, rng: np.random.Generator) -> list[int]:
    """Rows that lie apart, each drawn with a chance that grows with the square of its distance from those before."""
    chosen = [int(rng.integers(len(vectors_ND)))]
    distance = 1 - vectors_ND @ vectors_ND[chosen[0]]
    while len(chosen) < count:
        weights = distance.clamp(min=0).double().numpy()
        if weights.sum() <= 1e-9:  # all texts are among those chosen
            break
        chosen.append(int(rng.choice(len(weights), p=weights / weights.sum())))
        distance = torch.minimum(distance, 1 - vectors_ND @ vectors_ND[chosen[-1]])
    return chosen


def nearness(vectors_ND: Tensor, among_MD: Tensor | None = None) -> Tensor:
    """(N,) mean cosine of each text to its nearest neighbours among the others, or among M other texts."""
    own = among_MD is None
    among = vectors_ND if among_MD is None else among_MD
    most = min(NEIGHBOURS, len(among) - own)
    if most < 1:
        return torch.zeros(len(vectors_ND))
    found = []
    for start in range(0, len(vectors_ND), BLOCK):
        near = vectors_ND[start : start + BLOCK] @ among.T
        if own:
            near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -1.0
        found.append(near.topk(most, dim=1).values.mean(1))
    return torch.cat(found)


def likeness(vectors_ND: Tensor, asked_MD: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) how like each text is to what is asked, by its largest cosine to one of M texts that are, and which.

    RDS+ of Ivison et al. 2025 (arXiv:2503.01807), with the encoder's own mean in the place of a position-weighted mean
    of a decoder's states."""
    best, where = [], []
    for start in range(0, len(vectors_ND), BLOCK):
        value, place = (vectors_ND[start : start + BLOCK] @ asked_MD.T).max(1)
        best.append(value)
        where.append(place)
    return torch.cat(best), torch.cat(where)


def far_out(values_N: Tensor, least: float) -> Tensor:
    """(N,) True for values more than `least` robust deviations below the median (1.4826 times the median absolute
    deviation, which is the standard deviation of normal values); of values that hardly differ, none."""
    return robust(values_N) < -least


def robust(values_N: Tensor) -> Tensor:
    """(N,) by how many robust deviations each value lies above the median."""
    middle = values_N.median()
    spread = 1.4826 * (values_N - middle).abs().median()
    if float(spread) <= 1e-6:
        return torch.zeros_like(values_N)
    return (values_N - middle) / spread
