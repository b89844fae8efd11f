"""Which labels are likely wrong, told from what a head thinks of rows it has not learned.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels" (arXiv:1911.00068).
"""

from __future__ import annotations

import torch
from torch import Tensor


def thresholds(shares_NC: Tensor, given_N: Tensor) -> Tensor:
    """(C,) mean share that rows of a class have of it (equation 2); a class without rows is reached by nothing."""
    own = shares_NC.gather(1, given_N[:, None])[:, 0]
    counts = torch.bincount(given_N, minlength=shares_NC.shape[1])
    sums = own.new_zeros(shares_NC.shape[1]).index_add_(0, given_N, own)
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.full_like(sums, torch.inf))


def believed(shares_NC: Tensor, thresholds_C: Tensor) -> Tensor:
    """(N,) the class each row is confidently counted for (equation 1): of those whose threshold its share reaches, the
    likeliest; -1 where it reaches none."""
    reached = shares_NC >= thresholds_C
    best, classes = shares_NC.where(reached, -torch.ones_like(shares_NC)).max(1)
    return classes.where(best >= 0, -torch.ones_like(classes))


def joint(shares_NC: Tensor, given_N: Tensor) -> Tensor:
    """(C, C) how many rows of given class i are of class j, by estimate: the confident counts (equation 1), each row of
    the matrix brought to the number of rows that were given the class (equation 3, times the number of rows)."""
    classes = shares_NC.shape[1]
    truth = believed(shares_NC, thresholds(shares_NC, given_N))
    sure = truth >= 0
    counted = shares_NC.new_zeros(classes, classes)
    counted.index_put_((given_N[sure], truth[sure]), shares_NC.new_ones(int(sure.sum())), accumulate=True)
    of_class = torch.bincount(given_N, minlength=classes).to(counted)
    empty = counted.sum(1) == 0  # nobody is sure of any of its rows, so they are taken for what they were given
    counted[empty, empty.nonzero()[:, 0]] = 1.0
    return counted / counted.sum(1, keepdim=True) * of_class[:, None]
