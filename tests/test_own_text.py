"""What the untuned model writes comes back while tasks are learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from test_tasks import problems_of, tasks_of
from tuneful.adapters import Lora
from tuneful.core.types import MEMORY, OWN_TEXT, Boundary, Layout
from tuneful.data.layouts import Collator
from tuneful.objectives.distil import Distil
from tuneful.recipe import from_mapping
from tuneful.run.build import Built, build
from tuneful.run.own_text import own_texts
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from tuneful.schedules.lifelong import LifelongSteps
from tuneful.testing import tiny_policy, tiny_rows
from work import greetings, losses_of, whole_and_parts, write_rows


def given_of(folder: Path, model: Path, **schedule: Any) -> dict[str, Any]:
    rows = greetings(30)
    tasks = [{"name": name, "data": {"source": str(write_rows(folder / f"{name}.jsonl", rows[part]))}}
             for name, part in (("one", slice(0, 15)), ("two", slice(15, 30)))]  # fmt: skip
    return {"model": str(model), "name": "two", "tasks": tasks, "optimiser": {"rows_per_step": 4},
            "evaluate": {"enabled": False}, "schedule": {"kind": "lifelong", "steps": 12, **schedule},
            "checkpoint": {"every": 3}}  # fmt: skip


def built_of(given: dict[str, Any]) -> Built:
    return build(prepare(from_mapping(given, [])[0]))


def test_texts_depend_on_the_untuned_model_and_the_seed(tmp_path: Path, generator_folder: Path) -> None:
    built = built_of(given_of(tmp_path, generator_folder))
    processor = built.prepared.processor
    rows = own_texts(built.policy, processor, 12, 0)
    assert 0 < len(rows) <= 12
    assert all(row.learned >= 4 and row.counts for row in rows)
    plain, answers = ([row for row in rows if bool(row.prompt) is asked] for asked in (False, True))
    assert all(row.learned == len(row) - 1 for row in plain)
    assert all(row.learned == len(row) - row.prompt for row in answers)
    with torch.no_grad():
        for weight in built.policy.trainable().values():
            weight.add_(0.5)
    again = own_texts(built.policy, processor, 12, 0)
    assert all(np.array_equal(one.ids, other.ids) for one, other in zip(rows, again, strict=True))
    others = own_texts(built.policy, processor, 12, 1)
    assert [row.ids.tolist() for row in others] != [row.ids.tolist() for row in rows]


def read_in(built: Built) -> list[dict[str, float]]:
    """Of each update the weight that tasks have in it; boundaries left out."""
    assert isinstance(built.schedule, LifelongSteps)
    found = []
    for step in built.schedule.steps(built.policy):
        if not isinstance(step, Boundary):
            tasks = {batch.task for batch in step.batches}
            found.append({task: float(sum(len(b.inputs["rows"]) for b in step.batches if b.task == task))
                          for task in tasks})  # fmt: skip
    return found


def test_they_are_half_of_every_update(tmp_path: Path, generator_folder: Path) -> None:
    alone = read_in(built_of(given_of(tmp_path, generator_folder, replay=0, own_text=12)))
    assert all(abs(update[OWN_TEXT] - update.get("one", update.get("two", 0))) <= 1 for update in alone)
    assert any("one" in update for update in alone)  # while the first task is learned as well
    schedule = built_of(given_of(tmp_path, generator_folder, replay=0, own_text=12)).schedule
    assert isinstance(schedule, LifelongSteps)
    assert schedule.part(0, 6).cut.rows_per_step == 8  # so that each new row is seen as often as without
    without = read_in(built_of(given_of(tmp_path, generator_folder, replay=0)))
    assert all(OWN_TEXT not in update for update in without)


def test_rows_of_tasks_come_back_as_often_as_all_texts(tmp_path: Path, generator_folder: Path) -> None:
    schedule = built_of(given_of(tmp_path, generator_folder, replay=0.2, own_text=12)).schedule
    assert isinstance(schedule, LifelongSteps)
    rows = schedule.part(1, 6).rows
    own, kept = ([row.times for row in rows if row.example.task == task] for task in (OWN_TEXT, MEMORY))
    new = [row.times for row in rows if row.example.task == "two"]
    assert sum(own) == pytest.approx(sum(kept)) == pytest.approx(sum(new) / 2)
    assert len(own) == len(schedule.written)


def test_what_the_untuned_model_expected_is_learned(generator_folder: Path) -> None:
    """Nothing at first; then the KL of whole distributions, and no loss of the tokens that were drawn."""
    policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
    policy.module.eval()
    assert Distil()(policy, batch).losses.detach().abs().max() < 1e-5
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.3)
    policy.forget()
    losses, where = Distil()(policy, batch).losses.detach(), batch.targets["where"]
    now, then = (policy.read(batch.inputs, original=original) for original in (False, True))
    logits = []
    for read in (now, then):
        table = policy.network.vocabulary(policy.module).weight.float()
        logits.append((read.hidden[where].float() @ table.T).log_softmax(-1))
    by_hand = (logits[1].exp() * (logits[1] - logits[0])).sum(-1)
    assert torch.allclose(losses, by_hand, atol=1e-4)
    assert losses.max() > 1e-3


def test_a_stopped_run_shows_the_same_texts(tmp_path: Path, generator_folder: Path) -> None:
    recipe, _ = from_mapping(given_of(tmp_path, generator_folder, own_text=8), [])
    whole, resumed = whole_and_parts(recipe, tmp_path, after=8)
    assert losses_of(whole, "train") == losses_of(resumed, "train")


def test_texts_of_its_own_bring_no_loss_before_anything_is_learned(tmp_path: Path, generator_folder: Path) -> None:
    """Their tokens by themselves would bring as much as the new task."""
    first = []
    for count in (0, 12):
        recipe, _ = from_mapping(given_of(tmp_path, generator_folder, replay=0, own_text=count), [])
        records = [record for record in run(recipe, tmp_path / f"run{count}") if record.kind == "train"]
        first.append(records[0].metrics["loss"])
    assert first[1] == pytest.approx(first[0], rel=0.2)


def test_an_encoder_writes_nothing(tmp_path: Path, reader_folder: Path) -> None:
    given = tasks_of(tmp_path, model=str(reader_folder), schedule={"kind": "lifelong", "own_text": 4})
    assert "schedule.own_text: is what a model writes" in problems_of(given)
