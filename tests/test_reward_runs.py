"""Runs that learn a reward model, and what it is then used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tuneful
from preferring import pairs
from tuneful.evaluation.page import page as page_of
from tuneful.evaluation.usage import usage
from tuneful.evaluation.words import words
from tuneful.run.folder import RunFolder
from work import write_rows

SMALL: dict[str, Any] = {
    "precision": "fp32", "evaluate.forgetting": False, "optimiser.learning_rate": 0.01, "data.test": 0.3,
    "objective": "reward_model",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rewards")
    # The model finds the other answers likelier, so that nobody is right by that alone.
    rows = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs()]
    write_rows(folder / "pairs.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, generator_folder: Path) -> tuneful.Run:
    return tuneful.fit(data / "pairs.jsonl", model=str(generator_folder), out=data / "run", settings=SMALL)


def test_a_reward_model_tells_better_answers_apart(run: tuneful.Run) -> None:
    report = run.report
    assert report["verdict"]["helped"] == "yes"
    assert report["verdict"]["primary"] == "preference_accuracy"
    found = report["quality"]["preference_accuracy"]
    assert found["tuned"] > 0.95
    assert found["base"] < 0.5
    assert found["trivial"] < 0.9
    assert found["ci95"][0] > 0
    records = RunFolder(run.path).read_records()
    assert {"accuracy", "margin"} <= next(one for one in records if one.kind == "validation").metrics.keys()
    keys = {note["key"] for note in report["data"]["notes"]}
    assert {"chosen_longer_rated", "reward_length"} <= keys
    html = page_of(report, "en")
    for key in ("about_base_rated", "about_length", "shown_rewards"):
        assert words("en")[key] in html, key
    assert words("zh-TW")["about_base_rated"] in page_of(report, "zh-TW")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_card_loads_it_with_transformers_alone(
    run: tuneful.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = usage(run.report, words("en"))
    assert "AutoModelForSequenceClassification" in code
    assert code.strip() in (Path(run.path) / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(run.path)
    exec(compile(code, "card", "exec"), {})
    printed = float(capsys.readouterr().out)
    say = words("en")
    assert tuneful.rate(run.path, [(say["card_example"], say["card_example_text"])]) == [
        pytest.approx(printed, abs=1e-4)
    ]
