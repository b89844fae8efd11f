"""Metrics against numbers worked out by hand and against scikit-learn; intervals against what is known of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from tuneful.core.errors import RecipeError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.labels import Kind, LabelSet
from tuneful.evaluation.compare import Difference, Score, difference, score
from tuneful.evaluation.metrics import METRICS, words
from tuneful.evaluation.primary import check_primary
from tuneful.evaluation.settings import Evaluate, MetricName
from tuneful.evaluation.verdict import check, judge, sentence

HAND = [
    ("exact_match", ["a b", "c"], ["a b ", "C"], 0.5),
    ("accuracy", ["x", "y", "y"], ["x", "x", "y"], 2 / 3),
    ("accuracy", [frozenset("ab"), frozenset("a")], [frozenset("ba"), frozenset()], 0.5),
    ("rouge_l", ["the cat sat"], ["the big cat sat down"], 6 / 8),
    ("rouge_l", ["你好世界"], ["你好"], 4 / 6),
    ("rouge_l", [""], [""], 1.0),
    ("rouge_l", ["a"], [""], 0.0),
    ("token_f1", ["sat the cat"], ["the cat the"], 4 / 6),
    ("perplexity", [0, 0], [(np.log(4), 1), (np.log(4) * 2, 2)], 4.0),
    ("perplexity", [0, 0], [(0.0, 3), (4.0, 1)], np.e),
    ("macro_f1", ["a", "a", "b", "b"], ["a", "b", "b", "b"], (2 / 3 + 4 / 5) / 2),
    ("mcc", ["a", "b"], ["b", "a"], -1.0),
    ("mcc", ["a", "b"], ["a", "a"], 0.0),
    ("mae", [1.0, 2.0], [2.0, 4.0], 1.5),
    ("rmse", [0.0, 0.0], [3.0, 4.0], (12.5) ** 0.5),
    ("pearson", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 1.0),
    ("spearman", [1.0, 2.0, 3.0], [1.0, 10.0, 5.0], 0.5),
]

PRIMARY: list[tuple[MetricName | None, Kind | None, bool, str | None]] = [
    # the metric of the verdict, the kind of labels, whether the rows ask for something, what is wrong
    (None, None, True, None),
    ("exact_match", None, True, None),
    ("perplexity", None, True, None),
    ("perplexity", None, False, None),
    ("exact_match", None, False, "exact_match is not measured for plain text. Known here: perplexity; or leave it out"),
    ("accuracy", None, True, "accuracy is not measured for text to write. Known here: exact_match, rouge_l, token_f1, perp"),
    ("accuracy", "class", False, None),
    ("mcc", "class", False, None),
    ("perplexity", "class", False, "perplexity is not measured for labels, one a row. Known here: accuracy, macro_f1, mcc"),
    ("mcc", "labels", False, "mcc is not measured for labels, any number a row. Known here: macro_f1, accuracy"),
    ("rmse", "number", False, None),
    ("accuracy", "number", False, "accuracy is not measured for labels that are numbers. Known here: rmse, mae,"),
]  # fmt: skip


@pytest.mark.parametrize(("primary", "kind", "asked", "wrong"), PRIMARY)
def test_a_verdict_by_what_is_not_measured(
    primary: MetricName | None, kind: Kind | None, asked: bool, wrong: str | None
) -> None:
    labels = LabelSet(kind, ("a", "b")) if kind else None
    ids = np.arange(3)
    rows = [Row(Example(Place("d", 1)), ids, ids, prompt=2 * asked)]
    if wrong is None:
        check_primary(Evaluate(primary=primary), Layout.TOKENS if labels is None else Layout.LABELS, labels, rows)
        return
    with pytest.raises(RecipeError, match=re.escape(f"evaluate.primary: {wrong}")):
        check_primary(Evaluate(primary=primary), Layout.TOKENS if labels is None else Layout.LABELS, labels, rows)


def test_without_test_rows_a_writer_may_still_be_measured_by_its_answers() -> None:
    check_primary(Evaluate(primary="exact_match"), Layout.TOKENS, None, [])
    with pytest.raises(RecipeError, match=r"exact_match is not measured for plain text\. Known here: accuracy"):
        check_primary(Evaluate(primary="exact_match"), Layout.TEXTS, None, [])


@pytest.mark.parametrize(("name", "truth", "predicted", "expected"), HAND)
def test_by_hand(name: str, truth: list[object], predicted: list[object], expected: float) -> None:
    assert METRICS[name](truth, predicted) == pytest.approx(expected, abs=1e-9)


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = [str(value) for value in rng.integers(0, 20, 500)]
    predicted = [value if rng.random() < 0.7 else str(rng.integers(0, 20)) for value in truth]
    assert METRICS["macro_f1"](truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert METRICS["mcc"](truth, predicted) == pytest.approx(matthews_corrcoef(truth, predicted))


def test_words_in_any_script() -> None:
    assert words("Don't stop, 你好！ naïve_x 42") == ["don", "t", "stop", "你", "好", "naïve", "x", "42"]


def test_the_interval_is_that_of_the_binomial() -> None:
    """Accuracy 0.8 of 400 against a constant 0: the known standard error is 0.02."""
    truth = ["x"] * 400
    found = score(METRICS["accuracy"], truth, {"tuned": ["x"] * 320 + ["y"] * 80, "base": ["y"] * 400})
    gap = found.against["base"]
    assert gap.delta == pytest.approx(0.8)
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * 0.02, rel=0.1)


def test_pairing_makes_a_steady_difference_sure() -> None:
    """Two systems that differ on one row in a hundred, always the same way: unpaired that would be noise."""
    truth = ["x"] * 600
    base = (["x"] * 50 + ["y"] * 50) * 6
    tuned = (["x"] * 51 + ["y"] * 49) * 6
    gap = score(METRICS["accuracy"], truth, {"tuned": tuned, "base": base}).against["base"]
    assert gap.low > 0


def test_equal_systems_do_not_differ() -> None:
    statistics = METRICS["perplexity"].statistics([], [(1.0, 2), (3.0, 4)])
    assert difference(METRICS["perplexity"], statistics, statistics) == Difference(0.0, 0.0, 0.0)


def test_coverage_of_the_interval() -> None:
    """95 % intervals hold the truth about 95 times in a hundred."""
    rng = np.random.default_rng(1)
    held = 0
    for number in range(100):
        right = rng.random((2, 200)) < np.array([[0.7], [0.6]])
        rows = [np.stack([row.astype(float), np.ones(200)], 1) for row in right]
        gap = difference(METRICS["accuracy"], rows[0], rows[1], seed=number)
        held += gap.low <= 0.1 <= gap.high
    assert held >= 88


def made(metric: str, higher: bool, **against: tuple[float, float]) -> Score:
    gaps = {name: Difference((low + high) / 2, low, high) for name, (low, high) in against.items()}
    return Score(metric, higher, 50, {"tuned": 0.5, "base": 0.4, "kshot": 0.4, "trivial": 0.1}, gaps)


@pytest.mark.parametrize(
    ("score_", "helped", "reason"),
    [
        (made("accuracy", True, base=(0.1, 0.2), trivial=(0.3, 0.4)), "yes", "better_than_all"),
        (made("accuracy", True, base=(0.1, 0.2), kshot=(-0.3, -0.1)), "no", "worse_than_kshot"),
        (made("accuracy", True, base=(-0.2, -0.1)), "no", "worse_than_base"),
        (made("accuracy", True, base=(0.1, 0.2), kshot=(-0.1, 0.1)), "unclear", "better_than_base_only"),
        (made("accuracy", True, base=(-0.1, 0.1)), "unclear", "interval_holds_zero"),
        (made("perplexity", False, base=(-2.0, -1.0), kshot=(-1.0, -0.5)), "yes", "better_than_all"),
        (made("perplexity", False, base=(0.5, 1.0)), "no", "worse_than_base"),
        (None, "unclear", "not_measured"),
    ],
)
def test_the_verdict(score_: Score | None, helped: str, reason: str) -> None:
    verdict = judge(score_)
    assert (verdict.helped, verdict.reason) == (helped, reason)
    for language in ("en", "zh-TW"):
        assert "{" not in sentence(verdict, score_, language)


def test_gates() -> None:
    limits = {"forgetting_kl": 0.1, "generalisation_gap": 0.5, "helped": True}
    assert check(limits, "yes", {"gap": 0.4}, {"kl_from_base": 0.2}, {}) == {
        "forgetting_kl": "broken",
        "generalisation_gap": "passed",
        "helped": "passed",
    }
    assert check({"forgetting_kl": 0.1}, "yes", {}, {}, {}) == {"forgetting_kl": "broken"}
    assert check({"forgetting_kl": None, "helped": False}, "no", {}, {}, {}) == {}


@pytest.mark.parametrize(
    ("probe", "result"),
    [
        ({"delta": 0.05, "ci95": [0.01, 0.09]}, "broken"),
        ({"delta": 0.05, "ci95": [-0.01, 0.11]}, "passed"),  # may be chance
        ({"delta": 0.015, "ci95": [0.01, 0.02]}, "passed"),  # surely, but less than is allowed
        ({"delta": 0.05, "ci95": [0.01, 0.09], "measurable": False}, "broken"),  # nothing was measured
        ({"delta": 0.05, "ci95": [0.01, 0.09], "gap": False}, "broken"),
    ],
)
def test_the_gate_of_bias(probe: dict[str, Any], result: str) -> None:
    bias = {"equalised_odds_difference": {"gap": True, "measurable": True, **probe}}
    assert check({"bias_gap_increase": 0.02}, "yes", {}, {}, bias) == {"bias_gap_increase": result}
    fine = {**bias, "other": {"gap": True, "measurable": True, "delta": 0.0, "ci95": [-0.1, 0.1]}}
    unmeasured = probe.get("measurable") is False or probe.get("gap") is False
    expected = "passed" if unmeasured else result
    assert check({"bias_gap_increase": 0.02}, "yes", {}, {}, fine) == {"bias_gap_increase": expected}


@pytest.mark.parametrize(
    ("probe", "result"),
    [
        ({"further": 5.0, "further_ci95": [0.5, 9.0]}, "broken"),
        ({"further": 5.0, "further_ci95": [-0.5, 9.0]}, "passed"),  # may be chance
        ({"further": 5.0, "further_ci95": [0.5, 9.0], "p": 0.04}, "broken"),
        ({"further": 5.0, "further_ci95": [0.5, 9.0], "p": 0.06}, "passed"),  # wider by noise, and not surely off
        ({"further": 3.9, "further_ci95": [0.5, 9.0]}, "passed"),  # surely, but less than is allowed
        ({"further": -5.0, "further_ci95": [-9.0, -0.5], "delta": 5.0}, "passed"),  # nearer to the ideal
        ({"further": None, "further_ci95": None}, "broken"),  # not measurable
        ({"further": 0.0, "further_ci95": None}, "broken"),
        (None, "broken"),
    ],
)
def test_the_gate_of_probes(probe: dict[str, Any] | None, result: str) -> None:
    limits = {"bias_probe_increase": {"crows_pairs": 4.0}}
    bias = {"descriptors": {"further": 9.0, "further_ci95": [8.0, 10.0]}}  # nobody set a gate for it
    bias |= {} if probe is None else {"crows_pairs": probe}
    assert check(limits, "yes", {}, {}, bias) == {"bias_probe_increase": result}
    assert check({"bias_probe_increase": {}}, "yes", {}, {}, bias) == {}


def test_a_class_that_a_system_neither_meets_nor_answers_is_no_class_of_its_mean() -> None:
    """`trivial` alone answers c, which no row has: the tuned model, right everywhere, has a mean of 1."""
    found = score(METRICS["macro_f1"], ["a", "b", "a"], {"tuned": ["a", "b", "a"], "trivial": ["c", "c", "c"]})
    assert found.values == {"tuned": 1.0, "trivial": 0.0}
