"""One way, tuned as its run would be, and asked about rows that it has not learned. Nothing is left of it but its
answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tuneful.autopilot.apart import Questions
from tuneful.core.device import give_back_freed_memory
from tuneful.core.types import Row
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import shares
from tuneful.recipe import Recipe
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted
from tuneful.run.plan import planned_mb
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.progress import Progress
from tuneful.run.repaired import repair
from tuneful.run.train import train
from tuneful.run.twice import twice
from tuneful.run.variants import with_variants

Say = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Answered:
    """Probabilities."""

    shares: np.ndarray  # (R, C) of the rows asked about
    twins: np.ndarray  # (T, C) of the same about other groups, where they mention one
    seconds: float


def prepared_for(recipe: Recipe, say: Say) -> Prepared:
    """Raises InputError."""
    return with_variants(prepare(recipe, say, free_mb=planned_mb()), say)


def answered(prepared: Prepared, asked: Questions, should_stop: Stop) -> Answered:
    """About each part of the rows, by what has learned the others in as many updates as the run makes. Raises
    Interrupted, RecipeError where the model does not suit the recipe, DataError where a part leaves too few rows of a
    group to repair by, Diverged and OutOfMemory."""
    assert prepared.labels is not None
    began, classes = time.perf_counter(), len(prepared.labels.names)
    found = Answered(np.zeros((len(asked.rows), classes)), np.zeros((len(asked.exchanged.rows), classes)), 0.0)
    for part in asked.deal.asked:
        built = tuned(_without(prepared, asked, part), should_stop)
        own, twins = asked.of(part)
        found.shares[own] = ask(built, [asked.rows[place] for place in own])
        found.twins[twins] = ask(built, [asked.exchanged.rows[place] for place in twins])
        give_back_freed_memory()
    return replace(found, seconds=time.perf_counter() - began)


def _without(prepared: Prepared, asked: Questions, part: int) -> Prepared:
    """The same run, of whose training rows those of a part are unknown, to a repair as well."""
    known = {name: asked.learned(rows, part) for name, rows in (("repeated", prepared.repeated),
                                                                ("train", prepared.rows("train")))}  # fmt: skip
    train = replace(prepared.built["train"], rows=known["train"])
    return replace(prepared, repeated=known["repeated"], built={**prepared.built, "train": train})


def tuned(prepared: Prepared, should_stop: Stop) -> Built:
    """As a run would be, with the weights that it would keep and what repairs them, and no folder. Raises as
    `answered`."""
    steps = prepared.resolved.steps
    built = build(replace(prepared, resolved=replace(prepared.resolved, save_every=steps + 1)))
    with TemporaryDirectory() as scratch:  # what a soup puts aside
        folder = RunFolder(Path(scratch))
        built, _ = twice(built, folder, lambda _: None, should_stop)
        for _ in train(built, folder, Progress()):
            if should_stop():
                raise Interrupted
    built.optimiser.forget()
    repair(built, lambda _: None, ())
    return built


def ask(built: Built, rows: Sequence[Row]) -> np.ndarray:
    """(R, C) probabilities."""
    if not rows:
        assert built.prepared.labels is not None
        return np.zeros((0, len(built.prepared.labels.names)))
    return shares(class_logits(built.policy, rows, built.collate))
