"""From easy rows to hard ones: which rows an update may draw from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_kinds import given as two_kinds
from test_tasks import LABELS, problems_of, tasks_of
from tuneful.core.types import Example, Place, Row
from tuneful.data.layouts import Collator, Layout
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.build import Built, build
from tuneful.run.kinds import kinds_of
from tuneful.run.prepare import prepare
from tuneful.schedules import Epochs, Mixture
from tuneful.schedules.curriculum import Length, Loss, Pace
from tuneful.schedules.epochs import Cut, EpochSteps
from work import greetings, losses_of, moods, typed, whole_and_parts, write_rows

CUT = Cut(rows_per_step=4, micro_tokens=1000)
QUICK = {"robustness": False, "forgetting": False, "learning_curve": False}


def row(tokens: int, target: Any = None, task: str = "") -> Row:
    example = Example(Place(f"{task}.csv", tokens), text=str(tokens), task=task)
    return Row(example, np.arange(1, tokens + 1, dtype=np.int32), np.ones(tokens, np.float32), target)


def recipe_of(what: dict[str, Any], *overrides: str) -> Recipe:
    return from_mapping(what, list(overrides))[0]


def visits(schedule: EpochSteps, start: int = 0) -> list[list[int]]:
    """The lengths of the rows of each step."""
    return [[len(one) for one in rows] for rows in schedule.visits(schedule.rows, start)]  # type: ignore[arg-type]


# The share


def test_the_share_by_hand() -> None:
    """c0 = 0.2, all rows after 5 of 10 updates: sqrt(2 * 0.96 / 5 + 0.04) = sqrt(0.424) after two."""
    curriculum = Length(start=0.2, until=0.5)
    found = [curriculum.share(done, 10) for done in (0, 2, 4, 5, 9)]
    assert found == pytest.approx([0.2, 0.424**0.5, (4 * 0.96 / 5 + 0.04) ** 0.5, 1.0, 1.0])


def test_places_among_rows_of_a_class_by_hand() -> None:
    """Class 0 has lengths 5, 2, 9, 4, so shares 3/4, first, 1, 2/4; class 1 has 7 and 3, so 1 and first."""
    rows = [row(5, 0), row(7, 1), row(2, 0), row(9, 0), row(3, 1), row(4, 0)]
    pace = Pace(Length(start=0.5, until=0.5))
    shares = pace.shares(rows)
    assert shares.tolist() == [0.75, 1.0, 0.0, 1.0, 0.0, 0.5]
    assert pace.places(shares, 0, 10, 2).tolist() == [2, 4, 5]  # type: ignore[union-attr]
    assert pace.places(shares, 0, 10, 4).tolist() == [0, 2, 4, 5]  # type: ignore[union-attr] # an update is filled
    assert pace.places(shares, 5, 10, 2) is None
    tasks = [row(5, 0, "a"), row(7, 0, "b"), row(6, 0, "b")]
    assert pace.shares(tasks).tolist() == [0.0, 1.0, 0.0]


# What is drawn


def test_short_rows_come_first_and_every_class_is_there() -> None:
    """40 rows of 1 to 40 tokens, of which the first update may draw the shortest fifth of each of two classes: 1 to 8."""
    rows = [row(number, number % 2) for number in range(1, 41)]
    schedule = Epochs(curriculum={"kind": "length"}).over(rows, LABELS, CUT, total=40, seed=0)  # type: ignore[arg-type]
    found = visits(schedule)
    assert max(found[0]) <= 8
    assert all(len(step) == 4 == len(set(step)) for step in found)
    for number, step in enumerate(found[:20]):
        share = Length().share(number, 40)
        assert max(step) <= 40 * share + 2
    for epoch in (2, 3):  # from half of the updates on, every row once an epoch
        assert Counter(length for step in found[10 * epoch : 10 * epoch + 10] for length in step) == Counter(
            range(1, 41)
        )
    assert {length % 2 for step in found[:5] for length in step} == {0, 1}
    slow = Epochs(curriculum={"kind": "length", "until": 1}).over(rows, LABELS, CUT, total=4000, seed=0)  # type: ignore[arg-type]
    first = [sorted(map(len, step)) for step, _ in zip(slow.visits(rows), range(5), strict=False)]
    assert all(max(step) <= 8 for step in first)
    assert len({tuple(step) for step in first}) > 1  # another draw each time
    assert found != visits(Epochs(curriculum="length").over(rows, LABELS, CUT, total=40, seed=1))  # type: ignore[arg-type]


def test_a_run_that_goes_on_draws_what_it_would_have_drawn() -> None:
    rows = [row(number, number % 2) for number in range(1, 41)]
    schedule = Epochs(curriculum="length").over(rows, LABELS, CUT, total=40, seed=0)  # type: ignore[arg-type]
    whole = visits(schedule)
    for start in (1, 7, 19, 20, 25):
        assert visits(schedule, start) == whole[start:]


def test_each_update_has_its_share_of_every_task_from_the_first_on() -> None:
    rows = [*(row(n, 0, "a") for n in range(1, 21)), *(row(n, 1, "b") for n in range(1, 181))]
    schedule = Mixture(curriculum="length").over(rows, Collator(Layout.LABELS), Cut(10, 4000), total=40, seed=0)  # type: ignore[arg-type]
    steps = list(schedule.visits(schedule.rows))  # type: ignore[arg-type]
    assert all(2 <= sum(one.example.task == "a" for one in step) <= 3 for step in steps)  # 1 : 3 of 10
    first = [len(one) for one in steps[0]]
    assert max(first) <= 36


def test_two_processes_share_out_what_one_draws() -> None:
    rows = [row(number, number % 2) for number in range(1, 41)]
    whole = Epochs(curriculum="length").over(rows, LABELS, CUT, total=10, seed=0)  # type: ignore[arg-type]
    parts = [Epochs(curriculum="length").over(rows, LABELS, Cut(4, 1000, 2, rank), total=10, seed=0) for rank in (0, 1)]  # type: ignore[arg-type]
    for step, one, other in zip(*(list(s.steps(None)) for s in (whole, *parts)), strict=True):  # type: ignore[arg-type]
        read = sorted(batch.inputs["input_ids"].numel() for batch in step.batches)
        assert sum(read) == sum(b.inputs["input_ids"].numel() for part in (one, other) for b in part.batches)


def test_rows_are_varied_anew_at_each_visit() -> None:
    keys: list[tuple[int, ...]] = []

    def vary(one: Row, key: Any) -> Row:
        keys.append(tuple(key))
        return one

    rows = [row(number, 0) for number in range(1, 41)]
    schedule = Epochs(curriculum="length").over(rows, LABELS, CUT, total=40, seed=0)  # type: ignore[arg-type]
    list(replace(schedule, vary=vary).visits(rows))
    assert len(set(keys)) == len(keys) == 160


# How hard a row is


def built_of(folder: Path, model: Path, rows: list[dict[str, Any]], **more: Any) -> Built:
    source = write_rows(folder / "rows.jsonl", rows)
    what = {"data": {"source": str(source), "validation": 0, "test": 0}, "model": str(model), "precision": "fp32",
            "choose": "none", **more}  # fmt: skip
    return build(prepare(recipe_of(what)))


def thirds(built: Built) -> tuple[float, float]:
    """How hard the rows of the first and of the last third of the updates are, in the mean."""
    schedule = built.schedule
    assert isinstance(schedule, EpochSteps)
    assert schedule.pace is not None
    steps = [np.mean([schedule.pace.hard(one) for one in rows]) for rows in schedule.visits(schedule.rows)]  # type: ignore[arg-type]
    third = len(steps) // 3
    return float(np.mean(steps[:third])), float(np.mean(steps[-third:]))


@pytest.mark.parametrize("kind", ["length", "loss"])
@pytest.mark.parametrize("writes", [False, True])
def test_rows_get_harder_over_a_run(
    tmp_path: Path, reader_folder: Path, generator_folder: Path, kind: str, writes: bool
) -> None:
    """The effect: rows of the first third are easier than those of the last."""
    rows = greetings(60) if writes else [{**one, "text": one["text"] * (1 + n % 5)} for n, one in enumerate(moods(60))]
    if writes:
        rows = [{**one, "prompt": one["prompt"] + " please" * (n % 7)} for n, one in enumerate(rows)]
    model = generator_folder if writes else reader_folder
    built = built_of(tmp_path, model, rows, schedule={"kind": "epochs", "steps": 30, "curriculum": kind})
    early, late = thirds(built)
    assert early < late
    losses = {built.schedule.pace.hard(one) for one in built.prepared.repeated}  # type: ignore[union-attr]
    assert len(losses) > 3


def test_a_row_with_a_wrong_label_is_the_hardest_of_its_class(tmp_path: Path, reader_folder: Path) -> None:
    rows = moods(60)
    rows[7]["label"] = "glad"
    built = built_of(tmp_path, reader_folder, rows, schedule={"kind": "epochs", "steps": 5, "curriculum": "loss"})
    schedule = built.schedule
    assert isinstance(schedule, EpochSteps)
    assert schedule.pace is not None
    shares = schedule.pace.shares(schedule.rows)  # type: ignore[arg-type]
    assert [share for one, share in zip(schedule.rows, shares, strict=True)  # type: ignore[arg-type]
            if one.example.place.row == 8] == [1.0]  # fmt: skip


# A run


def test_a_run_with_a_curriculum_goes_on(tmp_path: Path, reader_folder: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(60))
    what = {"data": {"source": str(source), "test": 0}, "model": str(reader_folder), "precision": "fp32",
            "choose": "none", "schedule": {"kind": "epochs", "steps": 8, "curriculum": "loss"},
            "checkpoint": {"every": 2}, "evaluate": QUICK}  # fmt: skip
    whole, parts = whole_and_parts(recipe_of(what), tmp_path, after=3)
    assert losses_of(whole, "train") == losses_of(parts, "train")
    plain = recipe_of({**what, "schedule": {"kind": "epochs", "steps": 8}})
    report = whole.read_json(whole.report)
    assert {"key": "curriculum_loss", "start": 20, "updates": 4} in report["data"]["notes"]
    for language in LANGUAGES:
        assert "4" in words(language)["said_curriculum_loss"].format(start=20, updates=4)
    assert not any("curriculum" in note.key for note in prepare(plain).xray.notes)


def test_check_tells_of_it(tmp_path: Path, reader_folder: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", moods(60))
    done = typed("check", "rows.jsonl", "--model", reader_folder, "--set", "schedule.curriculum=length", "--json",
                 cwd=tmp_path)  # fmt: skip
    assert "curriculum_length" in json.dumps(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"streaming": True}, "schedule": {"curriculum": "length"}}, "streaming=false"),
        ({"numbers": True, "schedule": {"curriculum": "loss"}}, "here take length"),
        ({"schedule": {"curriculum": "loss"}, "sharded": True}, "while the model is sharded; take length"),
        ({"schedule": {"curriculum": "length"}, "adapter": "head", "objective": {"kind": "classify", "pooling": "mean"}},
         "leave schedule.curriculum out"),
        ({"schedule": {"kind": "selftrain", "curriculum": "length"}}, "schedule.curriculum: no such setting"),
        ({"schedule": {"curriculum": "lenght"}}, "Did you mean 'length'?"),
    ],
)  # fmt: skip
def test_what_it_is_not_for(tmp_path: Path, reader_folder: Path, change: dict[str, Any], expected: str) -> None:
    rows: list[dict[str, Any]] = moods(60)
    if change.pop("numbers", False):
        rows = [{**one, "label": number / 7} for number, one in enumerate(rows)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    what = {"model": str(reader_folder), "choose": "none", **change,
            "data": {"source": str(source), **change.get("data", {})}}  # fmt: skip
    assert expected in problems_of(what)


def test_several_tasks(tmp_path: Path, reader_folder: Path, generator_folder: Path) -> None:
    paced = {"kind": "mixture", "steps": 4, "curriculum": "length"}
    what = tasks_of(tmp_path, model=str(reader_folder), adapter={"kind": "lora", "each_task": True}, schedule=paced)
    assert "schedule.curriculum: each task draws its rows as in a run of its own" in problems_of(what)
    for name in ("talk", "tone"):
        write_rows(tmp_path / f"{name}.jsonl", greetings(9))
    kinds = kinds_of(recipe_of(two_kinds(tmp_path, generator_folder, schedule={**paced, "curriculum": "loss"})))
    assert [kind.schedule.curriculum for kind in kinds.values()] == [Loss(), Loss()]  # type: ignore[union-attr]
