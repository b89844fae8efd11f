"""Cuts by group: what fairlearn finds, kept as numbers and applied without it."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, selection_rate, true_positive_rate  # type: ignore[import-untyped]
from fairlearn.postprocessing import ThresholdOptimizer  # type: ignore[import-untyped]
from sklearn.dummy import DummyRegressor  # type: ignore[import-untyped]

from tuneful.core.errors import DataError
from tuneful.repairs.thresholds import (
    THEIRS,
    Constraint,
    Cut,
    Mixture,
    Objective,
    Rule,
    best_cut,
    coins,
    fit_thresholds,
)

CONSTRAINTS, OBJECTIVES = get_args(Constraint), get_args(Objective)


def drawn(seed: int, rows: int = 600, groups: str = "abc") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores whose quality, height and base rate differ by group; some come several times."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(groups), rows)
    place = np.array([groups.index(name) for name in names])
    truth = (rng.random(rows) < np.array([0.3, 0.5, 0.7])[place]).astype(int)
    logits = (
        (truth - 0.5) * np.array([3.0, 1.0, 2.0])[place] + np.array([-1.0, 0.0, 0.7])[place] + rng.normal(size=rows)
    )
    return np.round(1 / (1 + np.exp(-logits)), 2), truth, names.tolist()


class Scores(DummyRegressor):  # type: ignore[misc]
    """A fitted estimator that hands its input on."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def theirs(scores: np.ndarray, truth: np.ndarray, names: list[str], constraint: str, objective: str, flip: bool) -> Any:
    fitted = Scores().fit(scores[:, None], truth)
    found = ThresholdOptimizer(
        estimator=fitted, constraints=THEIRS[constraint], objective=THEIRS[objective], prefit=True,
        predict_method="predict", flip=flip,
    )  # fmt: skip
    return found.fit(scores[:, None], truth, sensitive_features=names)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("flip", [False, True])
def test_chances_are_fairlearns(constraint: Any, objective: Any, flip: bool) -> None:
    """On the rows it was fitted on and on others, and through JSON."""
    for seed in range(4):
        scores, truth, names = drawn(seed)
        if flip:
            scores = np.where(np.array(names) == "b", 1 - scores, scores)
        rule = fit_thresholds(scores, truth, names, constraint, objective, flip=flip)
        rule = Rule.from_json(json.loads(json.dumps(rule.as_json(), allow_nan=False)))
        other = theirs(scores, truth, names, constraint, objective, flip)
        new, _, new_names = drawn(seed + 90, 300)
        for asked, of in ((scores, names), (new, new_names)):
            wanted = other._pmf_predict(asked[:, None], sensitive_features=of)[:, 1]
            np.testing.assert_allclose(rule.chances(asked, of), wanted, atol=1e-12)
        if flip and constraint != "demographic_parity":
            assert not rule.groups["b"].cut0.above or not rule.groups["b"].cut1.above


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_groups_are_alike_by_what_was_asked(constraint: Any) -> None:
    """In expectation, on the rows it was fitted on: rates within the grid's step. One cut for all is far from it."""
    scores, truth, names = drawn(7, 3000)
    rule = fit_thresholds(scores, truth, names, constraint, "accuracy")

    def gap(chances: np.ndarray, rows: np.ndarray) -> float:
        of = np.array(names)[rows]
        rates = [chances[rows][of == name].mean() for name in "abc"]
        return max(rates) - min(rates)

    everyone = np.ones(len(truth), dtype=bool)
    parts = {"demographic_parity": [everyone], "equal_opportunity": [truth == 1],
             "equalised_odds": [truth == 1, truth == 0]}[constraint]  # fmt: skip
    one = (scores > 0.5) * 1.0
    for rows in parts:
        assert gap(rule.chances(scores, names), rows) < 1e-6
    assert max(gap(one, rows) for rows in parts) > 0.2


def test_decisions_are_alike_by_fairlearns_own_measure() -> None:
    scores, truth, names = drawn(3, 6000)
    keys = [f"row {place}" for place in range(len(scores))]
    for constraint, metric in (("demographic_parity", selection_rate), ("equal_opportunity", true_positive_rate)):
        decided = fit_thresholds(scores, truth, names, constraint).decide(scores, names, keys)  # type: ignore[arg-type]
        frame = MetricFrame(metrics=metric, y_true=truth, y_pred=decided * 1, sensitive_features=names)
        assert frame.difference() < 0.04


def test_a_mixture_by_hand() -> None:
    """A score of 0.5 is above the first cut only: 0.1 * 0.4 + 0.9 * 0.75 = 0.715."""
    mixture = Mixture(0.75, Cut(0.3), 0.25, Cut(0.6), ignored=0.1, constant=0.4)
    np.testing.assert_allclose(mixture.chances(np.array([0.2, 0.5, 0.9])), [0.04, 0.715, 0.94])
    np.testing.assert_array_equal(Cut(0.5)(np.array([0.4, 0.5, 0.6])), [False, False, True])
    np.testing.assert_array_equal(Cut(0.5, above=False)(np.array([0.4, 0.5, 0.6])), [True, False, False])


def test_coins_are_even_and_fall_the_same_way_again() -> None:
    keys = [f"text {place}" for place in range(20_000)]
    found = coins(keys)
    assert found.min() >= 0
    assert found.max() < 1
    np.testing.assert_allclose(np.histogram(found, 10, (0, 1))[0], 2000, atol=200)
    assert abs(np.corrcoef(found, coins(keys, seed=1))[0, 1]) < 0.03
    np.testing.assert_array_equal(coins(keys[::-1]), found[::-1])
    np.testing.assert_array_equal(coins(["text 3", "text 3"]), found[[3, 3]])
    assert coins(["a"], -1) != coins(["a"], 1)


def test_decisions_come_as_often_as_their_chances_say() -> None:
    rule = Rule("", "", {"a": Mixture(0.3, Cut(0.5), 0.7, Cut(-1.0))}, Cut(0.5))
    keys = [str(place) for place in range(10_000)]
    low, high = np.full(10_000, 0.2), np.full(10_000, 0.8)
    assert rule.decide(low, ["a"] * 10_000, keys).mean() == pytest.approx(0.7, abs=0.015)
    assert rule.decide(high, ["a"] * 10_000, keys).all()
    assert not rule.decide(low, [None] * 10_000, keys).any()
    again = rule.decide(low[:10], ["a"] * 10, keys[:10])
    np.testing.assert_array_equal(rule.decide(low, ["a"] * 10_000, keys)[:10], again)


def test_groups_nobody_knew_get_the_one_cut_that_is_best() -> None:
    scores, truth, names = drawn(1)
    rule = fit_thresholds(scores, truth, names, "demographic_parity", "accuracy")
    given = np.array([0.0, rule.fallback.at - 1e-6, rule.fallback.at + 1e-6, 1.0])
    for group in ("d", None, ""):
        np.testing.assert_array_equal(rule.chances(given, [group] * 4), [0, 0, 1, 1])
    unnamed = Rule("", "", {"": Mixture(1.0, Cut(2.0), 0.0, Cut(2.0))}, Cut(0.5))
    np.testing.assert_array_equal(unnamed.chances(np.full(2, 0.7), ["", None]), [0, 1])
    best = max(((scores > at) == truth).mean() for at in np.linspace(-0.005, 1.005, 102))
    assert (rule.fallback(scores) == truth).mean() == best


@pytest.mark.parametrize(("objective", "at"), [("accuracy", 0.75), ("balanced_accuracy", 0.3)])
def test_the_best_cut_by_hand(objective: Any, at: float) -> None:
    """Of 2 positives at 0.9 and 0.4, and 5 negatives at 0.6 0.6 0.2 0.2 0.2: above 0.75 lies one positive (6 of 7
    right; half of 1/2 + 5/5 is 0.75); above 0.3 both and two negatives (5 of 7; half of 2/2 + 3/5 is 0.8)."""
    scores, truth = np.array([0.9, 0.4, 0.6, 0.6, 0.2, 0.2, 0.2]), np.array([1, 1, 0, 0, 0, 0, 0])
    assert best_cut(scores, truth, objective).at == pytest.approx(at)


def test_nobody_and_everybody_are_numbers_json_knows() -> None:
    """Scores that are all the same can be cut above or below; rare positives: above, so nobody."""
    truth = np.array(([1] * 30 + [0] * 170) * 2)
    rule = fit_thresholds(np.full(400, 0.5), truth, ["a"] * 200 + ["b"] * 200, "demographic_parity", "accuracy")
    assert rule.chances(np.ones(2), ["a", "b"]).max() == 0
    assert {rule.groups["a"].cut0.at, rule.groups["a"].cut1.at} == {2.0, -1.0}
    assert "Infinity" not in json.dumps(rule.as_json())
    assert best_cut(np.full(4, 0.3), np.array([1, 0, 0, 0]), "accuracy") == Cut(2.0)
    assert best_cut(np.full(4, 1.0), np.array([1, 1, 1, 0]), "accuracy") == Cut(-1.0)
    assert Cut(2.0)(np.ones(1)).sum() == 0
    assert Cut(-1.0)(np.zeros(1)).sum() == 1


def test_rows_of_unknown_group_only_place_the_fallback() -> None:
    scores, truth, names = drawn(2)
    whole = fit_thresholds(scores, truth, names)
    more = fit_thresholds(np.append(scores, [0.0] * 500), np.append(truth, [1] * 500), [*names, *[None] * 500])
    assert more.groups == whole.groups
    assert more.fallback != whole.fallback


@pytest.mark.parametrize(("kind", "place"), [("positive", 0), ("negative", 1)])
def test_a_group_needs_thirty_of_each(kind: str, place: int) -> None:
    counts = [30, 30]
    truth, names = [1] * 40 + [0] * 40 + [1] * 30 + [0] * 30, ["a"] * 80 + ["b"] * 60
    scores = np.random.default_rng(0).random(140)
    fit_thresholds(scores, np.array(truth), names)
    counts[place] -= 1
    truth = [1] * 40 + [0] * 40 + [1] * counts[0] + [0] * counts[1]
    with pytest.raises(DataError, match=f"found 29 {kind} rows in group 'b', expected at least 30"):
        fit_thresholds(scores[:139], np.array(truth), names[:139])


def test_refusals_come_all_at_once() -> None:
    scores, truth, names = drawn(0)
    with pytest.raises(DataError, match="found 1 groups"):
        fit_thresholds(scores, truth, ["a"] * 600)
    with pytest.raises(DataError, match="found 0 groups"):
        fit_thresholds(np.zeros(0), np.zeros(0), [])
    with pytest.raises(DataError, match="found 600 scores and 599 values"):
        fit_thresholds(scores, truth, names[1:])
    scores[3], truth[5] = 1.2, 2
    with pytest.raises(DataError, match=r"no probabilities, such as 1\.2.*found the truth .*2"):
        fit_thresholds(scores, truth, names)


@pytest.mark.parametrize("score", [-0.1, 1.0001, np.nan, np.inf])
def test_scores_that_are_no_probabilities_are_refused_when_they_are_decided_too(score: float) -> None:
    rule = fit_thresholds(*drawn(0))
    with pytest.raises(DataError, match="found 1 scores that are no probabilities"):
        rule.decide(np.array([0.5, score]), ["a", "a"], ["x", "y"])
    with pytest.raises(DataError, match="found 2 scores and 1 values"):
        rule.decide(np.array([0.5, 0.5]), ["a", "a"], ["x"])


def test_a_damaged_rule_is_refused() -> None:
    found = fit_thresholds(*drawn(0)).as_json()
    damaged: list[dict[str, Any]] = [
        {**found, "groups": 3},
        {**found, "fallback": {"at": 1, "over": True}},
        {"groups": {}},
    ]
    for broken in damaged:
        with pytest.raises(DataError, match="cannot be read"):
            Rule.from_json(broken)
