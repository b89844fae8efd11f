"""Rows that a model wrote: learned where they help, refused where they do not, never measured by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import DataError, RecipeError
from tuneful.data.duplicates import mark
from tuneful.data.folds import folds
from tuneful.data.rows import is_generated
from tuneful.evaluation.heads import targets
from tuneful.models.probe import best_strength, out_of_fold
from tuneful.run.api import check
from tuneful.run.build import build
from tuneful.run.further import LEAST_GENERATED
from tuneful.run.heads import begin
from tuneful.run.ways import Beside, Trial, probe
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


def noise(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    rng = np.random.default_rng(0)
    rows = [{"text": row["text"], "label": f"{label}"}
            for row, label in zip(moods(24), rng.permutation(24) % 2, strict=True)]  # fmt: skip
    return write_rows(folder / "rows.jsonl", rows), rows


def trial_with(rows: list[dict[str, Any]], generated: Path, data: Path, model: Path) -> tuple[Trial, Beside]:
    built = build(check({"data": {"source": str(data), "generated": str(generated)}, "model": str(model)}))
    known = built.prepared.rows("train")
    trial = Trial(built, known, targets(known), folds([row["label"] for row in rows], 3))
    return trial, Beside(generated=[row for row in built.prepared.repeated if is_generated(row)])


def test_what_was_written_from_a_row_is_not_learned_where_it_is_asked_about(
    reader_folder: Path, tmp_path: Path
) -> None:
    data, rows = noise(tmp_path)
    made = [{"text": f"made up and quite new {number} {number * 7919}", "label": row["label"],
             "origin": {"shown": [row["text"]]}} for number, row in enumerate(rows)]  # fmt: skip
    trial, beside = trial_with(rows, write_rows(tmp_path / "made.jsonl", made), data, reader_folder)
    for held, learned in trial.parts(beside):
        shown = {text for row in learned for text in row.example.shown}
        assert len(learned) == 16
        assert not shown & {row.example.text for row in trial.asked(held)}


def test_a_row_that_nearly_repeats_another_says_nothing_about_it(reader_folder: Path, tmp_path: Path) -> None:
    """Whatever its writer was shown."""
    data, rows = noise(tmp_path)
    dealt = folds([row["label"] for row in rows], 3)

    def another(number: int) -> str:
        return next(other["text"] for place, other in enumerate(rows)
                    if dealt[place] != dealt[number] and other["label"] == rows[number]["label"])  # fmt: skip

    copies = [{**row, "text": f"{row['text']}!?", "origin": {"shown": [another(number)]}}
              for number, row in enumerate(rows)]  # fmt: skip
    trial, beside = trial_with(rows, write_rows(tmp_path / "made.jsonl", copies), data, reader_folder)
    assert len(beside.generated) == 24
    assert float(probe(trial, beside).right(trial.wanted).mean()) < 0.65


def test_what_rows_picked_is_not_learned_where_these_are_asked_about(reader_folder: Path, tmp_path: Path) -> None:
    data, rows = noise(tmp_path)
    dealt = folds([row["label"] for row in rows], 3)
    made = [{"text": f"made up and quite new {number} {number * 7919}", "label": "01"[number % 2],
             "origin": {"judged": [mark(row["text"]) for row, fold in zip(rows, dealt, strict=True) if fold == number % 3]}}
            for number in range(24)]  # fmt: skip
    trial, beside = trial_with(rows, write_rows(tmp_path / "made.jsonl", made), data, reader_folder)
    learned = [{row.example.text for row in extra} for _, extra in trial.parts(beside)]
    assert [len(texts) for texts in learned] == [16, 16, 16]
    assert not set.intersection(*learned)


def test_a_head_over_generated_rows_believes_in_noise_no_more_than_the_trials(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The strength of its penalty is chosen without asking about copies, or about a row beside its copy."""
    believed, learned = [], []

    def spied(logits: dict[float, torch.Tensor], wanted: torch.Tensor) -> float:
        strength = best_strength(logits, wanted)
        believed.append((len(wanted), float((logits[strength].argmax(1) == wanted).float().mean())))
        return strength

    def spied_folds(*given: Any, extra: Any, **more: Any) -> dict[float, torch.Tensor]:
        held = torch.arange(len(given[0])) < 5
        learned.append(len(extra(held)[1]))
        return out_of_fold(*given, extra=extra, **more)

    monkeypatch.setattr("tuneful.evaluation.heads.best_strength", spied)
    monkeypatch.setattr("tuneful.evaluation.heads.out_of_fold", spied_folds)
    data, rows = noise(tmp_path)
    copies = [{**row, "text": f"{row['text']}!?", "origin": {"shown": [row["text"]]}} for row in rows]
    generated = write_rows(tmp_path / "made.jsonl", copies)
    built = build(check({
        "data": {"source": str(data), "generated": str(generated), "test": 0, "validation": 0}, "choose": "none",
        "model": str(reader_folder), "objective": {"pooling": "mean"}, "adapter": "head",
    }))  # fmt: skip
    begin(built)
    ((asked, right),) = believed
    assert learned == [24 - 5]  # all but the copies of those that are asked about
    assert asked == 24
    assert right < 0.65


def test_rows_that_know_of_held_out_ones_are_left_out(reader_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", moods(24))
    held = [{"text": f"a {row['text']} morning over the hills and far away", "label": row["label"]} for row in moods(6)]
    write_rows(tmp_path / "data" / "test.jsonl", held)
    rows = [{"text": "lovely bright sweet", "label": "glad", "origin": {"shown": [held[0]["text"]]}},
            {"text": held[0]["text"] + "!", "label": "glad"}, {"text": "dreary bitter cold", "label": "sad"}]  # fmt: skip
    generated = write_rows(tmp_path / "made.jsonl", rows)
    data = {"source": str(tmp_path / "data"), "generated": str(generated)}
    made = [
        row.example.text for row in check({"data": data, "model": str(reader_folder)}).repeated if is_generated(row)
    ]
    assert made == ["dreary bitter cold"]


def test_columns_of_ones_own(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(
        tmp_path / "own.jsonl", [{"said": row["text"], "mood": row["label"], "n": 1} for row in moods(12)]
    )
    recipe = {"data": {"source": str(data), "text": "said", "label": "mood", "generated": str(made(tmp_path, swapped=False))},
              "model": str(reader_folder)}  # fmt: skip
    assert any(map(is_generated, check(recipe).repeated))


def test_a_run_that_goes_on_notices_other_generated_rows(reader_folder: Path, tmp_path: Path) -> None:
    one = check(few(tmp_path, reader_folder, made(tmp_path, swapped=False))).data_sha256
    other = check(few(tmp_path, reader_folder, made(tmp_path, swapped=True))).data_sha256
    assert one != other


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
    with pytest.raises(RecipeError, match="rows that are held"):
        check({**recipe, "data": {**recipe["data"], "streaming": True}, "choose": "none"})  # type: ignore[dict-item]
