"""What a run will take, by hand, and what the machine could do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from test_cli import tuneful
from tuneful.engine.cost import STEP_SECONDS, UTILISATION, predict
from tuneful.engine.work import Work

WORK = Work(
    tokens=1000, learned=100, steps=10, body=50_000, vocabulary=8_000, trainable=2_000, total=70_000, width=64,
    layers=2, outputs=512, heads=4, longest=64, frozen_body=True, joined=True, micro_tokens=128, precision="bf16",
)  # fmt: skip


def test_operations_of_low_rank_tuning_by_hand() -> None:
    """1,000 tokens x (4 x 50,000 + 6 x 2,000) + 100 x 4 x 8,000 = 215.2 million."""
    cost = predict(WORK, gflops=0.001)
    assert cost.tflop == pytest.approx(2.152e-4)
    assert cost.seconds == pytest.approx(0.2152 / (0.001 * UTILISATION["bf16"]) + 10 * STEP_SECONDS, abs=0.1)


def test_utilisation_by_hand() -> None:
    """Half of 215.2 million operations in 0.2 seconds where the products could have done 10^9 a second: 53.8 %."""
    assert predict(WORK, gflops=1.0).utilisation(0.5, 0.2) == pytest.approx(0.538)


def test_layers_beneath_a_cut_are_passed_once() -> None:
    """1,000 x (4 x 25,000 + 6 x 2,000) above, half of the tokens x 2 x 25,000 beneath, 3.2 million for the vocabulary."""
    assert predict(replace(WORK, below=1, once=0.5), gflops=1.0).tflop == pytest.approx(1.402e-4)


def test_layers_computed_twice_take_longer_and_count_no_more() -> None:
    """A forward pass again: 1,000 x 2 x 50,000 operations, which are no part of what the tokens need."""
    once, twice = predict(WORK, gflops=0.001), predict(replace(WORK, checkpointing=True), gflops=0.001)
    assert twice.tflop == once.tflop
    assert twice.seconds - once.seconds == pytest.approx(0.1 / (0.001 * UTILISATION["bf16"]), abs=0.2)


def test_doctor_measures_the_machine(generator_folder: Path, tmp_path: Path) -> None:
    found = json.loads(tuneful("doctor", "--speed", "--model", generator_folder, "--json", cwd=tmp_path).stdout)
    assert all(product["in"] > 0 and product["out"] > 0 for product in found["products"])
    assert all(product["fp32"] > 0 and product["bf16"] > 0 for product in found["products"])
    for precision in ("fp32", "bf16"):
        for work in ("lora", "full"):
            ceiling = found["ceilings"][work][precision]
            assert found["expected"][work][precision] == pytest.approx(UTILISATION[precision] * ceiling, rel=1e-3)
        assert found["ceilings"]["writing, one row"][precision] > 0
    assert found["gigabytes_per_second"] > 0


def test_a_rate_measured_beside_other_work_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace
    from typing import Any

    from tuneful.run import finish, plan

    monkeypatch.setattr(plan, "matmul_gflops", lambda *_: 4.0)
    built: Any = SimpleNamespace(cost=predict(WORK, gflops=1.0),
                                 prepared=SimpleNamespace(resolved=SimpleNamespace(precision="fp32")))  # fmt: skip
    assert finish._utilisation(built, 0.5, 0.2) == pytest.approx(0.538), "below one it is taken as it was"
    assert finish._utilisation(built, 0.5, 0.1) == pytest.approx(1.076 / 4)
    monkeypatch.setattr(plan, "matmul_gflops", lambda *_: 0.5)
    assert finish._utilisation(built, 0.5, 0.1) == pytest.approx(1.076), "never by a lower rate"
