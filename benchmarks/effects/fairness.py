"""A group that goes with the label in training and not afterwards: two classes of Banking77, and two branches named at
the end of each text. Of the training rows 95 % of one class come from one branch; of the rows asked, half."""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tuneful
from benchmarks.effects.paired import Found, arms, compared
from benchmarks.effects.regularisers import read

ROWS, SHARE, TESTED = 100, 0.95, 40  # of a class; of them those of its branch; asked rows of a class
BRANCHES = ("Sent from the harbour branch.", "Sent from the airport branch.")
COMMON: dict[str, Any] = {
    "model": "minilm-l6", "adapter": {"kind": "top_layers", "layers": 3}, "choose": "none",
    "optimiser": {"rows_per_step": 40}, "schedule": {"epochs": 8},
    "evaluate": {"forgetting": False, "robustness": False, "learning_curve": False},
}  # fmt: skip
EVEN = {"balance": "group_sampling"}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "group_sampling": {"data": EVEN},
    "reweighing": {"data": {"balance": "reweighing"}},
    "mmd": {"data": EVEN, "regularisers": [{"kind": "mmd", "strength": 1.0}]},
    "hsic": {"data": EVEN, "regularisers": [{"kind": "hsic", "strength": 1.0}]},
    "parity_gap": {"data": EVEN, "regularisers": [{"kind": "parity_gap", "strength": 1.0}]},
    "group_dro": {"data": EVEN, "regularisers": ["group_dro"]},
}


def planted(data: Path, seeds: int) -> None:
    source = read(data / "banking77" / "train.csv")

    def run(name: str, seed: int) -> Found:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(drawn(source, Path(scratch) / "data", seed), ARMS[name], seed)

    found = arms(seeds, run, list(ARMS))
    for metric in ("equalised_odds", "accuracy", "worst"):
        compared(found, metric, "plain")


def fit(folder: Path, way: dict[str, Any], seed: int) -> Found:
    recipe = {**COMMON, **way, "seed": seed}
    recipe["data"] = {"source": str(folder), "group": "branch", "validation": 0, **way.get("data", {})}
    done = tuneful.fit(recipe, out=folder.parent / "run")
    with (folder / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = done.load().classify([row["text"] for row in rows])
    right = np.array([row["label"] == answer for row, answer in zip(rows, said, strict=True)])
    return {**by_cell(rows, right), "seconds": done.report["cost"]["seconds"]}


def by_cell(rows: Sequence[dict[str, str]], right: np.ndarray) -> Found:
    """Accuracy of each class of each branch: their worst, and the larger of the two differences between branches."""
    cells = {(row["label"], row["branch"]) for row in rows}
    known = {cell: np.array([(row["label"], row["branch"]) == cell for row in rows]) for cell in cells}
    share = {cell: float(right[mask].mean()) for cell, mask in known.items()}
    labels, branches = ({cell[place] for cell in cells} for place in (0, 1))
    gaps = [max(share[label, b] for b in branches) - min(share[label, b] for b in branches) for label in labels]
    return {"equalised_odds": max(gaps), "accuracy": float(right.mean()), "worst": min(share.values())}


def drawn(source: dict[str, list[str]], folder: Path, seed: int) -> Path:
    """Two classes by lot; train.csv and test.csv of text, label and branch."""
    folder.mkdir()
    draw = random.Random(seed)
    names = draw.sample([name for name in sorted(source) if len(source[name]) >= ROWS + TESTED], 2)
    texts = {name: draw.sample(sorted(source[name]), ROWS + TESTED) for name in names}
    for part, share in (("train", SHARE), ("test", 0.5)):
        rows = []
        for place, name in enumerate(names):
            own = texts[name][:ROWS] if part == "train" else texts[name][ROWS:]
            for number, text in enumerate(own):
                branch = place if number < round(share * len(own)) else 1 - place
                rows.append((f"{text} {BRANCHES[branch]}", name, f"branch{branch}"))
        draw.shuffle(rows)
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label", "branch"), *rows])
    return folder
