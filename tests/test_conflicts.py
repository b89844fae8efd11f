"""Tasks that pull apart, through the loop: what the records say, and that nothing else changes a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from several import Pull
from test_fit import PLAIN, Fixed, weights
from test_surgery import PULLS, any_rule
from tuneful.adapters import Lora
from tuneful.core.errors import Diverged
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Layout, Record, Row, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.surgery import MEMORY, AGem, PCGrad, Surgery, UPGrad
from tuneful.engine.update import Sum, Updater
from tuneful.objectives import NextToken
from tuneful.testing import tiny_policy, tiny_rows


class Unlearned:
    """Next tokens that are to be unlikely, so it pulls against what learns them; large batches are refused memory."""

    layout = Layout.TOKENS

    def __init__(self, most: int = 10_000) -> None:
        self.most = most

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        if batch.tokens > self.most:
            raise MemoryError
        terms = NextToken()(policy, batch)
        return Terms(-0.5 * terms.losses, terms.outputs)


def parts(rows: Sequence[Row], sizes: Sequence[int]) -> list[Batch]:
    """The first five rows are learned, the others unlearned."""
    ends = np.cumsum(sizes).tolist()
    return [Collator(Layout.TOKENS, "one" if end <= 5 else MEMORY)(rows[end - size : end])
            for size, end in zip(sizes, ends, strict=True)]  # fmt: skip


def learned(
    folder: Path, rule: Surgery | Sum, sizes: Sequence[int] = (5, 3), most: int = 10_000
) -> tuple[list[Record], dict[str, Tensor]]:
    """Two updates of eight rows, which are read one by one where memory is refused."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, Lora(rank=4))
    rows = tiny_rows(loaded, Layout.TOKENS, 8)
    step = Step(parts(rows, sizes), 8, sum(map(len, rows)), smaller=lambda: Step(parts(rows, [1] * 8), 8))
    updater = Updater(PLAIN, policy.trainable(), steps=2)
    objectives = {"one": NextToken(), MEMORY: Unlearned(most)}
    return list(fit(policy, objectives, Fixed(step, step), updater, gradient=rule, clip=0.0)), weights(policy)


@pytest.mark.parametrize("rule", [PCGrad(), UPGrad()], ids=lambda rule: rule.kind)
def test_the_record_says_how_tasks_conflict(rule: Surgery, generator_folder: Path) -> None:
    """As their gradients, taken one by one, do."""
    records, _ = learned(generator_folder, rule)
    torch.manual_seed(0)
    policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
    flat = []
    for batch, sign in zip(parts(tiny_rows(loaded, Layout.TOKENS, 8), (5, 3)), (1.0, -0.5), strict=True):
        loss = sign * NextToken()(policy, batch).losses.mean()
        slopes = torch.autograd.grad(loss, list(policy.trainable().values()))
        flat.append(torch.cat([slope.flatten() for slope in slopes]).double())
        policy.forget()
    cosine = float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm())
    assert cosine < -0.1
    assert records[0].metrics[f"conflict/{MEMORY}/one"] == pytest.approx(cosine, rel=1e-3)
    assert records[0].metrics.get("projected", 2) == 2
    both = flat[0] + flat[1] - cosine * (flat[0] * flat[1].norm() / flat[0].norm() + flat[1] * flat[0].norm() / flat[1].norm())  # fmt: skip
    assert records[0].metrics["gradient_norm"] == pytest.approx(float(both.norm()), rel=1e-3)
    _, summed = learned(generator_folder, Sum())
    _, changed = learned(generator_folder, rule)
    assert any(not torch.allclose(summed[name], tensor, atol=1e-4) for name, tensor in changed.items())


@any_rule
@pytest.mark.parametrize("cut", ["one by one", "in parts", "refused"])
def test_cutting_a_step_changes_nothing(rule: Surgery, cut: str, generator_folder: Path) -> None:
    """Nor does a new beginning when memory was refused to the second task, after the first one's backward pass."""
    (whole, expected), (again, found) = (
        learned(generator_folder, rule),
        learned(generator_folder, rule, most=60)
        if cut == "refused"
        else learned(generator_folder, rule, [1] * 8 if cut == "one by one" else (1, 4, 2, 1)),
    )
    for one, other in zip(whole, again, strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        same = one.metrics.keys() - {"seconds", "read", "tokens"}
        assert {name: other.metrics[name] for name in same} == pytest.approx(
            {name: one.metrics[name] for name in same}, rel=1e-3, abs=1e-5
        )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_run_that_goes_on_draws_as_if_it_had_not_stopped(generator_folder: Path) -> None:
    """Three tasks, so that the order of projections tells."""

    def run(*starts: int) -> list[dict[str, float]]:
        policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
        batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS, 2))
        steps = Fixed(*[Step([replace(batch, task=task) for task in PULLS])] * 6)
        updater = Updater(PLAIN, policy.trainable(), steps=6)
        pulls = {task: Pull(pull) for task, pull in PULLS.items()}
        records: list[Record] = []
        for start in starts:
            going = fit(policy, pulls, steps, updater, gradient=PCGrad(), clip=0.0, start=start)
            records += [next(going) for _ in range(6 // len(starts))]
        return [{name: r.metrics[name] for name in ("gradient_norm", "projected")} for r in records]

    assert run(0) == run(0, 3)
    assert len({found["projected"] for found in run(0)}) > 1


@any_rule
def test_a_gradient_that_is_not_finite_is_said(rule: Surgery, generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS, 2))
    step = Step([replace(batch, task=task) for task in ("one", MEMORY)])
    pulls = {"one": Pull([1.0, 0.0]), MEMORY: Pull([float("inf"), 1.0])}
    updater = Updater(PLAIN, policy.trainable(), steps=1)
    before = weights(policy)
    with pytest.raises(Diverged, match="step 1"):
        next(fit(policy, pulls, Fixed(step), updater, gradient=rule, clip=0.0))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(policy).items())


def test_a_step_of_memory_alone_learns_nothing(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, Lora(rank=4))
    batch = Collator(Layout.TOKENS, MEMORY)(tiny_rows(loaded, Layout.TOKENS, 2))
    before, updater = weights(policy), Updater(PLAIN, policy.trainable(), steps=1)
    (record,) = fit(policy, {MEMORY: NextToken()}, Fixed(Step([batch])), updater, gradient=AGem())
    assert record.metrics["gradient_norm"] == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(policy).items())
