"""Two processes do what one does: the same records, the same weights, one report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import several
import tuneful
from preferring import pairs
from several import CASES, do_case, engine_alone
from tuneful.core.errors import RecipeError
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.run.folder import RunFolder
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows
from work import greetings, moods, write_rows

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def place(generator_folder: Path, reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data."""
    folder = tmp_path_factory.mktemp("ranks")
    shutil.copytree(generator_folder, folder / "generator")
    shutil.copytree(reader_folder, folder / "reader")
    write_rows(folder / "greetings.jsonl", greetings())
    write_rows(folder / "moods.jsonl", moods())
    write_rows(folder / "three.jsonl", greetings(3))
    write_rows(folder / "pairs.jsonl", pairs(40))
    return folder


@pytest.fixture(scope="module")
def two(place: Path) -> Path:
    """Every case, done by two processes."""
    out = place / "two"
    out.mkdir()
    command = [*TORCHRUN, several.__file__, str(place), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=_environment(place))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TUNEFUL_CACHE": str(place / "cache"), "PYTHONWARNINGS": "ignore"}


def found(two: Path) -> dict[str, Any]:
    return json.loads((two / "found.json").read_text(encoding="utf-8"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = [*run.glob("adapter/adapter_model.safetensors"), *run.glob("model/model.safetensors")]
    return load_file(file)


def assert_same_run(one: Path, other: Path, *, rel: float) -> None:
    mine, others = ([r for r in RunFolder(run).read_records() if r.kind != "saved"] for run in (one, other))
    runs = several.CASES[one.name].get("soup", 1) if one.name in several.CASES else 1
    assert len([record for record in mine if record.kind == "train"]) == runs * several.ALL["schedule.steps"]
    for ours, theirs in zip(mine, others, strict=True):
        assert (ours.step, ours.kind, ours.metrics.keys()) == (theirs.step, theirs.kind, theirs.metrics.keys())
        for name in ours.metrics.keys() - {"seconds", "read", "margin"}:  # of pairs, which begins as rounding
            assert theirs.metrics[name] == pytest.approx(ours.metrics[name], rel=rel, abs=1e-7), (ours.step, name)
    learned, again = weights(one), weights(other)
    assert learned.keys() == again.keys()
    for name, tensor in learned.items():
        assert float((tensor - again[name]).norm()) <= max(rel * float(tensor.norm()), 1e-7), name


def _done(name: str, place: Path) -> Path:
    """By this process alone."""
    if not (place / "one" / name).exists():
        do_case(name, place, place / "one")
    return place / "one"


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_two_processes_do_what_one_does(name: str, place: Path, two: Path) -> None:
    assert_same_run(_done(name, place) / name, two / name, rel=1e-5)
    records = RunFolder(two / name).read_records()
    looks = 2 * several.CASES[name].get("soup", 1)
    assert sum(record.kind == "validation" for record in records) == (0 if "one row" in name else looks)
    if "one row" in name:
        assert {record.metrics["rows"] for record in records if record.kind == "train"} == {1, 2}


def test_what_is_measured_is_the_same(place: Path, two: Path) -> None:
    """By the first process alone, or by all of them where the model is sharded."""
    name = "sharded classifier"
    one, other = (tuneful.Run(folder / name).report["quality"] for folder in (_done(name, place), two))
    assert one["accuracy"]["tuned"] == other["accuracy"]["tuned"]
    assert one["accuracy"]["base"] == other["accuracy"]["base"]
    answers = [(folder / name / "answers.jsonl").read_text(encoding="utf-8") for folder in (place / "one", two)]
    assert answers[0] == answers[1]


def test_a_sharded_run_is_used_like_any(place: Path, two: Path) -> None:
    texts = ["warm sunny bright", "grey dark cold"]
    name = "sharded classifier"
    scores = [tuneful.load(folder / name).scores(texts) for folder in (_done(name, place), two)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4)
    assert isinstance(tuneful.load(two / "sharded full").generate("greet Ada in room 123 4", limit=4), str)


def _but_read(metrics: dict[str, float]) -> dict[str, float]:
    """Without the tokens of each task, of which rows that are dealt otherwise share others."""
    return {name: value for name, value in metrics.items() if not name.startswith("read/")}


@pytest.mark.parametrize("case", ["engine", "first only", "tasks"])
def test_rules_and_penalties_hold_over_ranks(case: str, place: Path, two: Path) -> None:
    one, other = engine_alone(place, case), found(two)[case]
    for ours, theirs in zip(one["metrics"], other["metrics"], strict=True):
        assert _but_read(theirs) == pytest.approx(_but_read(ours), rel=1e-5)
    for name, values in one["weights"].items():
        torch.testing.assert_close(torch.tensor(other["weights"][name]), torch.tensor(values), rtol=1e-4, atol=1e-6)


def test_gradients_of_tasks_are_not_kept_apart_where_weights_are_shared_out(two: Path) -> None:
    first, other = found(two)["refused"]
    assert first == other
    assert "gradient: pcgrad" in first
    assert first.endswith("leave out sharded")


@pytest.mark.parametrize("name", ["dropout", "sharded dropout"])
def test_stopping_is_agreed_on_and_going_on_is_exact(name: str, two: Path) -> None:
    """With dropout, so every rank must find its own random numbers again."""
    assert found(two)["resumed"] == [["stopped", "stopped"]] * 2
    assert_same_run(two / name, two / f"{name} resumed", rel=0)
    saved = [record.step for record in RunFolder(two / f"{name} resumed").read_records() if record.kind == "saved"]
    assert saved == [4], "where the last rank said stop"


def test_what_one_rank_cannot_none_does(two: Path) -> None:
    """And the first one says it."""
    first, last = found(two)["errors"]
    assert first == ["rank 0 cannot, said by me", "rank 1 cannot, said by me", "rank 0 cannot, said by me"]
    assert last == [words.replace("me", "another") for words in first]
    diverged = found(two)["diverged"]
    assert diverged[0] == diverged[1]
    assert "is not finite" in diverged[0] or "is inf" in diverged[0] or "is nan" in diverged[0]


def test_every_rank_drops_out_by_itself(two: Path) -> None:
    torch.manual_seed(0)
    first, other = found(two)["random"]
    assert first == float(torch.rand(1)), "the first one draws what a process alone draws"
    assert other != first


@pytest.mark.parametrize(("count", "rows", "limit"), [(8, 8, 10_000), (8, 8, 130), (7, 3, 10_000), (5, 1, 10_000)])
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_step_is_dealt_out(generator_folder: Path, count: int, rows: int, limit: int, ranks: int) -> None:
    policy, loaded = tiny_policy(generator_folder)
    given = tiny_rows(loaded, Layout.TOKENS, count)
    one, *dealt = (
        list(EpochSteps(given, Collator(Layout.TOKENS), Cut(rows, limit, of, own), total=4).steps(policy))
        for of, own in [(1, 0), *((ranks, number) for number in range(ranks))]
    )
    for whole, *parts in zip(one, *dealt, strict=True):
        assert len({len(part.batches) for part in parts}) == 1, "one rank would wait for the other"
        assert {(part.rows, part.tokens) for part in parts} == {(whole.rows, whole.tokens)}
        units = [sum(batch.units for batch in part.batches) for part in parts]
        assert sum(units) == sum(batch.units for batch in whole.batches), "each row once"
        assert sum(value > 0 for value in units) == min(ranks, whole.rows), "as many at work as there are rows"
        tokens = [batch.tokens for part in parts for batch in part.batches]
        assert max(tokens) <= limit
        assert sum(tokens) == whole.tokens
        if whole.rows == 8 and limit > 1000:
            assert max(map(sum, zip(*[iter(units)] * ranks, strict=True))) < whole.tokens
            assert max(tokens) <= 1.5 * whole.tokens / ranks, "about as much for each"


def test_long_rows_are_weighed_against_many_short_ones(generator_folder: Path) -> None:
    """Four rows of 10 tokens and one of 40: two ranks read 40 each, not two and three rows."""
    policy, loaded = tiny_policy(generator_folder)
    (row,) = tiny_rows(loaded, Layout.TOKENS, 1)
    rows = [
        replace(row, ids=np.full(length, number + 5), learn=np.ones(length, dtype=np.float32))
        for number, length in enumerate([10, 10, 10, 10, 40])
    ]
    for rank in (0, 1):
        (step,) = EpochSteps(rows, Collator(Layout.TOKENS), Cut(5, 1000, 2, rank), total=1).steps(policy)
        assert [batch.tokens for batch in step.batches] == [40]


def test_the_command_line_starts_processes(place: Path) -> None:
    """Two of them: one report is printed, and the exit code is theirs: a gate is broken."""
    out = place / "command"
    command = [
        sys.executable, "-m", "tuneful", "fit", str(place / "greetings.jsonl"), "--processes=2", "--out", str(out),
        "--model", str(place / "generator"), "--set", "schedule.steps=1", "--set", "evaluate.generate=2",
        "--set", "evaluate.forgetting=false", "--set", "gates.generalisation_gap=1e-9", "--set", "gates.helped=true",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=_environment(place))
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("report:") == 1
    assert done.stderr.count("layout prompt_completion") == 1
    assert done.stderr.count("these gates do not hold") == 1


def test_sharded_and_merged_are_refused_together(place: Path) -> None:
    with pytest.raises(RecipeError, match=r"save\.merged"):
        tuneful.fit(several.recipe("sharded lora", place, **{"save.merged": True}), out=place / "refused")
