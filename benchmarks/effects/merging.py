"""Two runs that are made one, beside one run that learned the rows of both. `accuracy`: mean over the two tasks' test
rows, told apart among all classes.

`merging`, `merging_lora`: two areas of CLINC150, of 15 classes each, ten rows of a class, tuned apart (MiniLM; all
weights under a head over means, or LoRA of rank 8 under the architecture's own head), another pair of areas a seed.
`merging_halves`: Banking77, all 77 classes, another ten rows of each in either run.

`apart` is what each run knows of its own task alone, and no one model; `together` learned all rows at once; `after` is
the first run, taught the rows of the second (tuneful learn); the others are ways to merge."""

from __future__ import annotations

import csv
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tuneful
from benchmarks.effects.paired import Found, compared
from benchmarks.shots import banking, clinc, write
from tuneful.adapters.merging import WAYS

ROWS, ASKED = 10, 15  # of a class, to learn from and to be asked about
MEANS = {"adapter": "full", "objective": {"kind": "classify", "pooling": "mean"}}
LORA = {"adapter": {"kind": "lora", "rank": 8}, "objective": "classify", "schedule": {"epochs": 10}}


def merging(data: Path, seeds: int) -> None:
    _told(data, seeds, MEANS)


def merging_lora(data: Path, seeds: int) -> None:
    _told(data, seeds, LORA)


def merging_halves(data: Path, seeds: int) -> None:
    _told(data, seeds, MEANS, halves=True)


def _told(data: Path, seeds: int, arm: Mapping[str, Any], *, halves: bool = False) -> None:
    """Prints a line an arm and seed, then the means."""
    found: dict[str, list[Found]] = {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            tasks = _halves(data, place, seed) if halves else _areas(data, place, seed)
            for name, measured in _one(tasks, place, arm, seed, ways=_ways(arm), teaches=not halves):
                found.setdefault(name, []).append(measured)
                print({"arm": name, "seed": seed, **measured}, flush=True)
    compared(found, "accuracy", "together")


def _ways(arm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each as it is by default, and the sum instead of the mean."""
    known = [how for how in WAYS if how != "svd" or arm is LORA]
    return [*({"how": how} for how in known), {"how": "linear", "weights": (1.0, 1.0)}, {"how": "ties", "density": 1.0}]


def _areas(data: Path, place: Path, seed: int) -> dict[str, Path]:
    areas: Mapping[str, list[str]] = json.loads((data / "clinc150" / "domains.json").read_text(encoding="utf-8"))
    rng, found = random.Random(seed), {}
    parts = {"train": (clinc(data)[0], ROWS), "test": (clinc(data)[1], ASKED)}
    for area in rng.sample(sorted(areas), 2):
        found[area] = place / area.replace(" ", "_")
        found[area].mkdir()
        for part, (pairs, most) in parts.items():
            own = [rng.sample([pair for pair in pairs if pair[1] == intent], most) for intent in areas[area]]
            write(found[area] / f"{part}.csv", [pair for of_class in own for pair in of_class])
    return found


def _halves(data: Path, place: Path, seed: int) -> dict[str, Path]:
    train, test, _ = banking(data)
    random.Random(seed).shuffle(train)
    own: dict[str, list[tuple[str, str]]] = {}
    for text, label in train:
        own.setdefault(label, []).append((text, label))
    found = {}
    for number, name in enumerate(("first", "second")):
        found[name] = place / name
        found[name].mkdir()
        rows = [pair for label in sorted(own) for pair in own[label][number * ROWS : (number + 1) * ROWS]]
        write(found[name] / "train.csv", rows)
        write(found[name] / "test.csv", test[number::4])
    return found


def _one(
    tasks: Mapping[str, Path],
    place: Path,
    arm: Mapping[str, Any],
    seed: int,
    *,
    ways: list[dict[str, Any]],
    teaches: bool,
) -> Iterator[tuple[str, Found]]:
    """Each arm, as it comes."""
    alike = {"model": "minilm-l6", "seed": seed, "precision": "fp32", "evaluate": "none",
             "choose": {"enabled": False}, **arm}  # fmt: skip
    sources = {name: {"source": str(folder), "validation": 0} for name, folder in tasks.items()}
    runs = [tuneful.fit({**alike, "data": data}, out=place / f"run-{name}") for name, data in sources.items()]
    own = [_right(run, folder) for run, folder in zip(runs, tasks.values(), strict=True)]
    yield "apart", _mean(own)
    given = [{"name": name, "data": data} for name, data in sources.items()]
    joint = {**alike, "tasks": given, "schedule": {"kind": "mixture", "temperature": 1, **arm.get("schedule", {})}}
    yield "together", _of_both(tuneful.fit(joint, out=place / "together"), tasks)
    for way in ways:
        merged = tuneful.merge(runs, out=place / "merged", **way)
        yield " ".join(map(str, way.values())), _of_both(merged, tasks)
        shutil.rmtree(merged.path)
    if teaches:
        yield "after", _of_both(tuneful.learn(runs[0], list(tasks.values())[1]), tasks)


def _of_both(run: tuneful.Run, tasks: Mapping[str, Path]) -> Found:
    return _mean([_right(run, folder) for folder in tasks.values()])


def _mean(scores: list[float]) -> Found:
    return {"accuracy": round(sum(scores) / len(scores), 4), "lowest": round(min(scores), 4)}


def _right(run: tuneful.Run, folder: Path) -> float:
    with (folder / "test.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    said = run.load().classify([row["text"] for row in rows])
    return sum(row["category"] == label for row, label in zip(rows, said, strict=True)) / len(rows)
