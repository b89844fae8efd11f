"""Ways of learning few labels, each asked about rows it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.protocols import Adapter
from tuneful.core.types import Row
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import class_logits
from tuneful.models.probe import STRENGTH, STRENGTHS, best_strength, fit_probe, losses, out_of_fold, right
from tuneful.run.build import Built, build, build_on
from tuneful.run.heads import end, put, started
from tuneful.run.loop import tried, undone
from tuneful.run.prepare import Prepared
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

    def beside(self, beside: Beside, held: Tensor) -> list[Row]:
        """What is learned beside the others while the rows marked in (N,) are asked about."""
        return beside.unseen([row for row, asked in zip(self.rows, held.tolist(), strict=True) if asked])

    def parts(self, beside: Beside) -> Iterator[tuple[Tensor, list[Row]]]:
        """For each fold (N,) which rows are asked about, and what is learned beside the others."""
        for part in np.unique(self.folds):
            held = torch.from_numpy(self.folds == part)
            yield held, self.beside(beside, held)

    def under(self, adapter: Adapter) -> Trial:
        """The same with the encoder read anew under another adapter."""
        return replace(self, built=build(self.built.prepared.under(adapter)))

    def vectors(self, rows: Sequence[Row]) -> Tensor:
        """(R, D) of the encoder as it is."""
        return vectors(self.built.policy, rows, self.built.collate)


@dataclass(frozen=True, slots=True)
class Beside:
    """What every fold learns from beside its rows, and is never asked about."""

    names: Sequence[Row] = ()
    generated: Sequence[Row] = ()

    def unseen(self, held: Sequence[Row]) -> list[Row]:
        """Without what was written by a model that was shown one of these rows."""
        texts = {row.example.text for row in held}
        return [*self.names, *(row for row in self.generated if not texts & set(row.example.shown))]


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, and what it answered about rows it had not seen."""

    way: str  # "probe", "spread", "tune"
    beside: Beside
    logits: Tensor  # (N, C) out of fold
    seconds: float
    adapter: Adapter | None = None  # of an encoder that was tuned

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

    def more(held: Tensor) -> tuple[Tensor, Tensor] | None:
        extra = trial.beside(beside, held)
        return (trial.vectors(extra), targets(extra)) if extra else None

    found = trial.vectors(trial.rows)
    logits = out_of_fold(found, trial.wanted, trial.folds, STRENGTHS, classes=trial.classes, extra=more)
    best = logits[best_strength(logits, trial.wanted)]
    return Tried("probe", beside, best, time.perf_counter() - began)


def spread(trial: Trial, beside: Beside, texts: Sequence[Row]) -> Tried:
    """The frozen encoder under a head that also learns texts without labels, as what their neighbours and a first head
    make of them: what these texts bring, without tuning."""
    began, count = time.perf_counter(), trial.classes
    own, others = trial.vectors(trial.rows), trial.vectors(texts)
    logits = own.new_zeros(len(trial.rows), count)
    for held, extra in trial.parts(beside):
        known, answers = own[~held], trial.wanted[~held]
        if extra:
            known, answers = torch.cat([known, trial.vectors(extra)]), torch.cat([answers, targets(extra)])
        first = fit_probe(known, answers, STRENGTH, classes=count).logits(others)
        _, where, told = labelled(known, answers, others, first, SelfTrain().share)
        head = fit_probe(torch.cat([known, others[where]]), torch.cat([answers, told]), STRENGTH, classes=count)
        logits[held] = head.logits(own[held])
    return Tried("spread", beside, logits, time.perf_counter() - began)


def tuned(trial: Trial, beside: Beside) -> Tried:
    """The encoder tuned with its head, from the start for every fold. Raises Interrupted."""
    began, built = time.perf_counter(), trial.built
    logits = torch.zeros(len(trial.rows), trial.classes)
    for held, extra in trial.parts(beside):
        inside = [row for row, asked in zip(trial.rows, held.tolist(), strict=True) if not asked]
        asked_about = [row for row, asked in zip(trial.rows, held.tolist(), strict=True) if asked]
        with undone(built.policy):
            _learn(built.prepared, built.policy, [*inside, *extra], trial.should_stop)
            logits[held] = torch.from_numpy(class_logits(built.policy, asked_about, built.collate))
    return Tried("tune", beside, logits, time.perf_counter() - began, built.prepared.resolved.adapter)


def _learn(prepared: Prepared, policy: Policy, rows: Sequence[Row], should_stop: Callable[[], bool]) -> None:
    """Tunes a policy on these rows as the run would on all of them, in as many updates."""
    built = build_on(policy, replace(prepared, repeated=list(rows)))
    labels = prepared.labels
    assert labels is not None
    put(policy.module, started(vectors(policy, rows, built.collate), rows, len(labels.names)))
    for _ in tried(built, should_stop):
        pass
    end(built)
