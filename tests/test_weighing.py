"""Tasks that count by one over their loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tuneful.core.errors import InputError
from tuneful.core.types import Batch, Terms
from tuneful.regularisers import Uncertainty
from tuneful.regularisers.weighing import RunningUncertainty
from tuneful.run.api import recipe_for
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from work import greetings, losses_of, moods, whole_and_parts, write_rows


def batch_of(task: str, *weights: float) -> Batch:
    return Batch({}, {}, torch.tensor(weights), float(sum(weights)), 1, task)


def penalty(part: RunningUncertainty, task: str, *losses: float) -> float:
    nobody: Any = None
    return float(part(nobody, batch_of(task, *[1.0] * len(losses)), Terms(torch.tensor(losses), nobody)))


def test_a_task_counts_by_one_over_its_loss() -> None:
    """By hand: losses 4 and 1 give weights 1/4 : 1, scaled to a mean of 1: 0.4 and 1.6. The penalty is (w - 1) loss."""
    part = Uncertainty(memory=0.5).begin(None)  # type: ignore[arg-type]
    assert penalty(part, "a", 3.0, 5.0) == 0.0  # nothing is known yet
    assert penalty(part, "b", 1.0) == 0.0
    part.advance()
    assert (part.weight("a"), part.weight("b")) == (pytest.approx(0.4), pytest.approx(1.6))
    assert penalty(part, "a", 2.0, 6.0) == pytest.approx(-0.6 * 4)
    assert penalty(part, "b", 3.0) == pytest.approx(0.6 * 3)
    part.advance()  # means 4 and (1 + 3) / 2
    assert part.weight("b") == pytest.approx(2 * (1 / 2) / (1 / 2 + 1 / 4))
    assert part.weight("c") == 1.0


def test_how_an_update_is_cut_changes_no_weight() -> None:
    whole, cut = (Uncertainty().begin(None) for _ in range(2))  # type: ignore[arg-type]
    penalty(whole, "a", 1.0, 2.0, 6.0)
    penalty(cut, "a", 1.0)
    penalty(cut, "a", 2.0, 6.0)
    for part in (whole, cut):
        penalty(part, "b", 1.0)
        part.advance()
        part.advance()  # said again, it does nothing
    assert whole.state() == cut.state() == {"means": {"a": 3.0, "b": 1.0}}
    penalty(cut, "a", 100.0)
    cut.restart()  # memory was refused: that update begins again
    cut.advance()
    assert whole.state() == cut.state()


@pytest.fixture
def given(tmp_path: Path, generator_folder: Path) -> dict[str, Any]:
    write_rows(tmp_path / "talk.jsonl", greetings(30))
    write_rows(tmp_path / "tone.jsonl", moods(40))
    return {
        "name": "both", "model": str(generator_folder), "precision": "fp32", "evaluate": {"forgetting": False},
        "tasks": [{"name": "talk", "data": str(tmp_path / "talk.jsonl"), "objective": "next_token"},
                  {"name": "tone", "data": str(tmp_path / "tone.jsonl"), "objective": "classify"}],
        "schedule": {"kind": "mixture", "steps": 12}, "regularisers": ["uncertainty"], "checkpoint": {"every": 3},
        "optimiser": {"learning_rate": 0.01},
    }  # fmt: skip


def test_it_moves_what_is_learned_and_a_run_goes_on_with_its_weights(given: dict[str, Any], tmp_path: Path) -> None:
    """The text has a loss of some 5 nats, the labels of 0.7, so the labels gain: their loss falls faster."""
    whole, parts = whole_and_parts(recipe_for(given, model=None, settings={}), tmp_path, after=6)
    assert losses_of(whole, "train", "validation") == losses_of(parts, "train", "validation")
    plain = recipe_for({**given, "regularisers": "none"}, model=None, settings={})
    for _ in run(plain, tmp_path / "plain"):
        pass
    tone = [record.metrics["loss/tone"] for folder in (whole, RunFolder(tmp_path / "plain")) for record in folder.read_records()[-2:]
            if record.kind == "validation"]  # fmt: skip
    assert len(tone) == 2
    assert tone[0] < tone[1]


@pytest.mark.parametrize("schedule", ["lifelong", "epochs"])
def test_it_is_about_tasks_that_are_learned_together(given: dict[str, Any], schedule: str) -> None:
    tasks = [{**task, "objective": None} for task in given["tasks"][: 1 if schedule == "epochs" else 2]]
    recipe = recipe_for({**given, "tasks": tasks, "schedule": schedule}, model=None, settings={})
    with pytest.raises(InputError, match="uncertainty weighs tasks that are learned together"):
        prepare(recipe)


def test_tasks_of_one_kind_are_read_apart_for_it(given: dict[str, Any]) -> None:
    tasks = [{**task, "objective": None} for task in given["tasks"]]
    found = prepare(recipe_for({**given, "tasks": tasks}, model=None, settings={}))
    assert found.recipe.schedule.apart
