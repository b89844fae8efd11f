"""200 rows of ten Banking77 classes, every weight of MiniLM tuned: what each regulariser changes alone, and what a run
gets that names none (30 epochs)."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.effects.paired import Found, arms, compared
from tuneful.evaluation.reading import mean_loss
from tuneful.recipe import Recipe
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.losses import by_part
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.train import train

CLASSES, SHOTS, EPOCHS = 10, 20, 30
EPOCHS_ALONE = 10  # of many ways, for time's sake
COMMON: dict[str, Any] = {"adapter": "full", "schedule": {"epochs": EPOCHS}, "choose": "none"}
PLAIN: dict[str, Any] = {**COMMON, "evaluate": "none", "regularisers": "none"}
ALONE: dict[str, dict[str, Any]] = {
    "plain": {},
    "early_stopping": {"evaluate": {"patience": 4}},
    "weight_decay": {"optimiser": {"weight_decay": 0.1}},
    "layer_decay": {"optimiser": {"layer_decay": 0.8}},
    "ema": {"average": "ema"},
    "swa": {"average": "swa"},
    "interpolate": {"interpolate": "auto"},
    "sam": {"gradient": "sam"},
    "label_smoothing": {"regularisers": ["label_smoothing"]},
    "confidence_penalty": {"regularisers": ["confidence_penalty"]},
    "focal": {"regularisers": ["focal"]},
    "r_drop": {"regularisers": ["r_drop"]},
    "mixup": {"regularisers": ["mixup"]},
    "neftune": {"regularisers": ["neftune"]},
    "dropout": {"regularisers": [{"kind": "dropout", "hidden": 0.2, "attention": 0.2}]},
    "layer_drop": {"regularisers": [{"kind": "layer_drop", "share": 0.2}]},
    "l2_sp": {"regularisers": ["l2_sp"]},
    "soup": {"soup": 3},
}


def regularisers(data: Path, seeds: int) -> None:
    """Each alone, on classes that are easily taken for each other, asked about rows of the training file."""
    epochs = {"schedule": {"epochs": EPOCHS_ALONE}}
    together(data, seeds, {name: {**PLAIN, **epochs, **way} for name, way in ALONE.items()}, near=True, asked="train")


def default_set(data: Path, seeds: int) -> None:
    """What a run gets that says nothing, early stopping among it, beside a plain run; of classes by lot, and of those
    that are easily taken for each other."""
    for near in (False, True):
        print(json.dumps({"classes": "near" if near else "by lot"}), flush=True)
        stops = {**PLAIN, **ALONE["early_stopping"]}
        together(data, seeds, {"plain": PLAIN, "early_stopping": stops, "default": COMMON}, near=near)


def together(data: Path, seeds: int, ways: Mapping[str, Any], *, near: bool, asked: str = "test") -> None:
    """A line a run, then for each way the gap and the accuracy beside those of the first one of the same seed."""
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            draw(data / "banking77", Path(scratch) / str(seed), seed, asked, near=near)

        def run(name: str, seed: int) -> Found:
            return measured({**ways[name], "data": str(Path(scratch) / str(seed)), "seed": seed})

        found = arms(seeds, run, list(ways))
    for metric in ("gap", "test", "accuracy", "seconds"):
        compared(found, metric, next(iter(ways)))


def draw(source: Path, folder: Path, seed: int, asked: str, *, near: bool = False) -> None:
    """Ten classes, 20 rows each to learn and 10 each to watch; what is asked are all test rows of these classes, or 40
    other training rows of each. `near`: one class by lot and the nine whose texts have the most words in common with
    its own."""
    folder.mkdir()
    rng = np.random.default_rng([seed, 5])
    train, test = read(source / "train.csv"), read(source / "test.csv")
    chosen = rng.choice(sorted(train), CLASSES, replace=False)
    if near:
        chosen = nearest(train, str(chosen[0]))
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for name in chosen:
        own = [train[name][index] for index in rng.permutation(len(train[name]))]
        for part, rows in (("train", own[:SHOTS]), ("validation", own[SHOTS : SHOTS + 10]),
                           ("test", own[SHOTS + 10 : SHOTS + 50] if asked == "train" else test[name])):  # fmt: skip
            parts[part] += [(text, str(name)) for text in rows]
    for part, rows in parts.items():
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])


def nearest(train: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """The class and those with the most words in common."""
    names = sorted(train)
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([" ".join(train[name]) for name in names])
    order = np.argsort(-(vectors @ vectors[names.index(name)].T).toarray().ravel(), kind="stable")
    return [names[index] for index in order[:CLASSES]]


def read(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["category"]].append(row["text"])
    return found


def measured(recipe: dict[str, Any]) -> Found:
    """Losses and accuracy of the weights a run keeps: the last ones, but where the way says otherwise."""
    built = build(prepare(Recipe.model_validate({**recipe, "name": "effect"})))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for _ in train(built, RunFolder(Path(folder)), Progress()):
            pass
        seconds = time.perf_counter() - began
    losses = by_part(built)
    learned, held, test = (float(losses[part] or 0.0) for part in ("train", "validation", "test"))
    return {"train": learned, "validation": held, "test": test, "gap": held - learned, "accuracy": accuracy(built),
            "seconds": round(seconds, 1)}  # fmt: skip


def accuracy(built: Built) -> float:
    objective = built.prepared.resolved.objective
    return mean_loss(built.policy, objective, built.prepared.rows("test"), built.collate)["accuracy"]
