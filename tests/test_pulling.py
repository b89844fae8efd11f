"""Which tasks pull together, by the cosines of their gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_tasks import tasks_of
from tuneful.evaluation.conflicts import conflicts, grouped
from tuneful.evaluation.tasks import each_task
from tuneful.evaluation.words import words
from tuneful.recipe import from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.session import run


def test_cosines_over_a_run() -> None:
    updates = [{"loss": 1.0, "conflict/a/b": 0.4, "conflict/a/c/d": -0.2}, {"conflict/a/b": -0.1}, {"loss": 2.0}]
    found = conflicts(updates, ["c/d", "b", "a"])
    assert found["pairs"] == [
        {"tasks": ["a", "b"], "cosine": 0.15, "updates": 2, "share": 0.5},
        {"tasks": ["a", "c/d"], "cosine": -0.2, "updates": 1, "share": 1.0},
    ]
    assert found["groups"] == [["c/d"], ["b", "a"]]
    assert conflicts([{"loss": 1.0}], ["a", "b"]) == {}


def test_groups_are_joined_while_they_pull_together_in_the_mean() -> None:
    """a and b join first (0.9); with c they have 0.3 and -0.1 in common, 0.1 in the mean; with d less than nothing."""
    cosines = {("a", "b"): 0.9, ("a", "c"): 0.3, ("b", "c"): -0.1, ("a", "d"): 0.2, ("b", "d"): -0.5, ("c", "d"): -0.1}
    assert grouped(cosines, ["a", "b", "c", "d"]) == [["a", "b", "c"], ["d"]]
    assert grouped({("a", "b"): 0.0}, ["a", "b"]) == [["a"], ["b"]]
    assert grouped({}, ["a"]) == [["a"]]


def report_of(pairs: list[tuple[str, str, float]], groups: list[list[str]]) -> dict[str, object]:
    found = [{"tasks": [one, other], "cosine": cosine, "share": 0.75, "updates": 4} for one, other, cosine in pairs]
    tasks = {name: {"n": 0} for group in groups for name in group}
    return {"tasks": tasks, "forgetting": {"conflicts": {"pairs": found, "groups": groups}}}


@pytest.mark.parametrize(
    ("pairs", "expected", "not_said"),
    [
        ([("a", "b", 0.4), ("b", "c", 0.1)], ["No two tasks pulled apart", "‘b’ and ‘c’"], ["pulled apart most"]),
        ([("a", "b", 0.4), ("b", "c", -0.1)], ["‘a’ and ‘b’ pulled together", "‘b’ and ‘c’ pulled apart", "0.75"], []),
        ([("a", "b", -0.4)], ["‘a’ and ‘b’ pulled apart most"], ["pulled together most"]),
    ],
)
def test_what_is_said(pairs: list[tuple[str, str, float]], expected: list[str], not_said: list[str]) -> None:
    report = report_of(pairs, [["a", "b"], ["c"]])
    told = each_task(report, words("en"))["sentence"]
    assert all(words_ in told for words_ in expected)
    assert not any(words_ in told for words_ in not_said)
    assert each_task(report, words("zh-TW"))["sentence"]


@pytest.mark.parametrize(("gradient", "measured"), [("pcgrad", True), ("sum", False)])
def test_a_run_says_it(tmp_path: Path, reader_folder: Path, gradient: str, measured: bool) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder), schedule={"kind": "mixture", "steps": 3}, gradient=gradient,
                     evaluate={"robustness": False, "forgetting": False})  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping(given, [])[0], folder.path))
    report = folder.read_json(folder.report)
    assert ("conflicts" in report["forgetting"]) is measured
    assert ("pulled" in folder.page.read_text(encoding="utf-8")) is measured
    if measured:
        by_hand = [json.loads(line)["metrics"] for line in folder.records.read_text().splitlines()]
        own = [metrics["conflict/t0/t1"] for metrics in by_hand if "conflict/t0/t1" in metrics]
        pair = next(p for p in report["forgetting"]["conflicts"]["pairs"] if p["tasks"] == ["t0", "t1"])
        assert pair["cosine"] == pytest.approx(sum(own) / len(own), abs=1e-4)
        assert pair["updates"] == 3
