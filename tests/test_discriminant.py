"""A head from sums of classes."""

from __future__ import annotations

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tuneful.models import discriminant
from tuneful.models.discriminant import Gaussians


def test_sums_by_hand() -> None:
    """Class 0 has -1 and 1 on the first axis, class 1 has 2 and 4 on the second: each lies 1 from its mean."""
    vectors = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    found = Gaussians.none(2).seen(vectors, torch.tensor([0, 0, 1, 1]), 2)
    assert found.counts.tolist() == [2.0, 2.0]
    assert found.means.tolist() == [[0.0, 0.0], [0.0, 3.0]]
    assert found.scatter.tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_a_class_that_comes_back_by_hand() -> None:
    """0 and 2, then 6: mean 8/3, scatter (8/3)^2 + (2/3)^2 + (10/3)^2 = 168/9."""
    first = Gaussians.none(1).seen(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 0]), 1)
    found = first.seen(torch.tensor([[6.0]]), torch.tensor([0]), 1)
    assert found.means.item() == pytest.approx(8 / 3)
    assert found.scatter.item() == pytest.approx(168 / 9)


def test_in_whatever_order_rows_come() -> None:
    torch.manual_seed(0)
    vectors, targets = torch.randn(60, 4), torch.arange(60) % 5
    whole = Gaussians.none(4).seen(vectors, targets, 5)
    by_class = Gaussians.none(4)
    for name in range(5):
        by_class = by_class.seen(vectors[targets == name], targets[targets == name], name + 1)
    mixed = Gaussians.none(4)
    for part in torch.randperm(60).split(7):
        mixed = mixed.seen(vectors[part], targets[part], 5)
    for other in (by_class, mixed):
        for ours, theirs in zip((whole.means, whole.scatter), (other.means, other.scatter), strict=True):
            assert torch.allclose(ours, theirs)


def test_answers_are_those_of_discriminant_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    stretched = torch.randn(4, 4)
    targets = torch.arange(300) % 3
    vectors = torch.randn(300, 4) @ stretched + 2 * torch.randn(3, 4)[targets]
    monkeypatch.setattr(discriminant, "shrinkage", lambda rows, width: 0.0)
    ours = Gaussians.none(4).seen(vectors, targets, 3).head().logits(vectors)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(vectors.numpy(), targets.numpy())
    wanted = torch.from_numpy(theirs.decision_function(vectors.numpy())).float()
    ours, wanted = (logits - logits.mean(1, keepdim=True) for logits in (ours, wanted))
    size = float(wanted.norm() / ours.norm())  # how sure they are is another matter
    assert torch.allclose(size * ours, wanted, rtol=1e-3, atol=1e-2)


def test_few_rows_are_shrunk_towards_a_ball_and_are_not_too_sure() -> None:
    """With as many rows as the vectors are wide by half; weights have the length of a head that learns."""
    assert discriminant.shrinkage(4, 4) == 0.5
    assert discriminant.shrinkage(396, 4) == 0.01
    torch.manual_seed(2)
    head = Gaussians.none(8).seen(torch.randn(6, 8), torch.arange(6) % 3, 3).head()
    assert (head.weight - head.weight.mean(0)).norm(dim=1).mean() == pytest.approx(discriminant.SCALE, rel=1e-5)
