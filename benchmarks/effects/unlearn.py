"""Forty of 770 rows of Banking77 are unlearned by an encoder that knew its rows by heart (minilm, all weights, no
dropout, ten epochs; a row a class is kept, which is a tenth). `attack`: in what share of pairs the loss tells a
forgotten row from one never learned, 0.5 by chance; `accuracy` of test rows.

`before` is the run as it was; `unlearned` the same afterwards; `anew` a run without the forty rows from the beginning,
which is what unlearning should come to."""

from __future__ import annotations

import csv
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

import tuneful
from benchmarks.effects.paired import Found, compared
from benchmarks.shots import banking, write
from tuneful.evaluation.membership import told_apart
from tuneful.run import load

ROWS, FORGOTTEN, UNSEEN = 10, 40, 400
ARMS = ("before", "unlearned", "anew")
LIGHT: dict[str, Any] = {"robustness": False, "shots": 0, "memorisation": 0, "forgetting": False}


def unlearn(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    found: dict[str, list[Found]] = {arm: [] for arm in ARMS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            for arm, measured in one(data, Path(scratch), seed).items():
                found[arm].append(measured)
                print({"arm": arm, "seed": seed, **measured}, flush=True)
    for metric in ("attack", "accuracy", "seconds"):
        compared(found, metric, "anew")


def one(data: Path, folder: Path, seed: int) -> dict[str, Found]:
    train, test, _ = banking(data)
    rng = random.Random(seed)
    rng.shuffle(train)
    rng.shuffle(test)
    own: dict[str, list[tuple[str, str]]] = {}
    for text, label in train:
        own.setdefault(label, []).append((text, label))
    rows = [pair for label in sorted(own) for pair in own[label][:ROWS]]
    gone = rng.sample(rows, FORGOTTEN)
    unseen, asked = test[:UNSEEN], test[UNSEEN : 2 * UNSEEN]

    def run(name: str, learned: list[tuple[str, str]]) -> tuneful.Run:
        place = folder / name
        place.mkdir()
        write(place / "train.csv", learned)
        write(place / "test.csv", asked)
        given = {"model": "minilm-l6", "adapter": "full", "data": {"source": str(place), "validation": 0},
                 "schedule": {"epochs": 10}, "seed": seed, "evaluate": LIGHT, "choose": {"enabled": False},
                 "regularisers": [{"kind": "dropout", "hidden": 0}]}  # fmt: skip
        return tuneful.fit(given, out=folder / f"{name}-run")

    def told(run: tuneful.Run) -> Found:
        scored = [nats(run.path, pairs) for pairs in (gone, unseen, asked)]
        right = [likeliest for _, likeliest in scored[2]]
        losses = [[loss for loss, _ in pairs] for pairs in scored[:2]]
        return {"attack": told_apart(losses[0], losses[1]), "accuracy": sum(right) / len(right),
                "seconds": run.report["cost"]["seconds"]}  # fmt: skip

    whole = run("whole", rows)
    found = {"before": told(whole)}
    with (folder / "gone.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *gone])
    light = {f"evaluate.{name}": str(value).lower() for name, value in LIGHT.items()}
    found["unlearned"] = told(tuneful.unlearn(whole, folder / "gone.csv", settings=light))
    found["anew"] = told(run("anew", [row for row in rows if row not in gone]))
    return found


def nats(run: Path, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    """Of each text the loss of its label, and whether that is the likeliest."""
    tuned = load(run)
    logits_RC = torch.from_numpy(tuned.scores([text for text, _ in pairs])).double()
    assert tuned.labels is not None
    wanted_R = torch.tensor([tuned.labels.names.index(label) for _, label in pairs])
    losses = torch.nn.functional.cross_entropy(logits_RC, wanted_R, reduction="none").tolist()
    return list(zip(losses, (logits_RC.argmax(1) == wanted_R).tolist(), strict=True))
