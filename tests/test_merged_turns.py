"""One LoRA for tasks in turn: an orthogonal start for each, and a part of what it has moved when it has ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file
from torch import nn

from test_previous import given_of
from test_tasks import problems_of
from tuneful.adapters import Lora
from tuneful.adapters.turns import AttachedMerged, attach_merged, orthonormal
from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Example, Layout, Message, Place, Row, Step
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import NextToken
from tuneful.recipe import from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.forget import recipe_to_forget
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.run.tuned import open_model
from tuneful.testing import check_adapter, tiny_policy, tiny_rows
from work import losses_of, whole_and_parts, write_rows

MERGED = {"kind": "lora", "rank": 3, "turns": "merged"}


class Merging:
    """An adapter as tests attach them."""

    freezes = True

    def __init__(self, lora: Lora) -> None:
        self.lora = lora

    def rate(self, width: int) -> float:
        return self.lora.rate(width)

    def attach(self, module: Any, *, labels: bool) -> AttachedMerged:
        return attach_merged(self.lora, module, labels=labels)


def factors(policy: Policy) -> list[nn.Parameter]:
    """A and B of one layer."""
    return [weight for name, weight in policy.trainable().items() if "lora_" in name][:2]


def test_rows_made_orthonormal_by_hand() -> None:
    """(3, 4) is 5 times (0.6, 0.8); of (0, 2) and (1, 3) the second is 3 times the first, made one long, and (1, 0)."""
    row, rows = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0], [1.0, 3.0]])
    assert orthonormal(row).tolist() == [[pytest.approx(5.0)]]
    assert row[0].tolist() == pytest.approx([0.6, 0.8])
    turn = orthonormal(rows)
    torch.testing.assert_close(rows, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(turn, torch.tensor([[2.0, 0.0], [3.0, 1.0]]))


def test_what_is_merged_by_hand(generator_folder: Path) -> None:
    """A of length 5; B is 2 when the first task has ended and 10 beside A of length 1. The second ends at 20, of which
    10 + 10 / sqrt(2) stay; the third starts from 20 and ends there: 10 / sqrt(2) + 10, and a part 1 / sqrt(3) on."""
    policy, _ = tiny_policy(generator_folder, Merging(Lora(rank=1)))
    attached: Any = policy.attached
    down, up = factors(policy)

    def put(value: float) -> None:
        with torch.no_grad():
            up.zero_()
            up[0, 0] = value

    with torch.no_grad():
        down.zero_()
        down[0, :2] = torch.tensor([3.0, 4.0])
    attached.begin_task(0)
    put(2)
    attached.end_task(0)
    assert up[0, 0].item() == 2
    attached.begin_task(1)
    assert down[0, :2].tolist() == pytest.approx([0.6, 0.8])
    assert up[0, 0].item() == pytest.approx(10)
    put(20)
    attached.begin_task(1)  # gone on with
    attached.end_task(1)
    merged = 10 + 10 / math.sqrt(2)
    assert up[0, 0].item() == pytest.approx(merged)
    attached.begin_task(2)
    assert up[0, 0].item() == pytest.approx(20)
    attached.end_task(2)
    assert up[0, 0].item() == pytest.approx(merged + (20 - merged) / math.sqrt(3))


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_it_is_an_adapter(request: pytest.FixtureRequest, layout: Layout) -> None:
    folder = request.getfixturevalue("generator_folder" if layout.writes else "reader_folder")
    check_adapter(Merging(Lora(rank=3, dropout=0.3)), folder, layout)
    check_adapter(Merging(Lora(rank=3, rslora=True, top_layers=1)), folder, layout)


def test_a_task_starts_from_what_was_tuned_and_says_the_same(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, Merging(Lora(rank=3)))
    attached: Any = policy.attached
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
    disturb(policy)
    attached.end_task(0)
    attached.begin_task(1)
    disturb(policy, 2)
    tuned = policy.read(batch.inputs).hidden.clone()
    attached.end_task(1)
    merged = policy.read(batch.inputs).hidden.clone()
    assert not torch.allclose(merged, tuned, atol=1e-2)
    state = {name: tensor.clone() for name, tensor in attached.state().items()}
    attached.begin_task(2)
    for name, weight in policy.trainable().items():
        if "lora_A" in name:
            torch.testing.assert_close(weight @ weight.T, torch.eye(3))
    torch.testing.assert_close(policy.read(batch.inputs).hidden, tuned, atol=1e-4, rtol=1e-4)
    attached.load(state)  # back to where the second had ended
    torch.testing.assert_close(policy.read(batch.inputs).hidden, merged)
    attached.begin_task(2)
    torch.testing.assert_close(policy.read(batch.inputs).hidden, tuned, atol=1e-4, rtol=1e-4)


def disturb(policy: Policy, seed: int = 1) -> None:
    policy.module.eval()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=chance))


def brief(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    """Three tasks of four updates each, with nothing measured."""
    given = given_of(folder, model, adapter=MERGED, **more)
    return {**given, "schedule": {"kind": "lifelong", "steps": 12, "replay": 0}, "evaluate": "none"}


@pytest.mark.parametrize("after", [3, 5])
def test_a_stopped_run_merges_the_same(tmp_path: Path, reader_folder: Path, after: int) -> None:
    """Between two tasks, and within the second."""
    given = brief(tmp_path, reader_folder, regularisers=[{"kind": "ewc", "strength": 0.1, "rows": 4}])
    whole, resumed = whole_and_parts(from_mapping(given, [])[0], tmp_path, after=after)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    ours, theirs = (load_file(folder.adapter / "adapter_model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    last = load_file(sorted(whole.checkpoints.glob("step-12/weights.safetensors"))[-1])
    kept = {name.split("/", 1)[1]: value for name, value in last.items() if name.startswith("tuned/")}
    assert kept
    assert PeftConfig.from_pretrained(str(whole.adapter)).r == 3


def test_learn_merges_with_what_the_run_had_learned(tmp_path: Path, reader_folder: Path) -> None:
    """With no update to speak of, it says what it said."""
    given = brief(tmp_path, reader_folder)
    new = given["tasks"].pop()["data"]["source"]
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping(given, [])[0], folder.path))
    texts = ["where is my parcel", "away with it"]
    before = open_model(str(folder.path)).scores(texts)
    overrides = ["schedule.steps=1", "schedule.replay=0", "optimiser.learning_rate=1e-12"]
    list(teach(folder.path, new, name="third", overrides=overrides))
    after = open_model(str(folder.path)).scores(texts)
    assert after[:, : before.shape[1]] == pytest.approx(before, abs=1e-4)
    rows = write_rows(tmp_path / "gone.jsonl", [{"text": "away with it", "label": "refund"}])
    unlearning: Any = recipe_to_forget(folder, str(rows), [], lambda _: None).adapter
    assert (unlearning.rank, unlearning.turns) == (3, "same")


def test_what_is_refused(tmp_path: Path, reader_folder: Path) -> None:
    mixed = {**given_of(tmp_path, reader_folder), "adapter": MERGED, "schedule": "mixture"}
    assert "adapter.turns: is for tasks that are learned one after the other" in problems_of(mixed)
    with pytest.raises(RecipeError, match="33 directions cannot be orthogonal in a layer that reads 32 numbers"):
        tiny_policy(reader_folder, Merging(Lora(rank=33)), layout=Layout.LABELS)


class Once:
    def __init__(self, batch: Batch, count: int) -> None:
        self.steps_of = [Step([batch])] * count

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        yield from self.steps_of


def forgotten(folder: Path, seed: int, *, merges: bool) -> tuple[float, float]:
    """Mean losses of six tasks of six random answers each, when the last has been learned: of the earlier ones, and of
    all."""
    torch.manual_seed(seed)
    adapter: Any = Merging(Lora(rank=4)) if merges else Lora(rank=4)
    policy, loaded = tiny_policy(folder, adapter)
    letters = np.random.default_rng(seed).choice(list("abcdefghij"), (36, 4))
    rows = []
    for number, word in enumerate(letters):
        turns = [Message("user", f"say {number}"), Message("assistant", "".join(word))]
        encoded = loaded.processor.conversation(turns, [])[0]
        rows.append(Row(Example(Place("tiny", number)), encoded.ids, encoded.learn))
    batches = [Collator(Layout.TOKENS)(rows[start : start + 6]) for start in range(0, 36, 6)]
    objective: Any = NextToken()
    for number, batch in enumerate(batches):
        if isinstance(policy.attached, AttachedMerged):
            policy.attached.begin_task(number)
        updater = Updater(AdamW(learning_rate=5e-3, decay="constant"), policy.trainable(), steps=15)
        list(fit(policy, {"main": objective}, Once(batch, 15), updater))
        if isinstance(policy.attached, AttachedMerged):
            policy.attached.end_task(number)
    policy.module.eval()
    with torch.no_grad():
        found = [float(objective(policy, batch).losses.sum() / batch.units) for batch in batches]
    return float(np.mean(found[:-1])), float(np.mean(found))


def test_less_is_forgotten_of_six_tasks(generator_folder: Path) -> None:
    """The number it exists for, and the mean over all tasks, the last of which is learned less."""
    plain, merged = (np.mean([forgotten(generator_folder, seed, merges=merges) for seed in range(2)], 0)
                     for merges in (False, True))  # fmt: skip
    print("earlier tasks, all tasks:", plain.round(3), merged.round(3))
    assert merged[0] < 0.9 * plain[0]
    assert merged[1] < 0.95 * plain[1]
