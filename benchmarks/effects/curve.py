"""Does the learning curve foresee what twice the rows bring? Heads over MiniLM's vectors, rows drawn at random, another
draw a seed; the truth is what heads for n and 2n rows make of the rows that were not drawn. (Banking77's own test rows
are spread evenly over the classes and its training rows are not, so a curve of the one cannot foresee the other.)"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.shots import SETS
from tuneful.adapters import Head
from tuneful.core.device import prepare_process
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.before import Before
from tuneful.evaluation.heads import vectors
from tuneful.evaluation.learning_curve import forecast, measure
from tuneful.models.heads import Labels
from tuneful.models.load import load

WORKS = {"banking": {"banking": 200}, "clinc": {"clinc": 240, "domains": 100}}  # texts, and by labels n
CLASSES = {"banking": 20, "clinc": 30}  # of these texts, the first ones of a fixed order
POOL = 1500  # rows of the training file that are read: what is not drawn of them is asked about
HEADER = "set      n     foreseen                  truth    n -> 2n accuracy  seconds"


def curve(data: Path, seeds: int) -> None:
    """One line a draw; then the mean absolute error of what was foreseen, beside that of foreseeing nothing."""
    prepare_process()
    print(HEADER)
    for texts, works in WORKS.items():
        train = SETS[texts](data)[0]
        rng = np.random.default_rng(0)
        taken = set(rng.permutation(sorted({label for _, label in train}))[: CLASSES[texts]])
        pool = rng.permutation([place for place, (_, label) in enumerate(train) if label in taken])[:POOL]
        read = _read([train[place][0] for place in pool])
        for name, rows in works.items():
            labels = [SETS[name](data)[0][place][1] for place in pool]
            names = sorted(set(labels))
            targets = torch.tensor([names.index(label) for label in labels])
            _summed_up(name, rows, np.array([_draw(read, targets, rows, seed, name) for seed in range(seeds)]))


def _summed_up(name: str, rows: int, found: np.ndarray) -> None:
    foreseen, came, low, high = found.T
    inside = ((low <= came) & (came <= high)).sum()
    print(f"{name} {rows}: mean absolute error {100 * np.abs(foreseen - came).mean():.2f} points (foreseeing nothing: "
          f"{100 * np.abs(came).mean():.2f}), bias {100 * (foreseen - came).mean():+.2f}, truth inside the interval "
          f"{inside} of {len(found)}", flush=True)  # fmt: skip


def _draw(read: Tensor, targets: Tensor, rows: int, seed: int, name: str) -> list[float]:
    """What was foreseen, what came, and the interval."""
    classes = int(targets.max()) + 1
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(read)))
    asked, began = order[2 * rows :], time.perf_counter()
    found = forecast(measure(read[order[:rows]], targets[order[:rows]], classes, seed=seed), rows, seed=seed)
    seconds = time.perf_counter() - began

    def right(count: int) -> float:
        own = order[:count]
        made = Before(None, None, read[own], targets[own], range(count), classes)  # type: ignore[arg-type]
        return float((made.head(seed).logits(read[asked]).argmax(1) == targets[asked]).float().mean())

    one, two = right(rows), right(2 * rows)
    low, high = found["ci95"]
    print(f"{name:8} {rows:<5} {found['gain']:+.4f} ({low:+.4f} to {high:+.4f})  {two - one:+.4f}  {one:.4f} -> "
          f"{two:.4f}  {seconds:.1f}", flush=True)  # fmt: skip
    return [found["gain"], two - one, low, high]


def _read(texts: Sequence[str]) -> Tensor:
    """Vectors of the encoder as it is."""
    loaded = load("minilm-l6", labels=Labels(("one", "other"), "single_label_classification", True))
    policy = Policy(loaded.network, Head().attach(loaded.module, labels=True))
    encoded = [loaded.processor.text(text, limit=256) for text in texts]
    rows = [Row(Example(Place("bench", n)), item.ids, item.learn, 0) for n, item in enumerate(encoded)]
    return vectors(policy, rows, Collator(Layout.LABELS), original=True)
