"""No labels at all: what names of classes are worth. Prints one JSON line a set.

`names`: an encoder (banking, clinc, domains): the nearest name, the same with batch calibration alone, and what the
tool does. `likelihood`: a language model on three tasks with two to five answers: log-likelihood of the
text after each name, raw and calibrated; and the same for ten areas of CLINC150.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.shots import SETS, Pairs
from tuneful.core.types import Example, Place
from tuneful.data.labels import LabelSet
from tuneful.run.named import calibrated, likelihoods, named_model
from tuneful.run.tuned import open_encoder, open_model

DRAWS = 1000  # of the bootstrap
TASKS = {
    "ag_news_classify_with_choices": ["Business", "Science and technology"],
    "amazon_polarity_would_you_buy": ["increase", "decrease"],
    "yelp_review_full_based_on_that": ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--what", choices=["names", "likelihood"], default="names")
    args = parser.parse_args()
    found = by_names(args.data) if args.what == "names" else by_likelihood(args.data)
    for line in found:
        print(json.dumps(line), flush=True)


def by_names(data: Path) -> list[dict[str, object]]:
    """Calibrated on the very texts of the test file, whose labels nobody looks at."""
    lines = []
    for name in ("banking", "clinc", "domains"):
        _, test, _ = SETS[name](data)
        labels, texts = LabelSet.of_names(sorted({label for _, label in test})), [text for text, _ in test]
        encoder = open_encoder("minilm-l6", labels, quiet)
        vectors = encoder.vectors(texts)
        scores = vectors @ encoder.vectors([str(labels.words(n)) for n in range(len(labels.names))]).T
        told = named_model("minilm-l6", labels, texts, quiet).classify(texts)
        answers = {
            "raw": [labels.names[place] for place in scores.argmax(1)],
            "batch_calibrated": [labels.names[place] for place in calibrated(scores.numpy()).argmax(1)],
            "tuneful": list(told),
        }
        lines.append(line(name, answers, [label for _, label in test], len(labels.names)))
    return lines


def by_likelihood(data: Path) -> list[dict[str, object]]:
    writer, lines = open_model("smollm2-135m"), []
    for task, (names, pairs) in {**questions(data), "domains": areas(data)}.items():
        examples = [Example(Place(task, number), text=text) for number, (text, _) in enumerate(pairs)]
        raw = likelihoods(writer, examples, LabelSet.of_names(names))
        answers = {
            "raw": [names[place] for place in raw.argmax(1)],
            "batch_calibrated": [names[place] for place in calibrated(raw).argmax(1)],
        }
        lines.append(line(task, answers, [label for _, label in pairs], len(names)))
    return lines


def questions(data: Path) -> dict[str, tuple[list[str], Pairs]]:
    """Texts that end in a question which the label answers."""
    found = {}
    for task, names in TASKS.items():
        lines = (data / "p3_t0_subset" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(row) for row in lines]
        found[task] = names, [(row["prompt"], row["completion"].replace("<|endoftext|>", "").strip()) for row in rows]
    return found


def areas(data: Path) -> tuple[list[str], Pairs]:
    """The test texts of CLINC150 that stand at every tenth place, by area."""
    _, test, _ = SETS["domains"](data)
    return sorted({label for _, label in test}), test[::10]


def line(work: str, answers: dict[str, list[str]], wanted: list[str], classes: int) -> dict[str, object]:
    """Accuracies, and the gain over raw with a 95 % interval from resampled rows."""
    right = {way: np.asarray([a == w for a, w in zip(found, wanted, strict=True)]) for way, found in answers.items()}
    found: dict[str, object] = {"work": work, "rows": len(wanted), "chance": round(1 / classes, 4)}
    rng = np.random.default_rng(0)
    places = rng.integers(len(wanted), size=(DRAWS, len(wanted)))
    for way, good in right.items():
        found[way] = round(float(good.mean()), 4)
        if way != "raw":
            gains = (good.astype(float) - right["raw"])[places].mean(1)
            found[f"{way}_gain_ci95"] = [round(float(edge), 4) for edge in np.quantile(gains, [0.025, 0.975])]
    return found


def quiet(_: str) -> None:
    pass


if __name__ == "__main__":
    main()
