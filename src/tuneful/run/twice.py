"""Just Train Twice: rows that a first, short training gets wrong are drawn more often by the second. They are often of
those whom a shortcut fails, so groups that nobody named are served better.

Liu et al. 2021 (arXiv:2107.09044, algorithm 1). Differs: an epoch of the second training has as many rows as there
are, where the paper's grows by what is drawn again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tuneful.core.errors import RecipeError
from tuneful.core.ranks import gathered
from tuneful.core.types import Row, Said
from tuneful.data.balance import Jtt
from tuneful.evaluation.reading import class_logits
from tuneful.run.build import Built, build_on
from tuneful.run.folder import RunFolder
from tuneful.run.heads import begin
from tuneful.run.loop import tried, undone
from tuneful.run.prepare import Prepared
from tuneful.run.weigh import short_run

Say = Callable[[str], None]


def twice(
    built: Built, folder: RunFolder, say: Say, should_stop: Callable[[], bool], *, resume: bool = False
) -> tuple[Built, Mapping[str, Any]]:
    """The run as it learns for the second time, and what is kept of the first; as it is where the recipe does not ask
    for it. A run that goes on takes what the first has found. Raises Interrupted, RecipeError where the first got every
    row right, and CheckpointError where the rows are others by now."""
    balance = built.recipe.task.data.balance
    if not isinstance(balance, Jtt):
        return built, {}
    if resume:
        found = folder.read_json(folder.missed)
        folder.refuse_changed(found["data_sha256"], built.prepared.data_sha256)
    else:  # found by each rank, and machines may differ in a last digit
        found = gathered(_missed(built, balance, say, should_stop))[0]
    return build_on(built.policy, weighed(built.prepared, balance, found["rows"])), found


def _missed(built: Built, balance: Jtt, say: Say, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """The places of the rows that are answered wrongly after the first training."""
    rows, began = built.prepared.repeated, time.perf_counter()
    updates = max(1, round(balance.epochs * len(rows) / built.prepared.resolved.rows_per_step))
    say(f"training twice: {updates} updates, then as the recipe says, rows these get wrong {balance.times:g} times as "
        "often")  # fmt: skip
    with undone(built.policy):
        trial = short_run(built, rows, updates)
        begin(trial)
        for _ in tried(trial, should_stop):
            pass
        wrong = _wrong(trial, rows)
    if not wrong:
        raise RecipeError([f"data.balance: jtt found no row that is answered wrongly after {updates} updates, so there "
                           "is nothing to learn more often; fewer data.balance.epochs, or leave it out"])  # fmt: skip
    say(f"  {len(wrong)} of {len(rows)} rows were answered wrongly")
    return {"rows": wrong, "of": len(rows), "updates": updates, "data_sha256": built.prepared.data_sha256,
            "seconds": round(time.perf_counter() - began, 2)}  # fmt: skip


def _wrong(trial: Built, rows: Sequence[Row]) -> list[int]:
    answers = class_logits(trial.policy, rows, trial.collate).argmax(1)
    return np.flatnonzero(answers != np.array([int(row.target) for row in rows])).tolist()


def weighed(prepared: Prepared, balance: Jtt, wrong: Sequence[int]) -> Prepared:
    """The rows at the places `wrong` are drawn `times` as often as others; an epoch has as many as before."""
    times = np.ones(len(prepared.repeated))
    times[list(wrong)] = balance.times
    times /= times.mean()
    rows = [replace(row, times=float(n)) for row, n in zip(prepared.repeated, times, strict=True)]
    return replace(prepared, repeated=rows)


def told(found: Mapping[str, Any]) -> Said:
    return Said("trained_twice", {"n": len(found["rows"]), "of": found["of"], "updates": found["updates"]})
