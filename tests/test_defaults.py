"""Regularisers of a recipe that names none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneful.adapters import Full, Head, Lora, TopLayers
from tuneful.core.types import Answer
from tuneful.engine.average import Ema
from tuneful.models.size import Size, size_of
from tuneful.recipe import Recipe
from tuneful.regularisers import LabelSmoothing
from tuneful.run.api import fit
from tuneful.run.defaults import FEW, by_amount, decay
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.prepare import prepare
from work import moods, write_rows

SIX = Size(total=22_000_000, body=11_000_000, vocabulary=11_000_000, width=384, layers=6, outputs=4608, heads=12)


def recipe(**more: Any) -> Recipe:
    return Recipe.model_validate({"data": "rows.csv", "name": "t", **more})


def test_deep_layers_learn_slowly_and_weights_are_averaged() -> None:
    """Six layers and the embeddings lie below the head; seven times 0.795 is a fifth."""
    found = by_amount(recipe(), Full(), Answer.CLASS, [], 200, SIX)
    assert found.optimiser.layer_decay == pytest.approx(0.2 ** (1 / 7), abs=1e-3)
    assert found.average == Ema()
    assert found.regularisers == [LabelSmoothing()]
    assert by_amount(recipe(), Full(), Answer.CLASS, [], FEW, replace(SIX, layers=24)).optimiser.layer_decay == 0.938


@pytest.mark.parametrize(
    "given",
    [
        {"regularisers": "none"}, {"regularisers": ["r_drop"]}, {"average": "swa"}, {"soup": 2}, {"gradient": "sam"},
        {"interpolate": "auto"}, {"optimiser": {"layer_decay": 1.0}}, {"schedule": "selftrain"},
        {"data": {"source": "rows.csv", "balance": "logits"}},
    ],
    ids=str,
)  # fmt: skip
def test_who_names_one_has_chosen(given: dict[str, Any]) -> None:
    assert by_amount(recipe(**given), Full(), Answer.CLASS, [], 200, SIX) == recipe(**given)


@pytest.mark.parametrize(
    ("adapter", "answer", "rows"),
    [(Full(), Answer.CLASS, FEW + 1), (Full(), Answer.TOKENS, 200), (Full(), Answer.NUMBER, 200),
     (Full(), Answer.LABELS, 200), (TopLayers(layers=3), Answer.CLASS, 200), (Lora(), Answer.CLASS, 200), (Head(), Answer.CLASS, 200)],
)  # fmt: skip
def test_nothing_where_nothing_was_measured(adapter: Any, answer: Answer, rows: int) -> None:
    assert by_amount(recipe(), adapter, answer, [], rows, SIX) == recipe()


def test_decoders_were_not_measured(reader_folder: Path, generator_folder: Path) -> None:
    found = [size_of("t", folder) for folder in (reader_folder, generator_folder)]
    assert [size.apart for size in found] == [0, 0]
    assert [size.causal for size in found] == [False, True]
    changed = [by_amount(recipe(), Full(), Answer.CLASS, [], 200, size) != recipe() for size in found]
    assert changed == [True, False]


def test_a_run_does_as_it_says(reader_folder: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data": str(write_rows(tmp_path / "rows.jsonl", moods())), "model": str(reader_folder), "choose": "none",
        "schedule": {"steps": 4},
    }  # fmt: skip
    plain = prepare(Recipe.model_validate({**given, "regularisers": "none"}))
    assert plain.recipe.average is None
    assert plain.recipe.optimiser.layer_decay == 1.0
    assert "few_rows" not in {note.key for note in plain.xray.notes}
    pooled = prepare(Recipe.model_validate({**given, "objective": {"kind": "classify", "pooling": "mean"}}))
    assert pooled.recipe.average is None, "a head over means was measured without"
    heard: list[str] = []
    done = fit(given, out=tmp_path / "run", say=heard.append)
    assert any("averaged (`average=ema`) and labels are smoothed" in line for line in heard)
    (note,) = [note for note in done.report["data"]["notes"] if note["key"] == "few_rows"]
    kept = done.report["provenance"]["recipe"]
    assert kept["average"]["kind"] == "ema"
    assert kept["optimiser"]["layer_decay"] == note["decay"] < 1
    folder = RunFolder(tmp_path / "run")
    again = prepare(recipe_of(folder.read_json(folder.lock)))
    assert again.recipe == recipe_of(folder.read_json(folder.lock)), "a run that goes on learns as it began"
    assert "few_rows" in {note.key for note in again.xray.notes}


def test_saying_that_there_be_none_is_no_choice_of_a_way(reader_folder: Path, tmp_path: Path) -> None:
    """Few labels are still learned as cross-validation says."""
    data = str(write_rows(tmp_path / "rows.jsonl", moods(20)))
    for given, chosen in (({"regularisers": "none"}, True), ({"regularisers": ["r_drop"]}, False)):
        found = prepare(Recipe.model_validate({"data": data, "model": str(reader_folder), "name": "t", **given}))
        assert (found.recipe.choose.enabled is True) == chosen


@pytest.mark.parametrize(
    ("more", "noted"),
    [
        ({"data": {"balance": "sampling"}}, True),
        ({"data": {}}, False),
        ({"data": {"balance": "sampling"}, "average": "swa"}, False),
        ({"data": {"balance": "sampling"}, "adapter": "head"}, False),
    ],
)
def test_evened_classes_are_learned_without_them_and_that_is_said(
    more: dict[str, Any], noted: bool, reader_folder: Path, tmp_path: Path
) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", moods(60)))
    given = {"model": str(reader_folder), "choose": "none", **more, "data": {"source": source, **more["data"]}}
    found = prepare(Recipe.model_validate(given))
    notes = {note.key: note.facts for note in found.xray.notes}
    assert ("few_rows_evened" in notes) == noted
    if noted:
        assert found.recipe.average is None
        assert notes["few_rows_evened"] == {"decay": decay(found.size.layers)}
