"""Ways of learning few labels, each asked about rows it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.protocols import Adapter
from tuneful.core.types import Row
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import class_logits
from tuneful.models.probe import STRENGTH, STRENGTHS, best_strength, fit_probe, losses, out_of_fold, right
from tuneful.models.unlabelled import with_texts
from tuneful.run.build import Built, build, build_on
from tuneful.run.further import unseen
from tuneful.run.heads import end, own_head, put, started
from tuneful.run.loop import tried, undone


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
        return beside.unseen(self.asked(held))

    def parts(self, beside: Beside) -> Iterator[tuple[Tensor, list[Row]]]:
        """For each fold (N,) which rows are asked about, and what is learned beside the others."""
        for part in np.unique(self.folds):
            held = torch.from_numpy(self.folds == part)
            yield held, self.beside(beside, held)

    def under(self, adapter: Adapter) -> Trial:
        """The same with the encoder read anew under another adapter."""
        return replace(self, built=build(self.built.prepared.under(adapter)))

    def inside(self, held: Tensor) -> list[Row]:
        """The rows that are not asked about."""
        return [row for row, asked in zip(self.rows, held.tolist(), strict=True) if not asked]

    def asked(self, held: Tensor) -> list[Row]:
        return [row for row, asked in zip(self.rows, held.tolist(), strict=True) if asked]

    def vectors(self, rows: Sequence[Row]) -> Tensor:
        """(R, D) of the encoder as it is."""
        return vectors(self.built.policy, rows, self.built.collate)


@dataclass(frozen=True, slots=True)
class Beside:
    """What every fold learns from beside its rows, and is never asked about."""

    names: Sequence[Row] = ()
    generated: Sequence[Row] = ()
    texts: Sequence[Row] = ()  # without labels, learned as what they seem to be

    def unseen(self, held: Sequence[Row]) -> list[Row]:
        """Those with labels, without what knows of one of these rows."""
        return [*self.names, *unseen(self.generated, held)]


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, and what it answered about rows it had not seen."""

    way: str  # "probe", "tune"
    beside: Beside
    logits: Tensor  # (N, C) out of fold
    seconds: float  # beyond those of what it shares with the way before it
    adapter: Adapter | None = None  # of an encoder that was tuned

    @property
    def label_names(self) -> bool:
        return bool(self.beside.names)

    @property
    def generated(self) -> bool:
        return bool(self.beside.generated)

    @property
    def texts(self) -> bool:
        return bool(self.beside.texts)

    def is_without_texts(self, other: Tried) -> bool:
        """The same way, but for the other's texts without labels."""
        ours, theirs = ((way.way, way.adapter, way.label_names, way.generated) for way in (self, other))
        return ours == theirs and not self.texts

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


def probe_with_texts(trial: Trial, beside: Beside) -> Tried:
    """The same beside texts without labels."""
    began = time.perf_counter()
    own, texts = trial.vectors(trial.rows), trial.vectors(beside.texts)
    logits = own.new_zeros(len(trial.rows), trial.classes)
    for held, extra in trial.parts(beside):
        known, answers = own[~held], trial.wanted[~held]
        if extra:
            known, answers = torch.cat([known, trial.vectors(extra)]), torch.cat([answers, targets(extra)])
        first = fit_probe(known, answers, STRENGTH, classes=trial.classes)
        logits[held] = with_texts(first, known, answers, texts).logits(own[held])
    return Tried("probe", beside, logits, time.perf_counter() - began)


def tuned(trial: Trial, beside: Beside) -> list[Tried]:
    """The encoder tuned with its head, from the start for every fold; where there are texts without labels, also with
    a head that learned these at the end. Raises Interrupted."""
    alone = replace(beside, texts=())
    ways = [alone, beside] if beside.texts else [alone]
    logits = torch.zeros(len(ways), len(trial.rows), trial.classes)
    seconds = [0.0] * len(ways)
    for held, extra in trial.parts(beside):
        began, asked = time.perf_counter(), trial.asked(held)
        with undone(trial.built.policy):
            for number, built in enumerate(_learned(trial, [*trial.inside(held), *extra], ways)):
                logits[number, held] = torch.from_numpy(class_logits(built.policy, asked, built.collate))
                seconds[number] += time.perf_counter() - began
                began = time.perf_counter()
    adapter = trial.built.prepared.resolved.adapter
    return [Tried("tune", *found, adapter) for found in zip(ways, logits, seconds, strict=True)]


def _learned(trial: Trial, rows: Sequence[Row], ways: Sequence[Beside]) -> Iterator[Built]:
    """A policy tuned on these rows as the run would be on all of them, in as many updates; its head ends in each of the
    ways in turn."""
    prepared, policy = trial.built.prepared, trial.built.policy
    built = build_on(policy, replace(prepared, repeated=list(rows)))
    labels = prepared.labels
    assert labels is not None
    put(policy.module, started(vectors(policy, rows, built.collate), rows, len(labels.names)))
    for _ in tried(built, trial.should_stop):
        pass
    own = own_head(policy.module)
    for way in ways:
        put(policy.module, own)
        built = replace(built, prepared=replace(prepared, repeated=[*rows, *way.texts]))
        end(built)
        yield built
