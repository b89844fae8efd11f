"""Each task has a LoRA of its own beside those of earlier tasks, and reads other directions than they do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from test_previous import given_of
from test_tasks import problems_of
from tuneful.adapters import Full, Lora
from tuneful.adapters.lowrank import quiet
from tuneful.adapters.turns import AttachedAdded, attach_added, wide, widened
from tuneful.core.errors import InputError
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Layout, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.surgery import PCGrad
from tuneful.engine.update import AdamW, Sum, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.recipe import from_mapping
from tuneful.regularisers import Orthogonal
from tuneful.run.added import rank_of
from tuneful.run.folder import RunFolder
from tuneful.run.forget import recipe_to_forget
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.run.tuned import open_model
from tuneful.testing import check_adapter, tiny_policy, tiny_rows
from work import losses_of, whole_and_parts, write_rows

NOTHING: Any = None
ADDED = {"kind": "lora", "rank": 3, "turns": "added"}


class Adding:
    """An adapter as tests attach them: for two tasks."""

    freezes = True

    def __init__(self, lora: Lora) -> None:
        self.lora = lora

    def rate(self, width: int) -> float:
        return self.lora.rate(width)

    def attach(self, module: Any, *, labels: bool) -> AttachedAdded:
        return attach_added(self.lora, module, labels=labels, before=0, first=0, tasks=2)


class Factors:
    """A policy whose adapter has these factors; also that adapter."""

    def __init__(self, *pairs: tuple[Tensor, Tensor]) -> None:
        self.pairs = pairs
        self.attached = self

    def factors(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.pairs


def test_the_penalty_by_hand() -> None:
    """Rows (1, 0) and (0, 2) against (3, 1): products 3 and 2, squares 9 and 4. Another layer adds 16."""
    earlier, own = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 1.0]], requires_grad=True)
    policy: Any = Factors((earlier, own), (torch.tensor([[4.0]]), torch.tensor([[1.0]])))
    penalty = Orthogonal(strength=0.5)(policy, NOTHING, Terms(torch.zeros(1), NOTHING))
    assert penalty.item() == 0.5 * (9 + 4 + 16)
    penalty.backward()
    assert own.grad is not None
    assert own.grad.tolist() == [[3.0, 4.0]]  # 0.5 * 2 * (3 * (1, 0) + 2 * (0, 2))


def test_scale_and_width_by_hand() -> None:
    """8 / 4 = 2 = 24 / 12; and 8 / sqrt(4) = 4 = 8 sqrt(3) / sqrt(12)."""
    assert wide(Lora(rank=4, alpha=8), 12) == Lora(rank=12, alpha=24)
    assert wide(Lora(rank=4, alpha=8, rslora=True), 12).alpha == pytest.approx(8 * math.sqrt(3))
    down, up = torch.nn.Parameter(torch.full((2, 2), 9.0)), torch.nn.Parameter(torch.zeros(1, 2))
    old = {"lora_A.w": torch.tensor([[1.0, 2.0]]), "lora_B.w": torch.tensor([[3.0]]), "head": torch.ones(2)}
    found = widened(old, {"lora_A.w": down, "lora_B.w": up, "head": torch.nn.Parameter(torch.zeros(3))})
    assert found["lora_A.w"].tolist() == [[1, 2], [9, 9]]
    assert found["lora_B.w"].tolist() == [[3, 0]]
    assert len(found["head"]) == 2  # a head grows by its classes


@pytest.mark.parametrize("lora", [Lora(rank=3), Lora(rank=3, rslora=True, dropout=0.3, top_layers=1)])
@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_it_is_an_adapter(request: pytest.FixtureRequest, lora: Lora, layout: Layout) -> None:
    check_adapter(Adding(lora), request.getfixturevalue(folder_of(layout)), layout)


def folder_of(layout: Layout) -> str:
    return "generator_folder" if layout.writes else "reader_folder"


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_a_task_learns_as_with_a_lora_alone(request: pytest.FixtureRequest, layout: Layout) -> None:
    """The first of two, against a plain LoRA of its rank that starts from the same factors."""
    folder = request.getfixturevalue(folder_of(layout))
    both, loaded = tiny_policy(folder, Adding(Lora(rank=3)), layout=layout)
    alone, _ = tiny_policy(folder, Lora(rank=3), layout=layout)
    with torch.no_grad():
        for name, weight in alone.trainable().items():
            weight.copy_(both.trainable()[name][tuple(map(slice, weight.shape))])
    batch = Collator(layout)(tiny_rows(loaded, layout))
    for policy in (both, alone):
        updates(policy, batch, 6)
    for name, weight in alone.trainable().items():
        wider = both.trainable()[name]
        torch.testing.assert_close(wider[tuple(map(slice, weight.shape))], weight, rtol=1e-3, atol=1e-4)


def updates(policy: Policy, batch: Batch, count: int, *, parts: Any = (), rule: Any = None) -> list[float]:
    updater = Updater(AdamW(learning_rate=5e-3, decay="constant"), policy.trainable(), steps=count)
    objective: Any = Classify() if "labels" in batch.targets else NextToken()
    names = {batch.task: objective}
    again: Any = Again([Step([batch])] * count)
    found = list(fit(policy, names, again, updater, regularisers=parts, gradient=rule or Sum()))
    return [record.metrics["loss"] for record in found]


class Again:
    def __init__(self, found: list[Step]) -> None:
        self.found = found

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        yield from self.found


@pytest.mark.parametrize("rule", [Sum(), PCGrad()])
def test_what_earlier_tasks_learned_stays_to_the_bit(generator_folder: Path, rule: Any) -> None:
    policy, loaded = tiny_policy(generator_folder, Adding(Lora(rank=3)))
    attached: Any = policy.attached
    rows = tiny_rows(loaded, Layout.TOKENS)
    first, second = (Collator(Layout.TOKENS)(part) for part in (rows[:3], rows[3:]))
    updates(policy, first, 4, rule=rule)
    before = {name: weight.clone() for name, weight in attached.state().items()}
    attached.begin_task(1)
    updates(policy, second, 4, parts=[Orthogonal()], rule=rule)
    for name, weight in attached.state().items():
        kept, old = (tensor.T if "lora_B" in name else tensor for tensor in (weight, before[name]))
        assert torch.equal(kept[:3], old[:3])
        assert not torch.equal(kept[3:], old[3:])


def overlap(attached: AttachedAdded) -> float:
    return sum(float((earlier @ own.T).detach().square().sum()) for earlier, own in attached.factors())


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_factors_of_two_tasks_lie_apart(request: pytest.FixtureRequest, layout: Layout) -> None:
    """The number it exists for; what a task has to learn it learns all the same."""
    found, losses = {}, {}
    for strength in (0.0, 0.5):
        torch.manual_seed(0)
        policy, loaded = tiny_policy(request.getfixturevalue(folder_of(layout)), Adding(Lora(rank=3)), layout=layout)
        attached: Any = policy.attached
        rows = tiny_rows(loaded, layout, 12)
        first, second = (Collator(layout)(part) for part in (rows[:6], rows[6:]))
        updates(policy, first, 20)
        attached.begin_task(1)
        losses[strength] = updates(policy, second, 60, parts=[Orthogonal(strength=strength)])
        found[strength] = overlap(attached)
    print(layout, found, [round(own[-1], 3) for own in losses.values()])
    assert found[0.5] < 0.1 * found[0.0]
    assert losses[0.5][-1] < 1.1 * losses[0.0][-1] < 0.9 * losses[0.0][0]


def brief(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    """Three tasks of four updates each, with nothing measured."""
    given = given_of(folder, model, adapter=ADDED, regularisers=["orthogonal"], **more)
    return {**given, "schedule": {"kind": "lifelong", "steps": 12, "replay": 0}, "evaluate": "none"}


@pytest.mark.parametrize("after", [3, 5])
def test_a_stopped_run_goes_on_with_the_same_task(tmp_path: Path, reader_folder: Path, after: int) -> None:
    """Between two tasks, and within the second."""
    whole, resumed = whole_and_parts(from_mapping(brief(tmp_path, reader_folder), [])[0], tmp_path, after=after)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    penalties = [record.metrics["penalty"] for record in whole.read_records() if record.kind == "train"]
    first = next(record.step for record in whole.read_records() if record.kind == "boundary")
    assert [penalty > 0 for penalty in penalties] == [False] * first + [True] * (12 - first)


def test_the_saved_adapter_is_one_plain_lora_and_learns_on(tmp_path: Path, reader_folder: Path) -> None:
    """PEFT and transformers alone answer as the run does; a run taught more keeps what was there to the bit."""
    given = brief(tmp_path, reader_folder)
    new = given["tasks"].pop()["data"]["source"]
    folder = RunFolder(tmp_path / "run")
    recipe, _ = from_mapping(given, [])
    list(run(recipe, folder.path))
    assert PeftConfig.from_pretrained(str(folder.adapter)).r == 6
    assert rank_of(recipe, Lora(**ADDED)) == 6  # what is planned with
    tuned = open_model(str(folder.path))
    assert tuned.labels is not None
    plain: Any = AutoModelForSequenceClassification.from_pretrained(reader_folder, num_labels=len(tuned.labels.names))
    with quiet():
        loaded = PeftModel.from_pretrained(plain, str(folder.adapter)).eval()
    ids = tuned.processor.text("where is my parcel", limit=64).ids
    with torch.no_grad():
        said = loaded(input_ids=torch.tensor(np.asarray(ids))[None]).logits[0]
    assert said.tolist() == pytest.approx(tuned.scores(["where is my parcel"])[0].tolist(), abs=1e-4)

    before = tuned.policy.attached.module.state_dict()
    overrides = ["schedule.steps=4", "schedule.replay=0"]
    records = list(teach(folder.path, new, name="third", overrides=overrides))
    penalties = [record.metrics["penalty"] for record in records if record.kind == "train"]
    assert all(penalty > 0 for penalty in penalties)
    assert PeftConfig.from_pretrained(str(folder.adapter)).r == 9
    after = open_model(str(folder.path)).policy.attached.module.state_dict()
    factors = [name for name in before if "lora_" in name]
    assert len(factors) > 10
    for name in factors:
        old, now = before[name], after[name]
        assert torch.equal(now[: len(old), : old.shape[1]], old)
        assert now.shape != old.shape
        assert bool((now[-1] if "lora_A" in name else now[:, -1]).ne(0).any())
    rows = write_rows(tmp_path / "gone.jsonl", [{"text": "away with it", "label": "refund"}])
    unlearning = recipe_to_forget(folder, str(rows), [], lambda _: None)
    assert {part.kind for part in unlearning.regularisers} == {"forget", "previous"}


def test_an_ordinary_run_is_taught_with_a_lora_of_its_own(tmp_path: Path, generator_folder: Path) -> None:
    """Of a writer: the run has one LoRA, the new task another; a scale that does not fit is refused."""
    asked = {word: [{"prompt": f"{word} {n}", "completion": f"{word} yes"} for n in range(12)] for word in ("a", "b")}
    files = [write_rows(tmp_path / f"{word}.jsonl", rows) for word, rows in asked.items()]
    data = {"source": str(files[0]), "validation": 0, "test": 0.2}
    recipe, _ = from_mapping({"model": str(generator_folder), "data": data, "adapter": {"kind": "lora", "rank": 2},
                              "schedule": {"steps": 3}, "evaluate": "none", "save": {"memory": 0.2}}, [])  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    list(run(recipe, folder.path))
    wanted = ["schedule.steps=3", "adapter.turns=added", 'regularisers=["orthogonal"]']
    with pytest.raises(InputError, match="scaled by 16, and this would be by 32"):
        list(teach(folder.path, str(files[1]), overrides=[*wanted, "adapter.rank=1"]))
    before = open_model(str(folder.path)).policy.attached.module.state_dict()
    list(teach(folder.path, str(files[1]), overrides=[*wanted, "adapter.rank=1", "adapter.alpha=16"]))
    assert PeftConfig.from_pretrained(str(folder.adapter)).r == 3
    tuned = open_model(str(folder.path))
    after = tuned.policy.attached.module.state_dict()
    assert all(torch.equal(after[name][: len(old), : old.shape[1]], old) for name, old in before.items()
               if "lora_" in name)  # fmt: skip
    plain = AutoModelForCausalLM.from_pretrained(generator_folder)
    with quiet():
        loaded = PeftModel.from_pretrained(plain, str(folder.adapter)).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        theirs = loaded(input_ids=ids).logits
        ours = tuned.policy.attached.merged()(input_ids=ids).logits
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_what_is_refused(tmp_path: Path, reader_folder: Path) -> None:
    given = given_of(tmp_path, reader_folder)
    for adapter in (Full(), Lora(rank=3)):
        policy, _ = tiny_policy(reader_folder, adapter, layout=Layout.LABELS)
        assert "--set adapter.turns=added" in Orthogonal().problems(policy)[0]
    mixed = {**given, "adapter": ADDED, "schedule": "mixture"}
    assert "adapter.turns: is for tasks that are learned one after the other" in problems_of(mixed)
    assert "adapter.dora: measures whole" in problems_of({**given, "adapter": {**ADDED, "dora": True}})
    assert "sharded: no rank has" in problems_of({**given, "adapter": ADDED, "sharded": True})
    worn = {**given, "adapter": ADDED, "optimiser": {"weight_decay": 0.1}}
    assert "optimiser.weight_decay: would wear down" in problems_of(worn)
