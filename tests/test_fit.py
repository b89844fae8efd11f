"""The loop: sums, steps and penalties, worked out by hand or against the plain way of doing the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tuneful.adapters import Full, Lora
from tuneful.core.errors import Diverged
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Boundary, Layout, Row, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.regularisers import ReferenceKL
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows

# A large epsilon: Adam would blow the rounding of gradients that are zero up to whole steps.
PLAIN = AdamW(learning_rate=1e-2, warmup=0, decay="constant", clip=0.0, epsilon=1e-2)


class Fixed:
    """A schedule of given steps."""

    def __init__(self, *steps: Step | Boundary) -> None:
        self.given = steps

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step | Boundary]:
        yield from self.given[start:]


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in policy.attached.state().items()}


def cut(rows: list[Row], collate: Collator, *sizes: int) -> Step:
    parts, begin = [], 0
    for size in sizes:
        parts.append(collate(rows[begin : begin + size]))
        begin += size
    return Step(parts, len(rows), sum(map(len, rows)))


def trained(
    folder: Path, layout: Layout, sizes: tuple[int, ...], *, share: bool, **settings: object
) -> dict[str, Tensor]:
    policy, loaded = tiny_policy(folder, Lora(rank=4), layout=layout)
    torch.manual_seed(0)
    rows = tiny_rows(loaded, layout, 8)
    step = cut(rows, Collator(layout, share=share), *sizes)
    objective = NextToken() if layout is Layout.TOKENS else Classify()
    updater = Updater(PLAIN, policy.trainable(), steps=2)
    list(fit(policy, {"main": objective}, Fixed(step, step), updater, clip=0.0, **settings))
    return weights(policy)


@pytest.mark.parametrize("sizes", [(1,) * 8, (5, 3), (2, 1, 5)])
@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_cutting_a_step_changes_nothing(
    generator_folder: Path, reader_folder: Path, layout: Layout, sizes: tuple[int, ...]
) -> None:
    """Rows of unlike length, so a mean of means would differ (transformers PR 34191)."""
    folder = generator_folder if layout is Layout.TOKENS else reader_folder
    torch.manual_seed(0)
    whole = trained(folder, layout, (8,), share=False)
    torch.manual_seed(0)
    parts = trained(folder, layout, sizes, share=False)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_sharing_prefixes_changes_nothing(generator_folder: Path) -> None:
    torch.manual_seed(0)
    plain = trained(generator_folder, Layout.TOKENS, (8,), share=False)
    torch.manual_seed(0)
    shared = trained(generator_folder, Layout.TOKENS, (8,), share=True)
    for name, tensor in plain.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_the_sum_over_units_divided_once(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS)
    step = cut(rows, Collator(Layout.TOKENS), 1, 5)
    policy.module.eval()
    whole = NextToken()(policy, Collator(Layout.TOKENS)(rows)).losses.detach()
    policy.forget()
    (record,) = fit(policy, {"main": NextToken()}, Fixed(step), Updater(PLAIN, policy.trainable(), steps=1), clip=0.0)
    assert record.metrics["units"] == len(whole) == sum(row.learned for row in rows)
    assert record.metrics["loss"] == pytest.approx(float(whole.mean()), rel=1e-4)


def test_a_unit_of_weight_zero_is_no_part_of_anything(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS)
    batch = Collator(Layout.TOKENS)(rows)
    first = batch.targets["rows"] == 0
    silent = replace(batch, weights=batch.weights * first, units=float(first.sum()))
    alone = Collator(Layout.TOKENS)(rows[:1])
    losses = []
    for given in (silent, alone):
        policy, _ = tiny_policy(generator_folder)
        updater = Updater(PLAIN, policy.trainable(), steps=1)
        (record,) = fit(policy, {"main": NextToken()}, Fixed(Step([given])), updater, clip=0.0)
        losses.append(record.metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Always:
    """A penalty of 3 on every batch, whose gradient pulls one weight."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        self.seen += 1
        weight = next(iter(policy.trainable().values()))
        return 3.0 + 0.0 * weight.sum()


@pytest.mark.parametrize("sizes", [(6,), (1, 2, 3), (1,) * 6])
def test_a_penalty_counts_once_a_step(generator_folder: Path, sizes: tuple[int, ...]) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS)
    batches = [
        replace(batch, task=f"task {number % 2}")
        for number, batch in enumerate(cut(rows, Collator(Layout.TOKENS), *sizes).batches)
    ]
    penalty = Always()
    objectives = {"task 0": NextToken(), "task 1": NextToken()}
    updater = Updater(PLAIN, policy.trainable(), steps=1)
    (record,) = fit(policy, objectives, Fixed(Step(batches)), updater, regularisers=[penalty], clip=0.0)
    assert penalty.seen == len(sizes)
    assert record.metrics["penalty"] == pytest.approx(3.0)


def test_each_task_is_divided_by_its_own_units(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS)
    one, other = Collator(Layout.TOKENS, "one")(rows[:1]), Collator(Layout.TOKENS, "other")(rows[1:])
    policy.module.eval()
    means = [float(NextToken()(policy, batch).losses.mean().detach()) for batch in (one, other)]
    policy.forget()
    updater = Updater(PLAIN, policy.trainable(), steps=1)
    objectives = {"one": NextToken(), "other": NextToken()}
    (record,) = fit(policy, objectives, Fixed(Step([one, other])), updater, clip=0.0)
    assert record.metrics["loss"] == pytest.approx(sum(means), rel=1e-4)
    assert record.task == "all"


class Poisoned:
    layout = Layout.TOKENS

    def __init__(self, at: int, value: float) -> None:
        self.at, self.value, self.seen = at, value, 0

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        terms = NextToken()(policy, batch)
        self.seen += 1
        factor = self.value if self.seen == self.at else 1.0
        return Terms(terms.losses * factor, terms.outputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_stops_before_the_update(generator_folder: Path, value: float) -> None:
    policy, loaded = tiny_policy(generator_folder)
    step = cut(tiny_rows(loaded, Layout.TOKENS), Collator(Layout.TOKENS), 6)
    updater = Updater(PLAIN, policy.trainable(), steps=5)
    records = fit(policy, {"main": Poisoned(3, value)}, Fixed(*[step] * 5), updater)
    next(records)
    next(records)
    before = weights(policy)
    with pytest.raises(Diverged, match="step 3"):
        next(records)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(policy).items())


def test_the_reference_pulls_back(generator_folder: Path) -> None:
    """With the same updates, a penalised run ends nearer to where it began."""
    distances = []
    for regularisers in ([], [ReferenceKL(strength=5.0)]):
        torch.manual_seed(0)
        policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
        batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
        updater = Updater(AdamW(learning_rate=1e-2), policy.trainable(), steps=20)
        list(fit(policy, {"main": NextToken()}, Fixed(*[Step([batch])] * 20), updater, regularisers=regularisers))
        policy.module.eval()
        kl = policy(batch).token_kl(policy.reference(batch), batch.targets["where"])
        distances.append(float(kl.detach().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_one_forward_pass_a_batch(generator_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, loaded = tiny_policy(generator_folder)
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
    passes = []
    whole = type(policy.network).hidden
    monkeypatch.setattr(type(policy.network), "hidden", lambda *given: passes.append(1) or whole(*given))
    assert policy(batch) is policy(batch)
    assert len(passes) == 1
    policy.reference(batch)
    policy.reference(batch)
    assert len(passes) == 2


def test_clipping_bounds_the_whole_gradient(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
    seen: list[float] = []

    class Watching(Updater):
        def step(self, number: int) -> float:
            squares = [float(p.grad.square().sum()) for p in policy.trainable().values() if p.grad is not None]
            seen.append(sum(squares) ** 0.5)
            return super().step(number)

    updater = Watching(PLAIN, policy.trainable(), steps=1)
    (record,) = fit(policy, {"main": NextToken()}, Fixed(Step([batch])), updater, clip=0.01)
    assert record.metrics["gradient_norm"] > 0.01
    assert seen[0] == pytest.approx(0.01, rel=1e-3)


def test_rates_rise_and_fall() -> None:
    cosine = AdamW(warmup=2, decay="cosine")
    assert [round(cosine.rate(step, 10), 4) for step in (1, 2, 3, 7, 10)] == [0.3333, 0.6667, 1.0, 0.5, 0.0381]
    linear = AdamW(warmup=0, decay="linear")
    assert [linear.rate(step, 4) for step in (1, 2, 3, 4)] == [1.0, 0.75, 0.5, 0.25]
    assert AdamW(warmup=0.5, decay="constant").rate(10, 10) == 1.0


def test_decay_spares_norms_and_biases(reader_folder: Path) -> None:
    policy, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    updater = Updater(AdamW(learning_rate=0.1, weight_decay=0.5), policy.trainable(), steps=1)
    before = weights(policy)
    for parameter in policy.trainable().values():
        parameter.grad = torch.zeros_like(parameter)
    updater.step(1)
    for name, tensor in weights(policy).items():
        assert torch.equal(tensor, before[name]) is (tensor.dim() < 2), name


def test_heads_learn_at_their_own_rate(reader_folder: Path) -> None:
    policy, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    settings = AdamW(learning_rate=0.01, head_rate=10.0, warmup=0)
    updater = Updater(settings, policy.trainable(), steps=1, heads=["classifier"])
    before = weights(policy)
    for parameter in policy.trainable().values():
        parameter.grad = torch.ones_like(parameter)
    updater.step(1)
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in weights(policy).items()}
    assert moved["classifier.weight"] == pytest.approx(0.1, rel=1e-2)
    assert max(value for name, value in moved.items() if "classifier" not in name) == pytest.approx(0.01, rel=1e-2)


def test_every_row_once_an_epoch_in_an_order_of_its_own(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS, 11)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS), Cut(rows_per_step=4, micro_tokens=10_000), total=6)
    steps = list(schedule.steps(policy))
    tokens = [sum(int(batch.inputs["input_ids"].numel()) for batch in step.batches) for step in steps]
    whole = sum(map(len, rows))
    assert sum(tokens[:3]) == sum(tokens[3:]) == whole
    assert tokens[:3] != tokens[3:]
    assert [step.rows for step in steps[:3]] == [4, 4, 3]


def test_a_step_is_cut_at_the_memory_setting(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS, 8)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS), Cut(rows_per_step=8, micro_tokens=130), total=1)
    (step,) = schedule.steps(policy)
    sizes = [int(batch.inputs["input_ids"].numel()) for batch in step.batches]
    assert len(sizes) > 1
    assert max(sizes) <= 130
    assert sum(sizes) == step.tokens


def test_a_schedule_that_starts_late_goes_on_where_it_was(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS, 7)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS), Cut(2, 10_000), total=9, seed=5)
    whole = [step.batches[0].inputs["input_ids"] for step in schedule.steps(policy)]
    late = [step.batches[0].inputs["input_ids"] for step in schedule.steps(policy, start=5)]
    assert all(torch.equal(one, other) for one, other in zip(whole[5:], late, strict=True))


def test_boundaries_consolidate(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))

    class Remembers(Always):
        told: tuple[str, ...] = ()

        def consolidate(self, policy: Policy, boundary: Boundary) -> None:
            self.told = (*self.told, boundary.task)

    keeper = Remembers()
    updater = Updater(PLAIN, policy.trainable(), steps=1)
    schedule = Fixed(Step([batch]), Boundary("main", [batch]))
    records = list(fit(policy, {"main": NextToken()}, schedule, updater, regularisers=[keeper]))
    assert [record.kind for record in records] == ["train", "boundary"]
    assert keeper.told == ("main",)


def test_a_loss_in_place_of_another_is_divided_as_that_is(generator_folder: Path) -> None:
    """Two tasks of one row and of seven: what takes the whole loss away leaves nothing to learn of either."""
    policy, loaded = tiny_policy(generator_folder, Full())
    rows = tiny_rows(loaded, Layout.TOKENS, 8)
    collate = Collator(Layout.TOKENS)
    one, other = collate(rows[:1]), replace(collate(rows[1:]), task="other")

    class Nothing:
        replaces = True

        def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
            return -(terms.losses * batch.weights).sum() / batch.units

    updater = Updater(PLAIN, policy.trainable(), steps=1)
    objectives = {"main": NextToken(), "other": NextToken()}
    (record,) = fit(policy, objectives, Fixed(Step([one, other])), updater, regularisers=[Nothing()], clip=0.0)
    assert record.metrics["gradient_norm"] == pytest.approx(0, abs=1e-6)
    assert record.metrics["loss"] > 1


def test_shared_tokens_count_once_where_a_step_is_cut(generator_folder: Path) -> None:
    """Eight rows behind one beginning of 100 tokens stay together where they would not fit one by one."""
    policy, loaded = tiny_policy(generator_folder)
    beginning = np.arange(5, 105) % 50 + 5
    rows = [
        replace(row, ids=np.concatenate([beginning, row.ids]), learn=np.concatenate([np.zeros(100), row.learn]))
        for row in tiny_rows(loaded, Layout.TOKENS, 8)
    ]
    limit = 100 + sum(map(len, rows)) - 800
    for share, parts in ((True, 1), (False, 8)):
        schedule = EpochSteps(rows, Collator(Layout.TOKENS, share=share), Cut(8, limit if share else 150), total=1)
        (step,) = schedule.steps(policy)
        assert len(step.batches) == parts
        assert sum(batch.tokens for batch in step.batches) <= (limit if share else step.tokens)
        assert step.tokens == sum(map(len, rows))
