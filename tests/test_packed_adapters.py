"""Several adapters on one base in one batch: the numbers of each by itself, in products, layers, updates and runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tuneful
from tuneful.adapters import Lora
from tuneful.adapters.each import NEVER, AttachedEach, attach_each
from tuneful.core.errors import InputError, ModelError
from tuneful.core.grouped import ADAPTERS, Grouped, Routes
from tuneful.core.policy import Policy
from tuneful.core.products import Part, Product
from tuneful.core.types import Example, Layout, Place, Row, Share
from tuneful.data.layouts import Collator
from tuneful.engine.each import Updaters
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.models import block
from tuneful.models.heads import Labels
from tuneful.models.load import Loaded, load
from tuneful.models.probe import Probe
from tuneful.objectives import Classify, NextToken
from tuneful.run.apart import WatchEach
from tuneful.run.api import check
from tuneful.run.parents import parents_of
from tuneful.run.router import Router
from tuneful.run.routing import nearest
from tuneful.run.watch import Watch
from tuneful.schedules.beside import BesideSteps
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_rows
from work import write_rows

TASKS = ("a", "b", "c")
STEPS = {"a": 5, "b": 7, "c": 6}
SETTINGS = AdamW(learning_rate=0.05, epsilon=1e-3)
CLASSES = Labels(("no", "yes", "maybe"), "single_label_classification")


# One product


def products(dtype: torch.dtype, *, bias: bool = False) -> list[Product]:
    """Two layers side by side, three times with other updates."""
    torch.manual_seed(0)
    weights = [torch.randn(out, 12, dtype=dtype) for out in (8, 4)]
    biases = [torch.randn(len(weight), dtype=dtype) if bias else None for weight in weights]

    def part(place: int) -> Part:
        weight = weights[place]
        down, up = nn.Parameter(torch.randn(3, 12)), nn.Parameter(torch.randn(len(weight), 3))
        return Part(weight, biases[place], down, up, 0.5)

    return [Product([part(0), part(1)]) for _ in range(3)]


@pytest.mark.parametrize("bias", [False, True])
def test_a_grouped_product_by_hand(bias: bool) -> None:
    """y = W x + b + B_a (s A_a x) with the update of whoever the token is, and all its slopes by autograd."""
    found = products(torch.float32, bias=bias)
    stretches = [(0, slice(0, 2)), (2, slice(2, 3)), (0, slice(3, 7))]
    x, grad = torch.randn(7, 12, requires_grad=True), torch.randn(7, 12)
    rows = []
    for place, stretch in stretches:
        one = found[place]
        wide = torch.cat([part.weight for part in one.parts])  # type: ignore[arg-type]
        thin = [0.5 * x[stretch] @ part.down.T @ part.up.T for part in one.parts]  # type: ignore[union-attr]
        rows.append(x[stretch] @ wide.T + torch.cat(thin, 1) + (one.bias_O if bias else 0))
    expected = torch.cat(rows)
    expected.backward(grad)
    grouped = Grouped([(found[place], stretch) for place, stretch in stretches])
    with torch.no_grad():
        y, low = grouped.forward(x)
        slope, grads = grouped.backward(grad, x, low)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(slope, x.grad)
    of_parameters: dict[int, Tensor] = {}
    for parameter, found_grad in zip(grouped.learned, grads, strict=True):
        of_parameters[id(parameter)] = of_parameters.get(id(parameter), 0) + found_grad
    for parameter in {id(p): p for p in grouped.learned}.values():
        torch.testing.assert_close(of_parameters[id(parameter)], parameter.grad)
    assert found[1].learned[0].grad is None


def test_a_small_update_survives_bf16() -> None:
    """W x = 1 everywhere and an update of 1/1024, which is lost where it is added after rounding (see test_fused)."""
    weight = (torch.rand(4096, 64) / 32).to(torch.bfloat16)
    parts = [Part(weight, None, nn.Parameter(torch.full((1, 64), 1 / 64)), nn.Parameter(torch.full((4096, 1), size)))
             for size in (1 / 1024, 3 / 1024)]  # fmt: skip
    x = torch.ones(2, 64, dtype=torch.bfloat16)
    grouped = Grouped([(Product([part]), slice(place, place + 1)) for place, part in enumerate(parts)])
    with torch.no_grad():
        moved = (grouped.forward(x)[0].double() - (x @ weight.T).double()).mean(1) * 1024
    assert moved.tolist() == pytest.approx([1.0, 3.0], abs=0.2)


def test_whose_tokens_are_whose() -> None:
    """By hand: 3 rows of 2, 3 and 1 tokens, the first and last of one task, and filler that nobody reads."""
    routes = Routes(("x", "y"))
    assert not routes.several
    with routes.along(torch.tensor([[1, 0, 0], [0, 2, 1], [1, 5, 2]]), 3):
        assert routes.several
        assert routes.parts(torch.zeros(1, 16, 4)) == [(1, slice(0, 2)), (0, slice(2, 5)), (1, slice(5, 16))]
        assert routes.parts(torch.zeros(3, 4)) == [(1, slice(0, 1)), (0, slice(1, 2)), (1, slice(2, 3))]
        assert routes.parts(torch.zeros(3, 5, 4)) == [(1, slice(0, 5)), (0, slice(5, 10)), (1, slice(10, 15))]
    assert not routes.several
    with routes.only(1):
        assert routes.name == "y"
    assert routes.name == "x"


# Batches


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    return [replace(row, example=replace(row.example, task=task)) for row in rows]


def test_a_batch_says_whose_its_tokens_and_units_are() -> None:
    """By hand; rows of two tasks share no prefix, though they begin alike."""
    ids = np.arange(1, 13, dtype=np.int32)
    learn = np.array([0] * 10 + [1, 1], dtype=np.float32)
    rows = [Row(Example(Place("x", n), task=task), np.append(ids[:11], 20 + n), learn) for n, task in enumerate("aab")]
    batch = Collator(Layout.TOKENS, "all", share=True, each=("a", "b"))(rows)
    assert batch.inputs[ADAPTERS].tolist() == [[0, 0, 0], [1, 13, 2]]  # 11 shared and one each, then 12
    assert batch.inputs["segments"].tolist() == [[0, 11, -1], [11, 12, 0], [12, 13, 0], [13, 25, -1]]
    assert batch.beside == (Share("a", slice(0, 4), 4.0), Share("b", slice(4, 6), 2.0))
    assert ADAPTERS not in Collator(Layout.TOKENS, each=("a", "b"))(of_task(rows, "")).inputs
    assert batch.silent().shares == (Share("a", slice(0, 4), 0.0), Share("b", slice(4, 6), 0.0))


def test_a_step_holds_that_of_every_task_that_goes_on() -> None:
    rows = {task: of_task([Row(Example(Place(task, n)), np.array([n + 1]), np.ones(1)) for n in range(5)], task)
            for task in "ab"}  # fmt: skip
    collate = Collator(Layout.LABELS, "all", each=("a", "b"))
    alone = {task: EpochSteps(rows[task], collate, Cut(2 + (task == "b"), 50), total, 1)
             for task, total in (("a", 4), ("b", 2))}  # fmt: skip
    beside = BesideSteps.of(alone)
    assert len(beside) == 4
    for start in (0, 3):
        visits = {task: list(one.visits(one.rows, start)) for task, one in alone.items()}
        for number, step in enumerate(beside.visits(beside.rows, start)):
            expected = [row for task in "ab" for row in (visits[task][number : number + 1] or [[]])[0]]
            assert [row.example.place for row in step] == [row.example.place for row in expected]


# Layers, updates


def loaded_of(folder: Path, layout: Layout, labels: Labels | None = None) -> Loaded:
    torch.manual_seed(0)
    given = labels or (CLASSES if layout is Layout.LABELS else None)
    found = load(str(folder), labels=given)
    torch.manual_seed(1)
    return found


def rows_of(loaded: Loaded, layout: Layout) -> dict[str, list[Row]]:
    return {task: of_task(tiny_rows(loaded, layout, 6 + 2 * place)[place:], task) for place, task in enumerate(TASKS)}


@pytest.fixture(params=[Layout.TOKENS, Layout.LABELS], ids=["writer", "reader"])
def case(request: Any, generator_folder: Path, reader_folder: Path) -> tuple[Path, Layout]:
    return (generator_folder if request.param is Layout.TOKENS else reader_folder), request.param


def alone(folder: Path, layout: Layout, task: str, micro: int) -> tuple[list[float], dict[str, Tensor]]:
    """The losses and weights of a run of one task."""
    loaded = loaded_of(folder, layout)
    policy = Policy(loaded.network, Lora(rank=4).attach(loaded.module, labels=layout is Layout.LABELS))
    collate = Collator(layout, share=loaded.network.shares)
    steps = EpochSteps(rows_of(loaded, layout)[task], collate, Cut(3, micro), STEPS[task], 3)
    updater = Updater(SETTINGS, policy.trainable(), steps=STEPS[task])
    records = list(fit(policy, {"main": objective(layout)}, steps, updater, clip=0.5))
    return [record.metrics["loss"] for record in records], policy.attached.state()


def objective(layout: Layout) -> Any:
    return NextToken() if layout is Layout.TOKENS else Classify()


def beside(folder: Path, layout: Layout, micro: int) -> tuple[AttachedEach, Policy, BesideSteps, Updaters]:
    loaded = loaded_of(folder, layout)
    attached = attach_each(Lora(rank=4), loaded.module, TASKS, labels=layout is Layout.LABELS)
    collate = Collator(layout, "all", share=loaded.network.shares, each=TASKS)
    rows = rows_of(loaded, layout)
    steps = BesideSteps.of({t: EpochSteps(rows[t], collate, Cut(3, micro), STEPS[t], 3) for t in TASKS})
    updaters = Updaters({t: Updater(SETTINGS, attached.learned_by(t), steps=STEPS[t]) for t in TASKS})
    return attached, Policy(loaded.network, attached), steps, updaters


@pytest.mark.parametrize("micro", [1000, 60])
def test_each_learns_what_it_would_learn_alone(case: tuple[Path, Layout], micro: int) -> None:
    """Losses and weights of three runs of 5, 7 and 6 updates, the update of all in one batch, and cut."""
    folder, layout = case
    attached, policy, steps, updaters = beside(folder, layout, micro)
    records = list(fit(policy, dict.fromkeys(["all", *TASKS], objective(layout)), steps, updaters, clip=0.5))
    assert len(records) == max(STEPS.values())
    for place, task in enumerate(TASKS):
        losses, weights = alone(folder, layout, task, 1000)
        ours = [r.metrics[f"loss/{task}"] for r in records if f"loss/{task}" in r.metrics]
        assert ours == pytest.approx(losses, abs=1e-4)
        state = attached.state()
        for name, weight in weights.items():
            torch.testing.assert_close(state[name.replace(".default.", f".task{place}.")], weight, rtol=0, atol=1e-4)
    means = [np.mean([value for name, value in r.metrics.items() if name.startswith("loss/")]) for r in records]
    assert [r.metrics["loss"] for r in records] == pytest.approx(means)


def test_joined_layers_take_part(generator_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decoder layer runs as one function, and through its own modules it gives the same slopes."""
    found = []
    for joined in (True, False):
        attached, policy, steps, _ = beside(generator_folder, Layout.TOKENS, 1000)
        disturb(attached)
        calls = []
        monkeypatch.setattr(block.Block, "apply", counting(calls, block.Block.apply))
        if not joined:
            block.part(policy.module)
        batch = next(iter(steps.steps(policy))).batches[0]
        (NextToken()(policy, batch).losses * batch.weights).sum().backward()
        assert len(calls) == (2 if joined else 0)
        assert not joined or len(policy.module.model.layers[0]._products) == len(TASKS), "made once for each"  # type: ignore[operator, union-attr, index]
        found.append({name: p.grad for name, p in policy.trainable().items()})
        monkeypatch.undo()
    for name, slope in found[0].items():
        torch.testing.assert_close(slope, found[1][name], rtol=1e-3, atol=1e-4)


def disturb(attached: AttachedEach) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attached.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def counting(calls: list[int], own: Any) -> Any:
    def apply(*given: Any) -> Any:
        calls.append(1)
        return own(*given)

    return apply


def test_nobody_reads_with_another_ones_adapter(case: tuple[Path, Layout]) -> None:
    """What one task's weights are changes no number of another's rows, and the untuned model is nobody's."""
    attached, policy, steps, _ = beside(*case, 1000)
    policy.module.eval()
    batch = next(iter(steps.steps(policy))).batches[0]
    ends = [*batch.inputs[ADAPTERS][1:, 1].tolist(), int(batch.inputs["segments"][-1, 1])]
    starts = batch.inputs[ADAPTERS][:, 1].tolist()
    before, untuned = policy.read(batch.inputs).hidden, policy.read(batch.inputs, original=True).hidden
    with torch.no_grad():
        for parameter in attached.learned_by("b").values():
            parameter.add_(0.3)
    after = policy.read(batch.inputs).hidden
    moved = [float((after - before)[start:end].abs().max()) for start, end in zip(starts, ends, strict=True)]
    assert moved[0] == moved[2] == 0 < moved[1]
    torch.testing.assert_close(policy.read(batch.inputs, original=True).hidden, untuned)
    assert all(attached.learned_by(task) for task in TASKS), "after a look at the untuned model all learn as before"


def test_quantised_layers_and_dropout(generator_folder: Path) -> None:
    """Over int8 layers as alone; with dropout an adapter still reads its own tokens only."""
    found = []
    for quantise, dropout in (("int8", 0.0), (None, 0.5)):
        torch.manual_seed(0)
        loaded = load(str(generator_folder), quantise=quantise)  # type: ignore[arg-type]
        attached = attach_each(Lora(rank=4, dropout=dropout), loaded.module, TASKS, labels=False)
        disturb(attached)
        policy, rows = Policy(loaded.network, attached), rows_of(loaded, Layout.TOKENS)
        whole = Collator(Layout.TOKENS, each=TASKS)([row for own in rows.values() for row in own])
        policy.module.train()
        losses = NextToken()(policy, whole).losses
        losses[whole.beside[1].units].sum().backward()
        found.append({task: {name for name, p in attached.learned_by(task).items() if p.grad is not None
                             and bool(p.grad.any())} for task in TASKS})  # fmt: skip
        if not dropout:
            with policy.of_task("b"):
                own = NextToken()(policy, Collator(Layout.TOKENS)(of_task(rows["b"], ""))).losses
            torch.testing.assert_close(losses[whole.beside[1].units], own, rtol=1e-4, atol=1e-4)
    for learned in found:
        assert learned["b"]
        assert not learned["a"] | learned["c"]


def test_a_head_answers_with_the_classes_of_its_task(reader_folder: Path) -> None:
    """Of a head over the classes of all, a task of two learns as with a head over two."""
    own = Labels(("yes", "no"), CLASSES.problem)
    many, one = (loaded_of(reader_folder, Layout.LABELS, labels) for labels in (None, own))
    with torch.no_grad():
        for name, parameter in one.module.classifier.named_parameters():  # type: ignore[operator, union-attr]
            parameter.copy_(many.module.classifier.get_parameter(name)[1:])  # type: ignore[operator, union-attr]
    rows = [replace(row, target=1 + number % 2) for number, row in enumerate(tiny_rows(many, Layout.LABELS))]
    torch.manual_seed(1)
    attached = attach_each(Lora(rank=4), many.module, ("a", "b"), labels=True)
    attached.tell_apart({"a": [0, 1, 2], "b": [1, 2]})
    torch.manual_seed(1)
    single = Lora(rank=4).attach(one.module, labels=True)
    batch = Collator(Layout.LABELS, each=("a", "b"))(of_task(rows, "b"))
    logits = Policy(many.network, attached)(batch).class_logits()
    assert bool((logits[:, 0] == NEVER).all())
    expected = Policy(one.network, single)(Collator(Layout.LABELS)(rows)).class_logits()
    torch.testing.assert_close(logits[:, 1:], expected)
    torch.nn.functional.cross_entropy(logits, batch.targets["labels"]).backward()
    torch.nn.functional.cross_entropy(expected, batch.targets["labels"] - 1).backward()
    head = attached.learned_by("b")
    slope = next(p.grad for name, p in head.items() if name.endswith("weight") and "classifier" in name)
    theirs = next(p.grad for name, p in single.trainable().items() if name.endswith("weight") and "classifier" in name)
    assert slope is not None
    assert not slope[0].any()
    torch.testing.assert_close(slope[1:], theirs)


def test_a_task_is_clipped_and_stepped_by_itself() -> None:
    """By hand: gradients of length 3 and 4 cut to 1 each, not to 1 together; who has ended is not stepped."""
    weights = {"a": nn.Parameter(torch.zeros(2)), "b": nn.Parameter(torch.zeros(2))}
    settings = AdamW(learning_rate=0.1, warmup=0, decay="constant")
    updaters = Updaters({name: Updater(settings, {name: weight}, steps=1 + (name == "b"))
                         for name, weight in weights.items()})  # fmt: skip
    assert updaters.steps == 2
    weights["a"].grad, weights["b"].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert updaters.clip(1.0) == pytest.approx(4.0)
    assert weights["a"].grad.norm() == pytest.approx(1.0, abs=1e-5)
    assert weights["b"].grad.norm() == pytest.approx(1.0, abs=1e-5)
    updaters.step(1)
    after = weights["a"].detach().clone()
    weights["a"].grad, weights["b"].grad = torch.ones(2), torch.ones(2)
    updaters.step(2)
    assert torch.equal(weights["a"], after)
    assert weights["b"][0] != 0
    again = Updaters({name: Updater(settings, {name: weight}, steps=2) for name, weight in weights.items()})
    again.load(updaters.state())
    assert {key: value.tolist() for key, value in again.state().items()} == {
        key: value.tolist() for key, value in updaters.state().items()
    }
    weights["a"].grad, weights["b"].grad = torch.tensor([float("nan"), 0.0]), torch.ones(2)
    assert np.isnan(updaters.clip(1.0))


def test_each_keeps_its_own_best(generator_folder: Path) -> None:
    """By hand: a is best at the first look and ends after two worse ones, b is best at the last."""
    attached, policy, _, _ = beside(generator_folder, Layout.TOKENS, 1000)
    watch = WatchEach(2, members={task: Watch(2) for task in ("a", "b")})
    kept = {}
    for step, (a, b) in enumerate([(1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (0.5, 2.0)], 1):
        disturb(attached)
        kept[step] = copy.deepcopy(attached.state())
        assert not watch.look(step, {"loss": 0.0, "loss/a": a, "loss/b": b}, policy)
    again = WatchEach(2, members={task: Watch(2) for task in ("a", "b")})
    again.load(json.loads(json.dumps(watch.notes())), watch.weights)
    assert again.best_step == 4
    again.restore(policy)
    for task, step in (("a", 1), ("b", 4)):
        for name, weight in attached.learned_by(task).items():
            assert torch.equal(weight, kept[step][name])


def test_those_that_have_ended_are_not_waited_for(generator_folder: Path) -> None:
    """By hand: a has made all its updates; b and c are over after two looks that bring nothing, and so is the run."""
    _, policy, _, _ = beside(generator_folder, Layout.TOKENS, 1000)
    watch = WatchEach(2, members={task: Watch(2) for task in TASKS})
    assert watch.beside_others({"loss": 5.0, "loss/a": 4.0, "loss/b": 6.0}) == {"loss": 5, "loss/a": 4, "loss/b": 6}
    watch.look(1, {"loss": 2.0, **dict.fromkeys(("loss/a", "loss/b", "loss/c"), 2.0)}, policy)
    assert watch.beside_others({"loss": 5.0, "loss/b": 5.0}) == {"loss": 3.0, "loss/b": 5.0}
    watch.ended = {"a"}
    assert not watch.look(2, {"loss": 0.0, "loss/b": 3.0, "loss/c": 3.0}, policy)
    again = WatchEach(2, members={task: Watch(2) for task in TASKS})
    again.load(json.loads(json.dumps(watch.notes())), None)
    assert again.look(3, {"loss": 0.0, "loss/b": 3.0, "loss/c": 3.0}, policy)


# Whose is it


def test_the_nearest_mean_by_hand() -> None:
    """(3, 0) is nearer to (2, 0) than to (5, 5), though its product with that is larger."""
    router = Router(("near", "far"), nearest(torch.tensor([[2.0, 0.0], [5.0, 5.0]])), {})
    assert router.of_vectors(torch.tensor([[3.0, 0.0], [4.0, 4.0]])) == ["near", "far"]
    assert isinstance(router.probe, Probe)


# Runs

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "koala", "lion", "mole", "newt", "owl", "pig", "quail", "rat", "seal", "toad", "urchin", "vole", "wolf", "yak", "zebra", "ape", "bat", "cow", "deer", "eel"]  # fmt: skip
GENERAL: dict[str, Any] = {
    "precision": "fp32", "optimiser": {"learning_rate": 0.01, "rows_per_step": 4, "epsilon": 1e-4},
    "evaluate": {"every": 4, "memorisation": 0, "forgetting": False, "generate": 8, "new_tokens": 4}, "regularisers": [], "choose": "none",
}  # fmt: skip
OWN = {"kind": "lora", "rank": 4, "each_task": True}


def texts(folder: Path) -> list[dict[str, Any]]:
    """Two tasks of text, of 18 and 10 training rows."""
    rows = {
        "shout": [{"prompt": f"shout {word} please", "completion": f"HEY {word}!"} for word in WORDS[:26]],
        "letters": [{"prompt": f"{word}: letters in all", "completion": word.upper()} for word in WORDS[12:]],
    }
    return [{"name": name, "data": {"source": str(write_rows(folder / f"{name}.jsonl", own)), "test": 4,
                                    "validation": 4}} for name, own in rows.items()]  # fmt: skip


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, generator_folder: Path) -> Path:
    """A folder with a run of both tasks, and one of each."""
    place = tmp_path_factory.mktemp("packed")
    tasks, general = texts(place), {**GENERAL, "model": str(generator_folder)}
    tuneful.fit({**general, "tasks": tasks, "adapter": OWN, "schedule": {"kind": "mixture", "epochs": 2}},
                out=place / "each")  # fmt: skip
    for task in tasks:
        tuneful.fit({**general, "tasks": [task], "adapter": {**OWN, "each_task": False},
                     "schedule": {"kind": "epochs", "epochs": 2}}, out=place / f"alone-{task['name']}")  # fmt: skip
    return place


@pytest.mark.parametrize("task", ["shout", "letters"])
def test_a_run_of_all_equals_runs_of_each(written: Path, task: str) -> None:
    """Losses, looks at validation rows, the weights that are kept, and what is answered."""
    together, single = records_of(written / "each"), records_of(written / f"alone-{task}")
    for kind in ("train", "validation"):
        ours = {r["step"]: r["metrics"].get(f"loss/{task}") for r in together if r["kind"] == kind}
        theirs = {r["step"]: r["metrics"]["loss"] for r in single if r["kind"] == kind}
        shared = sorted(step for step in ours.keys() & theirs.keys() if ours[step] is not None)
        assert len(shared) >= (5 if kind == "train" else 1)
        assert [ours[step] for step in shared] == pytest.approx([theirs[step] for step in shared], abs=1e-4)
    weights = load_file(written / f"alone-{task}" / "adapter" / "adapter_model.safetensors")
    saved = load_file(written / "each" / "adapters" / task / "adapter_model.safetensors")
    assert weights.keys() == saved.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(saved[name], weight, rtol=0, atol=1e-4)
    answers = {(r["asked"], r["expected"]): r for r in map(json.loads, lines(written / "each"))}
    for row in map(json.loads, lines(written / f"alone-{task}")):
        ours = answers[row["asked"], row["expected"]]
        for system in ("tuned", "base", "kshot", "trivial"):  # baselines know whose a row is too
            assert ours[system] == row[system]
            assert ours["losses"][system] == pytest.approx(row["losses"][system], rel=1e-4)


def lines(folder: Path) -> list[str]:
    return (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()


def test_such_a_run_is_no_model_and_is_not_merged(written: Path) -> None:
    with pytest.raises(ModelError, match=r'task="letters"\).save_merged'):
        load(str(written / "each"))
    with pytest.raises(InputError, match="tune each task in a run of its own, and merge those runs"):
        parents_of([written / "each", written / "alone-letters"])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_loads_each(written: Path, generator_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = written / "each" / "adapters" / "letters"
    base = AutoModelForCausalLM.from_pretrained(generator_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, place)
    ids = AutoTokenizer.from_pretrained(place)("owl: letters in all", return_tensors="pt").input_ids
    merged = tuneful.load(written / "each", task="letters").policy.attached.merged()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_text_finds_its_adapter_or_is_told(written: Path) -> None:
    """Without a name by the router, with one by that; a name in the path is one; what asks one model is told so."""
    found, asked = tuneful.load(written / "each"), "shout seal please"
    routing = tuneful.run.api.Run(written / "each").report["routing"]
    assert routing["n"] == 8
    assert routing["accuracy"]["centroid"] >= 0.75
    by_name = [tuneful.load(written / "each", task=task).generate(asked, limit=6) for task in ("shout", "letters")]
    assert by_name[0] != by_name[1]
    assert found.generate(asked, limit=6) == by_name[0]
    assert tuneful.load(written / "each" / "adapters" / "letters").generate(asked, limit=6) == by_name[1]
    assert tuneful.load(written / "alone-shout").generate(asked, limit=6) == by_name[0]
    with pytest.raises(ModelError, match=r"no adapter of 'shuot'. Did you mean 'shout'"):
        tuneful.load(written / "each", task="shuot")
    with pytest.raises(ModelError, match="leave task out"):
        tuneful.load(written / "alone-shout", task="shout")
    with pytest.raises(ModelError, match="say which is merged"):
        found.save_merged(written / "merged")
    with pytest.raises(ModelError, match="this asks one model"):
        tuneful.run.tuned.open_model(str(written / "each"))


def test_predict_says_who_answered(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tuneful.cli.using import predict_command

    how: dict[str, Any] = {"out": None, "column": None, "limit": 3, "temperature": 0.0, "stops": ()}
    source = write_rows(written / "asked.jsonl", [{"prompt": "shout seal please"}, {"prompt": "rat: letters in all"}])
    predict_command(str(written / "each"), str(source), **how)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["task"] for line in found] == ["shout", "letters"]
    predict_command(str(written / "each"), str(source), **how, task="letters")
    named = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "task" not in named[0]
    assert named[1]["prediction"] == found[1]["prediction"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_classes_of_several_tasks(tmp_path: Path, reader_folder: Path) -> None:
    """Measured, saved and opened again it answers alike, each with the classes of its task; eval finds the adapters."""
    kinds = {"mood": (("sad", "glad"), "feeling {} {}"), "size": (("small", "large"), "a {} thing {}")}
    tasks = []
    for name, (labels, text) in kinds.items():
        rows = [{"text": text.format(label, word), "label": label} for word in WORDS[:12] for label in labels]
        source = write_rows(tmp_path / f"{name}.jsonl", rows)
        tasks.append({"name": name, "data": {"source": str(source), "test": 6, "validation": 4}})
    given = {**GENERAL, "model": str(reader_folder), "tasks": tasks, "adapter": {**OWN, "router": "learned"}}
    run = tuneful.fit({**given, "schedule": {"kind": "mixture", "steps": 4}}, out=tmp_path / "run")
    assert set(run.report["tasks"]) == set(run.report["routing"]["tasks"]) == {"mood", "size"}
    assert run.report["routing"]["router"] == "learned"
    found = list(map(json.loads, lines(tmp_path / "run")))
    answers = {row["asked"]: row["tuned"] for row in found}
    for task, (labels, _) in kinds.items():
        asked = [row for row in found if row["asked"].startswith("feeling") == (task == "mood")]
        assert {row[system] for row in asked for system in ("trivial", "base")} <= set(labels)
        own = [text for text in answers if (text.startswith("feeling")) == (task == "mood")]
        said = run.load(task=task).classify(own)
        assert said == [answers[text] for text in own]
        assert set(said) <= set(labels)
        assert by_peft(tmp_path / "run", task, reader_folder, own) == said


def by_peft(run: Path, task: str, base: Path, asked: list[str]) -> list[str]:
    """As the run's card says, with nothing of ours."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    assert 'PeftModel.from_pretrained(model, "adapters/mood")' in (run / "README.md").read_text(encoding="utf-8")
    labels = json.loads((run / "recipe.lock.json").read_text(encoding="utf-8"))["labels"]
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
    place = run / "adapters" / task
    model, tokenizer = PeftModel.from_pretrained(model, place).eval(), AutoTokenizer.from_pretrained(place)
    with torch.no_grad():
        return [labels[int(model(**tokenizer(text, return_tensors="pt")).logits[0].argmax())] for text in asked]


def test_stopped_and_gone_on_it_is_the_same(tmp_path: Path, generator_folder: Path) -> None:
    from tuneful.run.api import recipe_for
    from tuneful.run.loop import Interrupted
    from tuneful.run.session import run

    given = {**GENERAL, "model": str(generator_folder), "tasks": texts(tmp_path), "adapter": {**OWN, "dropout": 0.2},
             "evaluate": {"every": 2, "forgetting": False, "memorisation": 0, "generate": 2, "new_tokens": 2}}  # fmt: skip
    recipe = recipe_for({**given, "schedule": {"kind": "mixture", "epochs": 1}}, model=None, settings={})
    for _ in run(recipe, tmp_path / "whole"):
        pass
    asked = iter([False] * 3 + [True] * 9)
    with pytest.raises(Interrupted):
        for _ in run(recipe, tmp_path / "parts", should_stop=lambda: next(asked)):
            pass
    for _ in run(recipe, tmp_path / "parts", resume=True):
        pass
    ours, theirs = (
        [(r["step"], r["metrics"]["loss"]) for r in records_of(tmp_path / name) if r["kind"] in ("train", "validation")]
        for name in ("parts", "whole")
    )
    assert ours == theirs
    for task in ("shout", "letters"):
        place = Path("adapters") / task / "adapter_model.safetensors"
        one, other = (load_file(tmp_path / name / place) for name in ("parts", "whole"))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_small_task_is_looked_at_as_often_as_a_large_one(tmp_path: Path, generator_folder: Path) -> None:
    """40 and 4 training rows, one a step: a look after every fourth update, and after each; none once it has ended."""
    tasks = []
    for name, count in (("large", 44), ("small", 8)):
        rows = [{"prompt": f"{name} {n} {WORDS[n % 30]}", "completion": WORDS[n % 7]} for n in range(count)]
        source = write_rows(tmp_path / f"{name}.jsonl", rows)
        tasks.append({"name": name, "data": {"source": str(source), "test": 2, "validation": 2}})
    given = {**GENERAL, "model": str(generator_folder), "tasks": tasks, "adapter": OWN,
             "evaluate": {"forgetting": False, "memorisation": 0, "generate": 1, "new_tokens": 1, "patience": 0},
             "schedule": {"kind": "mixture", "epochs": 1}}  # fmt: skip
    given["optimiser"] = {**GENERAL["optimiser"], "rows_per_step": 1}
    tuneful.fit(given, out=tmp_path / "run")
    found = [record for record in records_of(tmp_path / "run") if record["kind"] == "validation"]
    looks = {task: [r["step"] for r in found if f"loss/{task}" in r["metrics"]] for task in ("large", "small")}
    assert looks == {"large": list(range(4, 41, 4)), "small": [1, 2, 3, 4]}
    last = {task: next(r["metrics"][f"loss/{task}"] for r in reversed(found) if f"loss/{task}" in r["metrics"])
            for task in looks}  # fmt: skip
    assert found[-1]["metrics"]["loss"] == pytest.approx(np.mean(list(last.values())))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": {"kind": "lifelong", "replay": 0.1}}, "so nothing need come back"),
        ({"adapter": {**OWN, "turns": "added"}, "schedule": "lifelong"}, "adapter.turns: every task has"),
        ({"schedule": {"kind": "mixture", "temperature": 3}}, "schedule.temperature: each task draws its rows"),
        ({"gradient": "pcgrad"}, "gradient: tasks with adapters of their own share no gradient"),
        ({"regularisers": ["l2_sp"]}, "regularisers: is about one model"),
        ({"average": "ema"}, "average: is about one model"),
        ({"save": {"merged": True}}, "save.merged: not for several adapters"),
        ({"optimiser": {"gradient_checkpointing": True}}, "lower optimiser.micro_tokens instead"),
        ({"adapter": {**OWN, "dora": True}}, "adapter.dora: measures whole weights"),
        ({"evaluate": {"bias": "descriptors"}}, "a probe asks one model"),
    ],
)
def test_what_several_adapters_cannot_have(
    changes: dict[str, Any], words: str, tmp_path: Path, generator_folder: Path
) -> None:
    given = {"model": str(generator_folder), "tasks": texts(tmp_path), "adapter": OWN, **changes}
    with pytest.raises(InputError) as error:
        check(given)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("mood", "Mood"), "'Mood' and 'mood' will be folders"),
        (("a", "tasks.json"), "a file beside the adapters is called 'tasks.json'"),
        (("router.safetensors", "a"), "a file beside the adapters is called 'router.safetensors'"),
    ],
)
def test_names_that_cannot_be_folders(
    names: tuple[str, str], words: str, tmp_path: Path, generator_folder: Path
) -> None:
    tasks = [{**task, "name": name} for task, name in zip(texts(tmp_path), names, strict=True)]
    with pytest.raises(InputError) as error:
        check({"model": str(generator_folder), "tasks": tasks, "adapter": OWN})
    assert words in str(error.value)


def test_tasks_may_be_called_what_peft_calls_others(tmp_path: Path, generator_folder: Path) -> None:
    names = ("task1", "task2", "task0")
    attached = attach_each(Lora(rank=4), loaded_of(generator_folder, Layout.TOKENS).module, names, labels=False)
    disturb(attached)
    attached.save(str(tmp_path / "saved"))
    state = attached.state()
    for place, name in enumerate(names):
        saved = load_file(tmp_path / "saved" / name / "adapter_model.safetensors")
        one = next(iter(saved))
        assert torch.equal(
            saved[one], state[one.removeprefix("base_model.model.").replace(".weight", f".task{place}.weight")]
        )


def test_one_task_has_nothing_beside_it(tmp_path: Path, generator_folder: Path) -> None:
    with pytest.raises(InputError, match="takes schedule mixture"):
        check({"model": str(generator_folder), "tasks": texts(tmp_path)[:1], "adapter": OWN})
