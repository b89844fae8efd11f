"""Runs that learn from their own answers: what earns more is said more often, and what cannot be judged is data."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import InputError, RecipeError
from tuneful.evaluation.page import page as page_of
from tuneful.evaluation.rewarded import examine_rewarded
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.words import words
from tuneful.objectives import OnPolicyDistil
from tuneful.recipe import from_mapping
from tuneful.run.assess import compare
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of as recipe_of_run
from tuneful.run.prepare import prepare
from tuneful.run.rollouts import player_of_run, teacher_of
from work import typed, whole_and_parts, write_rows

REWARDS = '''
def letters(reply, example):
    """The share of letters that are an a."""
    return reply.count("a") / max(1, len(reply))

def others(reply, example):
    return 1 - letters(reply, example)

def nothing(reply, example):
    return 1.0

def raises(reply, example):
    raise KeyError("no such thing")

def picky(reply, example):
    if reply == "aaa":
        raise ValueError("not that again")
    return 0.5

def sometimes(reply, example):
    return "much" if "b" in reply else letters(reply, example)
'''
SMALL: dict[str, Any] = {
    "precision": "fp32", "evaluate.forgetting": False, "evaluate.generate": 8, "schedule.new_tokens": 6,
    "schedule.prompts": 4, "schedule.answers": 8, "optimiser.learning_rate": 0.02, "data.validation": 4,
    "data.test": 8, "objective.truncated": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollouts")
    rng = np.random.default_rng(0)
    rows = [{"prompt": f"say {rng.integers(1000, 9999)} {n}", "completion": "aaa"} for n in range(40)]
    write_rows(folder / "asks.jsonl", rows)
    (folder / "judge.py").write_text(REWARDS, encoding="utf-8")
    return folder


def by(data: Path, name: str) -> dict[str, Any]:
    return {"environment.rewards": json.dumps({"kind": "python", "path": f"{data / 'judge.py'}:{name}"})}


@pytest.fixture(scope="module")
def run(data: Path, generator_folder: Path) -> tuneful.Run:
    settings = {**SMALL, **by(data, "letters"), "schedule.steps": 25, "evaluate.verify": "exact"}
    return tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=data / "run", settings=settings)


def test_what_earns_more_is_said_more_often(run: tuneful.Run) -> None:
    lock = json.loads((Path(run.path) / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    assert lock["tasks"][0]["objective"]["kind"] == "grpo"
    assert lock["schedule"]["kind"] == "rollouts"
    report = run.report
    assert report["verdict"]["primary"] == "reward"
    found = report["quality"]["reward"]
    assert found["tuned"] > found["base"] + 0.3
    assert found["tuned"] > 0.6
    assert found["trivial"] == 1, "the commonest expected answer is nothing but a"
    assert report["verdict"]["helped"] != "yes", "saying the same to everything does better"
    records = [one for one in RunFolder(run.path).read_records() if one.kind == "train"]
    ratios = [one.metrics["ratio"] for one in records if one.metrics["rows"]]
    assert ratios == pytest.approx([1] * len(ratios), abs=1e-4), "sampler and trainer say the same of a token"
    assert records[-1].metrics["reward"] > records[0].metrics["reward"] + 0.3
    assert records[0].metrics["reward/python"] == records[0].metrics["reward"]
    assert records[-1].metrics["entropy"] < records[0].metrics["entropy"]


def test_the_report_says_it_in_both_languages(run: tuneful.Run) -> None:
    english = (Path(run.path) / "report.html").read_text(encoding="utf-8")
    for key in ("metric_reward", "metric_verified", "about_base_rewarded", "about_trivial_rewarded"):
        assert words("en")[key] in english, key
        assert words("zh-TW")[key] in page_of(run.report, "zh-TW"), key
    keys = {note["key"] for note in run.report["data"]["notes"]}
    assert {"answers_written", "reward_unverified"} <= keys, "it earns more and never says what was expected"


def test_what_comes_out_is_a_model_like_any_other(run: tuneful.Run, generator_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(generator_folder)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what was renamed
        was = base(ids).logits
        tuned = PeftModel.from_pretrained(base, str(Path(run.path) / "adapter"))
        assert (tuned(ids).logits - was).abs().max() > 0.1


def recipe_of(data: Path, model: Path, **more: Any) -> Any:
    given = {"model": str(model), "data": {"source": str(data / "asks.jsonl")}}
    overrides = [f"{key}={value}" for key, value in {**SMALL, **by(data, "letters"), **more}.items()]
    return from_mapping(given, overrides)[0]


@pytest.mark.parametrize(("updates", "after"), [(1, 4), (3, 4), (3, 6)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    updates: int, after: int, data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    more = {"schedule.updates": updates, "schedule.steps": 8, "objective.kl": 0.01, "evaluate.every": 4, "schedule.hints": 0.5,
            "checkpoint.every": 1}  # fmt: skip
    whole, parts = whole_and_parts(recipe_of(data, generator_folder, **more), tmp_path, after=after)
    told = [[(one.step, one.metrics["loss"], one.metrics.get("reward")) for one in folder.read_records()
             if one.kind == "train"] for folder in (whole, parts)]  # fmt: skip
    assert told[0] == told[1]
    rewards = [reward is not None for _, _, reward in told[0]]
    assert rewards == [number % updates == 0 for number in range(8)], "answers are drawn once for so many updates"


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "rloo"},
        {"kind": "reinforce_plus_plus", "baseline": True},
        {"kind": "grpo", "scale": "none", "mean": "constant"},
        {"kind": "grpo", "ratio": "answer", "mean": "answer", "clip_low": 3e-4, "clip_high": 4e-4},
        {"kind": "grpo", "loss": "cispo", "clip_high": 4},
    ],
    ids=str,
)
def test_every_objective_learns_what_earns_more(
    objective: dict[str, Any], data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    """Two updates of each draw, so that clipping counts."""
    settings = {**SMALL, **by(data, "letters"), "schedule.steps": 40, "schedule.updates": 2, "evaluate.every": 40,
                "objective": json.dumps({**objective, "truncated": True})}  # fmt: skip
    del settings["objective.truncated"]
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = made.report["quality"]["reward"]
    assert found["tuned"] > found["base"] + 0.2
    records = [one.metrics for one in RunFolder(made.path).read_records() if one.kind == "train"]
    second = [one for one in records if "reward" not in one and one["rows"]]
    assert any(abs(one["ratio"] - 1) > 1e-4 for one in second), "the second update has moved from where it was drawn"


def test_answers_need_not_be_compared_with_others_to_the_same_prompt(
    data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    objective = {"kind": "reinforce_plus_plus", "truncated": True}
    settings = {**SMALL, **by(data, "letters"), "schedule.steps": 60, "evaluate.every": 60, "schedule.answers": 4,
                "schedule.prompts": 8, "objective": json.dumps(objective)}  # fmt: skip
    del settings["objective.truncated"]
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = made.report["quality"]["reward"]
    assert found["tuned"] > found["base"] + 0.2
    records = [one.metrics for one in RunFolder(made.path).read_records() if one.kind == "train"]
    assert not any(one["drawn_again"] for one in records), "prompts whose answers are alike teach, too"


def test_what_an_answer_costs_in_nats_holds_the_model_where_it_was(
    data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    drift = {}
    for kl in (0.0, 0.3):
        settings = {**SMALL, **by(data, "letters"), "schedule.steps": 15, "evaluate.every": 15, "objective.kl": kl,
                    "evaluate.forgetting": True}  # fmt: skip
        made = tuneful.fit(
            data / "asks.jsonl", model=str(generator_folder), out=tmp_path / str(kl), settings=settings
        )  # fmt: skip
        drift[kl] = made.report["forgetting"]["kl_from_base"]
    assert drift[0.3] < 0.7 * drift[0.0]


def test_a_cheated_reward_is_told(run: tuneful.Run, data: Path) -> None:
    """What verifies wants anything but the letter that was learned."""
    tuned = tuneful.load(run.path)
    player = player_of_run(RunFolder(Path(run.path)), tuned.processor)
    assert player is not None
    recipe = recipe_of_run(RunFolder(Path(run.path)).read_json(RunFolder(Path(run.path)).lock))
    prepared = prepare(recipe)
    verify = {"kind": "python", "path": f"{data / 'judge.py'}:others"}
    examined = examine_rewarded(
        tuned.policy, player, prepared.rows("train"), prepared.rows("test"), Evaluate.model_validate({"verify": verify})
    )
    assert "reward_hacked" in {note.key for note in examined.notes}
    scores = {one.metric: one for one in examined.scores}
    assert scores["verified"].values["tuned"] == pytest.approx(1 - scores["reward"].values["tuned"])


def test_hints_teach_what_is_never_got_right_alone(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    """At first all but a letter of the answer is shown, then less and less."""
    rows = [{"prompt": f"say {number}", "completion": "aaa"} for number in range(40)]
    asks = write_rows(tmp_path / "asks.jsonl", rows)
    settings = {**SMALL, "environment.rewards": "contains", "schedule.steps": 40, "evaluate.every": 40}
    found = {}
    for name, more in {"alone": {}, "hints": {"schedule.hints": 0.5}}.items():
        made = tuneful.fit(asks, model=str(generator_folder), out=tmp_path / name, settings={**settings, **more})
        found[name] = made.report["quality"]["reward"]["tuned"]
        records = [one for one in RunFolder(made.path).read_records() if one.kind == "train"]
    hints = [one.metrics["hint"] for one in records]
    assert hints[0] == 0.5
    assert hints[-1] < 0.2 < max(hints)
    assert found["alone"] == 0
    assert found["hints"] > 0.9


def test_a_model_learns_what_a_teacher_would_have_written(
    run: tuneful.Run, data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    """The teacher is the run that learned to say a; rewards are measured, and no part of what is learned."""
    objective = {"kind": "on_policy_distil", "teacher": str(run.path)}
    settings = {**SMALL, **by(data, "letters"), "schedule.steps": 20, "objective": json.dumps(objective)}
    del settings["objective.truncated"]
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = made.report["quality"]["reward"]
    assert found["tuned"] > found["base"] + 0.3
    nats = [one.metrics["kl"] for one in RunFolder(made.path).read_records() if one.kind == "train"]
    assert np.mean(nats[-3:]) < 0.5 * np.mean(nats[:3])


def test_a_teacher_is_named_and_reads_the_same_tokens(data: Path, generator_folder: Path, reader_folder: Path) -> None:
    with pytest.raises(InputError, match=r"learns from a teacher; name a run"):
        refused(data, generator_folder, {**by(data, "nothing"), "objective": "on_policy_distil"})
    made = prepare(recipe_of(data, generator_folder))
    with pytest.raises(RecipeError, match="does not read the same tokens"):
        teacher_of(OnPolicyDistil(teacher=str(reader_folder)), made.processor)


def test_how_an_update_is_cut_changes_nothing(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    losses = []
    for tokens in (4096, 40):
        settings = {**SMALL, **by(data, "letters"), "schedule.steps": 3, "optimiser.micro_tokens": tokens,
                    "objective.kl": 0.01, "evaluate": "none"}  # fmt: skip
        made = tuneful.fit(
            data / "asks.jsonl", model=str(generator_folder), out=tmp_path / str(tokens), settings=settings
        )
        records = [one for one in RunFolder(made.path).read_records() if one.kind == "train"]
        losses.append([(one.metrics["loss"], one.metrics["gradient_norm"]) for one in records])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3, atol=1e-5)


def test_equal_rewards_move_nothing(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **by(data, "nothing"), "schedule.steps": 2}
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    records = [one for one in RunFolder(made.path).read_records() if one.kind == "train"]
    assert [one.metrics["gradient_norm"] for one in records] == [0, 0]
    assert [one.metrics["spread"] for one in records] == [0, 0]
    assert made.report["quality"]["reward"]["delta"] == 0
    assert "never_apart" in {note["key"] for note in made.report["data"]["notes"]}


def test_a_judge_that_fails_is_data(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **by(data, "sometimes"), "schedule.steps": 3}
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "some", settings=settings)
    records = [one for one in RunFolder(made.path).read_records() if one.kind == "train"]
    assert any(one.metrics["broken"] > 0 for one in records), "'much' is no reward"
    assert all(np.isfinite(one.metrics["reward"]) for one in records)
    settings = {**SMALL, **by(data, "raises"), "schedule.steps": 2}
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "all", settings=settings)
    notes = {note["key"]: note for note in made.report["data"]["notes"]}
    assert "no such thing" in notes["all_broken"]["why"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"environment": "none", "schedule": "rollouts"}, "learns from answers that something judges; say what"),
        ({"schedule": "epochs"}, "an environment judges what the model writes itself"),
        ({"objective": "next_token"}, "from its own, with rewards, a model learns by grpo"),
        ({"environment": "none", "objective": "grpo"}, "'grpo' learns from answers that something judges"),
        ({"adapter.dropout": 0.1}, "answers are drawn without dropout"),
        ({"regularisers": "dropout"}, "dropout disturbs what is learned, and answers were drawn undisturbed"),
        ({"regularisers": "label_smoothing"}, "here a model learns from its own"),
        ({"evaluate.new_tokens": 9}, "answers are measured as long as they are learned"),
        ({"evaluate.verify": json.dumps({"kind": "python", "path": "nowhere.py:f"})}, "evaluate.verify: python: "),
        ({"objective": json.dumps({"kind": "on_policy_distil", "teacher": "x", "kl": 0.1})}, "the teacher says how"),
        ({"environment": "guess_number", "schedule.hints": 0.5}, "hints: begin an only answer"),
        ({"augment": "typos"}, "augment: was not made for a model's own answers"),
        ({"optimiser.rows_per_step": 3}, "schedule.prompts and schedule.answers say how much"),
        ({"schedule.answers": 1}, "schedule.answers"),
        ({"environment.rewards": "python"}, "names no function"),
        ({"environment.rewards": "exactt"}, "Did you mean 'exact'"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, Any], expected: str, data: Path, generator_folder: Path
) -> None:
    settings = {**by(data, "letters"), **changes}
    if "environment" in settings:
        settings.pop("environment.rewards")
    with pytest.raises(InputError, match=expected.replace("'", ".")):
        refused(data, generator_folder, settings)


def test_a_prompt_without_room_for_an_answer_is_dropped(data: Path, generator_folder: Path) -> None:
    found = prepare(recipe_of(data, generator_folder, **{"schedule.new_tokens": 5000}))
    assert len(found.xray.dropped) == 40
    assert "with 5,000 for an answer that is more than 512" in found.xray.dropped[0].reason
    assert found.xray.problems


def test_several_tasks_are_refused(data: Path, generator_folder: Path) -> None:
    one = {"data": {"source": str(data / "asks.jsonl")}}
    given = {
        "model": str(generator_folder),
        "tasks": [{**one, "name": "a"}, {**one, "name": "b", "environment": "single_turn"}],
    }
    with pytest.raises(InputError, match="make a run of its own of that task"):
        prepare(from_mapping(given, [])[0])


def test_an_encoder_is_refused(data: Path, reader_folder: Path) -> None:
    with pytest.raises(RecipeError, match="an encoder writes no answers"):
        refused(data, reader_folder, by(data, "letters"))


def refused(data: Path, model: Path, settings: dict[str, Any]) -> None:
    given = {"model": str(model), "data": {"source": str(data / "asks.jsonl")}}
    prepare(from_mapping(given, [f"{key}={value}" for key, value in settings.items()])[0])


def test_two_runs_are_compared_by_reward(run: tuneful.Run, data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **by(data, "letters"), "schedule.steps": 1}
    less = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "less", settings=settings)
    (line,) = compare([Path(less.path), Path(run.path)])
    assert line["metric"] == "reward"
    assert line["values"][1] == pytest.approx(run.report["quality"]["reward"]["tuned"])
    assert line["delta"] > 0.2


def test_a_run_of_few_rows_goes_on_and_cut_answers_are_told(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    """Fewer training rows than prompts of an update; by default nothing is learned of what was cut."""
    more = {"data.source": f"{data / 'asks.jsonl'}#14", "data.test": 4, "data.validation": 4, "schedule.prompts": 8,
            "schedule.steps": 3, "checkpoint.every": 1, "objective.truncated": False, "schedule.new_tokens": 2}  # fmt: skip
    _, parts = whole_and_parts(recipe_of(data, generator_folder, **more), tmp_path, after=1)
    report = parts.read_json(parts.report)
    assert "never_whole" in {note["key"] for note in report["data"]["notes"]}
    records = [one.metrics for one in parts.read_records() if one.kind == "train"]
    assert all(one["truncated"] > 0.5 for one in records)


def test_a_rule_that_its_judge_refuses_is_left_out(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **by(data, "picky"), "schedule.steps": 1}
    made = tuneful.fit(data / "asks.jsonl", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    assert made.report["quality"]["reward"].get("trivial") is None
    assert made.report["quality"]["reward"]["n"] == 8


def test_an_environment_may_make_its_own_rows(generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "environment": "guess_number", "schedule.steps": 2, "schedule.new_tokens": 3}
    made = tuneful.fit("environment#12", model=str(generator_folder), out=tmp_path / "run", settings=settings)
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    assert lock["tasks"][0]["environment"]["kind"] == "guess_number"
    assert made.report["data"]["rows"] == {"train": 12, "validation": 4, "test": 8}
    records = [one for one in RunFolder(made.path).read_records() if one.kind == "train"]
    assert records[0].metrics["turns"] > 1
    assert "reward" in made.report["quality"]
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert answers[0]["base"].startswith("> "), "what it said, and what it heard"


def test_the_terminal_tells_of_such_a_run(generator_folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "environment": "grid_world", "schedule.steps": 1, "schedule.new_tokens": 2, "data.test": 2,
                "data.validation": 0, "schedule.prompts": 1, "schedule.answers": 2}  # fmt: skip
    given = [f"--set={key}={value}" for key, value in settings.items()]
    said = typed("fit", "environment#3", "--model", generator_folder, "--out", "run", *given, cwd=tmp_path)
    assert said.exit_code == 0, said.output
    assert "reward" in said.output
    assert "of the matrix rate" not in said.output, "how much would be written was only guessed"
    assert json.loads((tmp_path / "run" / "report.json").read_text())["cost"]["utilisation"] is None


def test_rows_of_its_own_need_no_data(generator_folder: Path) -> None:
    recipe, _ = from_mapping({"environment": "grid_world", "model": str(generator_folder)}, [])
    assert recipe.schedule.kind == "rollouts"
    found = prepare(recipe)
    assert len(found.rows("train")) == 256
    worlds = [{repr(row.example.label) for row in found.rows(part)} for part in ("train", "validation", "test")]
    assert not worlds[0] & worlds[1], "no world is in two parts"
    assert not worlds[2] & (worlds[0] | worlds[1])
    with pytest.raises(InputError, match="judges answers to rows that it is given; name a source"):
        prepare(from_mapping({"environment": "single_turn", "model": str(generator_folder)}, [])[0])
