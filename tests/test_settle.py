"""Averages of weights, the way back to the start, rates by depth, and the gradient from where it is worst nearby."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tuneful.adapters import Full, Lora
from tuneful.core.errors import RecipeError
from tuneful.core.layers import blocks, heights
from tuneful.core.policy import Policy
from tuneful.core.types import Layout, Step
from tuneful.data.layouts import Collator
from tuneful.engine.average import Ema, RunningAverage, Swa
from tuneful.engine.fit import fit
from tuneful.engine.sharpness import Sam
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.run.build import Built, build
from tuneful.run.loop import tried, updates
from tuneful.run.prepare import prepare
from tuneful.run.settle import averaged, interpolate, settle
from tuneful.run.watch import Watch
from tuneful.testing import tiny_policy, tiny_rows


def average_of(settings: Any, values: list[float]) -> list[float]:
    """The average after each of these weights."""
    average, found = RunningAverage(settings), []
    for number, value in enumerate(values, 1):
        average.add({"w": nn.Parameter(torch.tensor(value))}, number, len(values))
        found.append(float(average.weights["w"]))
    return found


def test_averages_by_hand() -> None:
    """Decay 0.75: plain means of up to four, then a quarter of each new one. The plain mean of the second half of
    four."""
    assert average_of(Ema(decay=0.75), [8.0, 0.0, 0.0, 0.0, 0.0]) == pytest.approx([8, 4, 8 / 3, 2, 1.5], rel=1e-6)
    assert average_of(Swa(start=0.5), [9.0, 7.0, 4.0, 2.0]) == pytest.approx([9, 7, 4, 3])


def test_an_average_that_says_nothing_looks_back_over_a_tenth() -> None:
    assert Ema().share(100, 200) == pytest.approx(1 / 20)
    assert Ema().share(3, 200) == pytest.approx(1 / 3)
    assert Ema().share(3, 5) == 0.5  # a run of five updates has no tenth


def test_the_average_is_in_place_only_inside() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    average = RunningAverage(Swa(start=0.0))
    average.add({"w": weight}, 1, 2)
    with torch.no_grad():
        weight.fill_(3.0)
    average.add({"w": weight}, 2, 2)
    with average.in_place({"w": weight}):
        assert float(weight.detach()) == 2.0
    assert float(weight.detach()) == 3.0
    average.put({"w": weight})
    assert float(weight.detach()) == 2.0


class Fixed:
    """The same batch again and again, with the same chance in each."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.batch, self.steps_asked = batch, steps

    def steps(self, policy: Policy, start: int = 0) -> Any:
        for _ in range(start, self.steps_asked):
            torch.manual_seed(0)
            yield Step([self.batch])


def reader(folder: Path, adapter: Any = None) -> tuple[Policy, Any]:
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, adapter or Full(), layout=Layout.LABELS)
    return policy, Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))


def test_a_run_that_goes_on_keeps_its_average(reader_folder: Path, tmp_path: Path) -> None:
    """Ten updates at once, and five and five with the state saved in between."""
    found = []
    for halves in (False, True):
        policy, batch = reader(reader_folder)
        settings = AdamW(learning_rate=1e-2)
        updater = Updater(settings, policy.trainable(), steps=10, average=RunningAverage(Ema(decay=0.9)))
        list(fit(policy, {"main": Classify()}, Fixed(batch, 5 if halves else 10), updater))
        if halves:
            save_file({name: tensor.contiguous() for name, tensor in updater.state().items()}, tmp_path / "state")
            state = load_file(tmp_path / "state")  # in another order
            updater = Updater(settings, policy.trainable(), steps=10, average=RunningAverage(Ema(decay=0.9)))
            updater.load(state)
            list(fit(policy, {"main": Classify()}, Fixed(batch, 10), updater, start=5))
        assert updater.average is not None
        found.append(updater.average.weights)
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name])


@pytest.mark.parametrize("adapter", [Full(), Lora(rank=2)], ids=lambda item: item.kind)
def test_the_way_back(adapter: Any, reader_folder: Path) -> None:
    """A quarter of the way: every weight of the whole model lies a quarter of its change from the start, the new head
    where it was learned."""
    policy, _ = reader(reader_folder, adapter)
    start = {name: tensor.clone() for name, tensor in policy.attached.merged().state_dict().items()}
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned = {name: tensor.clone() for name, tensor in policy.attached.merged().state_dict().items()}
    policy.attached.nearer(0.25)
    moved = 0.0
    for name, tensor in policy.attached.merged().state_dict().items():
        if not tensor.is_floating_point():
            continue
        wanted = tuned[name] if name.startswith("classifier") else torch.lerp(start[name], tuned[name], 0.25)
        torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-5)
        moved += float((tuned[name] - tensor).abs().sum())
    assert moved > 0


def test_rates_by_depth(reader_folder: Path) -> None:
    """Head 1, highest layer 1/2, the next 1/4, embeddings below all layers; each weight once."""
    policy, _ = reader(reader_folder)
    lies = heights(policy.module)
    stack = blocks(policy.module)
    assert {lies[id(p)] for p in stack[-1].parameters()} == {1}
    assert {lies[id(p)] for p in stack[0].parameters()} == {len(stack)}
    assert lies[id(policy.module.get_input_embeddings().weight)] == len(stack) + 1  # type: ignore[operator]
    named = policy.trainable()
    assert {lies[id(p)] for name, p in named.items() if name.startswith("classifier")} == {0}
    settings = AdamW(learning_rate=1.0, layer_decay=0.5, head_rate=3.0, warmup=0, decay="constant")
    updater = Updater(settings, named, steps=1, heads=["classifier"],
                      heights={name: lies[id(p)] for name, p in named.items()})  # fmt: skip
    before = {name: p.detach().clone() for name, p in named.items()}
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    updater.step(1)
    for name, parameter in named.items():  # Adam's first step is the rate itself
        wanted = 3.0 if name.startswith("classifier") else 0.5 ** lies[id(parameter)]
        torch.testing.assert_close(before[name] - parameter.detach(), torch.full_like(parameter, wanted))


def test_climbing_by_hand() -> None:
    """Loss x^2 + y^2 / 2 at (3, 8): its slope (6, 8) has length 10, so with rho 5 the worst place is (6, 12); the slope
    there is (12, 12), and the weights are what they were."""
    place = nn.Parameter(torch.tensor([3.0, 8.0]))

    def slope() -> None:
        (place[0] ** 2 + place[1] ** 2 / 2).backward()

    slope()
    rule = Sam(rho=5.0)
    before = rule.climb([place])
    torch.testing.assert_close(place.detach(), torch.tensor([6.0, 12.0]))
    assert place.grad is None
    slope()
    rule.back([place], before)
    assert place.grad is not None
    torch.testing.assert_close(place.grad, torch.tensor([12.0, 12.0]))
    torch.testing.assert_close(place.detach(), torch.tensor([3.0, 8.0]))


def test_an_update_follows_the_slope_of_the_worst_place(reader_folder: Path) -> None:
    """The norm that `fit` records is that of the slope at w + rho g / |g|, and the loss that of w."""
    policy, batch = reader(reader_folder)
    parameters = list(policy.trainable().values())

    def slopes() -> tuple[float, list[Tensor]]:
        policy.forget()
        loss = Classify()(policy, batch).losses.mean()
        return float(loss.detach()), list(
            torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        )

    start = [parameter.detach().clone() for parameter in parameters]
    loss, here = slopes()
    norm = float(torch.stack([slope.square().sum() for slope in here]).sum().sqrt())
    with torch.no_grad():
        for parameter, slope in zip(parameters, here, strict=True):
            parameter.add_(slope * 0.5 / norm)
    _, there = slopes()
    wanted = float(torch.stack([slope.square().sum() for slope in there]).sum().sqrt())
    with torch.no_grad():
        for parameter, weight in zip(parameters, start, strict=True):
            parameter.copy_(weight)
    policy.forget()
    updater = Updater(AdamW(learning_rate=1e-9), policy.trainable(), steps=1)
    record = next(fit(policy, {"main": Classify()}, Fixed(batch, 1), updater, gradient=Sam(rho=0.5)))
    assert record.metrics["loss"] == pytest.approx(loss, rel=1e-4)
    assert record.metrics["gradient_norm"] == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted - norm) > 0.05 * norm
    for parameter, weight in zip(parameters, start, strict=True):
        torch.testing.assert_close(parameter.detach(), weight, rtol=0, atol=1e-8)


def test_climbing_leaves_narrow_places() -> None:
    """Two valleys, a narrow one at 0 and a wide one at 3: from 0.05 plain descent stays, climbing by 1 leaves."""
    ends = []
    for rho in (None, 1.0):
        place = nn.Parameter(torch.tensor([0.05]))

        def slope(at: nn.Parameter = place) -> None:
            (-torch.exp(-(at**2) / 0.02) - torch.exp(-((at - 3) ** 2) / 2)).sum().backward()

        for _ in range(400):
            slope()
            if rho is not None:
                rule = Sam(rho=rho)
                before = rule.climb([place])
                slope()
                rule.back([place], before)
            with torch.no_grad():
                place -= 0.02 * place.grad  # type: ignore[operator]
            place.grad = None
        ends.append(float(place.detach()))
    assert abs(ends[0]) < 0.1
    assert ends[1] > 0.3


def rows(tmp_path: Path, count: int = 90) -> str:
    lines = ["text,label", *(f"text {n} {'ab' * (n % 9)} {'xyz'[n % 3] * 4},{'xyz'[n % 3]}" for n in range(count))]
    (tmp_path / "d.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "d.csv")


def test_a_run_says_how_far_it_went_back(reader_folder: Path, tmp_path: Path) -> None:
    from tuneful.run.api import fit as run

    found = []
    for share in (0.5, "auto", None):
        recipe: dict[str, Any] = {"data": rows(tmp_path), "model": str(reader_folder), "interpolate": share,
                                  "average": "ema", "gradient": "sam", "schedule": {"epochs": 3}, "choose": "none"}  # fmt: skip
        report = run(recipe, out=tmp_path / f"run{share}").report
        found.append([note for note in report["data"]["notes"] if note["key"] == "interpolated"])
    assert found[0] == [{"key": "interpolated", "percent": 50}]
    assert found[1][0]["percent"] in (20, 40, 60, 80, 100)
    assert found[2] == []


def built_reader(reader_folder: Path, tmp_path: Path, **more: Any) -> Built:
    recipe = {"data": rows(tmp_path), "model": str(reader_folder), "choose": "none", "name": "t",
              "schedule": {"epochs": 3}, "regularisers": "none", **more}  # fmt: skip
    return build(prepare(Recipe.model_validate(recipe)))


def first_update(built: Built) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What one update records, and by how much it moved each weight."""
    before = {name: tensor.detach().clone() for name, tensor in built.policy.trainable().items()}
    record = next(updates(built))
    moved = {name: (tensor.detach() - before[name]).abs().max() for name, tensor in built.policy.trainable().items()}
    return dict(record.metrics), moved


def test_a_run_learns_as_its_recipe_says(reader_folder: Path, tmp_path: Path) -> None:
    """The gradient rule, the regularisers and the rates by depth reach the updates."""
    plain, moved = first_update(built_reader(reader_folder, tmp_path))
    assert "penalty" not in plain
    climbed, _ = first_update(built_reader(reader_folder, tmp_path, gradient={"kind": "sam", "rho": 0.5}))
    assert climbed["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert abs(climbed["gradient_norm"] - plain["gradient_norm"]) > 0.01 * plain["gradient_norm"]
    smoothed, _ = first_update(built_reader(reader_folder, tmp_path, regularisers=["confidence_penalty"]))
    assert smoothed["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert smoothed["penalty"] == pytest.approx(-0.1 * math.log(3), rel=0.05)  # a new head hardly knows three classes
    _, careful = first_update(built_reader(reader_folder, tmp_path, optimiser={"layer_decay": 0.5}))
    lowest = next(name for name in moved if "embeddings" in name)
    head = next(name for name in moved if name.startswith("classifier"))
    assert float(careful[head]) == pytest.approx(float(moved[head]), rel=0.01)
    assert float(careful[lowest]) < 0.2 * float(moved[lowest])


def test_an_ended_run_keeps_no_average(reader_folder: Path, tmp_path: Path) -> None:
    """It is as large as what learns, and measuring needs the room."""
    built = built_reader(reader_folder, tmp_path, average="swa")
    for _ in tried(built, lambda: False):
        pass
    assert built.optimiser.average is not None
    assert not built.optimiser.average.weights


def test_each_share_is_taken_from_the_tuned_weights(reader_folder: Path, tmp_path: Path) -> None:
    """What is left is the tuned change times the share that is said, not a product of shares."""
    built = built_reader(reader_folder, tmp_path, interpolate="auto")
    for _ in tried(built, lambda: False):
        pass
    whole = float(built.policy.distance().detach())
    (said,) = interpolate(built)
    share = said.facts["percent"] / 100
    assert float(built.policy.distance().detach()) == pytest.approx(share**2 * whole, rel=1e-3)


def test_what_is_looked_at_and_kept_is_the_average(reader_folder: Path, tmp_path: Path) -> None:
    """The last look of a run, and the weights at its end, are those of the average."""
    built = built_reader(reader_folder, tmp_path, average="swa")
    wanted: dict[str, Tensor] = {}
    inside: dict[str, Tensor] = {}
    for _ in updates(built):
        assert built.optimiser.average is not None
        wanted = {name: tensor.clone() for name, tensor in built.optimiser.average.weights.items()}
        before = {name: tensor.detach().clone() for name, tensor in built.policy.trainable().items()}
        with averaged(built):
            inside = {name: tensor.detach().clone() for name, tensor in built.policy.trainable().items()}
        for name, tensor in built.policy.trainable().items():
            torch.testing.assert_close(tensor.detach(), before[name])
    settle(built, Watch(0))
    for name, tensor in built.policy.trainable().items():
        torch.testing.assert_close(inside[name], wanted[name])
        torch.testing.assert_close(tensor.detach(), wanted[name])
    assert any(not torch.equal(wanted[name], before[name]) for name in wanted)


def test_what_cannot_go_back_is_refused(reader_folder: Path, tmp_path: Path) -> None:
    from tuneful.run.api import check

    def refused(**more: Any) -> str:
        with pytest.raises(RecipeError) as found:
            check({"data": rows(tmp_path), "model": str(reader_folder), "choose": "none", **more})
        return str(found.value)

    assert "under adapter head" in refused(interpolate=0.5, adapter="head")
    assert "dora" in refused(interpolate=0.5, adapter={"kind": "lora", "dora": True})
    without = {"data": {"source": rows(tmp_path), "validation": 0}}
    assert "auto asks the validation rows" in refused(interpolate="auto", **without)
    assert "there is no gradient rule 'mgda'" in refused(gradient="mgda")
    pooled = {"objective": {"kind": "classify", "pooling": "mean"}, "adapter": "head"}
    for name, value in (("average", "ema"), ("gradient", "sam"), ("regularisers", ["label_smoothing"])):
        assert f"{name}: this head is solved at one go" in refused(**pooled, **{name: value})
    asks = {"interpolate": 0.5, "choose": {"enabled": True}, "objective": {"kind": "classify", "pooling": "mean"}}
    assert "ways of learning few labels are compared before" in refused(**asks)
    assert "less than 1" in refused(interpolate=1.5)
