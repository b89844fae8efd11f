"""Runs that learn a reward model, and what it is then used for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuneful
from preferring import pairs
from tuneful.core.errors import InputError, RecipeError, RunFolderError
from tuneful.core.types import Message
from tuneful.evaluation.page import page as page_of
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.usage import usage
from tuneful.evaluation.words import words
from tuneful.run.api import check, recipe_for
from tuneful.run.assess import assess
from tuneful.run.folder import RunFolder
from tuneful.run.rating import open_rater
from work import losses_of, typed, whole_and_parts, write_rows

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


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": "full", "schedule.epochs": 1},
        {"data.streaming": True, "objective.centring": 0, "schedule.epochs": 2},
    ],
    ids=["full", "streamed"],
)
def test_other_ways_to_learn_it(changes: dict[str, Any], data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "data.validation": 0, **changes}
    found = tuneful.fit(data / "pairs.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    assert found.report["quality"]["preference_accuracy"]["tuned"] > 0.9


def test_an_encoder_learns_it_too(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "optimiser.learning_rate": 0.003}
    found = tuneful.fit(data / "pairs.jsonl", model=str(reader_folder), out=tmp_path / "run", settings=settings)
    quality = found.report["quality"]["preference_accuracy"]
    assert quality["tuned"] > 0.9
    assert quality["base"] == 0.5, "an encoder prefers nothing before"
    better, worse = tuneful.rate(found.path, [("say 1234 5", "w x z y"), ("say 1234 5", "a b c d")])
    assert better > worse
    assert "tokenizer(" in usage(found.report, words("en"))


def test_going_on_equals_never_having_stopped(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "schedule.epochs": 1, "evaluate.every": 2, "checkpoint.every": 2, "data.test": 0,
                "optimiser.rows_per_step": 12}  # fmt: skip
    recipe = recipe_for(data / "pairs.jsonl", model=str(generator_folder), settings=settings)
    whole, parts = whole_and_parts(recipe, tmp_path, after=4)
    kinds = ("train", "validation")
    assert np.array(losses_of(parts, *kinds)) == pytest.approx(np.array(losses_of(whole, *kinds)), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"augment": "typos"}, "augment: rewards are learned of answers that people compared"),
        ({"sharded": "true"}, "sharded: a head that gives answers a number is not shared out"),
        ({"schedule": "selftrain"}, "schedule: 'selftrain' was not made for preferences"),
        ({"evaluate.primary": "accuracy"}, "accuracy is not measured for pairs of answers"),
        ({"regularisers": "r_drop"}, "here whole answers are preferred"),
        ({"evaluate.canaries": 2}, "evaluate.canaries: are learned as text"),
    ],
)
def test_what_does_not_go_with_it(
    changes: dict[str, Any], expected: str, data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        tuneful.fit(
            data / "pairs.jsonl", model=str(generator_folder), out=tmp_path / "no", settings={**SMALL, **changes}
        )
    answers = write_rows(tmp_path / "answers.jsonl", [{"prompt": "a", "completion": "b"}] * 20)
    with pytest.raises(RecipeError, match="'reward_model' needs rows of a prompt with two answers"):
        check({"data": str(answers), "objective": "reward_model"}, model=str(generator_folder))


def test_it_is_asked_about_other_pairs(run: tuneful.Run, tmp_path: Path) -> None:
    other = [{"prompt": f"please {row['prompt']}", "chosen": row["rejected"], "rejected": row["chosen"]}
             for row in pairs(20)]  # fmt: skip
    found = assess(str(run.path), str(write_rows(tmp_path / "other.jsonl", other)), {}, Evaluate(), lambda _: None)
    assert found["primary"] == "preference_accuracy"
    assert found["quality"]["preference_accuracy"]["tuned"] > 0.9
    assert found["quality"]["preference_accuracy"]["base"] < 0.5


def test_predict_gives_the_number_of_an_answer(run: tuneful.Run, data: Path) -> None:
    done = typed("predict", run.path, data / "pairs.jsonl", cwd=data)
    first = json.loads(done.stdout.splitlines()[0])["prediction"]
    assert first["chosen"] > first["rejected"]
    row = json.loads((data / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[0])
    alone = write_rows(data / "one.jsonl", [{"prompt": row["prompt"], "completion": row["chosen"]}])
    done = typed("predict", run.path, alone, cwd=data)
    assert json.loads(done.stdout)["prediction"] == pytest.approx(first["chosen"], abs=1e-4)
    assert "it needs rows of a prompt with an answer" in typed("predict", run.path, "-", cwd=data, keys="hi").stderr
    with pytest.raises(InputError, match="gives answers a number, and writes none"):
        run.load().generate("say 1")


def test_the_best_of_several_answers_gets_a_larger_reward(run: tuneful.Run, data: Path, generator_folder: Path) -> None:
    prompts = [f"say {number}" for number in range(12)]
    found = tuneful.best_of(generator_folder, prompts, run.path, count=8, limit=8)
    assert all(one.reward == max(one.rewards) and one.answer in one.answers for one in found)
    gained = float(np.mean([one.reward - one.mean for one in found]))
    assert gained > 0.5 * float(np.mean([np.std(one.rewards) for one in found]))
    one = open_rater(str(run.path)).rate([(prompts[0], found[0].answer)])
    assert one == [pytest.approx(found[0].reward, abs=1e-4)]
    again = tuneful.best_of(generator_folder, prompts, run.path, count=8, limit=8)
    assert [one.answer for one in again] == [one.answer for one in found]


def test_best_of_is_typed(run: tuneful.Run, data: Path, generator_folder: Path) -> None:
    asks = write_rows(data / "asks.jsonl", [{"prompt": f"say {number}"} for number in range(3)])
    best = ("predict", generator_folder, asks, "--new-tokens", 6, "--best-of", 4)
    done = typed(*best, "--judge", run.path, cwd=data)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    assert all(isinstance(line["reward"], float) and isinstance(line["prediction"], str) for line in lines)
    assert "of the best of 4" in done.stderr
    for more, expected in (
        ((), "give --judge, too"),
        (("--judge", generator_folder), "is no run folder; learn a reward model first"),
        (("--judge", run.path, "--less", "toxicity"), "--best-of and --less"),
    ):
        failed = typed(*best, *more, cwd=data)
        assert failed.exit_code == 2
        assert expected in failed.stderr


ROLLOUTS: dict[str, Any] = {
    "precision": "fp32", "evaluate.forgetting": False, "evaluate.generate": 8, "schedule.new_tokens": 6,
    "schedule.prompts": 4, "schedule.answers": 8, "optimiser.learning_rate": 0.02, "data.validation": 0,
    "data.test": 8, "objective.truncated": True,
}  # fmt: skip


def test_a_model_learns_from_its_rewards(run: tuneful.Run, data: Path, generator_folder: Path, tmp_path: Path) -> None:
    asks = write_rows(tmp_path / "asks.jsonl", [{"prompt": f"say {number}"} for number in range(30)])
    judge = json.dumps({"kind": "reward_model", "path": str(run.path)})
    settings = {**ROLLOUTS, "environment.rewards": judge, "evaluate.verify": judge, "schedule.steps": 8}
    report = tuneful.fit(asks, model=str(generator_folder), out=tmp_path / "run", settings=settings).report
    reward = report["quality"]["reward"]
    assert reward["tuned"] > reward["base"]
    assert report["quality"]["verified"]["tuned"] == pytest.approx(reward["tuned"], abs=1e-3)
    with pytest.raises(RecipeError, match=r"evaluate.verify: reward_model.path: '.*' is no run folder"):
        tuneful.fit(asks, model=str(generator_folder), out=tmp_path / "no",
                    settings={**settings, "evaluate.verify": json.dumps({"kind": "reward_model", "path": str(tmp_path)})})  # fmt: skip
    with pytest.raises(RecipeError, match=r"environment: reward_model.path: the run .* learned grpo"):
        tuneful.fit(asks, model=str(generator_folder), out=tmp_path / "no",
                    settings={**settings, "environment.rewards": json.dumps({"kind": "reward_model", "path": str(tmp_path / "run")})})  # fmt: skip


def test_what_a_rater_cannot_read(run: tuneful.Run) -> None:
    rater = open_rater(str(run.path))
    with pytest.raises(InputError, match="the limit is"):
        rater((Message("user", "say 1"),), "a b " * 600)
    with pytest.raises(RunFolderError, match="is no run folder"):
        tuneful.rate("nowhere", [("a", "b")])
