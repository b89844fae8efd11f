"""Tasks in turn, each with an adapter of its own: what was learned stays, and a run may be taught any number more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from test_previous import given_of
from tuneful.core.errors import RunFolderError
from tuneful.recipe import from_mapping
from tuneful.run.build import build
from tuneful.run.exchange import undo
from tuneful.run.folder import RunFolder
from tuneful.run.forget import recipe_to_forget
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.router import read_routers
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.run.train import train
from tuneful.run.tuned import open_model
from tuneful.run.turns import ENDED, START
from work import losses_of, whole_and_parts, write_rows

OWN = {"kind": "lora", "rank": 3, "each_task": True}
QUICK = {"robustness": False, "forgetting": False, "learning_curve": False}


def brief(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    """Three tasks of eight updates each."""
    given = given_of(folder, model, **{"adapter": OWN, **more})
    given["checkpoint"] = {"every": 100}
    return {**given, "schedule": {"kind": "lifelong", "steps": 24}, "evaluate": QUICK}


def weights_of(folder: RunFolder, task: str) -> dict[str, Tensor]:
    return load_file(folder.adapters / task / "adapter_model.safetensors")


def done(recipe: dict[str, Any], path: Path) -> RunFolder:
    list(run(from_mapping(recipe, [])[0], path))
    return RunFolder(path)


def perplexities(folder: Path, model: Path, adapter: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two tasks of text before any is learned, and after each, without the other measurements of a run."""
    said = {"up": "ABCDEFGH", "down": "stuvwxyz"}
    tasks = []
    for task, letters in said.items():
        rows = [{"prompt": f"{task} {n}", "completion": letters[n % 3 :] + letters[: n % 3]} for n in range(16)]
        source = str(write_rows(folder / f"{task}.jsonl", rows))
        tasks.append({"name": task, "data": {"source": source, "test": 4, "validation": 0}})
    given = {"model": str(model), "tasks": tasks, "adapter": adapter, "checkpoint": {"every": 100},
             "schedule": {"kind": "lifelong", "steps": 40, "replay": 0}, "optimiser": {"learning_rate": 0.01}}  # fmt: skip
    built = build(prepare(from_mapping(given, [])[0]))
    records = list(train(built, RunFolder(folder / "run"), Progress()))
    start = next(dict(record.metrics) for record in records if record.kind == START)
    return start, {record.task: dict(record.metrics) for record in records if record.kind == ENDED}


def test_nothing_is_forgotten(tmp_path: Path, generator_folder: Path) -> None:
    """What a task was worth when it had been learned it is worth at the end, to the digit; one LoRA that goes on loses
    much of it. The tasks are learned as well."""
    found = {}
    for name, adapter in (("each", OWN), ("one", {"kind": "lora", "rank": 3})):
        (tmp_path / name).mkdir()
        start, found[name] = perplexities(tmp_path / name, generator_folder, adapter)
        print(name, start, found[name])
        assert all(found[name][task][task] < 0.5 * start[task] for task in start)
    assert found["each"]["down"]["up"] == found["each"]["up"]["up"]
    assert found["one"]["down"]["up"] > 1.5 * found["one"]["up"]["up"]


def test_a_stopped_run_comes_to_the_same(tmp_path: Path, reader_folder: Path) -> None:
    given = brief(tmp_path, reader_folder) | {"evaluate": "none", "checkpoint": {"every": 2}}
    given["schedule"] = {"kind": "lifelong", "steps": 6}
    whole, resumed = whole_and_parts(from_mapping(given, [])[0], tmp_path, after=3)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    for task in ("t0", "t1", "t2"):
        theirs = weights_of(resumed, task)
        assert all(torch.equal(value, theirs[name]) for name, value in weights_of(whole, task).items())


@pytest.mark.parametrize("kind", ["lifelong", "mixture"])
def test_a_run_is_taught_a_task_more(tmp_path: Path, reader_folder: Path, kind: str) -> None:
    """Its adapters stay to the bit, and so does what tells whose a text is, but for the new task."""
    given = brief(tmp_path, reader_folder)
    new, given["schedule"] = given["tasks"].pop()["data"]["source"], {"kind": kind, "steps": 8}
    given["evaluate"] = QUICK if kind == "lifelong" else "none"
    folder = done(given, tmp_path / "run")
    before = {task: weights_of(folder, task) for task in ("t0", "t1")}
    kind_of_router, routers = read_routers(folder.adapters)
    texts = ["where is my parcel", "I want my money back"]
    said = {task: open_model(str(folder.path), task=task).scores(texts) for task in before}
    list(teach(folder.path, new, name="third", overrides=["schedule.steps=8"]))
    for task, old in before.items():
        now = weights_of(folder, task)
        factors = [name for name in old if "lora_" in name]
        assert factors
        assert all(torch.equal(now[name], old[name]) for name in factors)
        after = open_model(str(folder.path), task=task).scores(texts)
        own = said[task].argmax(1)
        assert after[:, : said[task].shape[1]][range(2), own] == pytest.approx(said[task][range(2), own], abs=1e-5)
        assert (after.argmax(1) == own).all()
    taken, known = read_routers(folder.adapters)
    assert taken == kind_of_router
    assert known["centroid"].tasks == ("t0", "t1", "third")
    assert torch.equal(known["centroid"].probe.weight[:2], routers["centroid"].probe.weight)
    third = open_model(str(folder.path), task="third").scores(texts)
    assert (third.argmax(1) >= said["t0"].shape[1]).all()  # it answers with its own classes
    if kind == "lifelong":
        assert folder.read_json(folder.report)["routing"]["tasks"].keys() == {"t0", "t1", "third"}
    undo(folder.path)
    assert sorted(path.name for path in folder.adapters.iterdir() if path.is_dir()) == ["t0", "t1"]


def test_it_is_not_unlearned(tmp_path: Path, reader_folder: Path) -> None:
    given = brief(tmp_path, reader_folder)
    given |= {"schedule": {"kind": "lifelong", "steps": 3}, "evaluate": "none"}
    folder = done(given, tmp_path / "run")
    rows = write_rows(tmp_path / "gone.jsonl", [{"text": "away with it", "label": "refund"}])
    with pytest.raises(RunFolderError, match="none is unlearned by itself yet"):
        recipe_to_forget(folder, str(rows), [], lambda _: None)
