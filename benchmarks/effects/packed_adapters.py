"""Eight LoRA adapters on SmolLM2-135M, an update of each: packed in one batch, and one after the other, in turn and as
often as there are seeds. By tokens of an adapter: seconds of either, how much faster, and how far the losses of three
updates lie apart."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from tuneful.adapters import Lora
from tuneful.adapters.each import attach_each
from tuneful.core.device import precision, prepare_process
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.engine.each import Updaters
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.models.load import Loaded, load
from tuneful.objectives import NextToken
from tuneful.schedules.beside import BesideSteps
from tuneful.schedules.epochs import Cut, EpochSteps

MODEL, TASKS, SIZES = "smollm2-135m", tuple(f"t{number}" for number in range(8)), (16, 32, 64, 128)
LEARNED, COMPARED, ENDLESS = 0.25, 3, 10**6  # share of the tokens; updates whose losses are compared; updates, at most


@dataclass
class Beside:
    """All adapters on one base."""

    loaded: Loaded

    def __post_init__(self) -> None:
        self.attached = attach_each(Lora(), self.loaded.module, TASKS, labels=False)
        self.policy = Policy(self.loaded.network, self.attached)

    def updates(self, rows: list[Row]) -> Iterator[list[float]]:
        """The loss of each adapter."""
        collate = Collator(Layout.TOKENS, "all", share=True, each=TASKS)
        updaters = Updaters({task: _updater(self.attached.learned_by(task)) for task in TASKS})
        steps = BesideSteps.of({row.example.task: _steps(row, collate) for row in rows})
        for record in fit(self.policy, dict.fromkeys(["all", *TASKS], NextToken()), steps, updaters):
            yield [record.metrics[f"loss/{task}"] for task in TASKS]

    def weights(self, task: str) -> dict[str, torch.Tensor]:
        """As an adapter by itself has them."""
        own = f".task{TASKS.index(task)}."
        found = self.attached.learned_by(task)
        return {name.replace(own, ".default."): weight.detach().clone() for name, weight in found.items()}


@dataclass
class Alone:
    """One adapter on its base, in the place of each."""

    loaded: Loaded

    def __post_init__(self) -> None:
        self.policy = Policy(self.loaded.network, Lora().attach(self.loaded.module, labels=False))

    def losses(self, start: dict[str, torch.Tensor], row: Row, count: int) -> list[float]:
        """Of so many updates from these weights on."""
        self.policy.attached.load(start)
        updates = self._run(row)
        return [next(updates) for _ in range(count)]

    def updates(self, rows: list[Row]) -> Iterator[list[float]]:
        """One of each, one after the other; whose weights these are costs nothing."""
        runs = [self._run(row) for row in rows]
        while True:
            yield [next(run) for run in runs]

    def _run(self, row: Row) -> Iterator[float]:
        steps = _steps(row, Collator(Layout.TOKENS, share=True))
        for record in fit(self.policy, {"main": NextToken()}, steps, _updater(self.policy.trainable())):
            yield record.metrics["loss"]


def packed_adapters(data: Path, seeds: int) -> Iterator[str]:
    """A line a size, in what this machine multiplies fastest."""
    prepare_process()
    lines = json.loads((data / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    yield f"the processors are {psutil.cpu_percent(interval=3):.0f} % busy before it begins, with the work of others"
    dtype = precision("auto")
    loaded = load(MODEL, dtype=dtype)
    ids = loaded.processor.passage(" ".join(row["output"] for row in lines)).ids
    beside, alone = Beside(loaded), Alone(load(MODEL, dtype=dtype))
    for size in SIZES:
        rows = [_row(ids, task, number, size) for number, task in enumerate(TASKS)]
        starts = {task: beside.weights(task) for task in TASKS}
        packed, apart = beside.updates(rows), alone.updates(rows)
        ours = np.array([next(packed) for _ in range(COMPARED)]).T
        theirs = np.array([alone.losses(starts[row.example.task], row, COMPARED) for row in rows])
        next(apart)
        pairs = [(_seconds(packed), _seconds(apart)) for _ in range(seeds)]
        gap = abs(ours - theirs).max()
        yield f"{str(dtype)[6:]}, {size} tokens an adapter: {_told(pairs)}; losses {gap:.1e} apart"


def _seconds(updates: Iterator[list[float]]) -> float:
    began = time.perf_counter()
    next(updates)
    return time.perf_counter() - began


def _told(pairs: list[tuple[float, float]]) -> str:
    """Lowest / median / highest."""
    packed, apart = zip(*pairs, strict=True)
    ratios = [other / one for one, other in pairs]
    return f"packed {_spread(packed)} s, apart {_spread(apart)} s, {_spread(ratios)} times as fast"


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g}"


def _row(ids: np.ndarray, task: str, number: int, size: int) -> Row:
    """Tokens of a real text, the last quarter of them learned."""
    own = ids[number * size : (number + 1) * size].copy()
    learn = (np.arange(size) >= (1 - LEARNED) * size).astype(np.float32)
    return Row(Example(Place("text", number), task=task), own, learn)


def _steps(row: Row, collate: Collator) -> EpochSteps:
    return EpochSteps([row], collate, Cut(1, len(TASKS) * len(row)), ENDLESS)


def _updater(parameters: Mapping[str, nn.Parameter]) -> Updater:
    return Updater(AdamW(learning_rate=1e-3, warmup=0, decay="constant"), parameters, steps=ENDLESS)
