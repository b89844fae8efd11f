"""Vectors without a concept: changed as little as an affine map can, so that no linear reader finds the concept better
than by its mean, and folded into the layer that reads them.

LEACE of Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form" (arXiv:2306.03819, theorem 4.3):

    r(x) = x - W+ Q W (x - mean(x)),   W = (Cov(x)^1/2)+,   Q the projection onto the columns of W Cov(x, z)

Of all affine maps after which Cov(r(x), z) = 0, it has the least E|r(x) - x|^2, in any inner product. That no linear
reader does better than a constant holds of the rows it was fitted on, and of new ones as far as they are like those.

Differs from the paper: each column is brought to unit variance first, which changes nothing of the map (it follows any
change of coordinates) and lets columns of very different sizes stand beside each other. The authors' code also drops
singular values below 0.01, so traces of a weak concept stay, and bends the map where it would make vectors longer;
here neither is done.

A label that goes with the concept loses what it shares with it. With one concept z and c(a, b) = Cov(a, x) Cov(x)^-1
Cov(x, b), what readers of a label y have left is Cov(r(x), y) = Cov(x, y) - Cov(x, z) c(z, y) / c(z, z): nothing where
y is z, all of it where the best linear guesses of the two are uncorrelated. To keep a label, fit on rows in which every
pair of label and concept comes as often. It is then left whole; but wherever label and concept go together, whoever
reads the label can guess the concept from it, and no map of vectors changes that.

Shapes: N rows, D width, K columns of the concept, R directions taken away (K - 1 of K classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuneful.core.errors import DataError

SPREAD = 1e-12  # of the largest variance: directions with less of it count as having none
TOLERANCE = 1e-8  # correlation: a direction of the concept that is less correlated is arithmetic, not data
LEAST_ROWS = 2
MANY = 10  # rows a column, from which on shrinking the covariance takes no more of the concept out of other rows


@dataclass(frozen=True)
class Eraser:
    """x - left @ right @ (x - mean)"""

    mean: Tensor  # (D,) float64
    left: Tensor  # (D, R)
    right: Tensor  # (R, D), right @ left is the identity

    def __call__(self, vectors: Tensor) -> Tensor:
        """(..., D) of the same dtype; computed in float64."""
        found = vectors.to(self.mean)
        return (found - (found - self.mean) @ self.right.T @ self.left.T).to(vectors)

    @property
    def rank(self) -> int:
        """How many directions are taken away."""
        return self.left.shape[1]

    def projection(self) -> Tensor:
        """(D, D) the linear part."""
        return torch.eye(len(self.mean)).to(self.mean) - self.left @ self.right

    def folded(self, linear: nn.Linear) -> nn.Linear:
        """A layer that answers for vectors as they are what `linear` answers for erased ones, so that a saved model
        needs no code of ours: W' = W P, b' = b + W (mean - P mean). Always has a bias; the given one is not changed."""
        weight = linear.weight.detach().to(self.mean)
        taken = weight @ self.left @ self.right
        shift = taken @ self.mean + (0.0 if linear.bias is None else linear.bias.detach().to(self.mean))
        made = nn.utils.skip_init(
            nn.Linear, linear.in_features, linear.out_features, device=weight.device, dtype=linear.weight.dtype
        )
        with torch.no_grad():
            made.weight.copy_(weight - taken)
            made.bias.copy_(shift)
        return made


class Moments:
    """What an eraser is fitted from, gathered part by part in float64: means, Cov(x), Cov(x, z).

    Parts are merged by Chan, Golub and LeVeque 1979, so a large mean costs no digits."""

    def __init__(self) -> None:
        self.rows = 0
        self._means = torch.zeros(0)  # (D + K,)
        self._products = torch.zeros(0)  # (D + K, D) summed, centred
        self._squares = torch.zeros(0)  # (K,) summed, centred, of the concept

    def add(self, vectors_ND: Tensor, concept_NK: Tensor) -> None:
        """Any numbers may be the concept: classes as one-hot columns, several concepts side by side, a quantity."""
        if not len(vectors_ND):
            return
        width = vectors_ND.shape[1]
        both = torch.cat([vectors_ND.double(), concept_NK.to(vectors_ND.device).double()], 1)
        means = both.mean(0)
        centred = both - means
        products, squares = centred.T @ centred[:, :width], centred[:, width:].square().sum(0)
        if self.rows:
            apart, share = means - self._means, self.rows * len(both) / (self.rows + len(both))
            products = products + self._products + share * torch.outer(apart, apart[:width])
            squares = squares + self._squares + share * apart[width:].square()
            means = self._means + apart * (len(both) / (self.rows + len(both)))
        self.rows += len(both)
        self._means, self._products, self._squares = means, products, squares

    @property
    def width(self) -> int:
        return self._products.shape[1]

    def eraser(self, *, shrink: bool | None = None) -> Eraser:
        """See `fit_eraser`."""
        if self.rows < LEAST_ROWS:
            raise DataError(f"a concept cannot be erased: found {self.rows} rows of a known concept, expected at least "
                            f"{LEAST_ROWS}; give more rows")  # fmt: skip
        width = self.width
        covariance, cross = self._products[:width] / self.rows, self._products[width:].T / self.rows
        scale = covariance.diagonal().sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        covariance, cross = covariance / torch.outer(scale, scale), cross / scale[:, None]
        if self.rows < MANY * width if shrink is None else shrink:
            covariance = shrunk(covariance, self.rows)
        left, right = _directions(covariance, cross / (self._squares / self.rows).sum().sqrt().clamp(min=1e-300))
        return Eraser(self._means[:width], left * scale[:, None], right / scale)


def fit_eraser(vectors_ND: Tensor, concept: Tensor, *, shrink: bool | None = None) -> Eraser:
    """The map that takes a concept out of vectors.

    `concept` is (N,) ids, -1 where it is not known (those rows are left out), or (N, K) numbers. What has no variance
    is left as it is: the inverse is a pseudo-inverse, of directions with more than `SPREAD` of the largest variance,
    columns at unit variance. `shrink` mixes Cov(x) with the identity (see `shrunk`); None does so where rows are
    fewer than `MANY` times the columns, as their covariance then tells more of the rows than of what they were drawn
    from. The concept is gone from the rows at hand either way; shrunk, more of it goes from others, and slightly more
    is changed than must be.
    Raises DataError where no two rows are known, or counts differ."""
    if len(vectors_ND) != len(concept):
        raise DataError(f"a concept cannot be erased: found {len(vectors_ND)} vectors and {len(concept)} values of the "
                        "concept, expected one a vector")  # fmt: skip
    if concept.dim() == 1:
        known = concept >= 0
        vectors_ND, concept = vectors_ND[known.to(vectors_ND.device)], one_hot(concept[known])
    moments = Moments()
    moments.add(vectors_ND, concept)
    return moments.eraser(shrink=shrink)


def one_hot(ids_N: Tensor, count: int | None = None) -> Tensor:
    """(N, K) float64; give `count` where rows come in parts, so that all have the same columns."""
    most = int(ids_N.max()) + 1 if len(ids_N) else 1
    return F.one_hot(ids_N.long(), most if count is None else count).double()


def shrunk(covariance: Tensor, rows: int) -> Tensor:
    """(D, D) nearer to a multiple of the identity with the same trace, the nearer the fewer rows it is of.

    The share is that of Bodnar, Gupta and Parolya 2014 (arXiv:1308.2608), which is the best in Frobenius norm as rows
    and columns grow alike, and what the authors of LEACE take; here held within 0 and 1."""
    width, trace = len(covariance), covariance.trace()
    beyond = covariance.square().sum() - trace.square() / width
    own = float((1 - trace.square() / rows / beyond.clamp(min=1e-300)).clamp(0.0, 1.0))
    target = torch.eye(width).to(covariance) * (trace / width)
    return own * covariance + (1 - own) * target


def _directions(covariance: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """W+ U and U' W, with U an orthonormal basis of the columns of W Cov(x, z)."""
    values, basis = torch.linalg.eigh(covariance)
    real = values > SPREAD * values[-1].clamp(min=0.0)
    roots, basis = values[real].sqrt(), basis[:, real]
    columns, sizes, _ = torch.linalg.svd(basis.T @ cross / roots[:, None], full_matrices=False)
    columns = columns[:, sizes > TOLERANCE]
    return basis @ (roots[:, None] * columns), (columns / roots[:, None]).T @ basis.T
