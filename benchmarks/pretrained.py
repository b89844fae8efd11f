"""Does an encoder that first learned from the task's own texts make more of a few labels? Prints one JSON line:
accuracy on the test set of a solved head over the encoder as it was and as it became, one figure a seed."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import tuneful
from benchmarks.shots import SETS, Pairs, drawn, write
from tuneful.evaluation.heads import solved
from tuneful.models.probe import right
from tuneful.run.tuned import Tuned, open_encoder


def main() -> None:
    args = arguments()
    train, test, _ = SETS[args.set](Path(args.data))
    if args.asked:
        test = random.Random(0).sample(test, args.asked)
    names = sorted({label for _, label in train})
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.csv"
        write(file, drawn(train, 0, 0)[1][: args.texts])
        settings: dict[str, Any] = {
            "objective": args.objective,
            "evaluate": "none",
            "data.test": 0,
            "data.text": "text",
        }
        if args.objective == "next_token":  # an adapter alone is no encoder
            settings["save.merged"] = True
        if args.epochs:
            settings["schedule.epochs"] = args.epochs
        if args.rate:
            settings["optimiser.learning_rate"] = args.rate
        began = time.perf_counter()
        run = tuneful.fit(file, model=args.model, out=Path(scratch) / "run", settings=settings)
        seconds = time.perf_counter() - began
        found = {}
        for name, model in (("before", args.model), ("after", str(run.path))):
            encoder = open_encoder(model, None)
            found[name] = [accuracy(encoder, *drawn(train, args.shots, seed)[:1], test, names, seed)
                           for seed in range(args.seeds)]  # fmt: skip
    print(json.dumps({"work": f"{args.set} {args.shots} {args.objective}", "seconds": seconds, **found}), flush=True)


def accuracy(encoder: Tuned, shots: Pairs, test: Pairs, names: list[str], seed: int) -> float:
    """Of a head solved over the shots."""
    known, asked = (encoder.vectors([text for text, _ in pairs]) for pairs in (shots, test))
    wanted, truth = (torch.tensor([names.index(label) for _, label in pairs]) for pairs in (shots, test))
    return round(float(right(solved(known, wanted, len(names), seed).logits(asked), truth).mean()), 4)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", choices=list(SETS), default="banking")
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--objective", choices=["masked", "contrast", "denoise", "next_token"], default="masked")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--asked", type=int, help="test rows, drawn once; all unless given")
    parser.add_argument("--seeds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
