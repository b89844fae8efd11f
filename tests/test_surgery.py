"""Gradients of several tasks that conflict: by hand, against vectors worked with one by one, and through the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuneful.engine.apart import CHUNK, conflicts, products
from tuneful.engine.rules import GRADIENTS
from tuneful.engine.surgery import MEMORY, AGem, PCGrad, Surgery, UPGrad, raised
from tuneful.engine.update import Sum
from tuneful.testing import check_table

RULES = [PCGrad(), UPGrad(), AGem()]
PULLS = {"a": [1.0, 0.0], "b": [-1.0, 1.0], "c": [-1.0, -1.0]}  # the first conflicts with both, and a + a + b + c = 0
any_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)


def joined(rule: Surgery, pulls: Mapping[str, Sequence[float]], number: int = 1) -> tuple[Tensor, Mapping[str, float]]:
    """What the update `number` makes of gradients of one parameter, and what it measured."""
    place = nn.Parameter(torch.zeros(len(next(iter(pulls.values())))))
    work = rule.at_work(number - 1)
    for task, pull in pulls.items():
        work.add(task, (place * torch.tensor(pull)).sum(), [place])
    assert place.grad is None
    work.finish([place])
    assert place.grad is not None
    return place.grad, work.measured()


def test_their_settings() -> None:
    check_table(GRADIENTS)
    assert {"pcgrad", "upgrad", "a_gem"} <= set(GRADIENTS.kinds())


def test_two_conflicting_tasks_by_hand() -> None:
    """a (1, 0) and b (-0.6, 0.8): a loses -0.6 b and is (0.64, 0.48), b loses -0.6 a and is (0, 0.8). Both are of one
    length, so the sum lies on their bisector, (1, 2)."""
    for rule in (PCGrad(), UPGrad()):
        found, measured = joined(rule, {"b": [-0.6, 0.8], "a": [1.0, 0.0]})
        torch.testing.assert_close(found, torch.tensor([0.64, 1.28]))
        assert measured["conflict/a/b"] == pytest.approx(-0.6)
    assert joined(PCGrad(), {"b": [-0.6, 0.8], "a": [1.0, 0.0]})[1]["projected"] == 2


def test_three_tasks_by_hand() -> None:
    """a ends as nothing in either order. b against a, then c: (0, 1), then (-0.5, 0.5); c first: no conflict, so (0, 1).
    c likewise: (-0.5, -0.5) or (0, -1)."""
    wanted = [(-1.0, 0.0), (-0.5, -0.5), (-0.5, 0.5), (0.0, 0.0)]
    found = [joined(PCGrad(), PULLS, number) for number in range(1, 40)]
    sums = {tuple(round(value, 5) + 0.0 for value in pull.tolist()) for pull, _ in found}
    assert sums == set(wanted), "each order comes"
    assert {measured["projected"] for _, measured in found} == {4, 5, 6}
    assert found[0][1] | {"projected": 0} == pytest.approx(
        {"conflict/a/b": -(0.5**0.5), "conflict/a/c": -(0.5**0.5), "conflict/b/c": 0, "projected": 0}
    )
    again = [joined(PCGrad(), PULLS, number)[0] for number in range(1, 40)]
    assert all(torch.equal(one, other) for (one, _), other in zip(found, again, strict=True))


def one_by_one(pulls_TN: np.ndarray, number: int) -> np.ndarray:
    """Algorithm 1 of Yu et al. with the vectors themselves."""
    chance = np.random.default_rng(number)
    total = np.zeros(pulls_TN.shape[1])
    for own, pull in enumerate(pulls_TN):
        left = pull.copy()
        for other in chance.permutation(len(pulls_TN)):
            if other != own and left @ pulls_TN[other] < 0:
                left -= (left @ pulls_TN[other]) / (pulls_TN[other] @ pulls_TN[other]) * pulls_TN[other]
        total += left
    return total


@pytest.mark.parametrize("number", range(1, 9))
def test_projections_are_those_of_the_vectors(number: int) -> None:
    pulls_TN = np.random.default_rng(number).normal(size=(number % 4 + 2, 5))
    found, _ = joined(PCGrad(), {f"task {n}": row for n, row in enumerate(pulls_TN.tolist())}, number)
    np.testing.assert_allclose(found.numpy(), one_by_one(pulls_TN, number), rtol=1e-4, atol=1e-5)


@any_rule
def test_without_conflict_it_is_the_sum(rule: Surgery) -> None:
    """Bit for bit."""
    pulls = {"a": [0.1, 0.7, 0.0], "b": [0.2, 0.0, 1e-3], "c": [0.3, 0.1, 0.0]}
    place = nn.Parameter(torch.zeros(3))
    for pull in pulls.values():
        Sum().add("any", (place * torch.tensor(pull)).sum(), [place])
    found, measured = joined(rule, pulls)
    assert torch.equal(found, place.grad)  # type: ignore[arg-type]
    assert not measured.get("projected", 0.0)


@any_rule
def test_what_one_task_uses_is_learned_as_it_would_be_alone(rule: Surgery) -> None:
    """Heads of their own, with slopes that would turn every product round, are no part of the comparison."""
    body, first, second, idle = (nn.Parameter(torch.zeros(2)) for _ in range(4))
    parameters = [first, body, idle, second]
    work = rule.at_work(0)
    work.add("one", (body * torch.tensor([1.0, 0.0])).sum() + 100 * first.sum(), parameters)
    work.add(MEMORY, (body * torch.tensor([-0.6, 0.8])).sum() - 50 * second.sum(), parameters)
    work.finish(parameters)
    assert work.measured()[f"conflict/{MEMORY}/one"] == pytest.approx(-0.6)
    assert first.grad.tolist() == [100, 100]  # type: ignore[union-attr]
    assert idle.grad is None
    if isinstance(rule, AGem):
        assert second.grad is None, "memory itself is not learned"
        torch.testing.assert_close(body.grad, torch.tensor([0.64, 0.48]))
    else:
        assert second.grad.tolist() == [-50, -50]  # type: ignore[union-attr]
        torch.testing.assert_close(body.grad, torch.tensor([0.64, 1.28]))


def test_all_that_pull_against_one_another_stay() -> None:
    """No step but none helps a, b and c; PCGrad makes one that hurts."""
    found, measured = joined(UPGrad(), PULLS)
    torch.testing.assert_close(found, torch.zeros(2), atol=1e-6, rtol=0)
    assert measured.keys() == {"conflict/a/b", "conflict/a/c", "conflict/b/c"}
    hurt = [np.array(list(PULLS.values())) @ joined(PCGrad(), PULLS, number)[0].numpy() for number in range(1, 9)]
    assert min(map(min, hurt)) < -0.4


def test_a_third_task_that_conflicts_with_none() -> None:
    """a (1, 0, 0) becomes (1/2, 1/2, 0) beside b (-1, 1, 0), which becomes (0, 1, 0)."""
    found, _ = joined(UPGrad(), {"a": [1, 0, 0], "b": [-1, 1, 0], "c": [0, 0, 1]})
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5, 1.0]))
    assert joined(UPGrad(), {"a": [1.0, 2.0], "b": [0.0, 0.0]})[0].tolist() == [1, 2], "nothing conflicts with nothing"


@pytest.mark.parametrize("seed", range(30))
def test_no_task_is_hurt(seed: int) -> None:
    """Whatever the number of tasks and however unlike their lengths."""
    chance = np.random.default_rng(seed)
    pulls_TN = chance.normal(size=(seed % 6 + 1, 4)) * 10.0 ** chance.integers(-3, 3, size=(seed % 6 + 1, 1))
    found, _ = joined(UPGrad(), {f"task {n}": row for n, row in enumerate(pulls_TN.tolist())})
    pulls_TN = pulls_TN.astype(np.float32).astype(np.float64)
    exactness = 1e-5 * np.linalg.norm(pulls_TN, axis=1) * np.linalg.norm(pulls_TN, axis=1).max()
    assert (pulls_TN @ found.double().numpy() >= -exactness).all()


@pytest.mark.parametrize("seed", range(30))
def test_the_shortest_way_is_found(seed: int) -> None:
    """Against all sets of gradients that might take part, some cases with fewer dimensions than tasks."""
    chance = np.random.default_rng(seed)
    pulls_TN = chance.normal(size=(4, seed % 4 + 1))
    found_TT = raised(pulls_TN @ pulls_TN.T)
    assert (found_TT >= 0).all()
    for own, more_T in enumerate(found_TT):
        nearest = min(
            (np.linalg.norm(way) for some in subsets(4) if (way := _way(pulls_TN, own, some)) is not None), default=None
        )
        assert np.linalg.norm(more_T @ pulls_TN) == pytest.approx(nearest, abs=1e-6)
        assert (pulls_TN @ (pulls_TN[own] + more_T @ pulls_TN) >= -1e-6).all()


def subsets(count: int) -> list[list[int]]:
    return [list(some) for some in chain(*(combinations(range(count), size) for size in range(count + 1)))]


def _way(pulls_TN: np.ndarray, own: int, some: list[int]) -> np.ndarray | None:
    """From gradient `own` to where the products with `some` are zero; None where another product is below zero."""
    beside_SN = pulls_TN[some]
    way = -np.linalg.pinv(beside_SN) @ (beside_SN @ pulls_TN[own]) if some else np.zeros(pulls_TN.shape[1])
    return way if (pulls_TN @ (pulls_TN[own] + way) >= -1e-9).all() else None


def test_memory_by_hand() -> None:
    """The new tasks together pull by (1, 2), memory by (-2, 0): their product is -2, memory's own 4, so half of memory
    is added and (0, 2) is left, which memory is indifferent to."""
    found, measured = joined(AGem(), {"a": [3.0, 1.0], MEMORY: [-2.0, 0.0], "b": [-2.0, 1.0]})
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0]))
    assert measured["projected"] == 1
    found, measured = joined(AGem(), {"a": [3.0, 1.0], MEMORY: [2.0, 0.0], "b": [-2.0, 1.0]})
    assert (found.tolist(), measured["projected"]) == ([1.0, 2.0], 0), "b alone conflicts, both together do not"
    assert joined(AGem(), PULLS)[0].tolist() == [-1.0, 0.0], "without memory it is the sum"


def test_products_of_long_gradients() -> None:
    """Longer than what is taken at once; a task that does not use a shared parameter has zeros there."""
    size = CHUNK + 3
    long, short = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(1))
    slopes = [[torch.full((size,), 2.0), torch.ones(1)], [torch.ones(size), None], [None, torch.tensor([3.0])]]
    found = products(slopes, [long, short])  # type: ignore[arg-type]
    assert found.tolist() == [[4 * size + 1, 2 * size, 3], [2 * size, size, 0], [3, 0, 9]]
    assert conflicts(["a", "b"], np.array([[4.0, -1.0], [-1.0, 0.0]])) == {}, "nothing has no direction"


def test_what_was_added_before_a_new_beginning_is_void() -> None:
    place = nn.Parameter(torch.zeros(2))
    work = PCGrad().at_work(0)
    work.add("void", (place * torch.tensor([5.0, 5.0])).sum(), [place])
    work.restart([place])
    for pull in ([1.0, 0.0], [2.0, 0.0]):  # two batches of one task
        work.add("a", (place * torch.tensor(pull)).sum(), [place])
    work.add("b", (place * torch.tensor([0.0, 4.0])).sum(), [place])
    work.finish([place])
    assert place.grad.tolist() == [3, 4]  # type: ignore[union-attr]
    assert work.measured() == {"conflict/a/b": 0, "projected": 0}
    place.grad = None
    work.add("b", place.sum(), [place])
    work.finish([place])
    assert place.grad.tolist() == [1, 1], "nothing stays from one update to the next"  # type: ignore[attr-defined]
