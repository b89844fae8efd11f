"""Which task helps which: what a step on one alone would do to the losses of the others."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import several_tasks
from test_kinds import built_of
from test_kinds import given as two_kinds
from test_page import generator_report, text_of
from test_ranks import TORCHRUN
from test_tasks import problems_of, tasks_of
from tuneful.core.types import Batch, Layout, Terms
from tuneful.engine.lookahead import Asked, affinities, step
from tuneful.engine.update import AdamW, Updater
from tuneful.evaluation.affinity import affinity, heat, sentence
from tuneful.evaluation.card import card
from tuneful.evaluation.page import page
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.affinity import AFFINITY, drawings, every, looked_ahead
from tuneful.run.build import build
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from work import MOODS, greetings, moods, whole_and_parts, write_rows

QUICK = {"robustness": False, "forgetting": False, "by_group": False, "memorisation": 0, "learning_curve": False}


# The step


def test_a_step_by_hand() -> None:
    """Nothing known: every weight goes by the rate. Where Adam has seen larger slopes, by less; never by more."""
    gradient = torch.tensor([0.5, -2.0, 0.0])
    assert step(gradient, None, 0.1, 0.0)[:2].tolist() == pytest.approx([0.1, -0.1])
    assert step(gradient, None, 0.1, 1e-8)[2] == 0
    found = step(gradient, torch.tensor([4.0, 1.0, 9.0]), 0.1, 0.0)
    assert found.tolist() == pytest.approx([0.1 * 0.5 / 2, -0.1, 0.0])


class Square:
    """Loss h (w - aim)^2 of one weight and a head h = 1, the aim told by the batch."""

    layout = Layout.LABELS

    def __call__(self, policy: Any, batch: Batch) -> Terms:
        losses = policy.head * (policy.weight - batch.targets["aim"]).square()
        return Terms(losses.expand(batch.weights.shape), None)  # type: ignore[arg-type]


class One(nn.Module):
    """A policy of two weights, one of which is a head."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(1.0))
        self.device = torch.device("cpu")

    def forget(self) -> None: ...


def aimed(policy: One, aim: float) -> Asked:
    batch = Batch({}, {"aim": torch.tensor(aim)}, torch.ones(2), 2.0, 0)
    return Asked(policy, Square(), [batch])  # type: ignore[arg-type]


def test_affinities_by_hand() -> None:
    """w = 1, aims 3, 2 and -1, steps of 0.5 towards each (half a rate of 1, as beta1 = 0.5): the losses are 4, 1 and 4. A step up makes them 2.25, 0.25
    and 6.25; one down 6.25, 2.25 and 2.25."""
    policy = One(1.0)
    updater = Updater(
        AdamW(learning_rate=1, beta1=0.5, epsilon=1e-12), {"weight": policy.weight, "head": policy.head}, steps=9
    )
    asked = {name: aimed(policy, aim) for name, aim in {"a": 3.0, "b": 2.0, "c": -1.0}.items()}
    learned = dict(policy.named_parameters())
    found = affinities(asked, updater, learned, stay={"head"}, clip=0)
    up, down = (1 - 2.25 / 4, 0.75, 1 - 6.25 / 4), (1 - 6.25 / 4, 1 - 2.25, 1 - 2.25 / 4)
    expected = {"a": up, "b": up, "c": down}
    assert found == {(one, other): pytest.approx(expected[one][place], abs=1e-6)
                     for one in "abc" for place, other in enumerate("abc")}  # fmt: skip
    assert (policy.weight.item(), policy.head.item()) == (1.0, 1.0)
    assert policy.weight.grad is None


def test_a_loss_that_is_nearly_nothing_counts_as_a_tenth() -> None:
    """From 0.01 to 0.16 is a rise by 0.15 of 0.1, not by fifteen times."""
    policy = One(1.0)
    learned = dict(policy.named_parameters())
    updater = Updater(AdamW(learning_rate=0.5, beta1=0, epsilon=1e-12), learned, steps=9)
    found = affinities({"a": aimed(policy, 9.0), "b": aimed(policy, 1.1)}, updater, learned, stay={"head"}, clip=0)
    assert found["a", "b"] == pytest.approx((0.01 - 0.16) / 0.1, abs=1e-5)


def test_the_optimiser_tells_rate_and_squares() -> None:
    """After slopes 2 and 4, v = 0.9 * 0.1 * 4 + 0.1 * 16 = 1.96, and without its start in nothing 1.96 / (1 - 0.81)."""
    policy = One(1.0)
    named = dict(policy.named_parameters())
    updater = Updater(AdamW(learning_rate=0.1, beta2=0.9, head_rate=3), named, steps=9, heads=["head"])
    assert (updater.seen("weight"), updater.seen("head")[0]) == ((0.1, None), pytest.approx(0.3))
    for number, slope in enumerate((2.0, 4.0), 1):
        policy.weight.grad = torch.tensor(slope)
        updater.step(number)
    assert float(updater.seen("weight")[1]) == pytest.approx(1.96 / 0.19)  # type: ignore[arg-type]


# Over a run


def test_a_matrix_over_looks() -> None:
    """0.1, 0.2 and 0.3: their mean 0.2, their standard error 0.1 / sqrt(3), Student's t of two degrees 4.3027."""
    looks = [{"affinity/a/b": value, "affinity/b/a": -0.4, "seconds": 0.5} for value in (0.1, 0.2, 0.3)]
    found = affinity([*looks, {"affinity/a/a": 1.0, "seconds": 0.0}], ["a", "b"])
    assert found["matrix"] == {"a": {"a": 1.0, "b": 0.2}, "b": {"a": -0.4, "b": None}}
    assert found["errors"]["a"] == {"a": None, "b": pytest.approx(4.30265 * 0.1 / 3**0.5, abs=1e-5)}
    assert (found["looks"], found["seconds"]) == (4, 1.5)
    assert found["groups"] == [["a"], ["b"]]  # (0.2 - 0.4) / 2 is below zero
    assert affinity([], ["a", "b"]) == {}


def report_of(matrix: dict[str, dict[str, float | None]], error: float = 0.05) -> dict[str, Any]:
    errors = {one: dict.fromkeys(row, error) for one, row in matrix.items()}
    groups = [["a <i>", "b"], ["c"]]
    return {"looks": 12, "matrix": matrix, "errors": errors, "groups": groups}


MIXED: dict[str, dict[str, float | None]] = {
    "a <i>": {"a <i>": 0.5, "b": 0.2, "c": -0.1}, "b": {"a <i>": 0.1, "b": 0.4, "c": 0.01},
    "c": {"a <i>": -0.4, "b": None, "c": 0.3},
}  # fmt: skip


def test_what_is_said_of_it() -> None:
    told = sentence(report_of(MIXED), words("en"))
    assert "‘a <i>’ helps ‘b’ most: a step on it alone takes 20% off" in told
    assert "(of 2 pairs that surely help)" in told
    assert "‘c’ harms ‘a <i>’ most: a step on it alone adds 40% to" in told
    assert told.endswith("if one model need not know all: a <i>, b | c.")
    unsure = sentence(report_of(MIXED, error=0.9), words("en"))
    assert unsure == "No task surely helps or harms another: each could as well be learned alone."
    helps = {"a": {"a": 0.5, "b": 0.2}, "b": {"a": 0.1, "b": 0.4}}
    found = {**report_of(helps), "groups": [["a", "b"]]}  # type: ignore[arg-type]
    assert sentence(found, words("en")).endswith("No task surely harms another.")


def test_the_heat_map() -> None:
    found = heat({"forgetting": {"affinity": report_of(MIXED)}}, words("en"))
    tones = [[cell["tone"] for cell in row] for row in found["rows"].values()]
    assert tones == [["own", "gained", "lost"], ["gained", "own", "before"], ["lost", "", "own"]]
    assert found["rows"]["c"][0] == {"value": "\u221240%", "tone": "lost", "depth": 45, "told": "harms"}
    assert found["rows"]["b"][2]["told"] == "unsure"
    assert heat({"forgetting": {}}, words("en")) == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_card_show_it(language: str) -> None:
    report = generator_report()
    report["forgetting"]["affinity"] = report_of(MIXED)
    say = words(language)
    text = text_of(page(report, language))
    for key in ("affinity_heading", "affinity_harms", "column_stepped"):
        assert say[key] in text
    assert "\u221240%" in text
    assert "20%" in card(report, language)


def test_how_often_it_looks(tmp_path: Path, reader_folder: Path) -> None:
    """Three tasks with 16 rows each, updates of 12 rows: 8 rows of each are looked at, 24 (3 + 4) / 36 = 4.67 updates,
    which are a quarter of 19."""
    given = tasks_of(tmp_path, model=str(reader_folder))
    built = build(prepare(recipe_of(given, "optimiser.rows_per_step=12", "evaluate.affinity=true")))
    drawn = drawings(built)
    assert {name: drawing.count for name, drawing in drawn.items()} == {"t0": 8, "t1": 8, "t2": 8}
    assert every(built, drawn) == 19
    one, again, later = (drawn["t1"].asked(number, 1).batches for number in (5, 5, 6))
    assert [batch.targets["labels"].tolist() for batch in one] == [batch.targets["labels"].tolist() for batch in again]
    assert any(not torch.equal(a.inputs["input_ids"], b.inputs["input_ids"]) for a, b in zip(one, later, strict=False))
    assert {int(label) // 2 for batch in one for label in batch.targets["labels"]} == {1}


def recipe_of(given: dict[str, Any], *overrides: str) -> Recipe:
    return from_mapping(given, list(overrides))[0]


def same(one: RunFolder, other: RunFolder) -> None:
    """The same updates and the same weights, to the last bit."""
    mine, others = (
        [(r.step, r.kind, {name: value for name, value in r.metrics.items() if name != "seconds"})
         for r in folder.read_records() if r.kind in ("train", "validation")]
        for folder in (one, other)
    )  # fmt: skip
    assert mine == others
    for name in ("model", "adapter"):
        for file in (one.path / name).glob("*.safetensors"):
            assert file.read_bytes() == (other.path / name / file.name).read_bytes()


@pytest.mark.parametrize("kind", ["lora", "pcgrad", "writes"])
def test_a_run_is_what_it_would_be_without(
    tmp_path: Path, reader_folder: Path, generator_folder: Path, kind: str
) -> None:
    given = tasks_of(tmp_path, model=str(generator_folder if kind == "writes" else reader_folder), precision="fp32",
                     schedule={"kind": "mixture", "steps": 4}, optimiser={"learning_rate": 0.002})  # fmt: skip
    for task in given["tasks"]:
        task["data"]["validation"] = 0.2
    if kind == "writes":
        given["tasks"] = [{"name": name, "data": str(write_rows(tmp_path / f"{name}.jsonl", greetings(30 + place)))}
                          for place, name in enumerate(("a", "b"))]  # fmt: skip
    if kind == "lora":
        given["adapter"] = {"kind": "lora", "dropout": 0.2}
    if kind == "pcgrad":
        given["gradient"] = "pcgrad"
    looked = recipe_of({**given, "evaluate": {**QUICK, "every": 2, "affinity": True, "affinity_every": 2}})
    plain = recipe_of({**given, "evaluate": {**QUICK, "every": 2}})
    folders = [RunFolder(tmp_path / name) for name in ("looked", "plain")]
    for recipe, folder in zip((looked, plain), folders, strict=True):
        list(run(recipe, folder.path))
    same(*folders)
    looks = [record for record in folders[0].read_records() if record.kind == AFFINITY]
    assert [record.step for record in looks] == [2, 4]
    found = folders[0].read_json(folders[0].report)["forgetting"]["affinity"]
    names = [task["name"] for task in given["tasks"]]
    assert all(found["matrix"][name][name] > 0 for name in names)  # a step on a task helps that task
    by_hand = np.mean([record.metrics[f"affinity/{names[0]}/{names[1]}"] for record in looks])
    assert found["matrix"][names[0]][names[1]] == pytest.approx(by_hand, abs=1e-6)
    assert "affinity" not in folders[1].read_json(folders[1].report)["forgetting"]


def test_layers_computed_twice_look_alike(tmp_path: Path, reader_folder: Path) -> None:
    found = []
    for twice in (False, True):
        given = tasks_of(tmp_path, model=str(reader_folder), precision="fp32",
                         optimiser={"gradient_checkpointing": twice}, evaluate={"affinity": True})  # fmt: skip
        built = build(prepare(recipe_of(given, "evaluate.affinity_every=1")))
        (look,) = looked_ahead(built, 1, drawings(built))
        found.append(look.metrics)
        assert not built.policy.module.training
        assert any(child.training for child in built.policy.module.modules()) == twice
    assert all(
        found[0][name] == pytest.approx(found[1][name], rel=1e-4, abs=1e-7) for name in found[0].keys() - {"seconds"}
    )


def test_a_run_that_goes_on_looks_as_one_that_was_not_stopped(tmp_path: Path, reader_folder: Path) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder), precision="fp32", schedule={"kind": "mixture", "steps": 6},
                     checkpoint={"every": 2}, evaluate={**QUICK, "affinity": True, "affinity_every": 2})  # fmt: skip
    whole, parts = whole_and_parts(recipe_of(given), tmp_path, after=3)
    same(whole, parts)
    one, other = (folder.read_json(folder.report)["forgetting"]["affinity"] for folder in (whole, parts))
    assert one["matrix"] == other["matrix"]
    assert one["looks"] == 3


def test_kinds_of_task_are_looked_at_through_their_own_heads(generator_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "talk.jsonl", greetings(30))
    write_rows(tmp_path / "tone.jsonl", moods(30))
    built = built_of(two_kinds(tmp_path, generator_folder, evaluate={"affinity": True, "affinity_every": 2}))
    before = {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}
    assert list(looked_ahead(built, 1, drawings(built))) == []
    (look,) = looked_ahead(built, 2, drawings(built))
    assert look.metrics.keys() == {
        f"affinity/{one}/{other}" for one in ("talk", "tone") for other in ("talk", "tone")
    } | {"seconds"}
    assert look.metrics["affinity/talk/tone"] != 0 != look.metrics["affinity/tone/talk"]
    assert min(look.metrics["affinity/talk/talk"], look.metrics["affinity/tone/tone"]) > 0
    for name, tensor in built.policy.attached.state().items():
        assert torch.equal(tensor, before[name])


def test_two_processes_look_as_one_does(tmp_path: Path, reader_folder: Path) -> None:
    what = tasks_of(tmp_path, model=str(reader_folder), precision="fp32", optimiser={"micro_tokens": 20},
                    schedule={"kind": "mixture", "curriculum": "loss"},
                    evaluate={"affinity": True, "affinity_every": 1})  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(what), encoding="utf-8")
    command = [*TORCHRUN, several_tasks.__file__, str(tmp_path)]
    environment = {**os.environ, "TUNEFUL_CACHE": str(tmp_path / "cache"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    two = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    one = several_tasks.looked(what)
    assert one.pop("drawn") == two.pop("drawn")  # by the loss of each row, read by both
    assert one == {name: pytest.approx(value, rel=1e-3, abs=1e-6) for name, value in two.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tasks": 1}, "this run learns one; leave it out"),
        ({"schedule": "lifelong"}, "is about tasks that are learned together"),
        ({"adapter": "head"}, "under adapter head nothing learns below the head"),
        ({"adapter": {"kind": "lora", "each_task": True}}, "tasks with adapters of their own share nothing"),
        ({"sharded": True}, "sharded spreads these over ranks"),
        ({"objective": "prototype"}, "told apart by rows of their class"),
    ],
)
def test_what_it_is_not_for(tmp_path: Path, reader_folder: Path, change: dict[str, Any], expected: str) -> None:
    what = tasks_of(tmp_path, model=str(reader_folder), evaluate={"affinity": True})
    if "tasks" in change:
        change = {"tasks": what["tasks"][:1]}
    assert expected in problems_of({**what, **change})


# The effect


def kindred(folder: Path, model: Path) -> dict[str, Any]:
    """Two tasks by one rule, and a third that says the opposite of the same words."""
    rng = np.random.default_rng(0)
    tasks = []
    for name, turned in (("one", False), ("other", False), ("against", True)):
        rows = []
        for number in range(48):
            mood = list(MOODS)[number % 2]
            text = " ".join(rng.choice(MOODS[mood].split(), 4))
            rows.append({"text": text, "label": list(MOODS)[(number + turned) % 2]})
        source = write_rows(folder / f"{name}.jsonl", rows)
        tasks.append({"name": name, "data": {"source": str(source), "validation": 0, "test": 0}})
    return {"tasks": tasks, "name": "kindred", "model": str(model), "precision": "fp32",
            "schedule": {"kind": "mixture", "steps": 30}, "optimiser": {"learning_rate": 0.003, "rows_per_step": 48},
            "evaluate": {**QUICK, "affinity": True, "affinity_every": 2}}  # fmt: skip


def test_tasks_of_one_rule_help_one_another_and_the_opposite_harms(tmp_path: Path, reader_folder: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    list(run(recipe_of(kindred(tmp_path, reader_folder)), folder.path))
    found = folder.read_json(folder.report)["forgetting"]["affinity"]
    matrix = found["matrix"]
    assert min(matrix["one"]["other"], matrix["other"]["one"]) > 0
    assert max(matrix["one"]["against"], matrix["other"]["against"], matrix["against"]["one"]) < 0
    assert sorted(map(sorted, found["groups"])) == [["against"], ["one", "other"]]
