"""Our side of learning from few labels: k rows a class, drawn as the peer draws them, the way left to the tool. Prints
one JSON line: seconds of choosing and training, accuracy on the whole test set, and that of the floor, a logistic head
over the frozen encoder with its penalty chosen by cross-validation and no names of classes."""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tuneful
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.heads import solved, vectors
from tuneful.models.probe import right

Pairs = list[tuple[str, str]]


def main() -> None:
    args = arguments()
    train, test, strange = SETS[args.set](Path(args.data))
    shots, rest = drawn(train, args.shots, args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        write(folder / "train.csv", shots)
        write(folder / "test.csv", test)
        settings = {"seed": args.seed, "evaluate.forgetting": False}
        if args.unlabelled:
            write(Path(scratch) / "texts.csv", rest[: args.unlabelled])
            settings["data.unlabelled"] = str(Path(scratch) / "texts.csv")
        run = tuneful.fit(folder, out=Path(scratch) / "run", settings=settings)
        tuned, report = run.load(), run.report
        names = sorted({label for _, label in train})
        found = {
            "peer": "tuneful", "work": f"{args.set} {args.shots}", "seed": args.seed,
            "accuracy": report["quality"]["accuracy"]["tuned"], "base": floor(tuned, shots, test, names, args.seed),
            "seconds": report["cost"]["seconds"] + sum(way["seconds"] for way in report["choice"]["ways"]),
            "ways": {called(way): [way["accuracy"], way["seconds"]] for way in report["choice"]["ways"]},
            "taken": next(called(way) for way in report["choice"]["ways"] if way["taken"]),
            "peak_rss_mb": report["cost"]["peak_memory_mb"],
        }  # fmt: skip
        if strange:
            found["auroc"] = auroc(tuned, [text for text, _ in test], strange)
    print(json.dumps(found), flush=True)


def called(way: dict[str, Any]) -> str:
    return way["way"] + ("+names" if way["label_names"] else "") + ("+texts" if way["texts"] else "")


def floor(tuned: tuneful.run.tuned.Tuned, shots: Pairs, test: Pairs, names: list[str], seed: int) -> float:
    """By the encoder as it was before tuning."""
    collate = Collator(Layout.LABELS)

    def read(pairs: Pairs) -> torch.Tensor:
        encoded = [tuned.processor.text(text, limit=256) for text, _ in pairs]
        rows = [Row(Example(Place("bench", n)), item.ids, item.learn, 0) for n, item in enumerate(encoded)]
        return vectors(tuned.policy, rows, collate, original=True)

    wanted, asked = (torch.tensor([names.index(label) for _, label in pairs]) for pairs in (shots, test))
    probe = solved(read(shots), wanted, len(names), seed)
    return round(float(right(probe.logits(read(test)), asked).mean()), 4)


def auroc(tuned: tuneful.run.tuned.Tuned, known: list[str], strange: list[str]) -> float:
    """How often a text of a known class has a larger best logit than one of none."""
    ours, theirs = (tuned.scores(texts).max(1) for texts in (known, strange))
    order = np.argsort(np.concatenate([ours, theirs]), kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    wins = ranks[: len(ours)].sum() - len(ours) * (len(ours) + 1) / 2
    return round(float(wins / (len(ours) * len(theirs))), 4)


def drawn(train: Pairs, shots: int, seed: int) -> tuple[Pairs, Pairs]:
    """As the peer draws; and the others in a fixed order."""
    by_label = defaultdict(list)
    for text, label in train:
        by_label[label].append(text)
    draw = random.Random(seed)
    chosen = [(text, label) for label in sorted(by_label) for text in draw.sample(by_label[label], shots)]
    taken = {text for text, _ in chosen}
    rest = [pair for pair in train if pair[0] not in taken]
    random.Random(seed).shuffle(rest)
    return chosen, rest


def banking(data: Path) -> tuple[Pairs, Pairs, list[str]]:
    def rows(part: str) -> Pairs:
        with (data / "banking77" / f"{part}.csv").open(newline="", encoding="utf-8") as stream:
            return [(row["text"], row["category"]) for row in csv.DictReader(stream)]

    return rows("train"), rows("test"), []


def clinc(data: Path) -> tuple[Pairs, Pairs, list[str]]:
    found = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    pairs = [[(text, label) for text, label in found[part]] for part in ("train", "test")]
    return pairs[0], pairs[1], [text for text, _ in found["oos_test"]]


def domains(data: Path) -> tuple[Pairs, Pairs, list[str]]:
    """The same texts, told apart by the ten areas their intents belong to."""
    area = {intent: name for name, intents in
            json.loads((data / "clinc150" / "domains.json").read_text(encoding="utf-8")).items()
            for intent in intents}  # fmt: skip
    train, test, strange = clinc(data)
    return [(text, area[label]) for text, label in train], [(text, area[label]) for text, label in test], strange


def hate(data: Path) -> tuple[Pairs, Pairs, list[str]]:
    """Tweets: hate speech, offensive language, neither. The last fifth is asked about."""
    with (data / "davidson_hate" / "labeled_data.csv").open(newline="", encoding="utf-8") as stream:
        pairs = [(row["tweet"], ("hate", "offensive", "neither")[int(row["class"])]) for row in csv.DictReader(stream)]
    cut = len(pairs) * 4 // 5
    return pairs[:cut], pairs[cut:], []


SETS = {"banking": banking, "clinc": clinc, "domains": domains, "hate": hate}


def write(file: Path, pairs: Pairs) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "category"])
        writer.writerows(pairs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", choices=list(SETS), default="banking")
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unlabelled", type=int, default=0, help="rows of the training file without their labels")
    return parser.parse_args()


if __name__ == "__main__":
    main()
