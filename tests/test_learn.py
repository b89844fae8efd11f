"""A finished run is taught more: what it keeps, how its head grows, and how one goes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tuneful
from intents import INTENTS
from tuneful.core.errors import InputError, RunFolderError
from tuneful.data.labels import LabelSet
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.exchange import undo
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted
from tuneful.run.memory import read_memory, read_sums
from tuneful.run.session import run
from tuneful.run.start import carry_over, places
from tuneful.run.teach import teach as taught
from tuneful.run.tuned import open_model
from work import greetings, typed, write_rows

KINDS = list(INTENTS)
QUICK = {"evaluate": {"robustness": False, "forgetting": False, "learning_curve": False}, "choose": "none"}


def requests(file: Path, *kinds: str) -> Path:
    return write_rows(file, ({"text": text, "label": kind} for kind in kinds for text in INTENTS[kind]))


def first_run(folder: Path, model: Path, **given: Any) -> RunFolder:
    """A run that tells two kinds of request apart."""
    data = {"source": str(requests(folder / "orders.jsonl", *KINDS[:2])), "validation": 0, "test": 0.2}
    recipe = {"model": str(model), "data": data, "save": {"memory": 0.2}, "optimiser": {"rows_per_step": 4}, **QUICK}
    finish(from_mapping({**recipe, **given}, [])[0], folder / "run")
    return RunFolder(folder / "run")


def finish(recipe: Recipe, folder: Path) -> None:
    for _ in run(recipe, folder):
        pass


def teach(folder: RunFolder, data: Path, **given: Any) -> None:
    for _ in taught(folder.path, str(data), **given):
        pass


def names_in(folder: RunFolder) -> list[str]:
    return list(folder.read_json(folder.lock)["labels"])


def test_a_head_grows_and_what_it_knew_stays_in_its_place() -> None:
    """By hand: classes b and c of the old head stand at 2 and 0 of the new one."""
    head = {
        "classifier.weight": torch.nn.Parameter(torch.zeros(3, 2)),
        "body.weight": torch.nn.Parameter(torch.zeros(2, 2)),
    }
    old = {"classifier.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "body.weight": torch.full((2, 2), 7.0)}
    where = places(LabelSet("class", ("b", "c")), LabelSet("class", ("c", "a", "b")))
    carry_over(old, head, where, heads=["classifier"], name="runs/x")
    assert head["classifier.weight"].tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]
    assert head["body.weight"].tolist() == [[7.0, 7.0], [7.0, 7.0]]
    with pytest.raises(RunFolderError, match="knows the class 'c'"):
        places(LabelSet("class", ("b", "c")), LabelSet("class", ("a", "b")))
    with pytest.raises(RunFolderError, match="another adapter"):
        carry_over({}, head, where, heads=["classifier"], name="runs/x")


def test_a_run_learns_further_classes_and_goes_back(tmp_path: Path, reader_folder: Path) -> None:
    folder = first_run(tmp_path, reader_folder)
    before = folder.read_json(folder.report)
    kept = read_memory(folder)
    assert [(task.name, task.rows) for task in kept.tasks] == [("orders", 16)]
    rows = (folder.memory / kept.tasks[0].folder / "train.jsonl").read_text().splitlines()
    assert len(rows) == 2  # a fifth of eight, of each class
    teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]), overrides=["schedule.steps=4"])
    assert names_in(folder) == [*sorted(KINDS[:2]), *sorted(KINDS[2:4])]
    tuned = open_model(str(folder.path))
    assert tuned.labels is not None
    assert len(tuned.labels.names) == 4
    kept = read_memory(folder)
    assert [task.name for task in kept.tasks] == ["orders", "money"]
    assert set(kept.matrix) == {"orders", "money"}
    assert set(kept.matrix["money"]) == {"orders", "money"}
    undo(folder.path)
    assert folder.read_json(folder.report) == before
    assert names_in(folder) == sorted(KINDS[:2])
    undo(folder.path)  # the other one comes back
    assert len(names_in(folder)) == 4


@pytest.mark.parametrize("pooling", ["own", "mean"])
def test_nothing_is_lost_of_what_is_not_learned_again(tmp_path: Path, reader_folder: Path, pooling: str) -> None:
    """With no update the model answers as before, of the classes that it knew."""
    folder = first_run(tmp_path, reader_folder, objective={"kind": "classify", "pooling": pooling})
    texts = [text for kind in KINDS for text in INTENTS[kind]]
    before = open_model(str(folder.path)).scores(texts)
    teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]),
          overrides=["schedule.steps=1", "optimiser.learning_rate=1e-12"])  # fmt: skip
    after = open_model(str(folder.path)).scores(texts)
    assert after.shape == (60, 4)
    assert after[:, :2] == pytest.approx(before, abs=1e-5)


def test_a_writer_goes_on_with_its_adapter(tmp_path: Path, generator_folder: Path) -> None:
    rows = greetings()
    data = {"source": str(write_rows(tmp_path / "greet.jsonl", rows)), "test": 4, "validation": 0}
    settings = {"evaluate": {"generate": 2, "shots": 0, "memorisation": 0, "bias": "none"}, "schedule": {"steps": 6}}
    recipe, _ = from_mapping(
        {"model": str(generator_folder), "data": data, "adapter": {"kind": "lora", "rank": 2}, **settings}, []
    )
    finish(recipe, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before = open_model(str(folder.path)).policy.attached.state()
    bye = [{"prompt": f"leave {row['prompt']}", "completion": "bye"} for row in rows]
    teach(
        folder, write_rows(tmp_path / "bye.jsonl", bye), overrides=["schedule.steps=1", "optimiser.learning_rate=1e-12"]
    )
    after = open_model(str(folder.path)).policy.attached.state()
    assert after.keys() == before.keys()
    assert all(torch.allclose(after[name], before[name], atol=1e-9) for name in before)
    assert sorted(read_memory(folder).matrix["bye"]) == ["bye", "greet"]


def test_twenty_times_in_a_row_takes_no_more_room(tmp_path: Path, reader_folder: Path) -> None:
    """Of versions two are there, however often a run has learned."""
    folder = first_run(tmp_path, reader_folder)
    sizes = []
    for number in range(3):
        kinds = KINDS[2 * (number % 2) + 2 : 2 * (number % 2) + 4]
        teach(folder, requests(tmp_path / f"more{number}.jsonl", *kinds), overrides=["schedule.steps=1"])
        sizes.append(sum(file.stat().st_size for file in folder.path.rglob("*.safetensors")))
    assert max(sizes) < 1.01 * sizes[0]
    assert sorted(path.name for path in folder.path.iterdir() if path.name in ("before", "before.tmp", "next")) == [
        "before"
    ]


def test_learning_that_was_stopped_goes_on(tmp_path: Path, reader_folder: Path) -> None:
    folder, data = first_run(tmp_path, reader_folder), requests(tmp_path / "money.jsonl", *KINDS[2:4])
    whole = tmp_path / "whole"
    shutil.copytree(folder.path, whole)
    settings = {"overrides": ["schedule.steps=6", "checkpoint.every=2"]}
    teach(RunFolder(whole), data, **settings)
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        teach(folder, data, should_stop=lambda: next(asked) >= 3, **settings)
    assert names_in(folder) == sorted(KINDS[:2])  # it is what it was
    with pytest.raises(RunFolderError, match="a run was stopped here: go on with tuneful learn"):
        teach(folder, data, **settings)
    with pytest.raises(RunFolderError, match="what was stopped here is about money"):
        teach(folder, requests(tmp_path / "other.jsonl", *KINDS[4:6]), resume=True, **settings)
    with pytest.raises(RunFolderError, match="going back would lose it"):
        undo(folder.path)
    done = typed("learn", "run", "--resume", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert typed("learn", "run", "--resume", cwd=tmp_path).exit_code == 2  # nothing is stopped now
    assert _weights(folder) == _weights(RunFolder(whole))


def _weights(folder: RunFolder) -> dict[str, list[float]]:
    module = open_model(str(folder.path)).policy.module
    return {name: parameter.flatten()[:50].tolist() for name, parameter in module.named_parameters()}


def test_what_cannot_be_taught(tmp_path: Path, reader_folder: Path) -> None:
    data = requests(tmp_path / "orders.jsonl", *KINDS[:2])
    with pytest.raises(RunFolderError, match="not the folder of a run"):
        teach(RunFolder(tmp_path / "nothing"), data)
    folder = first_run(tmp_path, reader_folder)
    with pytest.raises(InputError, match="has learned a task 'orders' already"):
        teach(folder, data)
    with folder.claimed(), pytest.raises(RunFolderError, match="another run is at work"):
        teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]))
    with pytest.raises(RunFolderError, match="no earlier version"):
        undo(folder.path)
    with pytest.raises(InputError, match="'track_parcel' is a label of orders and of mixed"):
        teach(folder, requests(tmp_path / "mixed.jsonl", *KINDS[1:4]))
    shutil.rmtree(folder.memory)
    with pytest.raises(RunFolderError, match="keeps nothing of what it learned"):
        teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]))


def test_a_run_that_keeps_nothing(tmp_path: Path, reader_folder: Path) -> None:
    assert not first_run(tmp_path, reader_folder, save={"memory": 0}).memory.exists()


def test_an_adapter_of_another_base(tmp_path: Path, reader_folder: Path) -> None:
    folder = first_run(tmp_path, reader_folder)
    lock = folder.read_json(folder.lock)
    folder.write_json(folder.lock, {**lock, "model_sha256": "0"})
    with pytest.raises(RunFolderError, match="tuned from another model"):
        teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]))


def test_the_command(tmp_path: Path, reader_folder: Path) -> None:
    folder = first_run(tmp_path, reader_folder)
    requests(tmp_path / "money.jsonl", *KINDS[2:4])
    done = typed(
        "learn", "run", "money.jsonl", "--name", "refunds", "--set", "schedule.steps=2", "--json", cwd=tmp_path
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"]
    assert [task.name for task in read_memory(folder).tasks] == ["orders", "refunds"]
    assert typed("learn", "run", "--undo", cwd=tmp_path).exit_code == 0
    assert [task.name for task in read_memory(folder).tasks] == ["orders"]
    for wrong in (["run"], ["run", "money.jsonl", "--undo"]):
        assert typed("learn", *wrong, cwd=tmp_path).exit_code == 2


def test_from_python(tmp_path: Path, reader_folder: Path) -> None:
    folder = first_run(tmp_path, reader_folder)
    data = requests(tmp_path / "money.jsonl", *KINDS[2:4])
    done = tuneful.learn(folder.path, data, name="refunds", settings={"schedule.steps": 2})
    assert done.report["forgetting"]["tasks"]["refunds"].keys() == {"orders", "refunds"}
    assert done.report["tasks"].keys() == {"orders", "refunds"}
    told = done.report["verdict"]["sentences"]
    assert told["en"].startswith(("‘orders’ lost most", "No task lost anything"))
    assert "the model before any tuning" in told["en"]
    assert "未微調的模型" in told["zh-TW"]


def test_a_text_of_many_rows_is_kept_once(tmp_path: Path, generator_folder: Path) -> None:
    texts = [{"text": " ".join(f"word {number} {place}" for place in range(30))} for number in range(10)]
    data = {"source": str(write_rows(tmp_path / "texts.jsonl", texts)), "test": 2, "validation": 0, "max_tokens": 16}
    given = {"model": str(generator_folder), "data": data, "schedule": {"steps": 1}, "save": {"memory": 0.25}}
    finish(from_mapping({**given, "evaluate": "none"}, [])[0], tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for number in range(2):
        more = write_rows(tmp_path / f"more{number}.jsonl", [{"text": f"{number} {row['text']}"} for row in texts])
        teach(folder, more, overrides=["schedule.steps=1", "data.test=2", "data.validation=0"])
        for task in read_memory(folder).tasks:
            lines = [
                (folder.memory / task.folder / f"{part}.jsonl").read_text().splitlines() for part in ("train", "test")
            ]
            assert [len(part) for part in lines] == [2, 2]  # a quarter of eight


def test_what_is_kept_stays_where_a_task_comes_back(tmp_path: Path, reader_folder: Path) -> None:
    """The new test rows give way to what is kept; labels that were shared once are known to be; settings of all data."""
    folder = first_run(tmp_path, reader_folder)
    kept = (folder.memory / "1-orders" / "train.jsonl").read_text()
    teach(folder, requests(tmp_path / "again.jsonl", *KINDS[:2]), overrides=["schedule.steps=1", "data.test=0.5"])
    assert (folder.memory / "1-orders" / "train.jsonl").read_text() == kept
    mixed = requests(tmp_path / "mixed.jsonl", *KINDS[1:4])
    teach(folder, mixed, overrides=["schedule.steps=1", "tasks.2.labels=shared", "data.max_tokens=64"])
    teach(folder, requests(tmp_path / "last.jsonl", *KINDS[4:6]), overrides=["schedule.steps=1"])
    assert [task.name for task in read_memory(folder).tasks] == ["orders", "again", "mixed", "last"]
    assert len(names_in(folder)) == 6


def test_a_plain_run_whose_head_was_solved_goes_on_from_its_sums(tmp_path: Path, reader_folder: Path) -> None:
    pooled = {"adapter": "head", "objective": {"kind": "classify", "pooling": "mean"}}
    folder = first_run(tmp_path, reader_folder, **pooled)
    found = read_sums(folder)
    assert found is not None
    assert found.counts.tolist() == [8.0, 8.0]  # rows that are gone from the memory, which has one of each class
    teach(folder, requests(tmp_path / "money.jsonl", *KINDS[2:4]), overrides=["data.test=0.2"])
    after = read_sums(folder)
    assert after is not None
    assert after.counts.tolist() == [8.0, 8.0, 8.0, 8.0]
    assert torch.equal(after.means[:2], found.means)
    (folder.memory / "sums.safetensors").unlink()
    with pytest.raises(RunFolderError, match="keeps no sums"):
        teach(folder, requests(tmp_path / "more.jsonl", *KINDS[4:6]))


def test_tasks_learned_at_once_are_both_known_when_one_more_comes(tmp_path: Path, reader_folder: Path) -> None:
    tasks = []
    for name, kinds in (("orders", KINDS[:2]), ("money", KINDS[2:4])):
        source = str(requests(tmp_path / f"{name}.jsonl", *kinds))
        tasks.append({"name": name, "data": {"source": source, "validation": 0, "test": 0.2}})
    schedule = {"kind": "mixture", "steps": 2}
    given = {"model": str(reader_folder), "tasks": tasks, "schedule": schedule, "evaluate": QUICK["evaluate"]}
    finish(from_mapping(given, [])[0], tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    teach(folder, requests(tmp_path / "access.jsonl", *KINDS[4:6]), overrides=["schedule.steps=1", "data.test=0.2"])
    told = folder.read_json(folder.report)["forgetting"]
    assert list(told["tasks"]) == ["orders", "money", "access"]
    assert told["transfer"]["by_task"].keys() == {"orders", "money", "access"}
