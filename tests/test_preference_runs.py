"""Runs that learn which answers are better: from a file of pairs to the report, in one process and in tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import tuneful
from preferring import pairs, verdicts
from tuneful.core.errors import InputError, RecipeError
from tuneful.evaluation.page import page as page_of
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.words import words
from tuneful.run.api import check, recipe_for
from tuneful.run.assess import assess
from tuneful.run.folder import RunFolder
from work import losses_of, typed, whole_and_parts, write_rows

SMALL: dict[str, Any] = {
    "precision": "fp32", "evaluate.forgetting": False, "evaluate.generate": 2, "evaluate.new_tokens": 4,
    "optimiser.learning_rate": 0.01, "data.test": 0.3,
}  # fmt: skip


def test_bad_pairs_are_dropped_and_counted(tmp_path: Path, generator_folder: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"prompt": "same", "chosen": "a", "rejected": "a"},
        {"prompt": "empty", "chosen": "a", "rejected": " "},
        {"prompt": "missing", "chosen": "a"},
        {"prompt": "turns", "chosen": [{"role": "assistant", "content": "a"}], "rejected": []},
        {"prompt": "nobody", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"},
        {"chosen": "a", "rejected": "b"},
    ]
    data = write_rows(tmp_path / "pairs.jsonl", [*odd, *pairs(30)])
    with pytest.raises(InputError, match=r"6 of 36 rows cannot be used; the first: pairs.jsonl"):
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=SMALL)
    dropped = check({"data": {"source": str(data), "drop": True}}, model=str(generator_folder)).xray.dropped
    assert len(dropped) == 6
    reasons = " | ".join(item.reason for item in dropped)
    for expected in ("'chosen' and 'rejected' are the same", "'rejected' is empty", "there is no answer of the assist"):
        assert expected in reasons, reasons


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preferences")
    write_rows(folder / "pairs.jsonl", pairs())
    write_rows(folder / "verdicts.jsonl", verdicts())
    return folder


@pytest.fixture(scope="module")
def run(data: Path, generator_folder: Path) -> tuneful.Run:
    return tuneful.fit(data / "pairs.jsonl", model=str(generator_folder), out=data / "run", settings=SMALL)


def test_pairs_are_learned_by_dpo_if_nobody_says(run: tuneful.Run, data: Path) -> None:
    lock = json.loads((data / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    assert lock["tasks"][0]["objective"]["kind"] == "dpo"
    assert lock["adapter"]["kind"] == "lora"
    report = run.report
    assert report["verdict"]["helped"] == "yes"
    assert report["verdict"]["primary"] == "preference_accuracy"
    found = report["quality"]["preference_accuracy"]
    assert found["tuned"] > 0.95
    assert found["base"] < 0.9
    assert found["trivial"] < 0.9
    assert found["ci95"][0] > 0
    assert report["quality"]["likelihood_margin"]["delta"] > 1
    first = next(iter(losses_of(RunFolder(run.path), "train")))
    assert first[1] == pytest.approx(math.log(2), rel=1e-3)
    keys = {note["key"] for note in report["data"]["notes"]}
    assert {"chosen_longer", "written_length"} <= keys


def test_the_report_says_it_in_both_languages(run: tuneful.Run, data: Path) -> None:
    assert "Tuning helped: preference_accuracy" in run.report["verdict"]["sentences"]["en"]
    english = (data / "run" / "report.html").read_text(encoding="utf-8")
    for key in ("metric_preference_accuracy", "system_length", "about_length", "about_base_likelier"):
        assert words("en")[key] in english, key
    assert words("en")["shown_preferences"] in english
    assert words("zh-TW")["about_length"] in page_of(run.report, "zh-TW")


OBJECTIVES = {
    "ipo": {"kind": "dpo", "loss": "ipo"},
    "normalised with sft": {"kind": "dpo", "normalise": True, "sft": 1},
    "orpo": {"kind": "orpo", "weight": 1},
    "simpo": {"kind": "simpo"},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_prefers_what_was_chosen(name: str, data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "objective": json.dumps(OBJECTIVES[name]), "data.validation": 0, "schedule.epochs": 2}
    report = tuneful.fit(
        data / "pairs.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings
    ).report
    found = report["quality"]["preference_accuracy"]
    assert found["tuned"] > found["base"]
    assert found["tuned"] > 0.8
    if "sft" in OBJECTIVES[name] or name == "orpo":
        assert report["quality"]["chosen_logprob"]["delta"] > 0


def test_judged_answers_are_told_apart(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "schedule.epochs": 6, "optimiser.learning_rate": 0.02}
    run = tuneful.fit(data / "verdicts.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    objective = lock["tasks"][0]["objective"]
    assert objective["kind"] == "kto"
    counts = next(note for note in run.report["data"]["notes"] if note["key"] == "judged")
    assert objective["wanted"] == pytest.approx(counts["unwanted"] / counts["wanted"], abs=1e-3)
    found = run.report["quality"]["judged_accuracy"]
    assert found["tuned"] > max(found["trivial"], 0.9)
    assert run.report["verdict"]["primary"] == "judged_accuracy"
    one = write_rows(tmp_path / "one.jsonl", [{**row, "prompt": "say 1234 1"} for row in verdicts(12)])
    asked = assess(str(run.path), str(one), {}, Evaluate(generate=1, new_tokens=2), lambda _: None)
    assert asked["primary"] == "judged_accuracy", "unwanted answers are not measured as if they were right"
    assert asked["quality"]["judged_accuracy"]["n"] == 12


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        ("pairs.jsonl", {"objective": "kto"}, "'kto' needs rows of an answer that is wanted or not"),
        ("verdicts.jsonl", {"objective": "dpo"}, "'dpo' needs rows of a prompt with two answers"),
        ("pairs.jsonl", {"data.select": "random"}, "data.select: was not made for preferences"),
        ("pairs.jsonl", {"augment": "typos"}, "augment: what the model said of a row before tuning is kept"),
        ("pairs.jsonl", {"sharded": "true"}, "sharded: what a model said before tuning"),
        ("pairs.jsonl", {"data.learn": "all"}, "data.learn: of preferences whole answers are told"),
        ("pairs.jsonl", {"evaluate.canaries": 2}, "evaluate.canaries: are learned as text"),
        ("pairs.jsonl", {"schedule": "selftrain"}, "schedule: 'selftrain' was not made for preferences"),
        ("pairs.jsonl", {"regularisers": "r_drop"}, "here whole answers are preferred"),
        ("pairs.jsonl", {"evaluate.primary": "accuracy"}, "accuracy is not measured for pairs of answers"),
        ("pairs.jsonl", {"objective.loss": "robust"}, "say what share of them is"),
        ("pairs.jsonl", {"objective": '{"kind": "dpo", "loss": "ipo", "label_smoothing": 0.1}'}, "ipo has none"),
        ("verdicts.jsonl", {"data.streaming": "true"}, "data.streaming: an answer is set beside those"),
        ("wanted.jsonl", {}, "every answer is wanted, so there is nothing to tell apart"),
        ("asked.jsonl", {}, "all rows ask the same"),
    ],
)
def test_what_does_not_go_with_preferences(
    file: str, changes: dict[str, Any], expected: str, data: Path, generator_folder: Path
) -> None:
    write_rows(data / "wanted.jsonl", [{**row, "label": True} for row in verdicts(20)])
    write_rows(data / "asked.jsonl", [{**row, "prompt": "q", "completion": f"{row['completion']} {place}"}
                                      for place, row in enumerate(verdicts(20))])  # fmt: skip
    with pytest.raises(InputError, match=expected):
        tuneful.fit(data / file, model=str(generator_folder), out=data / "refused", settings={**SMALL, **changes})
    assert not (data / "refused").exists()


def test_an_encoder_prefers_nothing(data: Path, reader_folder: Path) -> None:
    with pytest.raises(RecipeError, match="'dpo' tunes what a model writes, and this is an encoder"):
        check(data / "pairs.jsonl", model=str(reader_folder))


def test_going_on_equals_never_having_stopped(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "schedule.epochs": 2, "evaluate.every": 2, "checkpoint.every": 2, "data.test": 0,
                "optimiser.rows_per_step": 12}  # fmt: skip
    recipe = recipe_for(data / "pairs.jsonl", model=str(generator_folder), settings=settings)
    whole, parts = whole_and_parts(recipe, tmp_path, after=8)
    kinds = ("train", "validation")
    assert [step for step, _ in losses_of(parts, *kinds)] == [step for step, _ in losses_of(whole, *kinds)]
    for (step, one), (_, other) in zip(losses_of(whole, *kinds), losses_of(parts, *kinds), strict=True):
        assert other == pytest.approx(one, rel=1e-5), step


def test_two_tasks_of_pairs_are_learned_together(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    rows = pairs()
    tasks = [{"name": name, "data": str(write_rows(tmp_path / f"{name}.jsonl", part))}
             for name, part in (("first", rows[:40]), ("second", rows[40:]))]  # fmt: skip
    recipe = {"model": str(generator_folder), "tasks": tasks, "precision": "fp32",
              "optimiser": {"learning_rate": 0.01}, "schedule": {"kind": "mixture", "epochs": 2},
              "evaluate": {"forgetting": False, "generate": 2, "new_tokens": 4}}  # fmt: skip
    report = tuneful.fit(recipe, out=tmp_path / "run").report
    assert {task: found["metric"] for task, found in report["tasks"].items()} == dict.fromkeys(
        ("first", "second"), "preference_accuracy"
    )
    with pytest.raises(RecipeError, match="schedule: 'lifelong' was not made for preferences"):
        check({**recipe, "schedule": "lifelong"})


def test_streamed_pairs_are_learned(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    report = tuneful.fit(data / "pairs.jsonl", model=str(generator_folder), out=tmp_path / "run",
                         settings={**SMALL, "data.streaming": True}).report  # fmt: skip
    assert report["quality"]["preference_accuracy"]["tuned"] > 0.8


def test_runs_are_compared_by_what_they_prefer(
    run: tuneful.Run, data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    less = tuneful.fit(data / "pairs.jsonl", model=str(generator_folder), out=tmp_path / "less",
                       settings={**SMALL, "schedule.steps": 1})  # fmt: skip
    done = typed("compare", tmp_path / "less", data / "run", "--json", cwd=data)
    (line,) = json.loads(done.stdout)["comparisons"]
    assert line["metric"] == "preference_accuracy"
    assert line["values"][0] == pytest.approx(less.report["quality"]["preference_accuracy"]["tuned"])
    assert line["values"][1] == pytest.approx(run.report["quality"]["preference_accuracy"]["tuned"])
    assert line["n"] == run.report["quality"]["preference_accuracy"]["n"]


def test_a_tuned_model_is_asked_about_other_pairs(run: tuneful.Run, tmp_path: Path) -> None:
    said: list[str] = []
    other = write_rows(tmp_path / "other.jsonl", [{**row, "prompt": f"please {row['prompt']}"} for row in pairs(20)])
    found = assess(str(run.path), str(other), {}, Evaluate(generate=1, new_tokens=2), said.append)
    assert found["primary"] == "preference_accuracy"
    assert found["quality"]["preference_accuracy"]["tuned"] > 0.9
    assert found["quality"]["preference_accuracy"]["n"] == 20
    answers = write_rows(
        tmp_path / "answers.jsonl", [{"prompt": row["prompt"], "completion": "a b"} for row in pairs(5)]
    )
    found = assess(str(run.path), str(answers), {}, Evaluate(generate=1, new_tokens=2, shots=0), said.append)
    assert "perplexity" in found["quality"]
