"""A run's answers, task by task: counted by hand, and the same numbers as of all rows where there is one task."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tuneful.core.types import Example, Place, Row
from tuneful.data.labels import LabelSet
from tuneful.evaluation.by_task import by_task
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.readers import examine_unseen
from tuneful.evaluation.report import compose
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.verdict import as_json


def answer(row: int, expected: Any, base: Any, tuned: Any, **more: Any) -> dict[str, Any]:
    return {"row": str(row), "asked": "?", "expected": expected, "base": base, "tuned": tuned, "trivial": base, **more}


def examined(answers: list[dict[str, Any]], primary: str) -> Examined:
    return Examined([], primary, answers)


def test_each_task_has_its_own_rows() -> None:
    answers = [
        answer(1, "x", "y", "x"), answer(2, "y", "y", "y"), answer(3, "x", "y", "x"), answer(4, "x", "y", "y"),
        answer(5, "u", "u", "v"), answer(6, "v", "v", "v"),
    ]  # fmt: skip
    place = {str(row): "first" if row < 5 else "second" for row in range(1, 7)}
    found = by_task(examined(answers, "accuracy"), place, {"first": 40, "second": 7, "third": 3})
    first, second = found["first"], found["second"]
    assert list(found) == ["first", "second", "third"]
    assert first["ci95"][0] <= 0.5 <= first["ci95"][1]
    assert first | {"ci95": None} == {
        "metric": "accuracy", "higher_is_better": True, "n": 4, "base": 0.25, "trivial": 0.25, "tuned": 0.75,
        "delta": 0.5, "ci95": None, "rows": 40,
    }  # fmt: skip
    assert (second["n"], second["base"], second["tuned"], second["delta"]) == (2, 1.0, 0.5, -0.5)
    assert found["third"] == {"n": 0, "rows": 3}
    json.dumps(found, allow_nan=False)


def row(number: int, label: str) -> Row:
    example = Example(Place("rows.csv", number), text="words", label=label)
    return Row(example, np.arange(3), np.zeros(3, np.float32), target=0)


@pytest.mark.parametrize("primary", ["accuracy", "macro_f1", "mcc"])
def test_one_task_is_the_whole_run(primary: str) -> None:
    """Interval included: the same rows, drawn alike."""
    labels, rng = LabelSet("class", ("x", "y", "z")), np.random.default_rng(1)
    rows = [row(number, labels.names[number % 3]) for number in range(60)]
    said = {"tuned": [n % 3 if rng.random() < 0.7 else 0 for n in range(60)], "base": rng.integers(0, 3, 60).tolist()}
    whole = examine_unseen(rows, said, labels, Evaluate(primary=primary))
    quality = as_json({score.metric: score for score in whole.scores})[primary]
    found = by_task(whole, {str(one.example.place): "all" for one in rows}, {"all": 5})["all"]
    assert found["metric"] == primary
    for name in ("base", "trivial", "tuned", "delta", "ci95", "n"):
        assert found[name] == pytest.approx(quality[name], abs=1e-5), name


def test_perplexity_is_of_all_tokens_of_a_task() -> None:
    losses = [
        {"base": [8.0, 4], "tuned": [2.0, 4]},
        {"base": [4.0, 2], "tuned": [4.0, 2]},
        {"base": [3.0, 1], "tuned": [0.0, 1]},
    ]
    answers = [answer(n, "so", "no", "so", losses=given) for n, given in enumerate(losses)]
    found = by_task(examined(answers, "perplexity"), {"0": "a", "1": "a", "2": "b"}, {"a": 1, "b": 1})
    assert found["a"]["higher_is_better"] is False
    assert found["a"]["base"] == pytest.approx(np.exp(12 / 6), abs=1e-5)
    assert found["a"]["tuned"] == pytest.approx(np.exp(6 / 6), abs=1e-5)
    assert found["a"]["delta"] == pytest.approx(np.exp(1) - np.exp(2), abs=1e-5)
    assert "trivial" not in found["a"], "no loss of it is known"
    assert found["b"]["tuned"] == 1.0
    exact = by_task(examined(answers, "exact_match"), {"0": "a", "1": "a", "2": "b"}, {})
    assert (exact["a"]["metric"], exact["a"]["base"], exact["a"]["tuned"]) == ("exact_match", 0.0, 1.0)


def test_sets_of_labels_have_no_order() -> None:
    answers = [answer(1, ["a", "b"], [], ["b", "a"]), answer(2, [], ["a"], [])]
    found = by_task(examined(answers, "accuracy"), {"1": "t", "2": "t"}, {"t": 1})["t"]
    assert (found["base"], found["tuned"]) == (0.0, 1.0)
    assert by_task(examined(answers, "macro_f1"), {"1": "t", "2": "t"}, {"t": 1})["t"]["tuned"] == 1.0


def test_numbers_and_documents() -> None:
    numbers = [answer(1, 3.0, 1.0, 3.0), answer(2, 5.0, 5.0, 4.0)]
    found = by_task(examined(numbers, "mae"), {"1": "t", "2": "t"}, {})["t"]
    assert (found["metric"], found["base"], found["tuned"], found["delta"]) == ("mae", 1.0, 0.5, -0.5)
    searched = [
        answer(1, ["d"], "e", "d", right=[4], found={"base": [], "tuned": [4, 5]}),
        answer(2, ["d"], "e", "d", right=[4, 6], found={"base": [1, 4], "tuned": [9, 4]}),
    ]
    found = by_task(examined(searched, "mrr_at_10"), {"1": "t", "2": "t"}, {})["t"]
    assert (found["base"], found["tuned"]) == (0.25, 0.75)


def test_a_metric_that_answers_do_not_tell_gives_way_to_one_they_do() -> None:
    """As for runs whose tasks are of different kinds."""
    answers = [answer(1, "x", "y", "x"), answer(2, "so", "no", "so", losses={"base": [1.0, 1], "tuned": [1.0, 1]})]
    found = by_task(examined(answers, "one_shot_accuracy"), {"1": "labels", "2": "text"}, {})
    assert {task: one["metric"] for task, one in found.items()} == {"labels": "accuracy", "text": "exact_match"}
    assert by_task(examined([], "accuracy"), {}, {"plain": 9}) == {"plain": {"n": 0, "rows": 9}}


def test_without_a_base_there_is_no_difference() -> None:
    given = answer(1, "x", "y", "x")
    del given["base"]
    found = by_task(examined([given], "accuracy"), {"1": "t"}, {})["t"]
    assert (found["delta"], found["ci95"]) == (None, None)
    assert "base" not in found


def test_a_row_of_no_task_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="2"):
        by_task(examined([answer(2, "x", "x", "x")], "accuracy"), {"1": "t"}, {})


def test_the_report_has_a_block_of_tasks() -> None:
    names = ("limits", "generalisation", "cost", "bias", "groups", "forgetting", "data", "provenance", "curves", "choice",
             "repair")  # fmt: skip
    blocks: dict[str, Any] = {name: {} for name in names}
    assert compose(name="run", examined=None, **blocks)["tasks"] == {}
    tasks = {"a": {"n": 0, "rows": 3}}
    assert compose(name="run", examined=None, tasks=tasks, **blocks)["tasks"] == tasks


def test_every_metric_is_told_by_some_answer() -> None:
    """So that a new metric is not forgotten here."""
    kinds = [
        answer(1, "x", "y", "x"),
        answer(1, ["x"], ["y"], ["x"]),
        answer(1, 1.0, 2.0, 1.0),
        answer(1, "x", "y", "x", losses={"base": [1.0, 1], "tuned": [1.0, 1]}),
        answer(1, ["x"], "y", "x", right=[1], found={"base": [1], "tuned": [1]}),
        answer(
            1,
            "x",
            "y",
            "x",
            margins={"base": 1.0, "tuned": 2.0},
            likelier={"base": 1.0, "tuned": 2.0},
            chosen={"base": [-1.0, 1], "tuned": [-2.0, 1]},
        ),
        answer(1, "x", "y", "x", wanted=True, judged={"base": False, "tuned": True}),
        answer(1, "x", "y", "x", rewards={"base": 0.0, "tuned": 1.0}, verified={"base": 0.5, "tuned": 0.0}),
    ]
    told = {
        name for name in METRICS for given in kinds
        if by_task(examined([given], name), {"1": "t"}, {})["t"]["metric"] == name
    }  # fmt: skip
    assert told == METRICS.keys()
