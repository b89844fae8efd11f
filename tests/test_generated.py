"""Rows that a model wrote: learned where they help, refused where they do not, never measured by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tuneful
from tuneful.core.errors import DataError, RecipeError
from tuneful.data.rows import is_generated
from tuneful.run.api import check
from tuneful.run.further import LEAST_GENERATED
from work import MOODS, moods, write_rows

QUIET = {"evaluate": {"forgetting": False}}


def made(folder: Path, *, swapped: bool, count: int = 40) -> Path:
    """Rows of the kind that is learned, right or with their labels exchanged."""
    other = dict(zip(MOODS, reversed(MOODS), strict=True))
    rows = [{**row, "text": f"{row['text']} again"} for row in moods(count)]
    return write_rows(folder / "made.jsonl", [{**r, "label": other[r["label"]]} if swapped else r for r in rows])


def few(folder: Path, model: Path, generated: Path, **settings: Any) -> dict[str, Any]:
    data = write_rows(folder / "moods.jsonl", moods(12))
    return {"data": {"source": str(data), "generated": str(generated)}, "model": str(model), **QUIET, **settings}


@pytest.mark.parametrize("swapped", [False, True])
def test_generated_rows_are_learned_only_where_they_help(swapped: bool, reader_folder: Path, tmp_path: Path) -> None:
    run = tuneful.fit(few(tmp_path, reader_folder, made(tmp_path, swapped=swapped)), out=tmp_path / "run")
    ways = run.report["choice"]["ways"]
    without = max(way["accuracy"] for way in ways if way["way"] == "probe" and not way["generated"])
    (beside,) = [way for way in ways if way["way"] == "probe" and way["generated"]]
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    if swapped:
        assert beside["accuracy"] < without
        assert lock["tasks"][0]["data"]["generated"] is None
        assert not any(way["generated"] for way in ways if way["taken"])
    else:
        assert beside["accuracy"] >= without
        assert beside["ci95"][0] <= beside["delta"] <= beside["ci95"][1]
    assert run.report["quality"]["accuracy"]["n"] == 12  # of the rows people wrote
    assert "generated rows learned beside them" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_not_too_many_and_none_that_is_there_already(reader_folder: Path, tmp_path: Path) -> None:
    held_out = {"validation": 0, "test": 4}
    given = few(tmp_path, reader_folder, write_rows(tmp_path / "copies.jsonl", moods(12)))
    copies = check({**given, "data": {**given["data"], **held_out}})
    assert not any(map(is_generated, copies.repeated))
    given = few(tmp_path, reader_folder, made(tmp_path, swapped=False, count=100))
    many = [row for row in check(given).repeated if is_generated(row)]
    assert len(many) == 2 * max(LEAST_GENERATED, 3 * 6)
    assert not any(map(is_generated, check(given).rows("train")))


def test_refusals(reader_folder: Path, tmp_path: Path) -> None:
    odd = write_rows(tmp_path / "odd.jsonl", [{"text": "a storm", "label": "angry"}])
    with pytest.raises(DataError, match=r"odd.jsonl line 1: the label 'angry' is none of"):
        check(few(tmp_path, reader_folder, odd))
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "a storm"}, {"text": "a calm"}])
    with pytest.raises(DataError, match="expected a text with a label"):
        check(few(tmp_path, reader_folder, bare))
    many = write_rows(tmp_path / "many.jsonl", moods(120))
    recipe = {
        "data": {"source": str(many), "generated": str(made(tmp_path, swapped=False))},
        "model": str(reader_folder),
    }
    with pytest.raises(RecipeError, match="weighed by cross-validation over few labels"):
        check(recipe)
    assert any(map(is_generated, check({**recipe, "choose": "none"}).repeated))
