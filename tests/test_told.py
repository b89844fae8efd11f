"""What a newcomer is told, and how often: the seconds of measuring, the column of the labels, whose a text is, and that
merging did harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from test_page import generator_report, text_of
from tuneful.cli import merging
from tuneful.cli.fitting import _facts
from tuneful.core.errors import GateBroken
from tuneful.evaluation.card import card
from tuneful.evaluation.page import page
from tuneful.evaluation.phrases import filled
from tuneful.evaluation.routed import routed
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from work import moods, typed, write_rows

ROUTING = {
    "router": "centroid",
    "n": 40,
    "accuracy": {"centroid": 0.9, "learned": 0.95},
    "tasks": {"mood": 0.85, "size": 0.95},
}


def labelled(folder: Path, column: str, **more: Any) -> dict[str, Any]:
    rows = [{"text": row["text"], column: row["label"]} for row in moods(60)]
    data = {"source": str(write_rows(folder / "rows.jsonl", rows)), **more}
    return {"data": data, "choose": "none", "schedule": {"steps": 2}}


@pytest.mark.parametrize(("column", "told"), [("category", True), ("label", False)])
def test_the_column_of_the_labels(tmp_path: Path, reader_folder: Path, column: str, told: bool) -> None:
    found = prepare(from_mapping({**labelled(tmp_path, column), "model": str(reader_folder)})[0]).xray.notes
    notes = [note.facts for note in found if note.key == "label_column"]
    assert notes == ([{"column": "category", "source": "rows.jsonl"}] if told else [])
    named = from_mapping({**labelled(tmp_path, column, label=column), "model": str(reader_folder)})[0]
    assert "label_column" not in [note.key for note in prepare(named).xray.notes]


def test_check_tells_the_column(tmp_path: Path, reader_folder: Path) -> None:
    labelled(tmp_path, "intent")
    done = typed("check", "rows.jsonl", "--model", reader_folder, cwd=tmp_path)
    assert "The label is taken from the column ‘intent’ of rows.jsonl" in " ".join(done.output.split())


def test_the_seconds_of_measuring(tmp_path: Path, reader_folder: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping({**labelled(tmp_path, "category"), "model": str(reader_folder)})[0], folder.path))
    report = folder.read_json(folder.report)
    assert 0 < report["cost"]["measuring_seconds"] < 300
    report["cost"] |= {"seconds": 10, "measuring_seconds": 30.0}
    report["cost"]["predicted"]["seconds"] = 8
    assert dict(_facts(report, "en"))["time"] == "10 s of training, predicted 8 s, and 30 s of measuring"
    assert words("en")["cost_measuring"] in folder.page.read_text(encoding="utf-8")
    assert "label_column" in [note["key"] for note in report["data"]["notes"]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_whose_a_text_is(language: str) -> None:
    say, report = words(language), {**generator_report(), "routing": ROUTING}
    found = routed(report, say)
    assert found["rows"] == [["mood", "85%"], ["size", "95%"]]
    assert "90%" in found["sentence"]
    assert "95%" in found["sentence"]
    text = text_of(page(report, language))
    assert say["routing_heading"] in text
    assert "85%" in text
    assert "| mood | 85% |" in card(report, language)
    assert routed({**report, "routing": {}}, say) == {}


def test_harm_of_merging_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the verdict; the command still ends with code 3, and alone it speaks where only JSON is printed."""
    gap = {"run": "one", "delta": -0.5, "ci95": [-0.6, -0.4], "surely": "worse"}
    tasks = {"orders": {"metric": "accuracy", "runs": {"one": 1.0}, "merged": 0.5, "n": 20, "best": gap, "worst": gap}}
    report = filled(generator_report())
    report["cost"] |= {"choosing_seconds": 0, "tokens_shared": 0, "utilisation": 0.5}
    report["forgetting"] = {"merged": {"tasks": tasks}}
    assert "earlier tasks" not in dict(_facts(report, "en"))
    monkeypatch.setattr("tuneful.run.merging.merge_runs", lambda *_, **__: report)
    monkeypatch.setattr("tuneful.cli.fitting.show", lambda *_: None)
    for arguments, told in ((["a", "b"], False), (["a", "b", "--json"], True)):
        done = typed("merge", *arguments, "--out", tmp_path / "c", cwd=tmp_path)
        assert done.exit_code == GateBroken.exit_code == 3
        assert ("surely worse" in done.stderr) is told
    assert merging.numbers_in("1,0.5") == [1.0, 0.5]
