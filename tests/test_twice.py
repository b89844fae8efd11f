"""Rows that a first training gets wrong come more often in the second, and whom a shortcut fails is served better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuneful
from tuneful.core.errors import CheckpointError, RecipeError
from tuneful.data.balance import Jtt
from tuneful.recipe import Recipe
from tuneful.run.api import check
from tuneful.run.build import cost
from tuneful.run.loop import Interrupted
from tuneful.run.session import run
from tuneful.run.twice import weighed
from tuneful.run.vary import tokens_seen
from work import MOODS, moods, whole_and_parts, write_rows

PORTS = {"glad": "harbour", "sad": "airport"}


def shortcuts(folder: Path, count: int = 120, against: int = 12) -> Path:
    """Two words tell the mood, and a third, there four times, nearly always goes with it; of the test rows half."""
    folder.mkdir()
    rng = np.random.default_rng(1)

    def row(number: int, turned: bool) -> dict[str, str]:
        mood, other = list(MOODS)[:: 1 if number % 2 else -1]
        port = PORTS[other if turned else mood]
        return {
            "text": f"{' '.join([port] * 4)} {' '.join(rng.choice(MOODS[mood].split(), 2))} {number}",
            "label": mood,
            "port": port,
        }

    write_rows(folder / "train.jsonl", [row(n, n < against) for n in range(count)])
    write_rows(folder / "test.jsonl", [row(1000 + n, n % 4 < 2) for n in range(80)])
    return folder


def recipe(source: Path, model: Path, balance: Any = None, **more: Any) -> dict[str, Any]:
    data = {"source": str(source), "validation": 0, "text": "text", "label": "label"}
    return {
        "model": str(model), "choose": "none", "regularisers": "none", "schedule": {"epochs": 4},
        "data": {**data, **({"balance": balance} if balance else {})},
        "optimiser": {"learning_rate": 0.003, "rows_per_step": 8}, "evaluate": {"enabled": False}, **more,
    }  # fmt: skip


def test_the_weights_of_rows_by_hand(reader_folder: Path, tmp_path: Path) -> None:
    """Of four rows one is drawn five times as often: 5/8 of the draws, so 2.5 in an epoch of four."""
    prepared = check(recipe(shortcuts(tmp_path / "data"), reader_folder))
    four = replace(prepared, repeated=prepared.repeated[:4])
    times = [row.times for row in weighed(four, Jtt(times=5), [2]).repeated]
    assert times == pytest.approx([0.5, 0.5, 2.5, 0.5])


def test_the_first_training_is_in_the_plan(reader_folder: Path, tmp_path: Path) -> None:
    """Four epochs of 120 rows, 8 an update, are 60 updates; two epochs before them are 30 more."""
    source = shortcuts(tmp_path / "data")
    plain, first = (cost(check(recipe(source, reader_folder, way))) for way in (None, {"kind": "jtt", "epochs": 2}))
    assert (plain.steps, first.steps) == (60, 90)
    assert first.tflop == pytest.approx(1.5 * plain.tflop, rel=1e-6)


def test_whom_a_shortcut_fails_is_served_better(reader_folder: Path, tmp_path: Path) -> None:
    source = shortcuts(tmp_path / "data")
    rows = [json.loads(line) for line in (source / "test.jsonl").read_text().splitlines()]
    worst: dict[str, float] = {}
    for name, balance in (("plain", None), ("jtt", {"kind": "jtt", "epochs": 2, "times": 10})):
        done = tuneful.fit(recipe(source, reader_folder, balance), out=tmp_path / name)
        said = done.load().classify([row["text"] for row in rows])
        right = np.array([row["label"] == answer for row, answer in zip(rows, said, strict=True)])
        against = np.array([PORTS[row["label"]] != row["port"] for row in rows])
        worst[name] = float(right[against].mean())
    assert worst["jtt"] >= worst["plain"] + 0.15, worst
    found = tuneful.fit(recipe(source, reader_folder, "jtt"), out=tmp_path / "said").report["data"]["notes"]
    assert done.report["cost"]["first_seconds"] > 0
    (note,) = (note for note in found if note["key"] == "trained_twice")
    assert 0 < note["n"] < 60
    assert (note["updates"], note["of"] > 100) == (15, True)


def test_a_run_that_goes_on_draws_the_same_rows(reader_folder: Path, tmp_path: Path) -> None:
    given = Recipe.model_validate(recipe(shortcuts(tmp_path / "data"), reader_folder, "jtt"))
    whole, parts = whole_and_parts(given, tmp_path, after=40)
    assert whole.read_json(whole.missed)["data_sha256"] == whole.read_json(whole.lock)["data_sha256"]
    assert whole.read_json(whole.missed)["rows"] == parts.read_json(parts.missed)["rows"]
    assert (whole.model / "model.safetensors").read_bytes() == (parts.model / "model.safetensors").read_bytes()


def test_other_rows_are_not_gone_on_with(reader_folder: Path, tmp_path: Path) -> None:
    """Before anything is made of places that are others' by now."""
    source = shortcuts(tmp_path / "data")
    given = Recipe.model_validate(recipe(source, reader_folder, "jtt"))
    asked = iter([*[False] * 20, True])
    with pytest.raises(Interrupted):
        for _ in run(given, tmp_path / "run", should_stop=lambda: next(asked, True)):
            pass
    lines = (source / "train.jsonl").read_text().splitlines(keepends=True)
    (source / "train.jsonl").write_text("".join(lines[:20]))
    with pytest.raises(CheckpointError, match="the data has changed"):
        list(run(given, tmp_path / "run", resume=True))


def test_what_the_second_training_draws_is_not_foretold(reader_folder: Path, tmp_path: Path) -> None:
    """Its rows come at other visits, so their augmentations bring other tokens than those of the first."""
    given = recipe(shortcuts(tmp_path / "data"), reader_folder, augment=["typos"])
    assert tokens_seen(check(given)) is not None
    assert tokens_seen(check({**given, "data": {**given["data"], "balance": "jtt"}})) is None


def test_nothing_missed_is_nothing_to_draw(reader_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", moods(60))
    given = recipe(tmp_path / "data", reader_folder, {"kind": "jtt", "epochs": 30})
    with pytest.raises(RecipeError, match="found no row that is answered wrongly"):
        tuneful.fit({**given, "data": {**given["data"], "test": 0}}, out=tmp_path / "run")
