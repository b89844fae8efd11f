"""Answers stay near those of the model as it was when the last task had ended."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from test_tasks import problems_of, tasks_of
from tuneful.adapters import Full, Lora, TopLayers
from tuneful.core.earlier import Earlier
from tuneful.core.types import FORGOTTEN, Batch, Boundary, Layout, Terms
from tuneful.data.layouts import Collator
from tuneful.recipe import from_mapping
from tuneful.regularisers import Previous
from tuneful.run.folder import RunFolder
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.testing import tiny_policy, tiny_rows
from work import losses_of, whole_and_parts, write_rows

HELD = [{"kind": "previous", "strength": 2.0}]


class Said:
    """Outputs that hold these logits of all classes."""

    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = torch.tensor(logits)

    def all_class_logits(self) -> Tensor:
        return self.logits


def test_the_distance_of_answers_over_the_classes_known_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """At T = 2, logits (2 log 3, 0) are 3/4 and 1/4; even ones 1/2. A third class, which came later, says nothing."""
    then, now = Said([[2 * math.log(3), 0.0, 9.0], [0.0, 0.0, 0.0]]), Said([[0.0, 0.0, -5.0], [0.0, 0.0, 7.0]])
    monkeypatch.setattr("tuneful.regularisers.memory.Earlier", lambda policy: lambda batch: then)
    held = Previous(strength=0.5).begin(torch.zeros(0).numpy())
    batch = Batch({}, {}, torch.tensor([3.0, 1.0]), 4.0, 1)
    terms = Terms(torch.zeros(2), now)  # type: ignore[arg-type]
    policy: Any = None
    assert float(held(policy, batch, terms)) == 0  # no task has ended
    held.consolidate(policy, Boundary("one", (), 2))
    apart = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(held(policy, batch, terms)) == pytest.approx(0.5 * 4 * apart * 3 / 4)
    assert float(held(policy, replace(batch, task=FORGOTTEN), terms)) == 0  # the answers to these are to change


@pytest.mark.parametrize("adapter", [Lora(rank=4), Full(), TopLayers(layers=1)])
@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_an_earlier_model_answers_as_it_did(request: pytest.FixtureRequest, adapter: Any, layout: Layout) -> None:
    model = "generator_folder" if layout.writes else "reader_folder"
    policy, loaded = tiny_policy(request.getfixturevalue(model), adapter, layout=layout)
    batch = Collator(layout)(tiny_rows(loaded, layout))
    policy.module.eval()
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.1 * torch.randn_like(weight))
    before, earlier = policy.read(batch.inputs).hidden.clone(), Earlier(policy)
    state = {name: tensor.clone() for name, tensor in earlier.tensors().items()}
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.1)
    policy.module.train()
    assert torch.allclose(earlier(batch).hidden, before, atol=1e-5)
    assert policy.module.training
    assert not torch.allclose(policy.read(batch.inputs).hidden, before, atol=1e-2)
    assert sorted(state) == sorted(policy.trainable())
    another = Earlier(policy)
    another.load(state)
    assert torch.equal(another(batch).hidden, earlier(batch).hidden)


def given_of(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    return tasks_of(folder, model=str(model), schedule={"kind": "lifelong", "steps": 24, "replay": 0},
                    optimiser={"rows_per_step": 6, "learning_rate": 0.01}, checkpoint={"every": 3},
                    evaluate={"robustness": False}, **more)  # fmt: skip


@pytest.mark.parametrize("after", [5, 9])
def test_a_stopped_run_stays_near_the_same_model(tmp_path: Path, reader_folder: Path, after: int) -> None:
    recipe, _ = from_mapping(given_of(tmp_path, reader_folder, regularisers=HELD), [])
    whole, resumed = whole_and_parts(recipe, tmp_path, after=after)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    penalties = [record.metrics["penalty"] for record in whole.read_records() if record.kind == "train"]
    first, second, _ = (record.step for record in whole.read_records() if record.kind == "boundary")
    # When a task has just ended, the model is still the one that it was then.
    assert [step for step, penalty in enumerate(penalties) if penalty <= 0] == [*range(first + 1), second]


def test_learn_stays_near_what_the_run_had_learned(tmp_path: Path, reader_folder: Path) -> None:
    given = given_of(tmp_path, reader_folder, regularisers=HELD)
    new = given["tasks"].pop()["data"]["source"]
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping(given, [])[0], folder.path))
    records = list(teach(folder.path, new, name="third", overrides=["schedule.steps=6", "schedule.replay=0"]))
    penalties = [record.metrics["penalty"] for record in records if record.kind == "train"]
    assert penalties[0] == pytest.approx(0, abs=1e-6)
    assert all(penalty > 0 for penalty in penalties[1:])
    assert json.loads(folder.lock.read_text())["recipe"]["regularisers"][0]["kind"] == "previous"


def test_there_must_be_earlier_tasks(tmp_path: Path, reader_folder: Path) -> None:
    rows = [{"text": f"a {number}", "label": str(number % 2)} for number in range(20)]
    source = str(write_rows(tmp_path / "d.jsonl", rows))
    given = {"model": str(reader_folder), "data": source, "regularisers": ["previous"]}
    assert "previous is about earlier tasks; take schedule: lifelong" in problems_of(given)
