"""Banking77 with ten training rows of each of its 77 classes, other ones a seed, and five test rows of each. The upper
half of MiniLM learns, in 150 updates of 16 rows; every arm keeps its last weights and differs by the order of rows
alone.

`plain` draws by lot, `length` the shortest rows first, `loss` those first that a head over the untuned encoder knows
best."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.effects.imbalance import fit
from benchmarks.effects.paired import Found, arms, compared
from benchmarks.shots import Pairs, banking

ROWS, TESTED, UPDATES = 10, 5, 150
ARMS: dict[str, str | None] = {"plain": None, "length": "length", "loss": "loss"}


def curriculum(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    train, test, _ = banking(data)

    def run(name: str, seed: int) -> Found:
        settings: dict[str, Any] = {
            "adapter": {"kind": "top_layers", "layers": 3}, "seed": seed, "optimiser": {"rows_per_step": 16},
            "schedule": {"kind": "epochs", "steps": UPDATES, "curriculum": ARMS[name]},
            "evaluate": {"forgetting": False, "robustness": False, "by_group": False, "learning_curve": False},
        }  # fmt: skip
        return fit(of_each(train, ROWS, seed), of_each(test, TESTED, 0), None, settings)

    found = arms(seeds, run, list(ARMS))
    for metric in ("accuracy", "macro_f1"):
        compared(found, metric, "plain")


def of_each(pairs: Pairs, count: int, seed: int) -> Pairs:
    """So many rows of each class, by lot."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in pairs:
        by_label[label].append(text)
    draw = random.Random(seed)
    return [(text, label) for label in sorted(by_label) for text in draw.sample(by_label[label], count)]
