"""Ten classes of Banking77 with 100, 60, 36, 22, 13, 8, 5, 3, 2 and 1 training rows, another ten and another order a
seed; 20 test rows of each. The upper half of MiniLM learns; every arm makes the same updates and keeps its last
weights. `only_head` asks the same of the head alone."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import tuneful
from benchmarks.effects.paired import Found, arms, compared
from benchmarks.shots import Pairs, banking, write

CLASSES, MOST = 10, 100
SIZES = [max(1, round(MOST ** (1 - place / (CLASSES - 1)))) for place in range(CLASSES)]
UPDATES, ROWS, TESTED = 100, 8, 20
ARMS = {"plain": None, "sampling": "sampling", "weights": "weights", "logits": "logits"}


def imbalance(data: Path, seeds: int) -> None:
    of_adapter(data, seeds, {"kind": "top_layers", "layers": 3}, UPDATES)


def only_head(data: Path, seeds: int) -> None:
    of_adapter(data, seeds, {"kind": "head"}, 4 * UPDATES)


def of_adapter(data: Path, seeds: int, adapter: dict[str, Any], updates: int) -> None:
    train, test, _ = banking(data)

    def run(name: str, seed: int) -> Found:
        settings = {"adapter": adapter, "schedule": {"steps": updates}, "seed": seed}
        return fit(*drawn(train, test, seed), ARMS[name], settings)

    found = arms(seeds, run, list(ARMS))
    for metric in ("macro_f1", "accuracy"):
        compared(found, metric, "plain")


def fit(train: Pairs, test: Pairs, balance: str | None, settings: dict[str, Any]) -> Found:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        write(folder / "train.csv", train)
        write(folder / "test.csv", test)
        recipe = {
            "data": {"source": str(folder), "validation": 0, "balance": balance}, "model": "minilm-l6",
            "choose": "none", "optimiser": {"rows_per_step": ROWS}, "evaluate": {"forgetting": False}, **settings,
        }  # fmt: skip
        report = tuneful.fit(recipe, out=Path(scratch) / "run").report
    found = {metric: report["quality"][metric]["tuned"] for metric in ("macro_f1", "accuracy")}
    return {**found, "seconds": report["cost"]["seconds"]}


def drawn(train: Pairs, test: Pairs, seed: int) -> tuple[Pairs, Pairs]:
    """Classes drawn by lot among those with rows enough for the largest; which is large is drawn too."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in train:
        by_label[label].append(text)
    draw = random.Random(seed)
    names = draw.sample([name for name in sorted(by_label) if len(by_label[name]) >= MOST], CLASSES)
    rows = [(text, name) for name, size in zip(names, SIZES, strict=True) for text in draw.sample(by_label[name], size)]
    asked: dict[str, Pairs] = {name: [pair for pair in test if pair[1] == name][:TESTED] for name in names}
    return rows, [pair for name in names for pair in asked[name]]
