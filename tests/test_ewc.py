"""Weights that earlier tasks need stay near what they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from test_previous import given_of
from test_tasks import problems_of
from tuneful.adapters import Full, Lora, TopLayers
from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.used import of_all_rows, of_used_rows
from tuneful.adapters.weights import PullOfProduct
from tuneful.core.linear import quantise_layers
from tuneful.core.policy import Policy
from tuneful.core.types import Boundary, Layout, Row, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.recipe import from_mapping
from tuneful.regularisers import Ewc, consolidation
from tuneful.run.folder import RunFolder
from tuneful.run.forget import recipe_to_forget
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.schedules.epochs import Cut
from tuneful.schedules.lifelong import Lifelong
from tuneful.testing import tiny_policy, tiny_rows
from work import losses_of, whole_and_parts, write_rows

HELD = [{"kind": "ewc", "strength": 0.1, "rows": 8}]
NOBODY: Any = None
NOTHING = Terms(torch.zeros(1), NOBODY)


def begun(**settings: Any) -> Any:
    return Ewc(**settings).begin(np.zeros(0))


def test_the_penalty_by_hand() -> None:
    """From (1, 2) to (1.5, 1) with importance (2, 4): 2 * 0.25 + 4 * 1 = 4.5, of which strength / 2."""
    layer = nn.Linear(2, 1, bias=False)
    policy = Policy(NOBODY, AttachedWeights(layer, list(layer.parameters())))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    held = begun(strength=0.5)
    assert held(policy, NOBODY, NOTHING).item() == 0  # no task has ended
    held.recall(policy, {"weight": torch.tensor([[2.0, 4.0]])})
    assert held(policy, NOBODY, NOTHING).item() == 0
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.5, 1.0]]))
    for _ in range(2):  # in every batch of an update
        penalty = held(policy, NOBODY, NOTHING)
        assert penalty.item() == pytest.approx(0.25 * 4.5)
        layer.weight.grad = None
        (3 * penalty).backward()
        assert layer.weight.grad.tolist() == [[3 * 0.5 * 2 * 0.5, 3 * 0.5 * 4 * -1.0]]


def test_of_lora_it_is_about_the_product() -> None:
    """2 B A is (6, 12; 0, 0) and was (2, 0; 2, 0): apart by (4, 12; -2, 0), of which (1, 0.5; 2, 7) count: 16 + 72 + 8.
    Factors apart would say something else."""
    down, up = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[3.0], [0.0]], requires_grad=True)
    then = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0], [1.0]])
    pulled = PullOfProduct.apply(down, up, then, 2.0, torch.tensor([[1.0, 0.5], [2.0, 7.0]]))
    assert pulled.item() == 96
    pulled.backward()
    assert down.grad is not None
    assert down.grad.tolist() == [[48.0, 72.0]]
    assert up.grad is not None
    assert up.grad.tolist() == [[64.0], [-16.0]]


def disturbed(policy: Policy, seed: int = 0) -> None:
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=chance))


def whole_weights(policy: Policy) -> dict[str, Tensor]:
    """Of a model with or without LoRA, by the names of one without."""
    return {name: weight.detach() for name, weight in policy.attached.merged().named_parameters()}


def plain(name: str) -> str:
    return name.replace(".base_layer", "").replace("modules_to_save.default.", "")


@pytest.mark.parametrize(
    "adapter", [Lora(rank=4), Lora(rank=4, rslora=True, top_layers=1), Full(), TopLayers(layers=1)]
)
@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_it_pulls_whole_weights_of_any_adapter(request: pytest.FixtureRequest, adapter: Any, layout: Layout) -> None:
    """Against the sum over whole weights made one after the other, with its slope by differences."""
    policy, _ = tiny_policy(request.getfixturevalue("generator_folder" if layout.writes else "reader_folder"), adapter,
                            layout=layout)  # fmt: skip
    disturbed(policy)
    before, state = whole_weights(policy), {name: weight.clone() for name, weight in policy.attached.state().items()}
    with policy.attached.sloped() as sloped:
        chance = torch.Generator().manual_seed(1)
        counts = {name: torch.rand(weight.shape, generator=chance) for name, weight in sloped.items()}
    disturbed(policy, 2)

    def expected() -> float:
        now = whole_weights(policy)
        return sum(float((count * (now[plain(name)] - before[plain(name)]).square()).sum())
                   for name, count in counts.items())  # fmt: skip

    pulled = policy.attached.pull(state, counts)
    assert pulled.item() == pytest.approx(expected(), rel=1e-4)
    pulled.backward()
    weight = list(policy.trainable().values())[2]
    assert weight.grad is not None
    slope = float(weight.grad.flatten()[1])
    with torch.no_grad():
        weight.view(-1)[1] += 1e-2
        more = expected()
        weight.view(-1)[1] -= 2e-2
    assert (more - expected()) / 2e-2 == pytest.approx(slope, rel=2e-2, abs=1e-3)


@pytest.mark.parametrize("adapter", [Lora(rank=4, dropout=0.5), Full()])
@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_importance_is_that_of_rows_one_by_one(request: pytest.FixtureRequest, adapter: Any, layout: Layout) -> None:
    """Against a model whose own weights are what the other's come to."""
    folder = request.getfixturevalue("generator_folder" if layout.writes else "reader_folder")
    policy, loaded = tiny_policy(folder, adapter, layout=layout)
    disturbed(policy)
    objective: Any = NextToken() if layout.writes else Classify()
    rows = [Collator(layout)([row]) for row in tiny_rows(loaded, layout)]
    policy.module.train()
    before = {name: weight.requires_grad for name, weight in policy.module.named_parameters()}
    found = consolidation.importance(policy, Boundary("one", rows, None, objective), 4)
    assert {name: weight.requires_grad for name, weight in policy.module.named_parameters()} == before
    assert policy.module.training
    assert all(weight.grad is None for weight in policy.module.parameters())
    answers = policy.read(rows[5].inputs).hidden  # products are made again after layers went another way

    other, _ = tiny_policy(folder, Full(), layout=layout)
    weights = other.trainable()
    with torch.no_grad():
        for name, value in whole_weights(policy).items():
            weights[name].copy_(value)
    other.module.eval()
    if not getattr(adapter, "dropout", 0):
        assert torch.allclose(other.read(rows[5].inputs).hidden, answers, atol=1e-4)
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in rows[:4]:
        loss = (objective(other, batch).losses * batch.weights).sum()
        for name, slope in zip(
            weights, torch.autograd.grad(loss, list(weights.values()), allow_unused=True), strict=True
        ):
            squares[name] += 0 if slope is None else slope.square()
    mean = sum(float(squares[plain(name)].sum()) for name in found) / sum(map(torch.numel, found.values()))
    for name, square in found.items():
        torch.testing.assert_close(square, squares[plain(name)] / mean, rtol=1e-2, atol=1e-4)
    assert sum(float(square.sum()) for square in found.values()) == pytest.approx(
        sum(map(torch.numel, found.values())), rel=1e-3
    )


def test_ranks_share_the_rows_out(reader_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, loaded = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    rows = [Collator(Layout.LABELS)([row]) for row in tiny_rows(loaded, Layout.LABELS)]
    summed: list[list[Tensor]] = []
    monkeypatch.setattr(consolidation, "add_up", lambda tensors: summed.append([tensor.clone() for tensor in tensors]))
    for number, ranks in ((0, 1), (0, 2), (1, 2)):
        monkeypatch.setattr(consolidation, "rank", lambda number=number: number)
        monkeypatch.setattr(consolidation, "world", lambda ranks=ranks: ranks)
        consolidation.importance(policy, Boundary("one", rows, None, Classify()), 5)
    for alone, one, other in zip(*summed, strict=True):
        torch.testing.assert_close(alone, one + other)


def test_classes_to_come_have_no_importance_and_a_head_may_grow(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    rows = [row for row in tiny_rows(loaded, Layout.LABELS) if row.target < 2]
    schedule = Lifelong(replay=0).over(named(rows, "one"), Collator(Layout.LABELS, None), Cut(2, 100), total=4, seed=0)
    boundary = schedule.boundary(0)
    assert len(boundary.batches) == 4
    assert [len(batch.weights) for batch in boundary.batches[:2]] == [1, 1]
    assert all(batch.classes == slice(0, 2) for batch in boundary.batches)
    held = begun(rows=3)
    held.consolidate(policy, Boundary("one", boundary.batches, 2, Classify()))
    head = held.kept()["classifier.weight"]
    assert bool((head[:2] != 0).any())
    assert not bool((head[2:] != 0).any())
    again = begun()
    again.recall(
        policy, {name: value[:2] if name.startswith("classifier") else value for name, value in held.kept().items()}
    )
    for name, value in held.kept().items():
        assert torch.equal(again.kept()[name], value)


def named(rows: list[Row], task: str) -> list[Row]:
    return [replace(row, example=replace(row.example, task=task)) for row in rows]


def test_importance_of_tasks_adds_up(reader_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4, then 0.5 * 4 + 8."""
    layer = nn.Linear(1, 1, bias=False)
    policy = Policy(NOBODY, AttachedWeights(layer, list(layer.parameters())))
    given = iter([4.0, 8.0])
    monkeypatch.setattr(consolidation, "importance", lambda *_: {"weight": torch.tensor([[next(given)]])})
    held = begun(decay=0.5)
    for _ in range(2):
        held.consolidate(policy, Boundary("one"))
    assert held.kept()["weight"].tolist() == [[10.0]]


def test_rows_of_an_embedding_are_found_again(reader_folder: Path) -> None:
    """Another run learns other tokens."""
    first, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    second, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    first.attached.see(torch.tensor([3, 5]))  # type: ignore[attr-defined]
    second.attached.see(torch.tensor([5, 7, 9]))  # type: ignore[attr-defined]
    place = "bert.embeddings.word_embeddings"
    kept = of_all_rows(first.module, {f"{place}.rows": torch.tensor([[3.0], [5.0]]).expand(2, 32)}, {})
    assert list(kept) == [f"{place}.weight"]
    back = of_used_rows(second.module, kept)
    assert back[f"{place}.rows"][:, 0].tolist() == [5, 0, 0]
    later = of_all_rows(second.module, {f"{place}.rows": torch.tensor([[50.0], [7.0], [9.0]]).expand(3, 32)}, kept)
    assert later[f"{place}.weight"][[3, 5, 7, 9, 11], 0].tolist() == [3, 50, 7, 9, 0]


def brief(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    """Three tasks of four updates each, with nothing measured."""
    given = given_of(folder, model, **more)
    return {**given, "schedule": {"kind": "lifelong", "steps": 12, "replay": 0}, "evaluate": "none"}


@pytest.mark.parametrize(("after", "adapter"), [(3, "full"), (5, "lora")])
def test_a_stopped_run_holds_the_same_weights(tmp_path: Path, reader_folder: Path, after: int, adapter: str) -> None:
    """Between two tasks, and within the second."""
    recipe, _ = from_mapping(brief(tmp_path, reader_folder, regularisers=HELD, adapter=adapter), [])
    whole, resumed = whole_and_parts(recipe, tmp_path, after=after)
    assert losses_of(whole, "train") == losses_of(resumed, "train")
    penalties = [record.metrics["penalty"] for record in whole.read_records() if record.kind == "train"]
    first, second, _ = (record.step for record in whole.read_records() if record.kind == "boundary")
    # When a task has just ended, weights are still what they were then.
    assert [step for step, penalty in enumerate(penalties) if penalty <= 0] == [*range(first + 1), second]
    kept = [load_file(folder.memory / "ewc.safetensors") for folder in (whole, resumed)]
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())


def test_no_strength_changes_nothing(tmp_path: Path, reader_folder: Path) -> None:
    losses = []
    for number, regularisers in enumerate([[], [{"kind": "ewc", "strength": 0}]]):
        given = brief(tmp_path, reader_folder, regularisers=regularisers, adapter="full")
        folder = RunFolder(tmp_path / str(number))
        list(run(from_mapping(given, [])[0], folder.path))
        losses.append(losses_of(folder, "train"))
        assert not (folder.memory / "ewc.safetensors").exists()
    assert losses[0] == losses[1]


def taught(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[list[float], list[str]]:
    """Penalties of learning a third task, and what importance was found of: which task, how many rows."""
    given = brief(tmp_path, model, **more)
    new = given["tasks"].pop()["data"]["source"]
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping(given, [])[0], folder.path))
    asked: list[str] = []
    found = consolidation.importance

    def noted(policy: Policy, boundary: Boundary, most: int) -> dict[str, Tensor]:
        asked.append(f"{boundary.task} {len(boundary.batches)}")
        return found(policy, boundary, most)

    monkeypatch.setattr(consolidation, "importance", noted)
    overrides = ["schedule.steps=6", "schedule.replay=0", 'regularisers=[{"kind": "ewc", "strength": 0.1}]']
    records = list(teach(folder.path, new, name="third", overrides=overrides))
    return [record.metrics["penalty"] for record in records if record.kind == "train"], asked


def test_learn_finds_importance_again(tmp_path: Path, reader_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    penalties, asked = taught(tmp_path, reader_folder, monkeypatch, regularisers=HELD, adapter="full")
    assert penalties[0] == 0
    assert all(penalty > 0 for penalty in penalties[1:])
    assert [task.split()[0] for task in asked] == ["third"]  # of earlier tasks it was kept
    now, before = (load_file(tmp_path / place / "ewc.safetensors") for place in ("run/memory", "run/before/memory"))
    assert sum(float(value.sum()) for value in now.values()) > 1.3 * sum(
        float(value.sum()) for value in before.values()
    )
    assert any(name.endswith("word_embeddings.weight") for name in now)
    rows = write_rows(tmp_path / "gone.jsonl", [{"text": "away with it", "label": "refund"}])
    unlearning = recipe_to_forget(RunFolder(tmp_path / "run"), str(rows), [], lambda _: None)
    assert {part.kind for part in unlearning.regularisers} == {"forget", "previous"}  # ewc would hold what goes


def test_learn_asks_the_rows_that_were_kept(
    tmp_path: Path, reader_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that did not look for importance."""
    penalties, asked = taught(tmp_path, reader_folder, monkeypatch, adapter="lora")
    assert penalties[0] == 0
    assert all(penalty > 0 for penalty in penalties[1:])
    assert asked[0].startswith("t1 ")
    assert int(asked[0].split()[1]) >= 4
    assert len(asked) == 2


def test_what_is_refused(tmp_path: Path, reader_folder: Path, generator_folder: Path) -> None:
    rows = [{"text": f"a {number}", "label": str(number % 2)} for number in range(20)]
    source = str(write_rows(tmp_path / "d.jsonl", rows))
    given = {"model": str(reader_folder), "data": source, "regularisers": ["ewc"]}
    assert "ewc is about earlier tasks; take schedule: lifelong" in problems_of(given)
    assert "ewc measures whole weights; leave out sharded and dora" in problems_of({**given, "sharded": True})
    policy, _ = tiny_policy(generator_folder, Lora(rank=4))
    assert not Ewc().problems(policy)
    quantise_layers(policy.module, "int8", "cpu")
    assert "leave out quantise" in Ewc().problems(policy)[0]


class Fixed:
    def __init__(self, *steps: Step | Boundary) -> None:
        self._steps = steps

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step | Boundary]:
        yield from self._steps


@pytest.mark.parametrize(("adapter", "most"), [(Lora(rank=4), 0.5), (Full(), 1.0)])
def test_less_is_forgotten_and_the_new_is_learned(reader_folder: Path, adapter: Any, most: float) -> None:
    """Two tasks, two draws of labels: losses of both when the second has been learned; 1.1 is chance."""
    plain, held = (np.mean([in_turn(reader_folder, adapter, strength, seed) for seed in range(2)], 0)
                   for strength in (0.0, 10.0))  # fmt: skip
    assert held[0] < 0.7 * plain[0]
    assert held[1] < most


def in_turn(folder: Path, adapter: Any, strength: float, seed: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    policy, loaded = tiny_policy(folder, adapter, layout=Layout.LABELS)
    labels = np.random.default_rng(seed).integers(3, size=12)
    rows = [replace(row, target=int(label)) for row, label in
            zip(tiny_rows(loaded, Layout.LABELS, 12), labels, strict=True)]  # fmt: skip
    collate = Collator(Layout.LABELS)
    first, second = collate(rows[:6]), collate(rows[6:])
    ended = Boundary("main", [collate([row]) for row in rows[:6]])
    steps = [*[Step([first])] * 30, ended, *[Step([second])] * 30]
    updater = Updater(AdamW(learning_rate=5e-3, decay="constant"), policy.trainable(), steps=60)
    list(fit(policy, {"main": Classify()}, Fixed(*steps), updater, regularisers=[begun(strength=strength)]))
    policy.module.eval()
    with torch.no_grad():
        found = [Classify()(policy, batch).losses.mean().item() for batch in (first, second)]
    return found[0], found[1]
