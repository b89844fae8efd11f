"""With few labels: which way of learning them answers best about labels it has not seen.

Every way is tried by cross-validation inside the training rows: the frozen encoder under a solved head, which is the
floor, and the encoder tuned with its head; each with and without the names of the classes as further texts. A way that
is no better than a simpler one is not taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.adapters import Head
from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.folds import folds
from tuneful.data.rows import name_rows
from tuneful.engine.fit import fit
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import class_logits
from tuneful.models.probe import STRENGTH, STRENGTHS, best_strength, fit_probe, losses, out_of_fold, right
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.run.build import Built, build, build_on
from tuneful.run.heads import put, started
from tuneful.run.prepare import Prepared
from tuneful.schedules import SelfTrain
from tuneful.schedules.selftrain import labelled

Say = Callable[[str], None]
MANY = 400  # rows beyond which two folds tell enough


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, and what it answered about rows it had not seen."""

    way: str  # "probe", "spread", "tune"
    label_names: bool
    logits: Tensor  # (N, C) out of fold
    seconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The recipe that is run, and why."""

    recipe: Recipe
    facts: Mapping[str, Any]
    answers: Mapping[str, Sequence[int]]  # out of fold, for each training row: "tuned" the way chosen, "base" the floor


def to_choose(prepared: Prepared) -> bool:
    return prepared.recipe.choose.enabled is True and prepared.pooled


def choose(prepared: Prepared, say: Say) -> Choice:
    """Tries the ways on the training rows of `prepared`, whose recipe is that of the costliest."""
    built = build(prepared, say)
    rows, wanted = prepared.rows("train"), targets(prepared.rows("train"))
    count = prepared.recipe.choose.folds or (2 if len(rows) > MANY else 3)
    parts = folds(wanted.tolist(), count, prepared.recipe.seed)
    if len(set(wanted.tolist())) == len(rows):
        say("one row a class: no fold has seen the class it is asked about, so only names tell anything")
    say(f"each way of learning is asked {len(rows)} times about rows it has not seen:")
    tried = _probes(built, rows, wanted, parts)
    floor = tried[-1] if _better(tried[-1], tried[0], wanted) else tried[0]
    named, texts = floor.label_names, [row for row in prepared.repeated if not row.counts]
    if texts:
        tried.append(_spread(built, rows, texts, wanted, parts, label_names=named))
    tried.append(_tuned(built, rows, parts, label_names=named))
    best = floor
    for way in tried[tried.index(floor) + 1 :]:
        best = way if _better(way, best, wanted) else best
    for way in tried:
        say(f"  {_said(way)}: {float(right(way.logits, wanted).mean()):.3f} right, {way.seconds:.0f} s")
    say(f"  taken: {_said(best)}")
    return Choice(_recipe(prepared, best), _facts(tried, best, wanted, count), _answers(best, tried[0]))


def _answers(best: Tried, floor: Tried) -> dict[str, list[int]]:
    return {"tuned": best.logits.argmax(1).tolist(), "base": floor.logits.argmax(1).tolist()}


def _probes(built: Built, rows: Sequence[Row], wanted: Tensor, parts: np.ndarray) -> list[Tried]:
    """The frozen encoder under a solved head, first without the names of the classes."""
    prepared, labels = built.prepared, built.prepared.labels
    assert labels is not None
    names = name_rows(labels, prepared.processor, prepared.processor.max_tokens)
    began = time.perf_counter()
    found = vectors(built.policy, rows, built.collate)
    tried = []
    for extra in (None, names) if names else (None,):
        more = None if extra is None else (vectors(built.policy, extra, built.collate), targets(extra))
        logits = out_of_fold(found, wanted, parts, STRENGTHS, classes=len(labels.names), extra=more)
        best = logits[best_strength(logits, wanted)]
        tried.append(Tried("probe", extra is not None, best, time.perf_counter() - began))
        began = time.perf_counter()
    return tried


def _spread(
    built: Built, rows: Sequence[Row], texts: Sequence[Row], wanted: Tensor, parts: np.ndarray, *, label_names: bool
) -> Tried:
    """The frozen encoder under a head that also learns texts without labels, as what their neighbours and a first head
    make of them: what these texts bring, without tuning. Where that is anything, the run trains itself on them."""
    began, labels = time.perf_counter(), built.prepared.labels
    assert labels is not None
    processor, count = built.prepared.processor, len(labels.names)
    names = name_rows(labels, processor, processor.max_tokens) if label_names else []
    own, others = vectors(built.policy, [*rows, *names], built.collate), vectors(built.policy, texts, built.collate)
    classes = torch.cat([wanted, targets(names)]) if names else wanted
    logits = own.new_zeros(len(rows), count)
    for part in np.unique(parts):
        held = torch.from_numpy(parts == part)
        inside = torch.cat([~held, torch.ones(len(names), dtype=torch.bool)])
        known, answers = own[inside], classes[inside]
        first = fit_probe(known, answers, STRENGTH, classes=count).logits(others)
        _, where, told = labelled(known, answers, others, first, SelfTrain().share)
        probe = fit_probe(torch.cat([known, others[where]]), torch.cat([answers, told]), STRENGTH, classes=count)
        logits[held] = probe.logits(own[: len(rows)][held])
    return Tried("spread", label_names, logits, time.perf_counter() - began)


def _tuned(built: Built, rows: Sequence[Row], parts: np.ndarray, *, label_names: bool) -> Tried:
    """The encoder tuned with its head, from the start for every fold."""
    prepared, labels = built.prepared, built.prepared.labels
    assert labels is not None
    names = name_rows(labels, prepared.processor, prepared.processor.max_tokens) if label_names else []
    began = time.perf_counter()
    start = {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}
    logits = torch.zeros(len(rows), len(labels.names))
    for part in np.unique(parts):
        inside = [row for row, fold in zip(rows, parts, strict=True) if fold != part] + names
        held = np.flatnonzero(parts == part).tolist()
        _learn(prepared, built.policy, inside)
        answers = class_logits(built.policy, [rows[place] for place in held], built.collate)
        logits[held] = torch.from_numpy(answers)
        built.policy.attached.load(start)
        built.policy.forget()
    return Tried("tune", label_names, logits, time.perf_counter() - began)


def _learn(prepared: Prepared, policy: Policy, rows: Sequence[Row]) -> None:
    """Tunes a policy on these rows as the run would on all of them, in as many updates."""
    built = build_on(policy, replace(prepared, repeated=list(rows)))
    labels = prepared.labels
    assert labels is not None
    found = vectors(policy, rows, built.collate)
    put(policy.module, started(found, rows, len(labels.names)))
    task, optimiser = prepared.recipe.task, prepared.recipe.optimiser
    objectives, penalties = {task.name: prepared.resolved.objective}, prepared.recipe.regularisers
    learning = fit(policy, objectives, built.schedule, built.optimiser, regularisers=penalties, clip=optimiser.clip)
    for _ in learning:
        pass
    built.optimiser.forget()


def _better(way: Tried, than: Tried, wanted: Tensor) -> bool:
    """Right more often, or as often and surer of it."""
    ours, theirs = (float(right(tried.logits, wanted).mean()) for tried in (way, than))
    if way.way == than.way and ours == theirs:
        return float(losses(way.logits, wanted).mean()) < float(losses(than.logits, wanted).mean())
    return ours > theirs


def _recipe(prepared: Prepared, best: Tried) -> Recipe:
    """The recipe as it was prepared, for the way that is taken, and nothing left to choose."""
    given = prepared.recipe
    objective = prepared.resolved.objective
    assert isinstance(objective, Classify)
    task = given.task.model_copy(update={"objective": objective.model_copy(update={"label_names": best.label_names})})
    changes: dict[str, Any] = {"tasks": [task], "choose": given.choose.model_copy(update={"enabled": False})}
    if best.way == "probe":
        changes["adapter"] = Head()
    if best.way == "spread":
        changes["schedule"] = SelfTrain()
    else:  # texts that bring nothing are left out
        task = task.model_copy(update={"data": task.data.model_copy(update={"unlabelled": None})})
        changes["tasks"] = [task]
    return given.model_copy(update=changes)


def _facts(tried: Sequence[Tried], best: Tried, wanted: Tensor, count: int) -> dict[str, Any]:
    """The report's `choice` block."""
    return {
        "folds": count,
        "rows": len(wanted),
        "ways": [
            {
                "way": way.way,
                "label_names": way.label_names,
                "accuracy": round(float(right(way.logits, wanted).mean()), 4),
                "loss": round(float(losses(way.logits, wanted).mean()), 4),
                "seconds": round(way.seconds, 1),
                "taken": way is best,
            }
            for way in tried
        ],
    }


def _said(way: Tried) -> str:
    what = {
        "probe": "frozen encoder, solved head",
        "tune": "encoder tuned with its head",
        "spread": "texts without labels beside the others, tried on the frozen encoder",
    }[way.way]
    return f"{what}, names of classes as texts" if way.label_names else what
