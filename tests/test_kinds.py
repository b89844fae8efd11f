"""Tasks of several kinds over one body, in one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from intents import INTENTS
from tuneful.adapters import Full, Lora
from tuneful.adapters.joint import JointAttached, share_body
from tuneful.core.errors import GateBroken, InputError, ModelError, RunFolderError
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Step
from tuneful.data.duplicates import said_in
from tuneful.engine.update import Sum
from tuneful.evaluation.kinds import of_kinds
from tuneful.models.heads import VECTORS, Labels
from tuneful.models.load import load, locate
from tuneful.recipe import from_mapping
from tuneful.run.api import check_gates, recipe_for
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.joined import kinds_in, places_of, prepared_kinds
from tuneful.run.joint import build_joint, counts_of
from tuneful.run.kinds import kinds_of
from tuneful.run.look import _metrics
from tuneful.run.prepare import prepare
from tuneful.run.teach import teach
from tuneful.run.tuned import open_model
from tuneful.run.watch import Watch
from tuneful.schedules.together import TogetherSteps
from work import MOODS, greetings, losses_of, moods, typed, whole_and_parts, write_rows

TWO = Labels(("a", "b"), "single_label_classification")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "talk.jsonl", greetings(60))
    write_rows(folder / "tone.jsonl", moods(90))
    for number in range(2):
        rows = [{"text": text, "label": name} for name in list(INTENTS)[2 * number : 2 * number + 2]
                for text in INTENTS[name]]  # fmt: skip
        write_rows(folder / f"tone{number}.jsonl", rows)
    pairs = [{"query": row["prompt"], "positive": f"{row['completion']} {number}"}
             for number, row in enumerate(greetings(40))]  # fmt: skip
    write_rows(folder / "finds.jsonl", pairs)
    return folder


def given(data: Path, model: Path, **more: Any) -> dict[str, Any]:
    """Text to write, and labels."""
    return {
        "name": "both", "model": str(model), "precision": "fp32", "evaluate": {"every": 4},
        "tasks": [
            {"name": "talk", "data": str(data / "talk.jsonl"), "objective": "next_token"},
            {"name": "tone", "data": str(data / "tone.jsonl"), "objective": "classify"},
        ],
        "schedule": {"kind": "mixture", "steps": 12}, "optimiser": {"learning_rate": 0.01}, **more,
    }  # fmt: skip


def built_of(what: dict[str, Any]) -> Built:
    recipe = recipe_for(what, model=None, settings={})
    return build_joint(
        recipe, prepared_kinds(kinds_in(recipe, RunFolder(Path("none")), resume=False, say=print), print)
    )


@pytest.fixture(scope="module")
def done(data: Path, generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "both"
    tuneful.fit(given(data, generator_folder, schedule={"kind": "mixture", "steps": 60}), out=out)
    return out


# What is a kind


def test_kinds_differ_by_objective_and_by_heads_of_their_own(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder)
    what["tasks"] += [
        {"name": "more", "data": str(data / "tone1.jsonl"), "objective": "classify"},
        {"name": "apart", "data": str(data / "tone1.jsonl"), "objective": "classify", "head": "own"},
    ]
    recipe, _ = from_mapping(what)
    found = kinds_of(recipe)
    assert {name: kind.schedule.kind for name, kind in found.items()} == {
        "talk": "epochs", "tone+more": "mixture", "apart": "epochs",
    }  # fmt: skip
    what["tasks"] = what["tasks"][1:3]
    recipe, _ = from_mapping(what)
    assert kinds_of(recipe) == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"soup": 2}, "soup: is about one model"),
        ({"interpolate": 0.5}, "interpolate: is about one model"),
        ({"choose": {"enabled": True}}, "choose: a way of learning few labels"),
        ({"regularisers": [{"kind": "mixup"}]}, "talk: regularisers: mixup is about answers"),
    ],
)
def test_what_is_about_one_model_is_refused(
    data: Path, generator_folder: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        tuneful.fit(given(data, generator_folder, **more), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_that_would_be_weighed_by_a_run_of_their_own_are_refused(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder)
    what["tasks"][1]["data"] = {"source": what["tasks"][1]["data"], "unlabelled": what["tasks"][0]["data"]}
    with pytest.raises(InputError, match=r"tone: data\.unlabelled: is for a run of one task"):
        built_of(what)


def test_an_objective_that_the_data_does_not_suit_is_told_with_its_kind(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder)
    what["tasks"][0]["objective"] = "retrieve"
    with pytest.raises(InputError, match="talk: "):
        built_of(what)


# One body


@pytest.mark.parametrize("adapter", [Lora(), Full()])
def test_modules_stand_on_one_body(adapter: Any, generator_folder: Path, reader_folder: Path) -> None:
    """Its weights are there once, output matrices are the embedding again, and each head is there."""
    for folder, heads in ((generator_folder, [{}, {"labels": TWO}]),
                          (reader_folder, [{"labels": VECTORS}, {"labels": TWO}, *([] if adapter.freezes else [{"fills": True}])])):  # fmt: skip
        loaded = [load(str(folder), **head) for head in heads]  # type: ignore[arg-type]
        parts = [adapter.attach(one.module, labels=head.get("labels") is TWO)
                 for one, head in zip(loaded, heads, strict=True)]  # fmt: skip
        share_body(parts)
        assert len({id(part.module.base_model) for part in parts}) == 1
        with parts[0].original() as first:
            start = first.base_model
        with parts[1].original() as second:
            assert second.base_model is start
        for part in parts:
            output = getattr(part.module, "get_output_embeddings", lambda: None)()
            assert output is None or output.weight is part.module.get_input_embeddings().weight
        named = JointAttached(parts).trainable()
        assert len(named) == len({id(parameter) for part in parts for parameter in part.trainable().values()})


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_gradient_is_the_sum_of_those_of_the_kinds(data: Path, generator_folder: Path, adapter: str) -> None:
    built = built_of(given(data, generator_folder, adapter=adapter))
    step = next(built.schedule.steps(built.policy))
    parameters = list(built.policy.trainable().values())

    def gradient(batches: list[Batch]) -> list[torch.Tensor]:
        built.policy.module.zero_grad()
        rule = Sum()
        for batch in batches:
            view = built.policy.of(batch.task)
            terms = built.parts[batch.task].prepared.resolved.objective(view, batch)
            units = sum(other.units for other in step.batches if other.task == batch.task)
            rule.add(batch.task, (terms.losses * batch.weights).sum() / units, parameters)
            built.policy.forget()
        return [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in parameters]

    both = built.schedule.steps(built.policy)
    while len({batch.task for batch in step.batches}) < 2:
        step = next(both)  # type: ignore[assignment]
    assert isinstance(step, Step)
    apart = [gradient([batch for batch in step.batches if batch.task == name]) for name in ("talk", "tone")]
    whole = gradient(list(step.batches))
    assert any(one.abs().sum() and other.abs().sum() for one, other in zip(*apart, strict=True))  # a shared weight
    for one, other, both_of in zip(*apart, whole, strict=True):
        torch.testing.assert_close(one + other, both_of, atol=1e-6, rtol=1e-4)


def test_the_first_update_of_a_kind_is_that_of_a_run_of_its_own(
    data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    """The same rows, the same loss: what the other kinds are changes neither before anything is learned."""
    still = {"learning_rate": 1e-9}  # so that what another kind learned before is nothing
    both = given(data, generator_folder, schedule={"kind": "mixture", "steps": 4}, optimiser=still, evaluate="none")
    tuneful.fit(both, out=tmp_path / "both")
    alone = {
        **given(data, generator_folder, schedule={"steps": 4}, optimiser=still, evaluate="none"),
        "adapter": "lora",
    }
    tuneful.fit({**alone, "tasks": alone["tasks"][:1]}, out=tmp_path / "alone")
    records = RunFolder(tmp_path / "both").read_records()
    ours = next(record.metrics["loss/talk"] for record in records if "loss/talk" in record.metrics
                and record.kind == "train")  # fmt: skip
    assert ours == pytest.approx(losses_of(RunFolder(tmp_path / "alone"), "train")[0][1], rel=1e-4)


def test_tasks_of_one_kind_that_are_read_apart_are_of_that_kind(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder, schedule={"kind": "mixture", "steps": 4, "apart": True})
    what["tasks"].append({"name": "more", "data": str(data / "tone1.jsonl"), "objective": "classify"})
    built = built_of(what)
    found = [batch.task for step in built.schedule.steps(built.policy) for batch in step.batches]
    assert set(found) == {"talk", "tone+more"}


# Updates


class Counted:
    """A schedule of numbered steps."""

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        for number in range(start, 100):
            yield Step([], number, 10)


class Nobody:
    def of(self, task: str) -> Nobody:
        return self


def test_steps_of_each_kind_are_spread_over_all_updates() -> None:
    """By hand: 2 of 5 updates are also of b, the third and the fifth: floor(n 2 / 5) = 0 0 0 1 1 2."""
    schedule = TogetherSteps({"a": Counted(), "b": Counted()}, {"a": 5, "b": 2}, 5)
    nobody: Any = Nobody()
    assert [step.rows for step in schedule.steps(nobody)] == [0, 1, 2 + 0, 3, 4 + 1]
    assert [step.tokens for step in schedule.steps(nobody)] == [10, 10, 20, 10, 20]
    assert [step.rows for step in schedule.steps(nobody, 3)] == [3, 4 + 1]


def test_a_kind_is_learned_as_often_as_alone_and_by_its_weight(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder, schedule="mixture")
    recipe = recipe_for(what, model=None, settings={})
    kinds = prepared_kinds(kinds_in(recipe, RunFolder(Path("none")), resume=False, say=print), print)
    alone = {name: kind.resolved.steps for name, kind in kinds.items()}
    assert counts_of(recipe, kinds) == alone
    what["tasks"][0]["weight"] = 0.5
    recipe = recipe_for(what, model=None, settings={"schedule.steps": 10})
    kinds = prepared_kinds(kinds_in(recipe, RunFolder(Path("none")), resume=False, say=print), print)
    most = max(alone["talk"] / 2, alone["tone"])
    assert counts_of(recipe, kinds) == {
        "talk": round(10 * alone["talk"] / 2 / most), "tone": round(10 * alone["tone"] / most),
    }  # fmt: skip


def test_a_run_that_goes_on_ends_where_one_without_a_stop_does(
    data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(
        given(data, generator_folder), model=None, settings={"checkpoint.every": 3, "evaluate.forgetting": False}
    )
    whole, parts = whole_and_parts(recipe, tmp_path, after=7)
    assert losses_of(whole, "train", "validation") == losses_of(parts, "train", "validation")
    for name in ("talk", "tone"):
        first, second = (open_model(str(one.path / "tasks" / name)).policy.attached.state() for one in (whole, parts))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_that_goes_on_learns_at_the_rates_it_began_with(
    data: Path, generator_folder: Path, tmp_path: Path
) -> None:
    """Preferences take a tenth of the rate of labels, whose head then learns at ten times that of the body."""
    pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": f"no {number}"}
             for number, row in enumerate(greetings(40))]  # fmt: skip
    write_rows(tmp_path / "pairs.jsonl", pairs)
    what = given(data, generator_folder, optimiser={}, evaluate="none", checkpoint={"every": 3})
    what["tasks"][0] = {"name": "likes", "data": str(tmp_path / "pairs.jsonl"), "objective": "dpo"}
    whole, parts = whole_and_parts(recipe_for(what, model=None, settings={}), tmp_path, after=7)
    assert dict(losses_of(whole, "train")) == pytest.approx(dict(losses_of(parts, "train")), rel=1e-4)
    for folder in (whole, parts):
        optimiser = folder.read_json(folder.path / "tasks/tone/recipe.lock.json")["recipe"]["optimiser"]
        assert optimiser["learning_rate"] == pytest.approx(1e-4)
        assert optimiser["head_rate"] == pytest.approx(10)


def test_nobody_learns_what_another_kind_is_asked_about(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    rows = moods(80)
    write_rows(tmp_path / "tone.jsonl", rows)
    write_rows(tmp_path / "talk.jsonl", [{"prompt": row["text"], "completion": row["label"]} for row in rows])
    what = given(data, generator_folder)
    for task in what["tasks"]:
        task["data"] = str(tmp_path / f"{task['name']}.jsonl")
    recipe = recipe_for(what, model=None, settings={})
    given_kinds = kinds_in(recipe, RunFolder(Path("none")), resume=False, say=print)
    kinds, mended = {name: prepare(kind) for name, kind in given_kinds.items()}, prepared_kinds(given_kinds, print)
    texts = {name: {part: {said_in(row.example) for row in kind.rows(part)} for part in ("train", "validation", "test")}
             for name, kind in kinds.items()}  # fmt: skip
    assert texts["talk"]["train"] & texts["tone"]["test"]
    for name, other in (("talk", "tone"), ("tone", "talk")):
        kind = mended[name]
        learned = {said_in(row.example) for row in kind.repeated}
        assert learned == {said_in(row.example) for row in kind.rows("train")}
        assert learned == texts[name]["train"] - texts[other]["test"] - texts[other]["validation"]
        (note,) = [note for note in kind.xray.notes if note.key == "kinds_apart"]
        assert note.facts["n"] == len(texts[name]["train"]) - len(learned)


def test_groups_of_all_kinds_are_numbered_alike(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    for name, groups in (("tone", ("f", "m")), ("more", ("young", "old"))):
        rows = [{**row, "who": groups[number % 3 % 2]} for number, row in enumerate(moods(60))]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    what = given(data, generator_folder, regularisers=["group_dro"])
    what["tasks"] = [{"name": name, "data": {"source": str(tmp_path / f"{name}.jsonl"), "group": "who"},
                      "objective": "classify", "head": "own"} for name in ("tone", "more")]  # fmt: skip
    built = built_of(what)
    assert {part.collate.groups for part in built.parts.values()} == {("f", "m", "old", "young")}


def test_a_kind_is_held_to_the_gates_that_it_can_be_held_to(data: Path, generator_folder: Path) -> None:
    what = given(data, generator_folder, gates={"bias_gap_increase": 0.1, "helped": True}, evaluate={"canaries": 2})
    found = kinds_of(from_mapping(what)[0])
    assert (found["talk"].gates.bias_gap_increase, found["tone"].gates.bias_gap_increase) == (None, 0.1)
    assert (found["talk"].evaluate.canaries, found["tone"].evaluate.canaries) == (2, 0)
    assert all(kind.gates.helped for kind in found.values())
    what["tasks"][0]["name"] = "all"
    with pytest.raises(InputError, match="'all' is what an update of several tasks is called"):
        kinds_of(from_mapping(what)[0])


def test_a_task_that_is_nearly_solved_does_not_decide_alone(
    data: Path, generator_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 5 -> 2.5 halves one loss; 0.004 -> 0.016 is no more than 0.16 of a tenth of a nat."""
    built = built_of(given(data, generator_folder))
    now = {"talk": 2.5, "tone": 0.016}
    monkeypatch.setattr("tuneful.run.look.validation_metrics", lambda part, rows: {"loss": now[part.recipe.task.name]})
    watch = Watch(0, seen=[{"step": 1, "loss/talk": 5.0, "loss/tone": 0.004}])
    rows: dict[str, Any] = {"talk": [], "tone": []}
    assert _metrics(built, rows, watch)["loss"] == pytest.approx((0.5 + 0.16) / 2)


# What comes of it


def test_each_kind_is_learned_and_loads_by_itself(done: Path, generator_folder: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    assert report["tasks"]["tone"]["tuned"] > 0.8
    losses = {name: [record.metrics["loss"] for record in RunFolder(done / "tasks" / name).read_records()
                     if record.kind == "validation"] for name in ("talk", "tone")}  # fmt: skip
    assert all(own[-1] < 0.9 * own[0] for own in losses.values()), losses
    looks = [record.metrics for record in RunFolder(done).read_records() if record.kind == "validation"]
    assert looks[0]["loss"] == 1.0  # each beside its own first, as a token and a label have no common unit
    assert looks[-1]["loss"] == pytest.approx(sum(own[-1] / own[0] for own in losses.values()) / 2)
    updates = [record for record in RunFolder(done).read_records() if record.kind == "train"]
    of_tone = [record for record in RunFolder(done / "tasks" / "tone").read_records() if record.kind == "train"]
    assert len(of_tone) == sum(record.task in ("all", "tone") for record in updates)
    assert open_model(str(done / "tasks" / "tone")).classify(MOODS["sad"]) == "sad"
    assert isinstance(open_model(str(done / "tasks" / "talk")).generate("greet Ann in room 5", limit=4), str)


def test_all_kinds_hold_the_one_adapter(done: Path) -> None:
    from safetensors.torch import load_file

    talk, tone = (
        load_file(done / "tasks" / name / "adapter" / "adapter_model.safetensors") for name in ("talk", "tone")
    )
    low = {key.split("layers.")[1]: value for key, value in talk.items() if "lora_" in key}
    assert low
    for key, value in tone.items():
        assert "lora_" not in key or torch.equal(value, low[key.split("layers.")[1]])
    assert any("score" in key for key in tone)
    assert not any("score" in key for key in talk)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_gives_the_same_labels(done: Path, generator_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = done / "tasks" / "tone" / "adapter"
    base = AutoModelForSequenceClassification.from_pretrained(generator_folder, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base.config.pad_token_id = tokenizer.pad_token_id or 0
    plain = PeftModel.from_pretrained(base, str(folder)).eval()
    ours, text = open_model(str(done / "tasks" / "tone")), "where is my parcel"
    ids = ours._read([text])[0].ids
    with torch.no_grad():
        theirs = plain(input_ids=torch.tensor(ids[None].astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(ours.scores([text]), theirs, atol=1e-4)


def test_the_folder_of_a_run_says_where_its_models_are(done: Path, data: Path) -> None:
    named = "holds a model for each kind of task it learned; name one: .*tasks/talk.*tasks/tone"
    with pytest.raises(RunFolderError, match=named):
        open_model(str(done))
    with pytest.raises(ModelError, match=named):
        locate(str(done))
    with pytest.raises(RunFolderError, match=named):
        next(iter(teach(done, str(data / "tone1.jsonl"))))


def test_a_report_of_all_kinds_says_of_each_where_its_own_is(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    assert {name: task["folder"] for name, task in report["tasks"].items()} == {
        "talk": "tasks/talk", "tone": "tasks/tone",
    }  # fmt: skip
    page, card = (done / "report.html").read_text(), (done / "README.md").read_text()
    assert "No test rows were measured" not in page
    assert "Bias was not measured" not in page + card
    for name in ("talk", "tone"):
        assert f'href="tasks/{name}/report.html"' in page
        assert f"tasks/{name}" in card
    assert sum(kind["tokens"] for kind in report["kinds"].values()) == report["cost"]["tokens"] - report["cost"][
        "tokens_shared"
    ]  # fmt: skip
    assert report["forgetting"]["kl_from_base"] > 0


def test_a_verdict_of_all_kinds() -> None:
    """yes needs all of them; one no is no; a gate is broken if it is for one."""

    def report(helped: str, gate: str) -> dict[str, Any]:
        sentences = {"en": f"it is {helped}.", "zh-TW": helped}
        verdict = {"helped": helped, "primary": "accuracy", "sentences": sentences, "gates": {"helped": gate}}
        return {"verdict": verdict, "quality": {}, "tasks": {}, "data": {"rows": {"train": 3}}, "forgetting": {}}

    def found(*helped: tuple[str, str]) -> dict[str, Any]:
        reports = {f"k{number}": report(*one) for number, one in enumerate(helped)}
        places = {name: f"tasks/{name}" for name in reports}
        return of_kinds({"forgetting": {}}, reports, places, {name: {"seconds": 1.0, "tokens": 2} for name in reports})

    both = found(("yes", "passed"), ("yes", "passed"))
    assert both["verdict"]["helped"] == "yes"
    assert both["verdict"]["gates"] == {"helped": "passed"}
    assert both["verdict"]["sentence"] == "‘k0’: it is yes. ‘k1’: it is yes."
    assert both["data"]["rows"]["train"] == 6
    one = found(("yes", "passed"), ("unclear", "broken"), ("yes", "passed"))
    assert one["verdict"]["helped"] == "unclear"
    assert one["verdict"]["gates"] == {"helped": "broken"}
    with pytest.raises(GateBroken, match=r"helped \(of k1\)"):
        check_gates(one)
    assert found(("yes", "passed"), ("no", "broken"), ("unclear", "broken"))["verdict"]["helped"] == "no"


def test_kinds_of_like_names_have_folders_of_their_own() -> None:
    assert places_of({"a b": 0, "a-b": 0, "c": 0}) == {"a b": "tasks/a-b", "a-b": "tasks/a-b-2", "c": "tasks/c"}


def test_an_encoder_that_finds_and_labels_and_fills_gaps(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    what = given(data, reader_folder, schedule={"kind": "mixture", "steps": 8}, optimiser={"learning_rate": 0.002})
    what["tasks"] = [
        {"name": "finds", "data": str(data / "finds.jsonl")},
        {"name": "tone", "data": str(data / "tone0.jsonl"), "objective": {"kind": "classify", "pooling": "mean"}},
        {"name": "more", "data": str(data / "tone1.jsonl"), "objective": {"kind": "classify", "pooling": "own"}},
        {"name": "reads", "data": {"source": str(data / "tone1.jsonl"), "layout": "text", "text": "text"},
         "objective": "masked"},
    ]  # fmt: skip
    tuneful.fit(what, out=tmp_path / "run")
    finds, tone, more = (open_model(str(tmp_path / "run/tasks" / name)) for name in ("finds", "tone", "more"))
    assert finds.queries(["a"]).shape == finds.documents(["a"]).shape
    # One body: what is read of a text is the same under both heads.
    torch.testing.assert_close(tone.vectors(["where is it"]), more.vectors(["where is it"]), atol=1e-5, rtol=1e-4)
    assert tone.classify("where is it") in list(INTENTS)[:2]
    assert more.classify("where is it") in list(INTENTS)[2:4]


def test_a_model_that_writes_labels_and_prefers(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    """What is preferred is told from the model before tuning, under the one adapter of all kinds."""
    pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": f"go away {number}"}
             for number, row in enumerate(greetings(60))]  # fmt: skip
    write_rows(tmp_path / "pairs.jsonl", pairs)
    what = given(data, generator_folder, schedule={"kind": "mixture", "steps": 30})
    what["tasks"].append({"name": "likes", "data": str(tmp_path / "pairs.jsonl"), "objective": "dpo"})
    run = tuneful.fit(what, out=tmp_path / "run")
    first = next(record.metrics["loss/likes"] for record in RunFolder(run.path).read_records()
                 if record.kind == "validation")  # fmt: skip
    likes = json.loads((run.path / "tasks/likes/report.json").read_text())
    assert likes["verdict"]["primary"] == "preference_accuracy"
    assert likes["quality"]["preference_accuracy"]["tuned"] > 0.8
    assert first < np.log(2) + 0.1
    assert open_model(str(run.path / "tasks/likes")).writes
    assert run.report["tasks"]["tone"]["tuned"] > 0.8


def test_check_shows_every_kind(data: Path, generator_folder: Path, tmp_path: Path) -> None:
    import yaml

    what = given(data, generator_folder)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(what))
    shown = typed("check", "recipe.yaml", cwd=tmp_path)
    assert shown.exit_code == 0
    assert shown.output.index("talk") < shown.output.index("tone")
    told = json.loads(typed("check", "recipe.yaml", "--json", cwd=tmp_path).output)
    assert {name: kind["plan"]["objective"]["kind"] for name, kind in told["kinds"].items()} == {
        "talk": "next_token", "tone": "classify",
    }  # fmt: skip
    refused = typed("check", "recipe.yaml", "--coach", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "--coach: is about tasks of one kind" in refused.output
