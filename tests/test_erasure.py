"""A concept taken out of vectors: gone for every linear reader, and nothing else changed more than it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuneful.core.errors import DataError
from tuneful.models.erasure import Eraser, Moments, fit_eraser, one_hot, shrunk
from tuneful.models.probe import fit_probe, right


def drawn(seed: int, rows: int, width: int = 12, classes: int = 3, far: float = 3.0) -> tuple[Tensor, Tensor]:
    """Correlated noise around a centre for each class of the concept; the centres are those of seed 0."""
    fixed, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed + 1)
    centres = far * torch.randn(classes, width, generator=fixed, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=fixed, dtype=torch.float64)
    concept = torch.multinomial(torch.arange(1.0, classes + 1), rows, replacement=True, generator=generator)
    noise = torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mixing
    return centres[concept] + noise + 100.0, concept


def cross(vectors: Tensor, concept: Tensor) -> float:
    """The largest covariance of any column with any class."""
    return float(np.abs(np.cov(vectors.T, one_hot(concept).T)[: vectors.shape[1], vectors.shape[1] :]).max())


def share_right(train: Tensor, concept: Tensor, asked: Tensor, truth: Tensor) -> float:
    """By a logistic regression hardly penalised, fitted on `train`; columns at unit variance."""
    mean, scale, classes = train.mean(0), train.std(0).clamp(min=1e-6), int(concept.max()) + 1
    probe = fit_probe((train - mean) / scale, concept, 1e4, classes=classes)
    return float(right(probe.logits(((asked - mean) / scale).float()), truth).mean())


def majority(concept: Tensor) -> float:
    return float(torch.bincount(concept).max() / len(concept))


def test_by_hand_it_is_the_label_less_its_regression_on_the_concept() -> None:
    """Vectors (z, y) of the rows (0,0) (0,0) (0,1) (1,1): Var z = 3/16, Cov = 1/8, so r = (mean z, y - 2/3 (z - 1/4))."""
    vectors = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    eraser = fit_eraser(vectors, vectors[:, 0].long(), shrink=False)
    assert eraser.rank == 1
    torch.testing.assert_close(eraser.projection(), torch.tensor([[0.0, 0.0], [-2 / 3, 1.0]], dtype=torch.float64))
    wanted = torch.tensor([[0.25, 1 / 6], [0.25, 1 / 6], [0.25, 7 / 6], [0.25, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(eraser(vectors), wanted)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shrink", [None, True])
def test_nothing_of_the_concept_is_left_and_as_few_directions_go(classes: int, shrink: bool | None) -> None:
    vectors, concept = drawn(1, 400, classes=classes)
    eraser = fit_eraser(vectors, concept, shrink=shrink)
    assert cross(vectors, concept) > 0.1
    assert cross(eraser(vectors), concept) < 1e-10
    assert eraser.rank == classes - 1
    projection = eraser.projection()
    torch.testing.assert_close(projection @ projection, projection)
    torch.testing.assert_close(eraser(vectors).mean(0), vectors.mean(0))


@pytest.mark.parametrize("seed", range(4))
def test_no_linear_reader_finds_it(seed: int) -> None:
    """Of the rows it was fitted on none beats the majority; of new ones by no more than two points."""
    vectors, concept = drawn(seed, 4000)
    new, truth = drawn(seed + 50, 4000)
    eraser = fit_eraser(vectors, concept)
    assert share_right(vectors, concept, vectors, concept) > majority(concept) + 0.3
    erased = eraser(vectors)
    assert share_right(erased, concept, erased, concept) <= majority(concept) + 1e-6
    assert share_right(erased, concept, eraser(new), truth) == pytest.approx(majority(truth), abs=0.02)
    fresh = eraser(new)  # a reader fitted on new rows has only what sampling leaves it
    assert share_right(fresh, truth, fresh, truth) == pytest.approx(majority(truth), abs=0.02)


def guarding(vectors: Tensor, concept: Tensor, kernel: Tensor) -> Tensor:
    """(N, D) vectors less x @ kernel onto Cov(x, z): a projection along the same columns, seen from elsewhere. Any such
    map takes the concept out."""
    centred = vectors - vectors.mean(0)
    columns = torch.linalg.svd(centred.T @ (one_hot(concept) - one_hot(concept).mean(0)))[0][:, : kernel.shape[0]]
    return vectors - centred @ (columns @ torch.linalg.solve(kernel @ columns, kernel)).T


def test_no_other_map_that_takes_it_out_changes_less() -> None:
    """Against the orthogonal projection (kernel = the columns themselves), and projections from random sides. In the
    Euclidean norm, and in that of Cov(x)^-1 (Mahalanobis)."""
    vectors, concept = drawn(2, 500)
    erased, generator = fit_eraser(vectors, concept)(vectors), torch.Generator().manual_seed(0)
    centred = vectors - vectors.mean(0)
    columns = torch.linalg.svd(centred.T @ (one_hot(concept) - one_hot(concept).mean(0)))[0][:, :2]
    sides = [columns.T, *(columns.T + 0.05 * torch.randn(2, 12, generator=generator).double() for _ in range(20))]
    sides.append(torch.randn(2, 12, generator=generator).double())
    inverse = torch.linalg.inv(centred.T @ centred / len(vectors))
    for side in sides:
        other = guarding(vectors, concept, side)
        assert cross(other, concept) < 1e-8
        for norm in (torch.eye(12).double(), inverse):
            ours, theirs = (float(((kept - vectors) @ norm * (kept - vectors)).sum()) for kept in (erased, other))
            assert ours < theirs
    best = guarding(vectors, concept, columns.T @ inverse)  # the same written otherwise: seen from Cov(x)^-1
    torch.testing.assert_close(best, erased)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folded_is_applied(bias: bool, dtype: torch.dtype) -> None:
    vectors, concept = drawn(3, 300, far=1.0)
    vectors = ((vectors - 100.0) / 10 + 0.5).to(dtype)
    eraser, linear = fit_eraser(vectors, concept), nn.Linear(12, 4, bias=bias).to(dtype)
    before, state = linear.weight.clone(), torch.get_rng_state()
    folded = eraser.folded(linear)
    assert torch.equal(torch.get_rng_state(), state), "nothing was drawn"
    assert folded.weight.dtype == folded.bias.dtype == dtype
    torch.testing.assert_close(folded(vectors), linear(eraser(vectors)), atol=1e-6, rtol=0)
    assert not torch.allclose(folded(vectors), linear(vectors), atol=1e-2)
    torch.testing.assert_close(linear.weight, before)


def test_columns_without_variance_and_columns_that_repeat_others() -> None:
    vectors, concept = drawn(4, 300, width=6)
    more = torch.cat([vectors, vectors[:, :3] - vectors[:, 3:], torch.full((300, 2), 7.0)], 1)
    eraser = fit_eraser(more, concept)
    erased = eraser(more)
    assert cross(erased, concept) < 1e-10
    assert eraser.rank == 2
    torch.testing.assert_close(erased[:, :6], fit_eraser(vectors, concept)(vectors))
    torch.testing.assert_close(erased[:, 9:], more[:, 9:])
    unseen = more.clone()  # what never varied is left as it comes
    unseen[:, 9] += 3.0
    torch.testing.assert_close(eraser(unseen)[:, 9] - erased[:, 9], torch.full((300,), 3.0).double())
    torch.testing.assert_close(eraser(unseen)[:, :9], erased[:, :9])


def test_columns_of_very_different_sizes() -> None:
    vectors, concept = drawn(5, 300)
    sizes = 10.0 ** torch.linspace(-9, 6, 12).double()
    erased = fit_eraser(vectors * sizes, concept)(vectors * sizes)
    torch.testing.assert_close(erased / sizes, fit_eraser(vectors, concept)(vectors), atol=1e-6, rtol=1e-6)


def test_parts_give_what_the_whole_does() -> None:
    vectors, concept = drawn(6, 301)
    moments = Moments()
    for part in (slice(0, 0), slice(0, 1), slice(1, 120), slice(120, 301)):
        moments.add(vectors[part], one_hot(concept[part], 3))
    whole = fit_eraser(vectors, concept)
    assert moments.rows == 301
    torch.testing.assert_close(moments.eraser().projection(), whole.projection(), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(moments.eraser().mean, whole.mean)


@pytest.mark.parametrize("rows", [40, 300])
def test_few_rows_for_their_columns(rows: int) -> None:
    """Of 100 columns: exact on the rows at hand either way. Unshrunk the covariance explains the concept by noise;
    shrunk, more of it goes from new rows."""
    new, truth = drawn(70, 4000, width=100, classes=2, far=1.0)
    left: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(5):
        vectors, concept = drawn(seed, rows, width=100, classes=2, far=1.0)
        for shrink, found in left.items():
            eraser = fit_eraser(vectors, concept, shrink=shrink)
            assert cross(eraser(vectors), concept) < 1e-10
            assert eraser.rank == 1
            found.append(cross(eraser(new), truth) / cross(new, truth))
    assert np.mean(left[True]) < np.mean(left[False])


@pytest.mark.parametrize(("rows", "shrinks"), [(119, True), (120, False)])
def test_it_shrinks_where_rows_are_fewer_than_ten_a_column(rows: int, shrinks: bool) -> None:
    vectors, concept = drawn(1, rows)
    found, wanted, other = (fit_eraser(vectors, concept, shrink=s) for s in (None, shrinks, not shrinks))
    torch.testing.assert_close(found.projection(), wanted.projection())
    assert not torch.allclose(found.projection(), other.projection(), atol=1e-4)


def test_shrinking_by_hand() -> None:
    """diag(3, 1) of 10 rows: trace 4, squares beyond the identity 10 - 8 = 2, so 1 - 16 / 10 / 2 = 0.2 is kept of it."""
    found = shrunk(torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)), 10)
    torch.testing.assert_close(found, torch.diag(torch.tensor([2.2, 1.8], dtype=torch.float64)))
    torch.testing.assert_close(shrunk(torch.eye(3).double(), 10), torch.eye(3).double())
    few = shrunk(torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)), 2)
    torch.testing.assert_close(few, 2 * torch.eye(2).double())


def test_two_concepts_side_by_side() -> None:
    vectors, concept = drawn(7, 400)
    other = (vectors[:, 0] > vectors[:, 0].median()).long()
    eraser = fit_eraser(vectors, torch.cat([one_hot(concept), one_hot(other)], 1))
    assert eraser.rank == 3
    assert cross(eraser(vectors), concept) < 1e-10
    assert cross(eraser(vectors), other) < 1e-10


def labelled(seed: int, rows: int, together: float) -> tuple[Tensor, Tensor, Tensor]:
    """Concept in column 0, a label in column 1 that agrees with it for a share of rows, noise in the others."""
    generator = torch.Generator().manual_seed(seed)
    concept = torch.randint(2, (rows,), generator=generator)
    label = torch.where(torch.rand(rows, generator=generator) < together, concept, 1 - concept)
    vectors = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    return vectors + 3.0 * torch.stack([concept, label, *[torch.zeros(rows)] * 4], 1), concept, label


def test_a_label_loses_what_it_shares_with_the_concept() -> None:
    """On its own it is kept, beside the concept in part, as the concept not at all."""
    kept = {}
    for together in (0.5, 0.9, 1.0):
        vectors, concept, label = labelled(0, 4000, together)
        erased = fit_eraser(vectors, concept)(vectors)
        kept[together] = share_right(erased, label, erased, label)
        after = np.cov(erased.T, label)[:6, 6]
        inside = np.cov(vectors.T, np.stack([concept, label]))
        of_x, with_z, with_y = inside[:6, :6], inside[:6, 6], inside[:6, 7]
        share = (with_z @ np.linalg.solve(of_x, with_y)) / (with_z @ np.linalg.solve(of_x, with_z))
        np.testing.assert_allclose(after, with_y - with_z * share, atol=1e-8)
    assert kept[0.5] > 0.9
    assert 0.6 < kept[0.9] < kept[0.5]
    assert kept[1.0] < 0.52


def test_rows_in_which_label_and_concept_are_independent_keep_the_label() -> None:
    """And then the concept is read off the label: 90 % agree, so about 9 in 10 are guessed."""
    vectors, concept, label = labelled(1, 6000, 0.9)
    cells = [torch.nonzero((concept == z) & (label == y)).flatten() for z in (0, 1) for y in (0, 1)]
    even = torch.cat([cell[: min(map(len, cells))] for cell in cells])
    erased = fit_eraser(vectors[even], concept[even])(vectors)
    assert share_right(erased, label, erased, label) > 0.9
    assert share_right(erased[even], concept[even], erased[even], concept[even]) < 0.52
    assert 0.75 < share_right(erased, concept, erased, concept) < 0.92


def test_what_is_not_known_is_left_out() -> None:
    vectors, concept = drawn(8, 200)
    unknown = torch.cat([concept, torch.full((50,), -1)])
    eraser = fit_eraser(torch.cat([vectors, vectors[:50] * 9]), unknown)
    torch.testing.assert_close(eraser.projection(), fit_eraser(vectors, concept).projection())


def test_one_class_changes_nothing() -> None:
    vectors, _ = drawn(9, 100)
    eraser = fit_eraser(vectors, torch.zeros(100).long())
    assert eraser.rank == 0
    torch.testing.assert_close(eraser(vectors), vectors)
    linear = nn.Linear(12, 2).double()
    torch.testing.assert_close(eraser.folded(linear).weight, linear.weight)


def test_any_shape_and_type_comes_back() -> None:
    vectors, concept = drawn(10, 60)
    eraser: Eraser = fit_eraser(vectors.float(), concept)
    found = eraser(vectors.bfloat16().view(6, 10, 12))
    assert found.shape == (6, 10, 12)
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("rows", "ids", "said"),
    [(3, [0, 1], "found 3 vectors and 2 values"), (0, [], "found 0 rows"), (3, [-1, -1, 0], "found 1 rows")],
)
def test_refusals(rows: int, ids: list[int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit_eraser(torch.zeros(rows, 4), torch.tensor(ids, dtype=torch.long))
