"""Penalties between sensitive groups: the numbers their sources give, what they leave alone, and what they move."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tuneful.adapters import Full, Head
from tuneful.core.policy import Policy
from tuneful.core.protocols import Advances, Begins, ComparesGroups, ComparesTwins, Objects, Replaces, Stateful, Suits
from tuneful.core.types import Answer, Batch, Layout, Row, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.sharpness import Sam
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.regularisers import Adversary, CounterfactualPairing, GroupDro, Hsic, Mmd, ParityGap
from tuneful.testing import tiny_policy, tiny_rows

NOBODY: Any = None
E1 = math.exp(-1)
COUNTS = np.array([[2, 2], [2, 2]])


class Said:
    """Outputs that hold these logits (R, C), and these vectors (R, D)."""

    def __init__(self, logits: Tensor, vectors: Tensor | None = None) -> None:
        self.logits, self.vectors = logits, vectors

    def class_logits(self) -> Tensor:
        return self.logits

    def embeddings(self) -> Tensor:
        assert self.vectors is not None
        return self.vectors


def judged(
    logits: Tensor, labels: Any, groups: Sequence[int] | None, weights: Sequence[float] | None = None, **more: Tensor
) -> tuple[Batch, Terms]:
    """What `Classify` says of these logits."""
    target = torch.as_tensor(labels)
    if target.dim() == 2:
        losses = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none").mean(-1)
    elif target.is_floating_point():
        losses = 0.5 * (logits[:, 0] - target).square()
    else:
        losses = F.cross_entropy(logits, target, reduction="none")
    given = torch.tensor(weights or [1.0] * len(logits), dtype=logits.dtype)
    ids = None if groups is None else torch.tensor(groups)
    batch = Batch({}, {"labels": target, **more}, given, float(given.sum()), 1, groups=ids)
    return batch, Terms(losses, Said(logits))  # type: ignore[arg-type]


def sure(*yes: float) -> Tensor:
    """(R, 2) logits of rows whose second class has these probabilities."""
    found = torch.tensor([[0.0, math.log(p / (1 - p))] for p in yes])
    return found.requires_grad_()


def said(regulariser: Any, *given: Any, **more: Any) -> float:
    return float(regulariser(NOBODY, *judged(*given, **more)).detach())


# Two rows of each group, 3/4 against 1/4: as far apart as half, the kernel's width, so that it says 1/e.
APART = sure(0.75, 0.75, 0.25, 0.25)


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        (Mmd(strength=3.0, given="nothing", width=0.5), 3 * (2 - 2 * E1)),
        (Mmd(given="label", width=0.5), 2 - 2 * E1),  # one row of each group in each class
        (Mmd(given="positive", width=0.5), 2 - 2 * E1),
        (Mmd(given="nothing", width="median"), 2 - 2 * E1),  # of distances 0, 0, and four of 1/2
        # tr(KHLH) of two groups is 2 (n0 n1 / n)^2 times the squared discrepancy.
        (Hsic(strength=3.0, width=0.5), 3 * 2 * (2 - 2 * E1) / 9),
        (Hsic(given="label", width=0.5), 2 * 0.25 * (2 - 2 * E1) / 1),
        (ParityGap(strength=3.0), 3 * 0.5),
        (ParityGap(over="max"), 0.5),
        (ParityGap(given="label"), 0.5),
    ],
    ids=lambda given: repr(given)[:60],
)
def test_two_groups_by_hand(regulariser: Any, expected: float) -> None:
    """Rows of no known group, and rows that count nothing, change nothing."""
    assert said(regulariser, APART, [0, 1, 0, 1], [0, 0, 1, 1]) == pytest.approx(expected, abs=1e-6)
    more = torch.cat([APART, sure(0.9, 0.6, 0.01)])
    labels, weights = [0, 1, 0, 1, 1, 0, 1], [1.0, 0.5, 1.0, 2.0, 1.0, 1.0, 0.0]
    assert said(regulariser, more, labels, [0, 0, 1, 1, -1, -1, 1], weights) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        # The first class: 3/4 and 3/4; the second: 1/4 and 3/4.
        (ParityGap(given="label"), 0.25),
        (ParityGap(given="label", over="max"), 0.5),
        (ParityGap(given="positive"), 0.5),
        (ParityGap(given="negative"), 0.0),
        (ParityGap(given="nothing"), 0.25),
        (Mmd(given="label", width=0.5), 0.5 * (2 - 2 * E1)),
        (Mmd(given="positive", width=0.5), 2 - 2 * E1),
        (Mmd(given="negative", width=0.5), 0.0),
    ],
    ids=lambda given: repr(given)[:60],
)
def test_within_classes_by_hand(regulariser: Any, expected: float) -> None:
    logits = sure(0.75, 0.25, 0.75, 0.75)
    assert said(regulariser, logits, [0, 1, 0, 1], [0, 0, 1, 1]) == pytest.approx(expected, abs=1e-6)


def test_three_groups_by_hand() -> None:
    """Means 3/4, 1/2, 1/4, and those of the others 3/8, 1/2, 5/8."""
    given = (sure(0.75, 0.75, 0.5, 0.5, 0.25, 0.25), [0] * 6, [0, 0, 1, 1, 2, 2])
    assert said(ParityGap(), *given) == pytest.approx(0.25)
    assert said(ParityGap(over="max"), *given) == pytest.approx(0.375)


def test_three_classes_by_hand() -> None:
    """(1/2, 1/4, 1/4) and (1/4, 1/2, 1/4): half of 1/4 + 1/4, and a squared distance of 1/8."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).log().repeat(2, 1)
    given = (logits, [2, 2, 2, 2], [0, 1, 0, 1])
    assert said(ParityGap(), *given) == pytest.approx(0.25)
    assert said(Mmd(width=0.125**0.5), *given) == pytest.approx(2 - 2 * E1, abs=1e-6)


def test_independent_labels_by_hand() -> None:
    """The first label is told of both groups alike, the second 3/4 against 1/4."""
    log3 = math.log(3)
    logits = torch.tensor([[0.0, log3], [0.0, log3], [0.0, -log3], [0.0, -log3]])
    labels = [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert said(ParityGap(), logits, labels, [0, 0, 1, 1]) == pytest.approx(0.25)
    assert said(ParityGap(over="max"), logits, labels, [0, 0, 1, 1]) == pytest.approx(0.5)
    # Cells with both groups: the first label so; the second not so, and so. Its lack in the first has one row.
    assert said(ParityGap(given="label"), logits, labels, [0, 0, 1, 1]) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert said(ParityGap(given="negative"), logits, labels, [0, 0, 1, 1]) == pytest.approx(0.5)


def test_numbers_by_hand() -> None:
    given = (torch.tensor([[1.0], [3.0], [2.0], [5.0]]), [0.0, 0.0, 0.0, 0.0], [0, 0, 1, 1])
    assert said(ParityGap(), *given) == pytest.approx(1.5)
    assert said(Mmd(given="nothing", width=1e-3), *given) == pytest.approx(0.5 + 0.5)  # all far apart: 1/2 within each


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("given", ["label", "nothing"])
def test_against_independent_sums(classes: int, groups: int, given: Any) -> None:
    """Kernels by scikit-learn, sums written as the papers write them; means by fairlearn."""
    from sklearn.metrics.pairwise import rbf_kernel  # type: ignore[import-untyped]

    rng = np.random.default_rng(classes * groups)
    logits = rng.normal(size=(60, classes)).astype(np.float32)
    labels, group = rng.integers(0, 2, 60), rng.integers(0, groups, 60)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = scores[:, 1:] if classes == 2 else scores
    cells = [labels == value for value in (0, 1)] if given == "label" else [labels >= 0]
    mmds, hsics = [], []
    for cell in cells:
        kernel, own = rbf_kernel(scores[cell].astype(np.float64), gamma=1 / 0.3**2), group[cell]
        mmds.append(np.mean([
            kernel[np.ix_(own == g, own == g)].mean() + kernel[np.ix_(own != g, own != g)].mean()
            - 2 * kernel[np.ix_(own == g, own != g)].mean() for g in range(groups)]))  # fmt: skip
        n = len(own)
        centre = np.eye(n) - 1 / n
        same = (own[:, None] == own).astype(float)
        hsics.append(np.trace(kernel @ centre @ same @ centre) / (n - 1) ** 2)
    told = (torch.from_numpy(logits), torch.from_numpy(labels), group.tolist())
    assert said(Mmd(given=given, width=0.3), *told) == pytest.approx(np.mean(mmds), rel=1e-4)
    assert said(Hsic(given=given, width=0.3), *told) == pytest.approx(np.mean(hsics), rel=1e-4)
    if classes == groups == 2:
        from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]

        frame = MetricFrame(metrics=lambda _, found: found.mean(), y_true=labels, y_pred=scores[:, 0],
                            sensitive_features=group, control_features=labels if given == "label" else None)  # fmt: skip
        gaps = frame.difference(method="between_groups")
        assert said(ParityGap(given=given), *told) == pytest.approx(float(np.mean(gaps)), rel=1e-4)
        assert said(ParityGap(given=given, over="max"), *told) == pytest.approx(float(np.max(gaps)), rel=1e-4)


BETWEEN_GROUPS = [Mmd(), Mmd(given="nothing", width="median"), Mmd(given="positive"), Hsic(), Hsic(given="label"),
                  ParityGap(), ParityGap(given="label", over="max")]  # fmt: skip
AT_WORK: list[Callable[[], Any]] = [
    *(lambda part=part: part for part in BETWEEN_GROUPS),
    lambda: GroupDro().begin(COUNTS),
    lambda: GroupDro(by="group_label").begin(COUNTS),
    lambda: Adversary().begin(COUNTS),
    CounterfactualPairing,
]


@pytest.mark.parametrize("make", AT_WORK)
def test_nothing_to_compare_is_exactly_nothing(make: Callable[[], Any]) -> None:
    """No groups, or none that is known: zero, with a slope of zero."""
    for groups in (None, [-1] * 4):
        logits = sure(0.9, 0.8, 0.2, 0.1)
        penalty = make()(NOBODY, *judged(logits, [0, 1, 0, 1], groups))
        assert float(penalty.detach()) == 0.0
        penalty.backward()
        assert logits.grad is not None
        assert not logits.grad.any()


@pytest.mark.parametrize("regulariser", BETWEEN_GROUPS, ids=repr)
def test_one_group_or_no_class_of_two_groups_is_exactly_nothing(regulariser: Any) -> None:
    logits = sure(0.9, 0.8, 0.2, 0.1)
    assert said(regulariser, logits, [0, 1, 0, 1], [1, 1, 1, 1]) == 0.0
    assert said(regulariser, logits, [0, 1, 0, 1], [1, 1, 1, 0], [1.0, 1.0, 1.0, 0.0]) == 0.0
    if regulariser.by_label:
        assert said(regulariser, logits, [0, 1, 0, 1], [0, 1, 0, 1]) == 0.0


@pytest.mark.parametrize("regulariser", BETWEEN_GROUPS, ids=repr)
def test_groups_of_equal_answers_are_not_apart(regulariser: Any) -> None:
    logits = sure(0.9, 0.7, 0.2, 0.9, 0.7, 0.2)
    assert abs(said(regulariser, logits, [0, 1, 1] * 2, [0, 0, 0, 1, 1, 1])) < 1e-6
    assert said(regulariser, sure(0.9, 0.7, 0.2, 0.5, 0.3, 0.1), [0, 1, 1] * 2, [0, 0, 0, 1, 1, 1]) > 1e-3


@pytest.mark.parametrize("regulariser", BETWEEN_GROUPS, ids=repr)
def test_names_and_order_mean_nothing(regulariser: Any) -> None:
    logits, labels, groups = torch.randn(12, 2), torch.arange(12) % 2, [0, 0, 1, 1, 2, 2] * 2
    found = said(regulariser, logits, labels, groups)
    assert said(regulariser, logits, labels, [{0: 7, 1: 0, 2: 3}[g] for g in groups]) == pytest.approx(found, abs=1e-6)
    order = torch.randperm(12)
    moved = [groups[place] for place in order.tolist()]
    assert said(regulariser, logits[order], labels[order], moved) == pytest.approx(found, abs=1e-6)


def moved(part: Any, *updates: tuple[Batch, Terms]) -> Any:
    """The part after these updates."""
    for batch, terms in updates:
        part(NOBODY, batch, terms)
        part.advance()
    return part


LABELS, GROUPS = torch.tensor([0, 1, 0, 1, 1, 0]), [0, 0, 0, 1, 1, 1]
TWIN = torch.tensor([3, 4, -1, -1, -1, -1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mmd(width=0.3),
        lambda: Mmd(given="nothing", width=0.3),
        lambda: Hsic(width=0.3),
        lambda: ParityGap(given="label"),
        lambda: CounterfactualPairing(),
        lambda: CounterfactualPairing(squared=True),
        lambda: moved(GroupDro(eta=0.5).begin(COUNTS), judged(torch.randn(6, 3), LABELS, GROUPS)),
        lambda: Adversary(given="label").begin(COUNTS),
    ],
)
def test_slopes(make: Callable[[], Any]) -> None:
    part = make()

    def penalty(logits: Tensor) -> Tensor:
        return part(NOBODY, *judged(logits, LABELS, GROUPS, twin=TWIN))

    assert torch.autograd.gradcheck(penalty, torch.randn(6, 3, dtype=torch.float64, requires_grad=True))


def test_equal_scores_have_finite_slopes() -> None:
    for regulariser in (Mmd(width="median"), Hsic(width="median"), ParityGap()):
        logits = torch.zeros(4, 2, requires_grad=True)
        regulariser(NOBODY, *judged(logits, [0, 1, 0, 1], [0, 0, 1, 1])).backward()
        assert logits.grad is not None
        assert bool(logits.grad.isfinite().all())


def test_pairs_by_hand() -> None:
    """Row 0 and its twin, row 2, differ by 1 and by 3; row 1 has none. A twin needs no label and no weight."""
    logits = torch.tensor([[1.0, 2.0], [9.0, 9.0], [0.0, 5.0]], requires_grad=True)
    given = (logits, [0, 1, 0], None, [1.0, 1.0, 0.0])
    twin = torch.tensor([2, -1, -1])
    assert said(CounterfactualPairing(strength=0.5), *given, twin=twin) == pytest.approx(0.5 * 2)
    assert said(CounterfactualPairing(squared=True), *given, twin=twin) == pytest.approx(5)
    CounterfactualPairing()(NOBODY, *judged(*given, twin=twin)).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.5, -0.5], [0, 0], [-0.5, 0.5]]  # both are drawn to one another
    assert said(CounterfactualPairing(), *given, twin=torch.tensor([-1, -1, -1])) == 0.0
    both = said(CounterfactualPairing(), torch.cat([logits, logits]), [0] * 6, None, twin=torch.tensor([2, -1, -1, 2, -1, -1]))  # fmt: skip
    assert both == pytest.approx(2)


def test_pairs_of_tokens_by_hand() -> None:
    """Mean log-likelihoods -2 and -5 nats of the first pair; of the second the twin has nothing to say."""
    losses = torch.tensor([1.0, 3.0, 7.0, 5.0, 5.0, 5.0], requires_grad=True)
    targets = {"rows": torch.tensor([0, 0, 1, 2, 2, 2]), "twin": torch.tensor([2, 3, -1, -1])}
    batch = Batch({}, targets, torch.tensor([1.0, 1, 1, 0, 0, 0]), 3.0, 1)
    terms = Terms(losses, NOBODY)
    penalty = CounterfactualPairing(strength=2.0)(NOBODY, batch, terms)
    assert float(penalty.detach()) == pytest.approx(2 * 3)
    assert float(CounterfactualPairing(squared=True)(NOBODY, batch, terms).detach()) == pytest.approx(9)
    penalty.backward()
    assert losses.grad is not None
    torch.testing.assert_close(losses.grad, 2 * torch.tensor([-1 / 2, -1 / 2, 0, 1 / 3, 1 / 3, 1 / 3]))


def twinned(rows: list[Row]) -> list[Row]:
    """Each of the first half with one of the second half for a twin; the last row alone."""
    half = len(rows) // 2
    return [*(replace(row, twin=rows[half + place]) for place, row in enumerate(rows[:half])), rows[-1]]


@pytest.mark.parametrize("share", [False, True])
def test_pairs_are_what_each_row_says_alone(share: bool, generator_folder: Path) -> None:
    """Through the collator and a model: twins have units of weight 0 whose losses are those of the rows by themselves."""
    policy, loaded = tiny_policy(generator_folder)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.TOKENS, 6)

    def alone(row: Row) -> float:
        policy.forget()
        return float(NextToken()(policy, Collator(Layout.TOKENS)([row])).losses.detach().mean())

    batch = Collator(Layout.TOKENS, share=share)(twinned(rows))
    wanted = np.mean([abs(alone(rows[place]) - alone(rows[place + 3])) for place in range(3)])
    policy.forget()
    terms = NextToken()(policy, batch)
    assert float(CounterfactualPairing()(policy, batch, terms).detach()) == pytest.approx(wanted, rel=1e-4)
    assert len(batch.weights) == len(terms.losses) > batch.units


def test_pairs_of_labels_through_a_model(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.LABELS, 6)
    plain = policy(Collator(Layout.LABELS)(rows)).class_logits().detach()
    batch = Collator(Layout.LABELS)(twinned(rows))
    found = float(CounterfactualPairing()(policy, batch, Classify()(policy, batch)).detach())
    assert found == pytest.approx(float((plain[:3] - plain[3:]).abs().mean()), rel=1e-4)


A, B = math.log(4 / 3), math.log(4)  # losses of rows that are right with 3/4, and with 1/4


def uneven() -> tuple[Batch, Terms]:
    """Two rows of the first group lose A each, one of the second B, and one of nobody's B."""
    return judged(sure(0.25, 0.25, 0.75, 0.75), [0, 0, 0, 0], [0, 0, 1, -1])


def test_group_weights_by_hand() -> None:
    """The first update is plain; then q is exp(eta A) to exp(eta B), and of the rows of known groups 2/3 were of the
    first: each of its rows counts q / (2/3), the other's q / (1/3), a row of nobody's 1."""
    part = GroupDro(eta=2.0).begin(np.array([[5, 1], [2, 0]]))
    batch, terms = uneven()
    assert float(part(NOBODY, batch, terms).detach()) == 0.0
    assert part.shares.tolist() == [0.5, 0.5]
    part.advance()
    part.advance()  # of nothing new
    heavy, light = math.exp(2 * B), math.exp(2 * A)
    q = (light / (light + heavy), heavy / (light + heavy))
    assert part.shares.tolist() == pytest.approx(q)
    expected = ((q[0] / (2 / 3) - 1) * A * 2 + (q[1] / (1 / 3) - 1) * B) / 4
    assert float(part(NOBODY, batch, terms).detach()) == pytest.approx(expected)
    total = float((terms.losses * batch.weights).mean().detach()) + expected
    assert total == pytest.approx((3 * (q[0] * A + q[1] * B) + B) / 4)  # three rows' worth of weighted means, one plain


def test_small_groups_count_as_if_they_lost_more() -> None:
    """B + 1 / sqrt(4) and A + 1 / sqrt(16); a group that is not there stays what it was."""
    part = moved(GroupDro(eta=1.0, adjustment=1.0).begin(np.array([[16], [4], [9]])), uneven())
    logs = np.array([A + 0.25, B + 0.5, 0.0])
    assert part.shares.tolist() == pytest.approx((np.exp(logs) / np.exp(logs).sum()).tolist())


def test_classes_of_groups_have_weights_of_their_own() -> None:
    """Group 1 has no row of class 1, so q leaves it out."""
    logits = sure(0.25, 0.25, 0.25, 0.25)
    update = judged(logits, [0, 1, 0, 0], [0, 0, 1, 1])  # losses A, B, A, A
    part = moved(GroupDro(eta=1.0, by="group_label").begin(np.array([[9, 9], [9, 0]])), update)
    weights = np.array([4 / 3, 4, 4 / 3, 0])
    assert part.shares.tolist() == pytest.approx((weights / weights.sum()).tolist())


def test_the_head_by_hand() -> None:
    """A linear head of weights (1, 0) and (0, 1) over logits (0, log 3), which less their mean are minus and plus half of
    log 3: it says the second group with 3/4."""
    part = Adversary(strength=2.0, hidden=0, rate=0.1).begin(COUNTS)
    eye = {"weights": [[[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]], "moments": [{}, {}]}
    part.load(eye)
    logits = sure(0.75, 0.75)
    penalty = part(NOBODY, *judged(logits, [0, 0], [1, 1]))
    assert float(penalty.detach()) == pytest.approx(-2 * A)
    penalty.backward()
    assert logits.grad is not None
    # Cross-entropy of a row has the slope (1/4, -1/4); the mean of two rows, reversed and twice as strong:
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.25], [-0.25, 0.25]]))
    part.advance()
    part.advance()  # of nothing new
    found = part.state()["weights"]
    # The head goes the other way; Adam's first step is as long as its rate.
    np.testing.assert_allclose(found[0], [[1.1, -0.1], [-0.1, 1.1]], atol=1e-5)
    np.testing.assert_allclose(found[1], [-0.1, 0.1], atol=1e-5)
    # A tenth of the mean slope of both rows.
    np.testing.assert_allclose(part.state()["moments"][1]["exp_avg"], [0.025, -0.025], atol=1e-6)


def test_a_head_hears_nothing_of_rows_of_nobody_and_of_rows_that_do_not_count() -> None:
    """It learns what it learns without them; the penalty is a mean over all rows that count, as the loss is."""
    logits, labels = torch.randn(7, 3), [0, 1, 2, 0, 1, 2, 0]
    alone, among = Adversary().begin(COUNTS), Adversary().begin(COUNTS)
    one, other = (
        judged(logits[:4], labels[:4], [0, 0, 1, 1]),
        judged(logits, labels, [0, 0, 1, 1, -1, -1, 0], [1.0] * 6 + [0.0]),
    )
    assert 4 / 6 * float(alone(NOBODY, *one)) == pytest.approx(float(among(NOBODY, *other)))
    alone.advance()
    among.advance()
    assert numbers(alone.state()) == pytest.approx(numbers(among.state()), abs=1e-6)


def test_no_group_hides_where_logits_rise_alike() -> None:
    part = Adversary().begin(COUNTS)
    logits = torch.randn(4, 3)
    given = ([0, 1, 2, 0], [0, 0, 1, 1])
    found = float(part(NOBODY, *judged(logits, *given)))
    assert float(part(NOBODY, *judged(logits + torch.tensor([[9.0], [-3.0], [5.0], [0.0]]), *given))) == pytest.approx(found, rel=1e-5)  # fmt: skip


def test_what_the_head_reads() -> None:
    """Widths of its first layer: logits, vectors, and the right answer beside them."""

    def width(part: Adversary, labels: Any, classes: int = 3) -> int:
        batch, terms = judged(torch.randn(4, classes), labels, GROUPS[1:5])
        terms = Terms(terms.losses, Said(terms.outputs.class_logits(), torch.randn(4, 5)))  # type: ignore[arg-type]
        begun = part.begin(COUNTS)
        begun(NOBODY, batch, terms)
        return len(begun.state()["weights"][0][0])

    assert width(Adversary(), [0, 1, 2, 0]) == 3
    assert width(Adversary(given="label"), [0, 1, 2, 0]) == 6
    assert width(Adversary(reads="vector"), [0, 1, 2, 0]) == 5
    assert width(Adversary(reads="vector", given="label"), [[0.0, 1.0, 1.0]] * 4) == 8
    assert width(Adversary(given="label"), [0.5, 0.1, 0.2, 0.3], classes=1) == 2


def test_a_head_learns_to_tell_and_its_chance_is_its_own() -> None:
    """Of fixed answers it gets as good as can be told; the run's random numbers are not touched."""
    update = judged(APART.detach().repeat(5, 1), [0] * 20, [0, 0, 1, 1] * 5)
    part = Adversary(strength=1.0).begin(COUNTS)
    torch.manual_seed(3)
    first = float(part(NOBODY, *update))
    drawn = float(torch.rand(()))
    torch.manual_seed(3)
    assert float(torch.rand(())) == drawn
    part.advance()
    moved(part, *[update] * 300)
    assert -float(part(NOBODY, *update)) < 0.05 < -first


@pytest.mark.parametrize(
    "make",
    [lambda: GroupDro(eta=0.3).begin(COUNTS), lambda: Adversary().begin(COUNTS)],
    ids=["group_dro", "adversary"],
)
def test_what_is_at_work_goes_on_where_it_was(make: Callable[[], Any]) -> None:
    """Saved as JSON and read back, it does what it would have done, to the bit."""
    updates = [judged(torch.randn(6, 3), LABELS, [0, 0, 0, 0, 1, 1]) for _ in range(6)]
    assert isinstance(make(), Stateful)
    assert isinstance(make(), Advances)
    whole = moved(make(), *updates[:3])
    told = json.loads(json.dumps(dict(whole.state())))
    again = make()
    again.load(told)
    for part in (whole, again):
        moved(part, *updates[3:])
    assert whole.state() == again.state()
    assert float(whole(NOBODY, *updates[0])) == float(again(NOBODY, *updates[0])) != 0.0
    fresh = make()
    fresh.load(make().state())
    assert moved(fresh, *updates).state() == moved(make(), *updates).state(), "saved before it had begun"


PLAIN = AdamW(learning_rate=1e-2, warmup=0, decay="constant", clip=0.0, epsilon=1e-2)


class Fixed:
    """A schedule of given steps."""

    def __init__(self, *steps: Step) -> None:
        self.given = steps

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        yield from self.given[start:]


class Watching(Classify):
    """The objective, and what it said."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        terms = super().__call__(policy, batch)
        SEEN.append(terms.losses.detach().clone())
        return terms


SEEN: list[Tensor] = []


def grouped(rows: list[Row], groups: str) -> list[Row]:
    return [replace(row, example=replace(row.example, group=group)) for row, group in zip(rows, groups, strict=True)]


def through_fit(folder: Path, part: Any, sizes: Sequence[int], groups: str, **more: Any) -> dict[str, Tensor]:
    """The weights after three updates of six rows of these groups, cut so."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, Full(), layout=Layout.LABELS)
    rows = grouped(tiny_rows(loaded, Layout.LABELS), groups)
    collate, ends = Collator(Layout.LABELS, groups=("a", "b")), np.cumsum(sizes)
    step = Step([collate(rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)])
    updater = Updater(PLAIN, policy.trainable(), steps=3)
    list(fit(policy, {"main": Watching()}, Fixed(step, step, step), updater, regularisers=[part], clip=0.0, **more))
    return {name: tensor.clone() for name, tensor in policy.attached.state().items()}


@pytest.mark.parametrize(
    "make",
    [lambda: GroupDro(eta=1.0).begin(np.array([[4, 0, 0], [2, 0, 0]])), lambda: Adversary(strength=1.0).begin(COUNTS)],
    ids=["group_dro", "adversary"],
)
@pytest.mark.parametrize("sizes", [(1,) * 6, (2, 4), (4, 2)])
def test_cutting_an_update_changes_nothing(make: Callable[[], Any], sizes: Sequence[int], reader_folder: Path) -> None:
    """One of these cuts has both rows of a group in a batch of its own."""
    whole, cut = make(), make()
    expected, found = (through_fit(reader_folder, part, way, "aabb-a") for part, way in ((whole, (6,)), (cut, sizes)))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    for one, other in zip(numbers(whole.state()), numbers(cut.state()), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    plain = through_fit(reader_folder, Still(), (6,), "aabb-a")
    assert any(not torch.allclose(plain[name], tensor, atol=1e-4) for name, tensor in expected.items())


class Still:
    """A penalty of nothing."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return 0 * terms.losses.sum()


def numbers(state: Any) -> list[float]:
    if isinstance(state, dict):
        return [number for value in state.values() for number in numbers(value)]
    return [number for value in state for number in numbers(value)] if isinstance(state, list) else [state]


def test_an_update_that_is_computed_twice_moves_the_weights_once(reader_folder: Path) -> None:
    """Under SAM by the mean of both looks."""
    part, counts = GroupDro(eta=1.0), np.array([[4, 0, 0], [2, 0, 0]])
    SEEN.clear()
    begun = part.begin(counts)
    through_fit(reader_folder, begun, (6,), "aabbaa", gradient=Sam(rho=0.5))
    looks = torch.stack(SEEN).double()
    assert len(looks) == 6
    assert not torch.allclose(looks[0], looks[1])
    of_b = torch.tensor([False, False, True, True, False, False])
    logs = torch.stack([looks[:, ~of_b].mean(1), looks[:, of_b].mean(1)]).sum(1) / 2
    torch.testing.assert_close(begun.shares, logs.softmax(0))


def test_what_stands_against_them(reader_folder: Path) -> None:
    policy, _ = tiny_policy(reader_folder, layout=Layout.LABELS)  # three classes
    for component in (Mmd, Hsic, ParityGap):
        assert "here are 3 classes" in component(given="positive").problems(policy)[0]
        assert not component(given="label").problems(policy)
        policy.module.config.problem_type = "multi_label_classification"  # type: ignore[union-attr]
        assert not component(given="negative").problems(policy)
        policy.module.config.problem_type = "single_label_classification"  # type: ignore[union-attr]
    frozen, _ = tiny_policy(reader_folder, Head(), layout=Layout.LABELS)
    assert "do not learn" in Adversary(reads="vector").problems(frozen)[0]
    assert not Adversary(reads="vector").problems(policy)
    assert not Adversary().problems(frozen)


def test_what_they_say_of_themselves() -> None:
    for regulariser in (*BETWEEN_GROUPS, GroupDro(), GroupDro(by="group_label"), Adversary(given="label")):
        assert isinstance(regulariser, ComparesGroups)
        assert isinstance(regulariser, Suits)
        assert Answer.TOKENS not in regulariser.suits
    for regulariser in (Mmd(), Mmd(given="positive"), Adversary(given="label"), GroupDro(by="group_label")):
        assert regulariser.by_label
        assert not type(regulariser)(**{"by": "group"} if isinstance(regulariser, GroupDro) else {"given": "nothing"}).by_label  # fmt: skip
    assert Answer.NUMBER in Mmd(given="nothing").suits
    assert Answer.NUMBER not in Mmd(given="label").suits
    assert GroupDro(by="group_label").suits == {Answer.CLASS}
    assert isinstance(GroupDro(), Replaces)
    assert isinstance(CounterfactualPairing(), ComparesTwins)
    assert not isinstance(CounterfactualPairing(), ComparesGroups)
    assert isinstance(Mmd(), Objects)


# What they are for, on rows of two numbers: one tells the answer, the other the group, which the answer follows.


class People:
    """Rows of two groups, of which the second is wanted more often."""

    def __init__(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        self.group = rng.integers(0, 2, count)
        self.label = (rng.random(count) < np.where(self.group == 1, 0.75, 0.25)).astype(int)
        told = self.label * 2 - 1 + rng.normal(scale=1.3, size=count)
        shown = self.group * 2 - 1 + rng.normal(scale=0.3, size=count)
        self.rows = torch.from_numpy(np.stack([told, shown], 1).astype(np.float32))


def taught(people: People, parts: Sequence[Any], seed: int, **targets: Tensor) -> torch.nn.Linear:
    """A linear classifier after 150 updates on all rows."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    rows, count = people.rows, len(people.rows)
    if (counterparts := targets.pop("counterparts", None)) is not None:
        rows = torch.cat([rows, counterparts])
        targets["twin"] = torch.cat([torch.arange(count) + count, torch.full((count,), -1)])
    weights = [1.0] * count + [0.0] * (len(rows) - count)
    padded = [*people.group.tolist(), *[-1] * (len(rows) - count)]
    labels = torch.from_numpy(np.concatenate([people.label, np.zeros(len(rows) - count, dtype=int)]))
    for _ in range(150):
        batch, terms = judged(model(rows), labels, padded, weights, **targets)
        loss = (terms.losses * batch.weights).sum() / batch.units + sum(part(NOBODY, batch, terms) for part in parts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for part in parts:
            if isinstance(part, Advances):
                part.advance()
    return model


def gaps(model: torch.nn.Linear, people: People) -> tuple[float, float, float]:
    """Parity and equalised-odds differences of its answers, as fairlearn counts them, and accuracy."""
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    found = model(people.rows).argmax(-1).numpy()
    given = {"y_true": people.label, "y_pred": found, "sensitive_features": people.group}
    return (demographic_parity_difference(**given), equalized_odds_difference(**given), float((found == people.label).mean()))  # fmt: skip


@cache
def plain(seed: int) -> tuple[float, float, float]:
    """The gaps where nothing is done about them."""
    return gaps(taught(People(seed, 200), [], seed), People(seed + 100, 4000))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("make", "odds", "left"),
    [
        (lambda: Mmd(strength=3.0), True, 0.5),
        (lambda: Mmd(strength=3.0, given="nothing", width=0.3), False, 0.5),
        (lambda: Hsic(strength=10.0), False, 0.5),
        (lambda: Hsic(strength=30.0, given="label"), True, 0.5),
        (lambda: ParityGap(strength=1.0), False, 0.5),
        (lambda: ParityGap(strength=1.0, given="label"), True, 0.5),
        (lambda: Adversary(rate=0.03).begin(COUNTS), False, 0.7),
        (lambda: Adversary(strength=3.0, rate=0.03, given="label").begin(COUNTS), True, 0.5),
    ],
)
def test_gaps_between_groups_close(make: Callable[[], Any], odds: bool, left: float, seed: int) -> None:
    """Of rows never seen; and the answers are still worth something."""
    people, others = People(seed, 200), People(seed + 100, 4000)
    before, after = plain(seed), gaps(taught(people, [make()], seed), others)
    assert before[odds] > 0.3
    assert after[odds] < left * before[odds]
    assert after[2] > 0.65


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_worst_served_group_is_served_better(seed: int) -> None:
    """Few rows of those whose answer goes against what their group's rows mostly say."""
    people, others = People(seed, 200), People(seed + 100, 4000)

    def worst(parts: list[Any]) -> float:
        found = taught(people, parts, seed)(others.rows).argmax(-1).numpy()
        return min(float((found == others.label)[(others.group == g) & (others.label == y)].mean())
                   for g in (0, 1) for y in (0, 1))  # fmt: skip

    counts = np.array([[((people.group == g) & (people.label == y)).sum() for y in (0, 1)] for g in (0, 1)])
    assert worst([GroupDro(by="group_label").begin(counts)]) > worst([]) + 0.15


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_all_groups_end_with_the_same_loss(spread: float) -> None:
    """One number is said to all: 0 is right for 30 rows, 1 +- spread for 10. The mean loss is least at 1/4, and both
    groups lose alike where c^2 = (1 - c)^2 + spread^2, at (1 + spread^2) / 2."""
    labels = torch.tensor([0.0] * 30 + [1 - spread, 1 + spread] * 5)
    said_to_all = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.SGD([said_to_all], lr=0.1)
    part = GroupDro(eta=0.1).begin(np.array([[30], [10]]))
    for _ in range(600):
        batch, terms = judged(said_to_all.expand(40, 1), labels, [0] * 30 + [1] * 10)
        optimiser.zero_grad()
        (terms.losses.mean() + part(NOBODY, batch, terms)).backward()
        optimiser.step()
        part.advance()
    assert float(said_to_all.detach()) == pytest.approx((1 + spread**2) / 2, abs=0.02)
    assert part.shares.tolist() == pytest.approx([(1 - spread**2) / 2, (1 + spread**2) / 2], abs=0.03)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_text_and_the_same_of_another_group_are_answered_alike(seed: int) -> None:
    people, others = People(seed, 200), People(seed + 100, 4000)
    flip = torch.tensor([1.0, -1.0])

    def apart(model: torch.nn.Linear) -> float:
        return float((model(others.rows) - model(others.rows * flip)).abs().mean().detach())

    alone = taught(people, [], seed)
    paired = taught(people, [CounterfactualPairing(strength=1.0)], seed, counterparts=people.rows * flip)
    assert apart(paired) < 0.1 * apart(alone)
    assert gaps(paired, others)[2] > 0.75


def test_nothing_of_a_run_stays_in_the_settings() -> None:
    for part in (GroupDro(), Adversary()):
        assert isinstance(part, Begins)
        before = part.model_copy(deep=True)
        moved(part.begin(COUNTS), judged(APART, [0, 1, 0, 1], [0, 0, 1, 1]))
        assert part == before
