"""Several tasks: at once, one after the other, and one more when a run has ended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intents import INTENTS
from tuneful.core.errors import InputError
from tuneful.core.types import MEMORY, Batch, Boundary, Example, Place, Row, Step
from tuneful.data.layouts import Collator, Layout
from tuneful.engine.update import AdamW, Updater
from tuneful.recipe import from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.memory import read_sums
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.session import run
from tuneful.run.tasks import counted
from tuneful.run.teach import teach
from tuneful.run.tuned import open_model
from tuneful.schedules import Lifelong, Mixture
from tuneful.schedules.epochs import Cut
from tuneful.schedules.lifelong import LifelongSteps, stored
from tuneful.schedules.mixture import shares_of
from work import greetings, losses_of, whole_and_parts, write_rows

CUT = Cut(rows_per_step=10, micro_tokens=1000)
LABELS = Collator(Layout.LABELS, None)


def row(task: str, target: Any = None, *, number: int = 0) -> Row:
    ids = np.array([1 + number % 50, 2], dtype=np.int32)
    return Row(Example(Place(task, number), text=f"{task} {number}", task=task), ids, np.ones(2, np.float32), target)


def rows_of(task: str, count: int, classes: tuple[int, ...]) -> list[Row]:
    return [row(task, classes[number % len(classes)], number=number) for number in range(count)]


def tasks_of(folder: Path, **given: Any) -> dict[str, Any]:
    """Three tasks of two kinds of request each."""
    names, tasks = list(INTENTS), []
    for number in range(3):
        kinds = names[2 * number : 2 * number + 2]
        rows = [{"text": text, "label": kind} for kind in kinds for text in INTENTS[kind]]
        tasks.append({"name": f"t{number}", "data": {"source": str(write_rows(folder / f"t{number}.jsonl", rows)),
                                                     "validation": 0, "test": 0.2}})  # fmt: skip
    return {"tasks": tasks, "name": "three", **given}


def prepared_of(given: dict[str, Any], *overrides: str) -> Prepared:
    recipe, _ = from_mapping(given, list(overrides))
    return prepare(recipe)


def problems_of(given: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        prepared_of(given, *overrides)
    return str(error.value)


# At once


def test_how_often_tasks_are_drawn() -> None:
    """By hand: 100 and 400 rows at temperature 2 are drawn as sqrt(100) : sqrt(400) = 1 : 2 of 500."""
    times = Mixture().times({"a": 100, "b": 400})
    assert times == {"a": pytest.approx(500 / 3 / 100), "b": pytest.approx(1000 / 3 / 400)}
    assert Mixture(temperature=1).times({"a": 100, "b": 400}) == {"a": 1.0, "b": 1.0}
    capped = Mixture(temperature=1, cap=100).times({"a": 100, "b": 400})
    assert capped["a"] * 100 == pytest.approx(capped["b"] * 400)


def test_every_update_has_its_share_of_every_task() -> None:
    rows = [*rows_of("a", 20, (0, 1)), *rows_of("b", 180, (2, 3))]
    schedule = Mixture().over(rows, LABELS, CUT, total=20, seed=0)
    drawn = [Counter(one.example.task for one in step) for step in schedule.visits(schedule.rows)]
    assert all(2 <= step["a"] <= 3 for step in drawn), drawn  # 1 : 3 of 10
    assert sum(step["a"] for step in drawn) == pytest.approx(50, abs=1)
    assert shares_of(schedule.rows) == {"a": pytest.approx(0.25), "b": pytest.approx(0.75)}


def test_tasks_that_are_kept_apart_are_in_batches_of_their_own() -> None:
    rows = [*rows_of("a", 20, (0, 1)), *rows_of("b", 20, (2, 3))]
    together = next(iter(Mixture().over(rows, Collator(Layout.LABELS), CUT, total=1, seed=0).steps(None)))  # type: ignore[arg-type]
    apart = next(iter(Mixture(apart=True).over(rows, LABELS, CUT, total=1, seed=0).steps(None)))  # type: ignore[arg-type]
    assert [batch.task for batch in together.batches] == ["main"]
    assert sorted(batch.task for batch in apart.batches) == ["a", "b"]
    for batch in apart.batches:
        assert all(label // 2 == (batch.task == "b") for label in batch.targets["labels"].tolist())
    assert sum(batch.units for batch in apart.batches) == 10


def test_tasks_are_joined_in_their_order(tmp_path: Path, reader_folder: Path) -> None:
    found = prepared_of(tasks_of(tmp_path, model=str(reader_folder)))
    assert found.labels is not None
    assert list(found.labels.names) == sorted(list(INTENTS)[:2]) + sorted(list(INTENTS)[2:4]) + sorted(
        list(INTENTS)[4:]
    )
    assert Counter(one.example.task for one in found.rows("test")) == {"t0": 4, "t1": 4, "t2": 4}
    assert all(one.target // 2 == int(one.example.task[1]) for one in found.rows("train"))
    assert found.recipe.schedule.kind == "mixture"  # several tasks, if nobody says


def test_how_many_updates_says_nothing_of_the_schedule(tmp_path: Path, reader_folder: Path) -> None:
    found, _ = from_mapping(tasks_of(tmp_path, model=str(reader_folder)), ["schedule.steps=12"])
    assert (found.schedule.kind, found.schedule.steps) == ("mixture", 12)


def test_check_counts_tasks(tmp_path: Path, reader_folder: Path) -> None:
    """By hand: 16 rows each, and one of weight 3 has three fifths of what is drawn."""
    given = tasks_of(tmp_path, model=str(reader_folder))
    given["tasks"][1]["weight"] = 3
    found = prepared_of(given)
    parts = {part: rows.rows for part, rows in found.built.items()}
    told = counted(found.recipe, parts, found.repeated)
    assert told["t0"] == {"train": 16, "validation": 0, "test": 4, "share": 0.2}
    assert [facts["turn"] for facts in counted(prepared_of(given, "schedule=lifelong", "tasks.1.weight=1").recipe, parts,
                                               []).values()] == [1, 2, 3]  # fmt: skip


def test_labels_of_two_tasks(tmp_path: Path, reader_folder: Path) -> None:
    def of(*labels: str) -> list[dict[str, str]]:
        return [{"text": f"{label} {number} {len(labels)}", "label": label} for label in labels for number in range(9)]

    def given(**more: Any) -> dict[str, Any]:
        first = write_rows(tmp_path / "a.jsonl", of("yes", "no"))
        second = write_rows(tmp_path / "b.jsonl", of("yes", "no", "maybe"))
        return {"model": str(reader_folder), "tasks": [{"data": str(first)}, {"data": str(second), **more}]}

    assert "'no' is a label of a and of b" in problems_of(given())
    assert prepared_of(given(labels="shared")).labels.names == ("no", "yes", "maybe")  # type: ignore[union-attr]
    assert prepared_of(given(labels="own")).labels.names == ("no", "yes", "b: maybe", "b: no", "b: yes")  # type: ignore[union-attr]


def test_labels_are_written_out_beside_text(tmp_path: Path, generator_folder: Path) -> None:
    given = tasks_of(tmp_path, model=str(generator_folder))
    given["tasks"][2] = {"name": "greet", "data": str(write_rows(tmp_path / "greet.jsonl", greetings()))}
    found = prepared_of(given)
    assert found.layout is Layout.TOKENS
    assert {one.example.task for one in found.rows("train")} == {"t0", "t1", "greet"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schedule": "epochs"}, "learns one task, 3 are given"),
        ({"tasks": 1, "schedule": "lifelong"}, "learns several tasks, and one is given"),
        ({"choose": {"enabled": True}}, "choose: a way of learning few labels"),
        ({"schedule": "lifelong", "soup": 2}, "soup: is of a whole run"),
        ({"data": {"source": "x"}}, "each with a source of its own"),
        ({"objective": {"kind": "classify", "label_names": True}}, "names of classes are of no task"),
        ({"evaluate": {"canaries": 2}}, "planted sequences are of no task"),
        ({"tasks": 1, "gradient": "pcgrad"}, "gradient: pcgrad joins the gradients of several tasks"),
        ({"gradient": "a_gem"}, "gradient: a_gem protects rows that come back"),
        ({"gradient": "a_gem", "schedule": {"kind": "lifelong", "replay": 0}}, "a_gem protects rows that come back"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, reader_folder: Path, change: dict[str, Any], expected: str) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder))
    if "tasks" in change:
        change = {**change, "tasks": given["tasks"][:1]}
    assert expected in problems_of({**given, **change})


def test_two_tasks_of_one_name(tmp_path: Path, reader_folder: Path) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder))
    for name, expected in (("t0", "two tasks are called 't0'"), (MEMORY, "take another name")):
        given["tasks"][1]["name"] = name
        assert expected in problems_of(given)
    given["tasks"][1] |= {"name": "t1", "objective": {"kind": "classify", "pooling": "mean"}}
    assert "tasks.1.objective" in problems_of(given)


def test_settings_of_all_tasks(tmp_path: Path, reader_folder: Path) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder))
    recipe, _ = from_mapping(given, ["data.max_tokens=7", "objective=classify"])
    assert [task.data.max_tokens for task in recipe.tasks] == [7, 7, 7]
    assert {task.objective.kind for task in recipe.tasks} == {"classify"}
    given["tasks"][1]["data"]["max_tokens"] = 9
    assert "tasks.1.data.max_tokens: found 9, and t0 has nothing" in problems_of(given)
    given["tasks"][1]["data"] |= {"max_tokens": None, "unlabelled": "x"}
    assert "tasks.1.data.unlabelled: is for a run of one task" in problems_of(given)


@pytest.mark.parametrize(("schedule", "gradient"), [("mixture", "pcgrad"), ("lifelong", "a_gem")])
def test_gradient_rules_see_tasks_apart(tmp_path: Path, reader_folder: Path, schedule: str, gradient: str) -> None:
    """Records say how the tasks' gradients lie to one another."""
    given = tasks_of(tmp_path, model=str(reader_folder), gradient=gradient, schedule={"kind": schedule, "steps": 6})
    recipe, _ = from_mapping(
        given, ["evaluate=none", "schedule.replay=0.2"] if gradient == "a_gem" else ["evaluate=none"]
    )
    records = [record for record in run(recipe, tmp_path / "run") if record.kind == "train"]
    assert len(records) == 6
    pairs = {name for record in records for name in record.metrics if name.startswith("conflict/")}
    wanted = {"conflict/t0/t1", "conflict/t0/t2", "conflict/t1/t2"}
    assert pairs == (wanted if gradient == "pcgrad" else {"conflict/(memory)/t1", "conflict/(memory)/t2"})


# One after the other


def turns(**settings: Any) -> LifelongSteps:
    rows = [*rows_of("a", 100, (0, 1)), *rows_of("b", 50, (2, 3)), *rows_of("c", 50, (4, 5))]
    return Lifelong(**settings).over(rows, LABELS, CUT, total=20, seed=0)


def parts(schedule: LifelongSteps, start: int = 0) -> list[Step | Boundary]:
    return list(schedule.steps(None, start))  # type: ignore[arg-type]


def tasks_in(step: Step) -> Counter[str]:
    return Counter({batch.task: int(batch.units) for batch in step.batches})


def test_tasks_come_in_their_order_and_rows_come_back() -> None:
    schedule = turns(replay=0.1, mixed=0.5)
    found = parts(schedule)
    assert schedule.ends == [7, 14, 20]  # six for each, and two by the rows: 100, 50, 50
    assert [part.task for part in found if isinstance(part, Boundary)] == ["a", "b", "c"]
    assert [place for place, part in enumerate(found) if isinstance(part, Boundary)] == [7, 15, 22]
    steps = [part for part in found if isinstance(part, Step)]
    assert all(tasks_in(step) == {"a": 10} for step in steps[:7])
    for place, step in enumerate(steps[7:]):
        here = tasks_in(step)
        assert here.keys() == {MEMORY, "b" if place < 7 else "c"}
        assert abs(here[MEMORY] - step.rows / 2) <= 1
        assert step.rows in (16, 17, 18, 19, 20)


def test_a_small_task_gets_updates_too() -> None:
    rows = [*rows_of("a", 1000, (0, 1)), *rows_of("b", 20, (2, 3))]
    assert Lifelong().over(rows, LABELS, CUT, total=100, seed=0).ends == [88, 100]  # 10 + 80 * 1000 / 1020


def test_what_is_kept_of_a_task() -> None:
    """A tenth of every class, one at least."""
    rows = [*rows_of("a", 40, (0,)), *rows_of("a", 3, (1,))]
    kept = stored(rows, 0.1, 0)
    assert Counter(one.target for one in kept) == {0: 4, 1: 1}
    assert kept == stored(rows, 0.1, 0)
    assert kept != stored(rows, 0.1, 1)
    assert stored(rows, 0.0, 0) == []
    assert len(turns(replay=0.1).kept(2)) == 10 + 4  # of 50 + 50 and 25 + 25 rows


def classes_of(batch: Batch) -> tuple[int, int]:
    assert batch.classes is not None
    return batch.classes.start, batch.classes.stop


def test_new_classes_are_told_from_one_another_and_old_ones_from_all() -> None:
    for asymmetric, first in ((True, 2), (False, 0)):
        steps = [part for part in parts(turns(replay=0.1, asymmetric=asymmetric)) if isinstance(part, Step)]
        assert {classes_of(batch) for step in steps[:7] for batch in step.batches} == {(0, 2)}
        for batch in steps[10].batches:
            assert classes_of(batch) == ((0, 4) if batch.task == MEMORY else (first, 4))
            labels = batch.targets["labels"].tolist()
            assert set(labels) <= ({0, 1, 2, 3} if batch.task == MEMORY else {2 - first, 3 - first})
        back = {label for step in steps[15:] for batch in step.batches if batch.task == MEMORY
                for label in batch.targets["labels"].tolist()}  # fmt: skip
        assert back == (
            {0, 1, 2, 3, 4, 5} if asymmetric else {0, 1, 2, 3}
        )  # told from all, the new ones are among them


def test_one_new_class_or_one_that_was_known_is_told_from_all() -> None:
    """Alone, a class would have nothing to be told from."""
    for new in ((2,), (1, 2)):
        rows = [*rows_of("a", 50, (0, 1)), *rows_of("b", 50, new)]
        steps = Lifelong(replay=0.1).over(rows, LABELS, CUT, total=20, seed=0).part(1, 10).steps(None)  # type: ignore[arg-type]
        assert {classes_of(batch) for step in steps for batch in step.batches} == {(0, 3)}


def test_no_replay_is_none_of_what_was_learned_before_either() -> None:
    assert turns(replay=0, behind=2).kept(2) == []


def test_rows_of_files_of_one_name_keep_their_weights(tmp_path: Path, reader_folder: Path) -> None:
    tasks = []
    for name, kinds in (("a", list(INTENTS)[:2]), ("b", list(INTENTS)[2:4])):
        (tmp_path / name).mkdir()
        rows = [{"text": text, "label": kind} for kind in kinds for text in INTENTS[kind]]
        file = write_rows(tmp_path / name / "rows.jsonl", rows)
        tasks.append({"name": name, "data": {"source": [{"path": str(file), "weight": 3 if name == "b" else 1}],
                                             "validation": 0, "test": 0}})  # fmt: skip
    found = prepared_of({"model": str(reader_folder), "tasks": tasks})
    assert Counter(one.example.task for one in found.repeated) == {"a": 20, "b": 60}
    assert {one.example.place.source for one in found.repeated} == {"a/rows.jsonl", "b/rows.jsonl"}


def test_without_rows_that_come_back_all_is_told_from_all() -> None:
    steps = [part for part in parts(turns(replay=0)) if isinstance(part, Step)]
    assert {classes_of(batch) for batch in steps[12].batches} == {(0, 4)}
    assert tasks_in(steps[12]) == {"b": 10}


def test_a_resumed_schedule_tells_each_boundary_once() -> None:
    whole = turns(replay=0.1)
    everything = parts(whole)
    for start, done in ((7, 0), (7, 1), (12, 1), (20, 2)):
        schedule = turns(replay=0.1)
        schedule.load({"ended": done})
        rest = parts(schedule, start)
        told = [part.task for part in rest if isinstance(part, Boundary)]
        assert told == ["a", "b", "c"][done:]
        later = [part for part in everything if isinstance(part, Step)][start:]
        mine = [part for part in rest if isinstance(part, Step)]
        assert len(later) == len(mine)
        for ours, theirs in zip(mine, later, strict=True):
            assert torch.equal(ours.batches[0].inputs["input_ids"], theirs.batches[0].inputs["input_ids"])
    assert whole.state() == {"ended": 3}


def test_tasks_that_were_learned_before_come_back_whole() -> None:
    schedule = turns(replay=0.1, behind=2)
    assert schedule.ends == [20]
    assert len(schedule.kept(2)) == 150
    assert [part.task for part in parts(schedule) if isinstance(part, Boundary)] == ["c"]
    assert {one.example.task for one in schedule.settings.learns(schedule.rows)} == {"c"}


def test_the_rate_begins_anew_with_each_task() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    settings = AdamW(learning_rate=1.0, warmup=0.0, decay="linear")
    updater = Updater(settings, {"w": parameter}, steps=6, ends=(4, 6))
    rates = []
    for number in range(1, 7):
        parameter.grad = torch.ones(2)
        rates.append(updater.step(number))
        counted = int(updater.state()["step/w"])
        assert counted == (number if number <= 4 else number - 4)  # what Adam remembers goes with the task
    assert rates == [1.0, 0.75, 0.5, 0.25, 1.0, 0.5]


@pytest.mark.parametrize("after", [4, 9, 10])
def test_a_stopped_run_goes_on_between_and_inside_tasks(tmp_path: Path, reader_folder: Path, after: int) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder), schedule={"kind": "lifelong", "steps": 24, "replay": 0.2},
                     optimiser={"rows_per_step": 6, "learning_rate": 0.01}, checkpoint={"every": 3})  # fmt: skip
    recipe, _ = from_mapping(given, ["evaluate.robustness=false"])
    whole, resumed = whole_and_parts(recipe, tmp_path, after=after)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    ended = [
        [(r.task, r.metrics) for r in folder.read_records() if r.kind == "boundary"] for folder in (whole, resumed)
    ]
    assert ended[0] == ended[1]
    assert [task for task, _ in ended[0]] == ["t0", "t1", "t2"]
    assert [sorted(metrics) for _, metrics in ended[0]] == [["t0"], ["t0", "t1"], ["t0", "t1", "t2"]]


def solved_of(folder: Path, given: dict[str, Any]) -> tuple[RunFolder, np.ndarray]:
    """A run whose encoder does not learn, and its head."""
    recipe, _ = from_mapping({**given, "adapter": "head"}, ["evaluate.robustness=false", "objective.pooling=mean"])
    for _ in run(recipe, folder):
        pass
    return RunFolder(folder), open_model(str(folder)).policy.module.get_parameter("classifier.weight").numpy()


def test_a_head_that_is_solved_needs_no_rows_of_earlier_tasks(tmp_path: Path, reader_folder: Path) -> None:
    """In any order, and taught one task more when the run has ended, it comes to the same; no update is made."""
    given = tasks_of(tmp_path, model=str(reader_folder), schedule={"kind": "lifelong", "replay": 0})
    folder, whole = solved_of(tmp_path / "whole", given)
    assert not [record for record in folder.read_records() if record.kind == "train"]
    turned, backwards = solved_of(tmp_path / "backwards", {**given, "tasks": given["tasks"][::-1]})
    names, other = ([*one.read_json(one.lock)["labels"]] for one in (folder, turned))
    assert backwards[[other.index(name) for name in names]] == pytest.approx(whole, rel=1e-3, abs=1e-3)
    first, _ = solved_of(tmp_path / "first", {**given, "tasks": given["tasks"][:2]})
    assert read_sums(first) is not None
    for _ in teach(first.path, given["tasks"][2]["data"]["source"], overrides=["data.test=0.2", "data.validation=0"]):
        pass
    taught = open_model(str(first.path)).policy.module.get_parameter("classifier.weight").numpy()
    assert taught == pytest.approx(whole, rel=1e-3, abs=1e-3)
