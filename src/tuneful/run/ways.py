"""Ways of learning few labels, each asked about rows it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.engine.fit import fit
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import class_logits
from tuneful.models.probe import STRENGTH, STRENGTHS, best_strength, fit_probe, losses, out_of_fold, right
from tuneful.run.build import Built, build_on
from tuneful.run.heads import put, started
from tuneful.run.prepare import Prepared
from tuneful.run.train import Interrupted
from tuneful.schedules import SelfTrain
from tuneful.schedules.selftrain import labelled


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows with labels and how they are dealt: what learns from all folds but one is asked about that one."""

    built: Built
    rows: Sequence[Row]
    wanted: Tensor  # (N,)
    folds: np.ndarray  # (N,)
    should_stop: Callable[[], bool] = lambda: False

    @property
    def classes(self) -> int:
        labels = self.built.prepared.labels
        assert labels is not None
        return len(labels.names)

    def vectors(self, rows: Sequence[Row]) -> Tensor:
        """(R, D) of the encoder as it is."""
        return vectors(self.built.policy, rows, self.built.collate)


@dataclass(frozen=True, slots=True)
class Beside:
    """What every fold learns from beside its rows, and is never asked about."""

    names: Sequence[Row] = ()
    generated: Sequence[Row] = ()

    @property
    def rows(self) -> list[Row]:
        return [*self.names, *self.generated]


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, and what it answered about rows it had not seen."""

    way: str  # "probe", "spread", "tune"
    beside: Beside
    logits: Tensor  # (N, C) out of fold
    seconds: float

    @property
    def label_names(self) -> bool:
        return bool(self.beside.names)

    @property
    def generated(self) -> bool:
        return bool(self.beside.generated)

    def right(self, wanted: Tensor) -> Tensor:
        """(N,) 1 where the answer was right, 0 elsewhere."""
        return right(self.logits, wanted).float()

    def better(self, than: Tried, wanted: Tensor) -> bool:
        """Right more often; of one way in two forms, as often and surer of it."""
        ours, theirs = (float(tried.right(wanted).mean()) for tried in (self, than))
        if self.way == than.way and ours == theirs:
            return float(losses(self.logits, wanted).mean()) < float(losses(than.logits, wanted).mean())
        return ours > theirs


def probe(trial: Trial, beside: Beside) -> Tried:
    """The frozen encoder under a solved head."""
    began = time.perf_counter()
    found, extra = trial.vectors(trial.rows), beside.rows
    more = (trial.vectors(extra), targets(extra)) if extra else None
    logits = out_of_fold(found, trial.wanted, trial.folds, STRENGTHS, classes=trial.classes, extra=more)
    best = logits[best_strength(logits, trial.wanted)]
    return Tried("probe", beside, best, time.perf_counter() - began)


def spread(trial: Trial, beside: Beside, texts: Sequence[Row]) -> Tried:
    """The frozen encoder under a head that also learns texts without labels, as what their neighbours and a first head
    make of them: what these texts bring, without tuning."""
    began, count, extra = time.perf_counter(), trial.classes, beside.rows
    own, others = trial.vectors([*trial.rows, *extra]), trial.vectors(texts)
    classes = torch.cat([trial.wanted, targets(extra)]) if extra else trial.wanted
    logits = own.new_zeros(len(trial.rows), count)
    for part in np.unique(trial.folds):
        held = torch.from_numpy(trial.folds == part)
        inside = torch.cat([~held, torch.ones(len(extra), dtype=torch.bool)])
        known, answers = own[inside], classes[inside]
        first = fit_probe(known, answers, STRENGTH, classes=count).logits(others)
        _, where, told = labelled(known, answers, others, first, SelfTrain().share)
        head = fit_probe(torch.cat([known, others[where]]), torch.cat([answers, told]), STRENGTH, classes=count)
        logits[held] = head.logits(own[: len(trial.rows)][held])
    return Tried("spread", beside, logits, time.perf_counter() - began)


def tuned(trial: Trial, beside: Beside) -> Tried:
    """The encoder tuned with its head, from the start for every fold. Raises Interrupted."""
    began, built = time.perf_counter(), trial.built
    start = {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}
    logits = torch.zeros(len(trial.rows), trial.classes)
    for part in np.unique(trial.folds):
        inside = [row for row, fold in zip(trial.rows, trial.folds, strict=True) if fold != part] + beside.rows
        held = np.flatnonzero(trial.folds == part).tolist()
        _learn(built.prepared, built.policy, inside, trial.should_stop)
        answers = class_logits(built.policy, [trial.rows[place] for place in held], built.collate)
        logits[held] = torch.from_numpy(answers)
        built.policy.attached.load(start)
        built.policy.forget()
    return Tried("tune", beside, logits, time.perf_counter() - began)


def _learn(prepared: Prepared, policy: Policy, rows: Sequence[Row], should_stop: Callable[[], bool]) -> None:
    """Tunes a policy on these rows as the run would on all of them, in as many updates."""
    built = build_on(policy, replace(prepared, repeated=list(rows)))
    labels = prepared.labels
    assert labels is not None
    put(policy.module, started(vectors(policy, rows, built.collate), rows, len(labels.names)))
    task, optimiser = prepared.recipe.task, prepared.recipe.optimiser
    objectives, penalties = {task.name: prepared.resolved.objective}, prepared.recipe.regularisers
    for _ in fit(policy, objectives, built.schedule, built.optimiser, regularisers=penalties, clip=optimiser.clip):
        if should_stop():
            raise Interrupted
    built.optimiser.forget()
