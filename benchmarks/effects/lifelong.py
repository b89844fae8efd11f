"""The ten areas of CLINC150 as ten tasks of fifteen new classes each, MiniLM, 100 training rows and 30 test rows of a
class; another order of the areas a seed. After the last one every text is told apart among all 150 classes.

`joint` learns all at once; `plain` one after the other with nothing kept; `replay` keeps two rows of each class;
`symmetric` the same, every row told apart from all classes; `ewc` keeps none, and holds each weight as much as earlier
areas need it; `sums` keeps no row at all: the encoder stays as it is and the head is solved from sums over its
classes.

`lifelong_few`: the same arms and `both` (ewc and replay), 12 training rows of a class, three epochs.

`lifelong_lora`: LoRA of rank 8 under a class head that learns, 12 training rows of a class, five epochs, nothing kept.
`same` goes on with one; `added` learns one for each area, and `orthogonal` keeps it apart from those before; `merged`
keeps a part of what each area moved; `ewc` holds what earlier areas need."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.effects.paired import Found, arms, compared
from benchmarks.shots import Pairs, clinc, write
from tuneful.evaluation.transfer import summary
from tuneful.recipe import from_mapping
from tuneful.run.build import build
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.train import train
from tuneful.run.turns import ENDED, scores

EPOCHS, THRICE, OFTEN = 1.0, 3.0, 5.0
ALL, FEW = 100, 12  # training rows of a class
PLAIN = {"kind": "lifelong", "replay": 0, "epochs": EPOCHS}
ARMS: dict[str, dict[str, Any]] = {
    "joint": {"schedule": {"kind": "mixture", "temperature": 1, "epochs": EPOCHS}},
    "plain": {"schedule": PLAIN},
    "symmetric": {"schedule": {"kind": "lifelong", "asymmetric": False, "epochs": EPOCHS}},
    "replay": {"schedule": {"kind": "lifelong", "epochs": EPOCHS}},
    "ewc": {"schedule": PLAIN, "regularisers": ["ewc"]},
    "sums": {"schedule": PLAIN, "adapter": "head"},
}

WITH_FEW: dict[str, dict[str, Any]] = {
    name: {**way, "schedule": {**way["schedule"], "epochs": THRICE}}
    for name, way in {**ARMS, "both": {**ARMS["replay"], "regularisers": ["ewc"]}}.items()
}

LORA = {"kind": "lora", "rank": 8}
LONG = {**PLAIN, "epochs": OFTEN}
OF_LORA: dict[str, dict[str, Any]] = {
    "same": {"schedule": LONG, "adapter": LORA},
    "added": {"schedule": LONG, "adapter": {**LORA, "turns": "added"}},
    "orthogonal": {"schedule": LONG, "adapter": {**LORA, "turns": "added"}, "regularisers": ["orthogonal"]},
    "merged": {"schedule": LONG, "adapter": {**LORA, "turns": "merged"}},
    "ewc": {"schedule": LONG, "adapter": LORA, "regularisers": ["ewc"]},
}


def lifelong_lora(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    _compared(data, seeds, OF_LORA, "same", FEW)


def lifelong_few(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    _compared(data, seeds, WITH_FEW, "plain", FEW)


def lifelong(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    _compared(data, seeds, ARMS, "plain", ALL)


def _compared(data: Path, seeds: int, ways: Mapping[str, Mapping[str, Any]], base: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        areas = written(data, Path(scratch), rows)

        def run(name: str, seed: int) -> Found:
            order = sorted(areas)
            random.Random(seed).shuffle(order)
            return learned([(area, areas[area]) for area in order], ways[name], seed)

        found = arms(seeds, run, list(ways))
    for metric in ("average", "backward_transfer", "learning"):
        compared(found, metric, "joint" if metric == "average" and "joint" in ways else base)


def written(data: Path, folder: Path, rows: int) -> dict[str, Path]:
    """A folder with train.csv and test.csv of each area, with so many training rows of each class."""
    areas: Mapping[str, list[str]] = json.loads((data / "clinc150" / "domains.json").read_text(encoding="utf-8"))
    train, test, _ = clinc(data)
    found = {}
    for area, intents in areas.items():
        place = folder / area.replace(" ", "_")
        place.mkdir()
        for part, pairs in (("train", train), ("test", test)):
            own: Pairs = [pair for pair in pairs if pair[1] in intents]
            write(place / f"{part}.csv", own if part == "test" else _first_of_each(own, rows))
        found[place.name] = place
    return found


def _first_of_each(pairs: Pairs, rows: int) -> Pairs:
    """So many of each class."""
    found: dict[str, Pairs] = {}
    for pair in pairs:
        found.setdefault(pair[1], []).append(pair)
    return [pair for own in found.values() for pair in own[:rows]]


def learned(tasks: list[tuple[str, Path]], arm: Mapping[str, Any], seed: int) -> Found:
    """Trains without the other measurements of a run, which take longer than this one. A file of LoRA holds no head
    over means."""
    pooling = "own" if isinstance(arm.get("adapter"), dict) else "mean"
    recipe, _ = from_mapping(
        {
            "name": "areas", "model": "minilm-l6", "seed": seed, "checkpoint": {"every": 10**6},
            "tasks": [{"name": name, "data": {"source": str(place), "validation": 0},
                       "objective": {"kind": "classify", "pooling": pooling}} for name, place in tasks],
            "adapter": "full", **arm,
        },
        [],
    )  # fmt: skip
    built = build(prepare(recipe))
    progress = Progress()
    with tempfile.TemporaryDirectory() as scratch:
        records = list(train(built, RunFolder(Path(scratch) / "run"), progress))
    rows = {record.task: record.metrics for record in records if record.kind == ENDED}
    if not rows:
        last = scores(built, None)
        return {"average": sum(last.values()) / len(last), "backward_transfer": 0.0, "learning": 0.0,
                "seconds": round(progress.seconds, 1)}  # fmt: skip
    told = summary(rows)
    measures = {name: float(told[name]) for name in ("average", "backward_transfer", "learning")}
    return {**measures, "seconds": round(progress.seconds, 1)}
