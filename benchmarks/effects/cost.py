"""What each regulariser and each augmentation costs: processor seconds an update, beside a plain one of the same rows.

All ways are ready at once and take turns, so whatever else the machine does befalls all of them alike."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.effects.fairness import COMMON, drawn, told_apart
from benchmarks.effects.regularisers import ALONE, PLAIN, draw
from tuneful.core.types import Record
from tuneful.recipe import Recipe
from tuneful.run.build import build
from tuneful.run.loop import updates
from tuneful.run.prepare import prepare

WARM, UPDATES = 3, 20
AFTERWARDS = ("early_stopping", "interpolate", "soup")  # not while an update is made
WAYS: dict[str, dict[str, Any]] = {
    **{name: way for name, way in ALONE.items() if name not in AFTERWARDS},
    "augment typos": {"augment": ["typos"]},
    "augment words": {"augment": ["words"]},
    "augment typos, words, case": {"augment": ["typos", "words", "case"]},
}
FAIR: dict[str, dict[str, Any]] = {
    "plain": {},
    **{name: {"regularisers": [name]} for name in ("mmd", "hsic", "parity_gap", "group_dro", "adversary")},
}


def cost(data: Path, seeds: int) -> None:
    """A line a way: the median of the ratio, update by update, and its quartiles over all draws."""

    def recipe(folder: Path, seed: int) -> dict[str, Any]:
        draw(data / "banking77", folder, seed, "train")
        return {**PLAIN, "data": str(folder)}

    _compared(seeds, recipe, WAYS)


def cost_fair(data: Path, seeds: int) -> None:
    """The same of what treats groups alike: updates of 64 tweets of two branches, the upper half of the encoder."""
    texts = told_apart(data)

    def recipe(folder: Path, seed: int) -> dict[str, Any]:
        source = drawn(texts, folder, seed, share=0.5)
        return {**COMMON, "optimiser": {"rows_per_step": 64}, "regularisers": "none",
                "data": {"source": str(source), "group": "branch", "validation": 0}}  # fmt: skip

    _compared(seeds, recipe, FAIR)


def _compared(seeds: int, recipe: Callable[[Path, int], dict[str, Any]], given: Mapping[str, dict[str, Any]]) -> None:
    torch.set_num_threads(1)  # or waiting for one another would count as work
    ratios: dict[str, list[float]] = {name: [] for name in given}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            common = {**recipe(Path(scratch) / str(seed), seed), "seed": seed}
            ways = {name: _going({**common, **way}) for name, way in given.items()}
            for number in range(WARM + UPDATES):
                order = random.Random(f"{seed} {number}").sample(sorted(ways), len(ways))  # who is first is slower
                spent = {name: _spent(ways[name]) for name in order}
                if number >= WARM:
                    for name, seconds in spent.items():
                        ratios[name].append(seconds / spent["plain"])
    for name, found in ratios.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(json.dumps({"way": name, "ratio": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)],
                          "updates": len(found)}), flush=True)  # fmt: skip


def _going(recipe: dict[str, Any]) -> Iterator[Record]:
    """Its updates, one at a time."""
    return updates(build(prepare(Recipe.model_validate({**recipe, "name": "cost"}))))


def _spent(records: Iterator[Record]) -> float:
    began = time.process_time()
    next(records)
    return time.process_time() - began
