"""Requests with answers that a model wrote: learned by a model that writes where they help, refused where they do not,
never measured by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import DataError, RecipeError
from tuneful.data.duplicates import said_in
from tuneful.data.instructions import half_of
from tuneful.data.rows import is_generated
from tuneful.run import weigh as room
from tuneful.run.api import check, recipe_for
from tuneful.run.build import build
from tuneful.run.weigh import LEAST_ASKED, parts_of, to_weigh, weigh
from work import moods, write_rows

OTHER = {"glad": "sad", "sad": "glad"}
SETTINGS: dict[str, Any] = {
    "adapter": "full", "optimiser": {"learning_rate": 0.01, "rows_per_step": 8}, "schedule": {"epochs": 6},
    "evaluate": {"forgetting": False, "shots": 0, "generate": 5},
}  # fmt: skip


def rows(count: int = 32, *, start: int = 0) -> list[dict[str, str]]:
    """A request whose words tell its answer."""
    return [{"prompt": row["text"], "completion": row["label"]} for row in moods(start + count)[start:]]


def made(folder: Path, *, swapped: bool, count: int = 60) -> Path:
    """Rows of the kind that is learned, right or with their answers exchanged."""
    new = [
        {**row, "prompt": f"{row['prompt']} again", "origin": {"shown": ["a row elsewhere"]}}
        for row in rows(count, start=100)
    ]
    return write_rows(
        folder / "made.jsonl", [{**r, "completion": OTHER[r["completion"]]} if swapped else r for r in new]
    )


def recipe(folder: Path, model: Path, generated: Path, real: list[dict[str, str]], **data: Any) -> dict[str, Any]:
    source = write_rows(folder / "rows.jsonl", real)
    return {"data": {"source": str(source), "generated": str(generated), **data}, "model": str(model), **SETTINGS}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("validation", [0, LEAST_ASKED])
def test_generated_rows_are_learned_only_where_they_help(
    validation: int, swapped: bool, generator_folder: Path, tmp_path: Path
) -> None:
    """Asked about validation rows, or where there are few about each half of the training rows."""
    given = recipe(tmp_path, generator_folder, made(tmp_path, swapped=swapped), rows(20 + validation + 8),
                   validation=validation, test=8)  # fmt: skip
    run = tuneful.fit(given, out=tmp_path / "run")
    choice = run.report["choice"]
    alone, beside = choice["ways"]
    assert choice["folds"] == (1 if validation else 2)
    assert choice["rows"] == 20
    assert [alone["taken"], beside["taken"]] == [swapped, not swapped]
    assert (beside["perplexity"] < alone["perplexity"]) is not swapped
    assert beside["ci95"][0] <= beside["delta"] <= beside["ci95"][1]
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    assert (lock["tasks"][0]["data"]["generated"] is None) is swapped
    # As long as the recipe says, for the rows that are learned.
    assert lock["schedule"]["epochs"] == 6
    assert lock["schedule"]["steps"] == 6 * -(-(20 if swapped else 80) // 8)
    assert run.report["quality"]["exact_match"]["n"] == 5
    keys = [note["key"] for note in run.report["data"]["notes"]]
    assert "ungated" not in keys
    assert ("generated" in keys) is not swapped
    for face in ("report.html", "README.md"):
        page = (tmp_path / "run" / face).read_text(encoding="utf-8")
        assert "generated rows learned beside them" in page
        assert "Sources of rows that were tried" in page


def test_what_is_asked_about_is_unknown_to_what_is_learned(generator_folder: Path, tmp_path: Path) -> None:
    """A row that was written from one half is learned only while the other half is asked about."""
    real = rows(24)
    copies = [
        {"prompt": f"{row['prompt']} !?", "completion": row["completion"], "origin": {"shown": [row["prompt"]]}}
        for row in real
    ]
    new = [
        {"prompt": f"entirely {n} other", "completion": "glad", "origin": {"shown": [row["prompt"]]}}
        for n, row in enumerate(real)
    ]
    generated = write_rows(tmp_path / "made.jsonl", [*copies, *new])
    prepared = check(recipe(tmp_path, generator_folder, generated, real, validation=0, test=0))
    parts = parts_of(prepared)
    assert len(parts) == 2
    for part in parts:
        asked = {said_in(row.example) for row in part.asked}
        assert asked
        assert not asked & {said_in(row.example) for row in part.own}
        assert part.generated
        assert not asked & {text for row in part.generated for text in row.example.shown}
    assert sum(len(part.asked) for part in parts) == 24
    assert {half_of(said_in(row.example)) for row in parts[0].asked} == {0}


def test_rows_that_know_of_held_out_ones_are_left_out(generator_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", rows(24))
    held = [
        {"prompt": f"a {row['prompt']} morning over the hills and far away", "completion": "glad"} for row in rows(6)
    ]
    write_rows(tmp_path / "data" / "test.jsonl", held)
    generated = write_rows(tmp_path / "made.jsonl", [
        {"prompt": "lovely bright sweet", "completion": "glad", "origin": {"shown": [held[0]["prompt"]]}},
        {"prompt": "warm sunny cheerful", "completion": "glad", "origin": {"shown": [held[1]["prompt"] + " !?"]}},
        {"prompt": held[0]["prompt"] + "!", "completion": "glad"}, {"prompt": "dreary bitter cold", "completion": "sad"},
        rows(1)[0],
    ])  # fmt: skip
    data = {"source": str(tmp_path / "data"), "generated": str(generated)}
    prepared = check({"data": data, "model": str(generator_folder)})
    assert [row.example.messages[0].content for row in prepared.repeated if is_generated(row)] == ["dreary bitter cold"]
    assert not any(is_generated(row) for part in ("train", "validation", "test") for row in prepared.rows(part))


def test_a_run_that_goes_on_notices_other_answers(generator_folder: Path, tmp_path: Path) -> None:
    found = []
    for swapped in (False, True):
        found.append(check(recipe(tmp_path, generator_folder, made(tmp_path, swapped=swapped, count=6), rows(12))))
    assert found[0].data_sha256 != found[1].data_sha256


def test_at_most_three_for_each_row(generator_folder: Path, tmp_path: Path) -> None:
    prepared = check(
        recipe(tmp_path, generator_folder, made(tmp_path, swapped=False, count=100), rows(10), validation=0, test=0)
    )
    assert sum(map(is_generated, prepared.repeated)) == 30


def test_where_they_cannot_be_weighed_they_are_left_out(generator_folder: Path, tmp_path: Path) -> None:
    """One row has no other half to be asked about."""
    given = recipe(tmp_path, generator_folder, made(tmp_path, swapped=True), rows(1), validation=0, test=0)
    prepared, said = check({**given, "choose": {"enabled": True}}), list[str]()
    assert sum(map(is_generated, prepared.repeated)) == 3
    assert to_weigh(prepared)
    chosen = weigh(recipe_for(given, model=None, settings={}), prepared, said.append)
    assert chosen.recipe.task.data.generated is None
    assert chosen.recipe.choose.enabled is False
    assert "left out" in said[0]
    del given["data"]["generated"]
    assert chosen.recipe.schedule == recipe_for(given, model=None, settings={}).schedule


def test_what_a_short_run_learns_is_forgotten(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So both begin alike."""
    given = recipe(tmp_path, generator_folder, made(tmp_path, swapped=True), rows(24), validation=0, test=0)
    prepared = check(given)
    built = build(prepared)
    before = {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}
    monkeypatch.setattr(room, "build", lambda *_: built)
    weigh(recipe_for(given, model=None, settings={}), prepared, lambda _: None)
    for name, tensor in built.policy.attached.state().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_learned_unasked_the_report_says_so(generator_folder: Path, tmp_path: Path) -> None:
    given = recipe(tmp_path, generator_folder, made(tmp_path, swapped=True, count=30), rows(30))
    run = tuneful.fit({**given, "choose": "none", "schedule": {"steps": 2}}, out=tmp_path / "run")
    notes = {note["key"]: note for note in run.report["data"]["notes"]}
    assert "ungated" in notes
    assert notes["generated"]["n"] == 30
    assert notes["generated"]["percent"] == round(100 * 30 / (30 + run.report["data"]["rows"]["train"]))
    assert run.report["choice"] == {}
    assert "was not asked" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_other_layouts_of_what_was_written(generator_folder: Path, tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": row["prompt"] + " so"}, {"role": "assistant", "content": row["completion"]}]}
             for row in rows(4, start=50)]  # fmt: skip
    prepared = check(recipe(tmp_path, generator_folder, write_rows(tmp_path / "chats.jsonl", chats), rows(20)))
    made = [row for row in prepared.repeated if is_generated(row)]
    assert len(made) == 4
    assert all(row.learned for row in made)
    assert np.all([row.prompt > 0 for row in made])


def test_refusals(generator_folder: Path, tmp_path: Path) -> None:
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "a storm"}, {"text": "a calm"}])
    with pytest.raises(DataError, match=r"bare\.jsonl line 1: expected a request with its answer"):
        check(recipe(tmp_path, generator_folder, bare, rows()))
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"query": "a storm", "document": "wind and rain"}])
    with pytest.raises(DataError, match=r"pairs\.jsonl line 1: expected a request with its answer"):
        check(recipe(tmp_path, generator_folder, pairs, rows()))
    empty = write_rows(
        tmp_path / "empty.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": ""}]
    )
    with pytest.raises(DataError, match=r"empty\.jsonl line 2: expected a request with its answer"):
        check(recipe(tmp_path, generator_folder, empty, rows()))
    given = recipe(tmp_path, generator_folder, made(tmp_path, swapped=False), rows())
    with pytest.raises(RecipeError, match="leave sharded out"):
        check({**given, "sharded": True, "adapter": "lora"})
    for enabled in ("auto", True):
        with pytest.raises(RecipeError, match=r"choose\.adapters: is for labels") as refused:
            check({**given, "choose": {"enabled": enabled, "adapters": ["full"]}})
        assert "choose.enabled=true" not in str(refused.value)
    alone = {**given, "data": {"source": given["data"]["source"]}}
    with pytest.raises(RecipeError, match=r"or weigh data\.generated"):
        check({**alone, "choose": {"enabled": True}})
    assert to_weigh(check({**given, "choose": {"enabled": True}}))
    with pytest.raises(RecipeError, match="a model that writes has none"):
        check({**given, "data": {**given["data"], "unlabelled": str(bare)}, "schedule": "selftrain"})
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"once {n} upon a time"} for n in range(20)])
    with pytest.raises(RecipeError, match="plain texts have no answers"):
        check({**given, "data": {"source": str(texts), "generated": given["data"]["generated"]}})
    with pytest.raises(RecipeError, match="rows that are held"):
        check({**given, "data": {**given["data"], "streaming": True}})
