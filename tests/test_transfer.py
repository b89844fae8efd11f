"""Measures of tasks learned one after another, on matrices worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuneful.evaluation.transfer import first_learned, intransigence, summary

THREE: dict[str, dict[str, float | None]] = {
    "a": {"a": 0.5, "b": 0.2, "c": None},
    "b": {"a": 0.9, "b": 0.8, "c": 0.3},
    "c": {"a": 0.7, "b": 0.5, "c": 0.6},
}
NOTHING = dict.fromkeys(("average", "backward_transfer", "forward_transfer", "learning", "forgetting"))


def measures(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in NOTHING}


def test_three_tasks_by_hand() -> None:
    found = summary(THREE, {"a": 0.1, "b": 0.25, "c": 0.05})
    assert measures(found) == {
        "average": 0.6,  # (0.7 + 0.5 + 0.6) / 3
        "backward_transfer": -0.05,  # ((0.7 - 0.5) + (0.5 - 0.8)) / 2
        "forward_transfer": 0.1,  # ((0.2 - 0.25) + (0.3 - 0.05)) / 2
        "learning": 0.63333,  # (0.5 + 0.8 + 0.6) / 3
        "forgetting": 0.25,  # ((0.9 - 0.7) + (0.8 - 0.5)) / 2
    }
    assert found["by_task"] == {
        "a": {"learned": 0.5, "now": 0.7, "best": 0.9},
        "b": {"learned": 0.8, "now": 0.5, "best": 0.8},
        "c": {"learned": 0.6, "now": 0.6, "best": 0.6},
    }
    assert found["higher_is_better"] is True


def test_the_formulas_of_the_papers_on_a_whole_matrix() -> None:
    scores, before = np.random.default_rng(3).random((5, 5)), np.random.default_rng(4).random(5)
    names = [f"t{number}" for number in range(5)]
    tasks = {one: dict(zip(names, row, strict=True)) for one, row in zip(names, scores.tolist(), strict=True)}
    found = summary(tasks, dict(zip(names, before.tolist(), strict=True)))
    own = np.diag(scores)
    wanted = {
        "average": scores[-1].mean(),
        "backward_transfer": (scores[-1] - own)[:-1].mean(),
        "forward_transfer": (np.diag(scores, 1) - before[1:]).mean(),
        "learning": own.mean(),
        "forgetting": (scores[:-1].max(0) - scores[-1])[:-1].mean(),
    }
    assert measures(found) == pytest.approx(wanted, abs=1e-5)


def test_where_less_is_better_a_rise_is_a_loss() -> None:
    tasks = {"a": {"a": 4.0, "b": 9.0}, "b": {"a": 6.0, "b": 2.0}}
    found = summary(tasks, {"a": 20.0, "b": 10.0}, higher_is_better=False)
    assert measures(found) == {
        "average": 4.0, "backward_transfer": -2.0, "forward_transfer": 1.0, "learning": 3.0, "forgetting": 2.0,
    }  # fmt: skip
    assert found["by_task"]["a"] == {"learned": 4.0, "now": 6.0, "best": 4.0}


def test_forgetting_asks_for_the_best_before_the_last_task() -> None:
    """What the last task improved was not forgotten, and is no best to fall from."""
    assert summary({"a": {"a": 0.5}, "b": {"a": 0.9, "b": 0.5}})["forgetting"] == -0.4


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf")])
def test_what_is_not_known_is_left_out_of_means(unknown: float | None) -> None:
    tasks = {"a": {"a": unknown, "b": 0.25}, "b": {"a": 0.5, "b": 0.75}, "c": {"a": 0.25, "b": 0.5}}
    found = summary(tasks, {"b": unknown})
    assert measures(found) == {
        "average": 0.375,  # c was not measured
        "backward_transfer": -0.25,  # of b alone
        "forward_transfer": None,
        "learning": 0.75,
        "forgetting": 0.25,  # of both: (0.5 - 0.25) and (0.75 - 0.5)
    }
    assert found["by_task"]["a"] == {"learned": None, "now": 0.25, "best": 0.5}
    assert found["by_task"]["c"] == {"learned": None, "now": None, "best": None}


def test_one_task_has_no_transfer() -> None:
    assert measures(summary({"a": {"a": 0.5}}, {"a": 0.25})) == NOTHING | {"average": 0.5, "learning": 0.5}


def test_no_task() -> None:
    found = summary({})
    assert measures(found) == NOTHING
    assert found["by_task"] == {}


def test_a_task_that_comes_back_was_learned_when_it_was_first() -> None:
    tasks = {"a": {"a": 0.9, "b": None}, "b": {"a": 0.4, "b": 0.7}, "a (2)": {"a": 0.8, "b": 0.6}}
    found = summary(tasks)
    assert measures(found) == {
        "average": 0.7, "backward_transfer": -0.1, "forward_transfer": None, "learning": 0.8, "forgetting": 0.1,
    }  # fmt: skip
    assert found["by_task"] == {
        "a": {"learned": 0.9, "now": 0.8, "best": 0.9}, "b": {"learned": 0.7, "now": 0.6, "best": 0.7},
    }  # fmt: skip


def test_a_number_in_brackets_may_be_part_of_a_name() -> None:
    assert first_learned({"a": {"a": 1.0}, "a (2)": {"a": 1.0, "a (2)": 1.0}}) == {"a": 0, "a (2)": 1}
    assert first_learned({"b (2)": {}, "a": {"a": 1.0}}) == {"b (2)": 0, "a": 1}
    assert first_learned({"a": {"a": 1.0}, "b": {"a": 1.0}, "a (2)": {"a": 1.0}, "a (3)": {}}) == {"a": 0, "b": 1}


def test_intransigence_is_what_a_joint_run_has_more() -> None:
    learning = {"a": 0.5, "b": 0.75, "c": None, "d": 0.5}
    joint = {"a": 0.75, "b": 0.625, "c": 0.5, "other": 0.25}
    assert intransigence(learning, joint) == 0.0625  # (0.25 - 0.125) / 2
    assert intransigence(learning, joint, higher_is_better=False) == -0.0625
    assert intransigence(learning, {}) is None
