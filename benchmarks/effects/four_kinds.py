"""Four tasks in one model: Banking77, CLINC150, rude tweets (a head each) and instructions (text to write), smollm2
with LoRA, against a model of its own for each. Accuracy of the heads on 300 test rows, and nats a token of the answers
to 100 requests; another draw of the training rows a seed.

`alone` is four runs, `together` one that makes as many updates of each, `shorter` the same with seven tenths of them;
`pcgrad` and `uncertainty` are `together` with that. `seconds` are those of training, of all four runs in `alone`."""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.effects.paired import Found, arms, compared
from benchmarks.effects.tweets import tweets
from benchmarks.shots import Pairs, clinc, write
from tuneful.core.types import Layout
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.joined import kinds_in, prepared_kinds
from tuneful.run.joint import build_joint
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.train import train

EPOCHS, SHORTER = 3.0, 0.7
OF_A_CLASS = {"banking": 5, "clinc": 3, "rude": 150}
TEST, ANSWERS = 300, 100
CLASSIFY = {"kind": "classify"}
ARMS: dict[str, dict[str, Any]] = {
    "together": {"schedule": {"kind": "mixture", "epochs": EPOCHS}},
    "shorter": {"schedule": {"kind": "mixture", "epochs": EPOCHS * SHORTER}},
    "pcgrad": {"schedule": {"kind": "mixture", "epochs": EPOCHS}, "gradient": "pcgrad"},
    "uncertainty": {"schedule": {"kind": "mixture", "epochs": EPOCHS}, "regularisers": ["uncertainty"]},
}
NAMES = (*OF_A_CLASS, "answers")


def four_kinds(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""

    def run(name: str, seed: int) -> Found:
        with tempfile.TemporaryDirectory() as scratch:
            places = written(data, Path(scratch), seed)
            return alone(places, seed) if name == "alone" else together(places, ARMS[name], seed)

    found = arms(seeds, run, ["alone", *ARMS])
    for metric in (*NAMES, "seconds"):
        compared(found, metric, "alone")


def written(data: Path, folder: Path, seed: int) -> dict[str, Path]:
    """A folder with train and test rows of each task."""
    chance, found = random.Random(seed), {}
    banking = {part: [(row["text"], row["category"]) for row in csv.DictReader(
        (data / "banking77" / f"{part}.csv").open(encoding="utf-8"))] for part in ("train", "test")}  # fmt: skip
    train_clinc, test_clinc, _ = clinc(data)
    rude = [(text, "other" if kind == "neither" else "rude") for text, kind in tweets(data)]
    random.Random(0).shuffle(rude)
    sets = {"banking": (banking["train"], banking["test"]), "clinc": (train_clinc, test_clinc),
            "rude": (rude[TEST:], rude[:TEST])}  # fmt: skip
    for name, (train_rows, test_rows) in sets.items():
        found[name] = folder / name
        found[name].mkdir()
        write(found[name] / "train.csv", drawn(train_rows, OF_A_CLASS[name], chance))
        write(found[name] / "test.csv", random.Random(0).sample(test_rows, TEST))
    rows = json.loads((data / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    random.Random(0).shuffle(rows)
    found["answers"] = folder / "answers"
    found["answers"].mkdir()
    parts = {"test": rows[:ANSWERS], "train": chance.sample(rows[ANSWERS:], 300)}
    for part, own in parts.items():
        (found["answers"] / f"{part}.json").write_text(json.dumps(own), encoding="utf-8")
    return found


def drawn(pairs: Pairs, count: int, chance: random.Random) -> Pairs:
    """So many of each class."""
    own: dict[str, Pairs] = defaultdict(list)
    for pair in pairs:
        own[pair[1]].append(pair)
    return [pair for name in sorted(own) for pair in chance.sample(own[name], min(count, len(own[name])))]


def recipe_of(places: Mapping[str, Path], seed: int, **more: Any) -> Recipe:
    tasks = [
        {"name": name, "data": {"source": str(place), "validation": 0}, "head": "own",
         "objective": "next_token" if name == "answers" else CLASSIFY} for name, place in places.items()
    ]  # fmt: skip
    given = {"name": "four", "model": "smollm2-135m", "adapter": "lora", "seed": seed, "tasks": tasks,
             "choose": "none", "checkpoint": {"every": 10**6}, **more}  # fmt: skip
    return from_mapping(given, [])[0]


def alone(places: Mapping[str, Path], seed: int) -> Found:
    found: Found = {"seconds": 0.0}
    for name, place in places.items():
        built = build(prepare(recipe_of({name: place}, seed, schedule={"epochs": EPOCHS})))
        found["seconds"] += trained(built)
        found[name] = measured(built)
    return rounded(found)


def together(places: Mapping[str, Path], arm: Mapping[str, Any], seed: int) -> Found:
    recipe = recipe_of(places, seed, **arm)
    kinds = kinds_in(recipe, RunFolder(Path("none")), resume=False, say=lambda _: None)
    built = build_joint(recipe, prepared_kinds(kinds, lambda _: None))
    seconds = trained(built)
    return rounded({"seconds": seconds, **{name: measured(part) for name, part in built.parts.items()}})


def trained(built: Built) -> float:
    progress = Progress()
    with tempfile.TemporaryDirectory() as scratch:
        for _ in train(built, RunFolder(Path(scratch) / "run"), progress):
            pass
    return progress.seconds


def measured(built: Built) -> float:
    """Accuracy, or nats a token."""
    rows = [row for row in built.prepared.rows("test") if row.counts]
    if built.prepared.layout is Layout.TOKENS:
        losses = token_losses(built.policy, rows, built.collate).sum(0)
        return float(losses[0] / losses[1])
    wanted = np.array([row.target for row in rows])
    return float((class_logits(built.policy, rows, built.collate).argmax(1) == wanted).mean())


def rounded(found: Found) -> Found:
    return {name: round(value, 4) for name, value in found.items()}
