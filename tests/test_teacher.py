"""A small model learns what a large one knows: texts get the teacher's labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tuneful
from tuneful.cli.main import main
from tuneful.core.errors import RecipeError
from tuneful.run.api import check
from work import moods, write_rows

QUIET = {"evaluate": {"forgetting": False}}
LEARNS = {"schedule": {"epochs": 8}, "optimiser": {"learning_rate": 3e-3}, "choose": "none"}


@pytest.fixture(scope="module")
def teacher(reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuneful.Run:
    folder = tmp_path_factory.mktemp("teacher")
    data = write_rows(folder / "moods.jsonl", moods(200))
    run = tuneful.fit({"data": str(data), "model": str(reader_folder), **LEARNS, **QUIET}, out=folder / "run")
    assert run.report["quality"]["accuracy"]["tuned"] > 0.9
    return run


def texts(folder: Path, count: int = 160) -> Path:
    return write_rows(folder / "texts.jsonl", [{"text": f"{row['text']} now"} for row in moods(count)])


def test_a_student_learns_more_than_its_labels_say(teacher: tuneful.Run, reader_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", moods(6))
    write_rows(tmp_path / "data" / "test.jsonl", moods(200)[100:])
    right = {}
    for name, data in {
        "alone": {},
        "taught": {"unlabelled": str(texts(tmp_path)), "teacher": str(teacher.path)},
    }.items():
        recipe: dict[str, Any] = {"data": {"source": str(tmp_path / "data"), **data}, "model": str(reader_folder)}
        run = tuneful.fit({**recipe, **LEARNS, **QUIET}, out=tmp_path / name)
        right[name] = run.report["quality"]["accuracy"]["tuned"]
    assert right["taught"] > right["alone"] + 0.05
    assert "were learned as" in (tmp_path / "taught" / "report.html").read_text(encoding="utf-8")
    notes = [note["key"] for note in run.report["data"]["notes"]]
    assert "taught" in notes


def test_texts_alone_are_learned_as_the_teacher_labels_them(
    teacher: tuneful.Run, reader_folder: Path, tmp_path: Path
) -> None:
    command = ["fit", str(texts(tmp_path)), "--teacher", str(teacher.path), "--model", str(reader_folder), "--out",
               str(tmp_path / "run"), "--set", "evaluate.forgetting=false", "--set", "schedule.epochs=8",
               "--set", "optimiser.learning_rate=3e-3"]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    run = tuneful.Run(tmp_path / "run")
    asked = ["sunny warm bright", "grey cold dark"]
    assert run.load().classify(asked) == teacher.load().classify(asked) == ["glad", "sad"]
    assert "how often the two agree" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_refusals(teacher: tuneful.Run, reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    others = write_rows(
        tmp_path / "others.jsonl", [{"text": row["text"], "label": f"not {row['label']}"} for row in moods(60)]
    )
    recipe = {"data": {"source": str(others), "unlabelled": str(texts(tmp_path)), "teacher": str(teacher.path)},
              "model": str(reader_folder)}  # fmt: skip
    with pytest.raises(RecipeError, match="gives the label 'glad', which the data does not have"):
        check(recipe)
    with pytest.raises(RecipeError, match="gives no label"):
        check({**recipe, "data": {**recipe["data"], "teacher": str(generator_folder)}})  # type: ignore[dict-item]
    with pytest.raises(RecipeError, match="a teacher knows the labels"):
        check({**recipe, "choose": {"enabled": True}})
    with pytest.raises(RecipeError, match="no text for it to label"):
        check({"data": {"source": str(others), "teacher": "runs/nowhere"}, "model": str(reader_folder)})


def test_texts_that_nearly_repeat_held_out_rows_are_not_taught(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tuneful.run.further.taught",
        lambda teacher, texts, labels, say: [replace(example, label="glad") for example in texts],
    )
    held = [{**row, "text": f"a {row['text']} morning over the hills and far away"} for row in moods(8)]
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", moods(24))
    write_rows(tmp_path / "data" / "test.jsonl", held)
    others = [{"text": row["text"] + "!"} for row in held] + [{"text": "quite another thing"}]
    data = {
        "source": str(tmp_path / "data"),
        "unlabelled": str(write_rows(tmp_path / "t.jsonl", others)),
        "teacher": "x",
    }
    found = check({"data": data, "model": str(reader_folder), "choose": "none"}).repeated
    learned = [row.example.text for row in found if row.example.place.source == "t.jsonl"]
    assert learned == ["quite another thing"]
