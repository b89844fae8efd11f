"""Are the chosen rows better to learn from than as many drawn by lot? Found out before a run, by two short ones that
begin alike, make the same number of updates, and are asked about validation rows that chose nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tuneful.core.types import Row, Said
from tuneful.evaluation.compare import difference
from tuneful.evaluation.heads import targets
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.run.build import Built, build
from tuneful.run.heads import begin, end
from tuneful.run.loop import undone
from tuneful.run.prepare import Prepared
from tuneful.run.queries import told_apart
from tuneful.run.select import Selection
from tuneful.run.weigh import MOST_UPDATES, best_look, short_run

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of learning some rows: (R, 2) sums of each row asked about, for the metric and for its loss."""

    found: np.ndarray
    losses: np.ndarray


def compare(prepared: Prepared, say: Say, should_stop: Callable[[], bool]) -> Mapping[str, Any]:
    """The report's `data.selection.compared`; empty where it is not asked for. Raises Interrupted."""
    chosen, settings = prepared.selection, prepared.recipe.task.data.select
    if chosen is None or settings is None or not settings.compare:
        return {}
    asked = told_apart(settings, prepared.rows("validation"), prepared.recipe.seed)
    steps = prepared.resolved.steps  # none where a head is solved
    updates = max(1, min(MOST_UPDATES, steps // 2)) if steps else 0
    say(f"are the chosen rows better than random ones? Two short runs of {updates} updates, asked about {len(asked)}:")
    began = time.perf_counter()
    # An embedding learns the tokens of the rows it is built for: those of both.
    built = build(replace(prepared, repeated=[*prepared.repeated, *chosen.drawn]), say)
    kept, random = (_learned(built, rows, asked, updates, should_stop) for rows in (prepared.repeated, chosen.drawn))
    name = "perplexity" if prepared.labels is None else "accuracy"
    metric = METRICS[name]
    gap = difference(metric, kept.found, random.found)
    values = [float(metric.value(way.found.sum(0))) for way in (kept, random)]
    say(f"  {name} {values[0]:.4g} after the chosen rows, {values[1]:.4g} after random ones "
        f"({gap.low:+.3g} to {gap.high:+.3g})")  # fmt: skip
    return {
        "metric": name, "kept": round(values[0], 4), "random": round(values[1], 4), "delta": round(gap.delta, 4),
        "ci95": [round(gap.low, 4), round(gap.high, 4)], "rows": len(asked), "updates": updates,
        "loss": {way: round(float(np.divide(*found.losses.sum(0))), 4)
                 for way, found in (("kept", kept), ("random", random))},
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def with_selection(data: dict[str, Any], chosen: Selection | None, compared: Mapping[str, Any]) -> dict[str, Any]:
    """The report's `data` block with which rows were learned, where not all were."""
    if chosen is None:
        return data
    said = [_said(compared)] if compared else []
    notes = [*data["notes"], *({"key": sentence.key, **sentence.facts} for sentence in said)]
    return {**data, "notes": notes, "selection": {**chosen.facts, "compared": compared or None}}


def _said(compared: Mapping[str, Any]) -> Said:
    facts = {"updates": compared["updates"], "n": compared["rows"], "kept": compared["kept"],
             "random": compared["random"], "low": compared["ci95"][0], "high": compared["ci95"][1]}  # fmt: skip
    if compared["metric"] == "accuracy":
        return Said("select_compared_accuracy", facts)
    return Said("select_compared_perplexity", facts)


def _learned(
    built: Built, rows: Sequence[Row], asked: Sequence[Row], updates: int, should_stop: Callable[[], bool]
) -> Learned:
    """By the best look at the rows asked about, as a run keeps its best weights too."""
    with undone(built.policy):
        trial = short_run(built, rows, updates)
        begin(trial)
        looks = [best_look(trial, asked, _measured, should_stop)] if updates else []
        if end(trial) or not looks:
            looks.append(_measured(trial, asked))
    best = min(looks, key=lambda sums: float(sums[:, 0].sum()))
    return Learned(best[:, 2:] if best.shape[1] > 2 else best, best[:, :2])


def _measured(trial: Built, asked: Sequence[Row]) -> np.ndarray:
    """(R, 2) summed loss and tokens of an answer; of labels (R, 4) loss, one, whether it is right, and one."""
    if trial.prepared.labels is None:
        return token_losses(trial.policy, asked, trial.collate)
    logits, wanted = torch.from_numpy(class_logits(trial.policy, asked, trial.collate)), targets(asked)
    losses, right = F.cross_entropy(logits, wanted, reduction="none"), (logits.argmax(1) == wanted).float()
    ones = torch.ones(len(asked))
    return torch.stack([losses, ones, right, ones], 1).numpy()
