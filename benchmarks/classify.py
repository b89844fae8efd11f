"""Our side of classification: ten rows a class of a labelled set, every weight learns. Prints one JSON line with the
peer's fields: training seconds without loading or tokenising, rows a second, accuracy on the whole test set."""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from tuneful.adapters import Full
from tuneful.core.device import peak_memory_mb, precision, prepare_process, seed_everything
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.models.heads import Labels
from tuneful.models.load import load
from tuneful.objectives import Classify
from tuneful.schedules.epochs import Cut, EpochSteps

TOGETHER = 64  # test rows read at once


def main() -> None:
    args = arguments()
    prepare_process()
    seed_everything(args.seed)
    train, test = (read(Path(args.data) / f"{part}.csv") for part in ("train", "test"))
    names = sorted({label for _, label in train})
    by_label = defaultdict(list)
    for text, label in train:
        by_label[label].append(text)
    draw = random.Random(args.seed)
    shots = [(text, label) for label in names for text in draw.sample(by_label[label], args.shots)]
    loaded = load(args.model, labels=Labels(tuple(names), "single_label_classification"))

    def encode(pairs: list[tuple[str, str]]) -> list[Row]:
        return [
            Row(Example(Place("bench", 0)), loaded.processor.text(text, limit=512).ids, np.zeros(0), names.index(label))
            for text, label in pairs
        ]

    rows, held = encode(shots), encode(test)
    compute = precision(args.precision)
    autocast = None if compute == torch.float32 else compute
    policy = Policy(loaded.network, Full().attach(loaded.module, labels=True), autocast=autocast)
    policy.attached.see(torch.from_numpy(np.unique(np.concatenate([row.ids for row in rows]))))
    collate = Collator(Layout.LABELS)
    steps = args.epochs * -(-len(rows) // args.rows_per_step)
    schedule = EpochSteps(rows, collate, Cut(args.rows_per_step, args.micro_tokens), steps, args.seed)
    optimiser = Updater(
        AdamW(learning_rate=args.learning_rate, warmup=0.1, decay="linear"), policy.trainable(), steps=steps
    )
    begin = time.perf_counter()
    records = list(fit(policy, {"main": Classify()}, schedule, optimiser))
    seconds = time.perf_counter() - begin
    peak = peak_memory_mb()
    policy.module.eval()
    right = 0
    held.sort(key=len)
    for start in range(0, len(held), TOGETHER):
        part = held[start : start + TOGETHER]
        found = policy.read(collate(part).inputs).class_logits().argmax(-1).tolist()
        right += sum(answer == row.target for answer, row in zip(found, part, strict=True))
    report = {
        "peer": "tuneful", "work": "classify-full", "precision": str(compute), "steps": steps,
        "seconds": round(seconds, 2),
        "rows_per_second": round(args.epochs * len(rows) / seconds, 1), "accuracy": round(right / len(held), 4),
        "first_loss": round(records[0].metrics["loss"], 4), "last_loss": round(records[-1].metrics["loss"], 4),
        "peak_rss_mb": peak,
    }  # fmt: skip
    print(json.dumps(report), flush=True)


def read(file: Path) -> list[tuple[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows-per-step", type=int, default=16)
    parser.add_argument("--micro-tokens", type=int, default=AdamW().micro_tokens)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
