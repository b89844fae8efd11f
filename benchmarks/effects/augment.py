"""Typos at test time: does learning rows with typos halve what they cost, and what does it cost on clean rows?

Two kinds of test typos, in the same texts for all recipes of a seed. `other`: a generator of its own, below, that knows
no keyboard: any letter is replaced by any other, left out, doubled by a random one, or swapped, each with the same
chance, several to a word, in names and beginnings too. `same`: the generator of training, `mistyped`, with other chance
and twice as many words.
"""

from __future__ import annotations

import csv
import json
import statistics
import string
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.effects import paired
from tuneful.core.types import Example, Place, Row
from tuneful.data.augment.typos import mistyped
from tuneful.evaluation.reading import class_logits
from tuneful.run.api import recipe_for
from tuneful.run.build import Built, build
from tuneful.run.loop import updates
from tuneful.run.prepare import prepare

Pairs = list[tuple[str, str]]
PLAIN = "plain"
RECIPES: Mapping[str, str] = {
    PLAIN: "none",
    "typos": "[{kind: typos, strength: 0.3, share: 0.9}]",
    "words": "[{kind: words}]",
    "case": "[{kind: case}]",
}
LETTERS = 0.08  # chance of each letter to be mistyped, in test rows
WORDS = 0.4  # share of the words that get a typo by the generator of training, in test rows
TESTED = 200  # test rows, at most, each read three times
STEP = 20  # rows an update
SIZES = ((10, 20, 9), (77, 10, 3))  # classes, rows of each, epochs


def augment(data: Path, seeds: int, sizes: Sequence[tuple[int, int, int]] = SIZES) -> None:
    """Prints accuracy on clean rows and two kinds of mistyped ones for each recipe, and the drops, paired by seed."""
    for classes, rows, epochs in sizes:
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for seed in range(seeds):
            train, tests = drawn(data / "banking77", classes, rows, seed)
            for name, recipe in RECIPES.items():
                one = measured(train, tests, recipe, epochs, seed)
                found[name].append(one)
                print(json.dumps({"classes": classes, "seed": seed, "recipe": name, **one}), flush=True)
        table(f"Banking77, {classes} classes x {rows} rows, {seeds} seeds", found)


def drawn(folder: Path, classes: int, rows: int, seed: int) -> tuple[Pairs, dict[str, Pairs]]:
    """Training rows of some classes, and their test rows as they are and mistyped."""
    train, test = (read(folder / f"{part}.csv") for part in ("train", "test"))
    rng = np.random.default_rng([seed, 1])
    names = rng.permutation(sorted({label for _, label in train}))[:classes].tolist()
    chosen: Pairs = []
    for name in names:
        own = [pair for pair in train if pair[1] == name]
        chosen += [own[place] for place in rng.permutation(len(own))[:rows]]
    clean = [pair for pair in test if pair[1] in names]
    clean = [clean[place] for place in rng.permutation(len(clean))[:TESTED]]
    noise = np.random.default_rng([seed, 2])
    return chosen, {
        "clean": clean,
        "other": [(scrambled(text, LETTERS, noise), label) for text, label in clean],
        "same": [(mistyped(text, WORDS, noise), label) for text, label in clean],
    }


def scrambled(text: str, chance: float, rng: np.random.Generator) -> str:
    """Letters replaced, left out, put in or swapped without regard to any keyboard."""
    letters = list(text)
    for place in range(len(letters)):
        if letters[place].isalpha() and rng.random() < chance:
            random = string.ascii_lowercase[int(rng.integers(26))]
            slip = int(rng.integers(4))
            if slip == 0:
                letters[place] = random
            elif slip == 1:
                letters[place] = ""
            elif slip == 2:
                letters[place] += random
            elif place + 1 < len(letters):
                letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def measured(train: Pairs, tests: Mapping[str, Pairs], recipe: str, epochs: int, seed: int) -> dict[str, float]:
    """What a run learns, without its measuring and report."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "train.csv"
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *train])
        settings = {"augment": recipe, "choose": "none", "adapter": "full", "seed": seed, "schedule.epochs": epochs,
                    "optimiser.rows_per_step": STEP, "data.test": 0, "data.validation": 0}  # fmt: skip
        built = build(prepare(recipe_for(file, model="minilm-l6", settings=settings)))
    began = time.process_time()
    tokens = sum(record.metrics["tokens"] for record in updates(built))
    seconds = time.process_time() - began
    found = {name: accuracy(built, pairs) for name, pairs in tests.items()}
    return {**found, "tokens_per_cpu_second": round(tokens / seconds, 1), "cpu_seconds": round(seconds, 1)}


def accuracy(built: Built, pairs: Pairs) -> float:
    labels, processor = built.prepared.labels, built.prepared.processor
    assert labels is not None
    encoded = [processor.text(text, limit=processor.max_tokens) for text, _ in pairs]
    rows = [Row(Example(Place("test", n)), one.ids, one.learn) for n, one in enumerate(encoded)]
    said = class_logits(built.policy, rows, built.collate).argmax(1)
    return round(
        100 * statistics.mean(labels.names[one] == name for one, (_, name) in zip(said, pairs, strict=True)), 2
    )


def table(title: str, found: Mapping[str, list[dict[str, float]]]) -> None:
    heads = ("recipe", "clean", "other typos", "same typos", "drop, other", "drop, same",
             "clean - plain", "other - plain", "same - plain")  # fmt: skip
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n| ---{' | ---:' * (len(heads) - 1)} |")
    for name, runs in found.items():
        cells = [f"{statistics.mean(run[kind] for run in runs):.1f}" for kind in ("clean", "other", "same")]
        cells += [kept(runs, found[PLAIN], kind) for kind in ("other", "same")]
        for kind in ("clean", "other", "same"):
            cells.append(interval([one[kind] - base[kind] for one, base in zip(runs, found[PLAIN], strict=True)]))
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


def kept(runs: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]], kind: str) -> str:
    """The drop beside that of the plain recipe, in the mean, and the paired difference of the two in points."""
    ours, theirs = ([run["clean"] - run[kind] for run in each] for each in (runs, plain))
    share = statistics.mean(ours) / statistics.mean(theirs)
    return f"{share:.0%}, {interval([one - other for one, other in zip(ours, theirs, strict=True)])}"


def interval(gains: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds, by Student's t."""
    told = paired.interval(gains)
    around = f" ({told['ci95'][0]:+.1f} to {told['ci95'][1]:+.1f})" if "ci95" in told else ""
    return f"{told['gap']:+.1f}{around}"


def read(file: Path) -> Pairs:
    with file.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]
