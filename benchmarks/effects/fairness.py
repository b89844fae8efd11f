"""A group that goes with the label in training and not afterwards: tweets that are hateful or merely offensive, which
are hard to tell apart, and two branches named at the end of each text. Of the training rows 95 % of one class come from
one branch; each text that is asked about is sent from both."""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tuneful
from benchmarks.effects.paired import Found, arms, compared, half_of
from benchmarks.effects.tweets import tweets

ROWS, SHARE, ASKED = 300, 0.95, 100  # of a class; of them those of its branch; texts of a class asked about
BRANCHES = ("Sent from the harbour branch.", "Sent from the airport branch.")
HALF = 1  # of the tweets; ways were tried out on the other
Texts = Mapping[str, Sequence[str]]  # of each class
COMMON: dict[str, Any] = {
    "model": "minilm-l6", "adapter": {"kind": "top_layers", "layers": 3}, "choose": "none",
    "optimiser": {"rows_per_step": 40}, "schedule": {"epochs": 3},
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
    "jtt": {"data": {"balance": {"kind": "jtt", "epochs": 2}}},
}


def planted(data: Path, seeds: int) -> None:
    texts = told_apart(data)

    def run(name: str, seed: int) -> Found:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(drawn(texts, Path(scratch) / "data", seed), ARMS[name], seed)

    found = arms(seeds, run, list(ARMS))
    for metric in ("equalised_odds", "accuracy", "worst"):
        compared(found, metric, "plain")


def told_apart(data: Path, half: int = HALF) -> Texts:
    """The tweets of both classes, of one half."""
    known = [(text, kind) for text, kind in tweets(data) if half_of(text) == half]
    return {kind: [text for text, own in known if own == kind] for kind in ("hateful", "offensive")}


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


def drawn(texts: Texts, folder: Path, seed: int, share: float = SHARE) -> Path:
    """train.csv and test.csv of text, label and branch; `share` of a class learned comes from its own branch."""
    folder.mkdir()
    draw = random.Random(seed)
    rows: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    for place, (name, known) in enumerate(sorted(texts.items())):
        own = draw.sample(sorted(set(known)), ROWS + ASKED)
        for number, text in enumerate(own[:ROWS]):
            rows["train"].append(sent(text, name, place if number < round(share * ROWS) else 1 - place))
        rows["test"] += [sent(text, name, branch) for text in own[ROWS:] for branch in range(2)]
    for part, lines in rows.items():
        draw.shuffle(lines)
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label", "branch"), *lines])
    return folder


def sent(text: str, label: str, branch: int) -> tuple[str, str, str]:
    return f"{text} {BRANCHES[branch]}", label, f"branch{branch}"
