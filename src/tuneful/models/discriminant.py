"""A head from sums alone: classes as Gaussians of one shape, which come one after the other and need no row kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tuneful.models.probe import Probe

SCALE = 20.0  # length of a class's weights, about that of a head that learns; Gaussians are far too sure


@dataclass(frozen=True, slots=True)
class Gaussians:
    """What is known of C classes of vectors of width D, float64."""

    counts: Tensor  # (C,)
    means: Tensor  # (C, D)
    scatter: Tensor  # (D, D) sum over all rows of (x - m)(x - m)', m the mean of the row's class

    @staticmethod
    def none(width: int) -> Gaussians:
        """Of no class."""
        wide = torch.float64
        return Gaussians(torch.zeros(0, dtype=wide), torch.zeros(0, width, dtype=wide),
                         torch.zeros(width, width, dtype=wide))  # fmt: skip

    def seen(self, vectors_ND: Tensor, targets_N: Tensor, classes: int) -> Gaussians:
        """With further rows, of old classes or new ones; in whatever order rows come, the sums are the same (Chan,
        Golub and LeVeque 1983, equation 2.1)."""
        vectors, more = vectors_ND.double(), classes - len(self.counts)
        old_C = torch.cat([self.counts, self.counts.new_zeros(more)])
        means_CD = torch.cat([self.means, self.means.new_zeros(more, vectors.shape[1])])
        new_C = torch.bincount(targets_N, minlength=classes).double()
        own_CD = torch.zeros_like(means_CD).index_add_(0, targets_N, vectors) / new_C.clamp(min=1)[:, None]
        apart_ND = vectors - own_CD[targets_N]
        between_CD = own_CD - means_CD
        share_C = old_C * new_C / (old_C + new_C).clamp(min=1)
        scatter_DD = self.scatter + apart_ND.T @ apart_ND + (between_CD * share_C[:, None]).T @ between_CD
        moved_C = new_C / (old_C + new_C).clamp(min=1)
        return Gaussians(old_C + new_C, means_CD + moved_C[:, None] * between_CD, scatter_DD)

    def head(self) -> Probe:
        """Streaming linear discriminant analysis (Hayes and Kanan 2020, arXiv:1909.01520, equations 1 to 4).

        Differs: classes are taken to be equally frequent, the shape is shrunk towards a ball of its own size, the more
        the fewer rows there are, and the logits are brought to the size of a head that learns."""
        rows, width = float(self.counts.sum()), self.scatter.shape[0]
        shape_DD = self.scatter / max(1.0, rows)
        ball_DD = torch.eye(width, dtype=torch.float64) * shape_DD.diagonal().mean().clamp(min=1e-12)
        weight_CD = torch.linalg.solve(shape_DD.lerp(ball_DD, shrinkage(rows, width)), self.means.T).T
        bias_C = -0.5 * (weight_CD * self.means).sum(1)
        weight_CD, bias_C = weight_CD - weight_CD.mean(0), bias_C - bias_C.mean()  # what all share says nothing
        size = weight_CD.norm(dim=1).mean().clamp(min=1e-12)
        return Probe((SCALE / size * weight_CD).float(), (SCALE / size * bias_C).float())


def shrinkage(rows: float, width: int) -> float:
    """A half where there are as many rows as the vectors are wide."""
    return width / (width + rows)
