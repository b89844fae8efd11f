"""What tells whose a text is, made of the training rows of a run: the nearest mean of each task's, or a head that was
solved on all of them; and how often either is right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.adapters import Lora
from tuneful.core.types import Said
from tuneful.evaluation.heads import solved
from tuneful.evaluation.reading import some
from tuneful.models.probe import Probe
from tuneful.run.build import Built
from tuneful.run.each import classes_of, each_of, of_task
from tuneful.run.folder import RunFolder
from tuneful.run.router import KINDS, Router, read_routers, save_routers, seen

MOST = 300  # training rows of a task that are looked at


def nearest(means_TD: Tensor) -> Probe:
    """argmin |x - m|^2 = argmax x m - |m|^2 / 2 (the nearest centroid; Rocchio 1971)."""
    return Probe(means_TD, -means_TD.square().sum(1) / 2)


def routers(built: Built) -> dict[str, Router]:
    """Of either kind, from the training rows."""
    tasks = each_of(built.recipe)
    known = [some(of_task(built.prepared.rows("train"), task), MOST) for task in tasks]
    found_TRD = [seen(built.policy, rows) for rows in known]
    whose = torch.tensor([number for number, rows in enumerate(known) for _ in rows])
    means_TD = torch.stack([found.mean(0) for found in found_TRD])
    if built.start is not None:  # of earlier tasks a few rows are left, and the mean of all there were
        _, earlier = read_routers(RunFolder(built.start).adapters)
        before_TD = earlier["centroid"].probe.weight
        means_TD[: len(before_TD)] = before_TD.to(means_TD)
    probes = {
        "centroid": nearest(means_TD),
        "learned": solved(torch.cat(found_TRD), whose, len(tasks), built.recipe.seed),
    }
    return {kind: Router(tasks, probes[kind], classes_of(built.prepared)) for kind in KINDS}


def save(built: Built, folder: Path) -> None:
    """Beside the adapters."""
    assert isinstance(built.recipe.adapter, Lora)
    save_routers(folder, routers(built), built.recipe.adapter.router)


def examined(built: Built, folder: Path) -> dict[str, Any]:
    """The report's `routing`: shares of the test rows that are sent to their own task, by kind, and by task for the one
    that is taken. Empty where there is one adapter for all, or no such rows."""
    rows = [row for row in built.prepared.rows("test") if row.example.task in each_of(built.recipe)]
    if not rows:
        return {}
    kind, found = read_routers(folder)
    vectors_RD = seen(built.policy, rows)
    right = {
        name: [said == row.example.task for said, row in zip(router.of_vectors(vectors_RD), rows, strict=True)]
        for name, router in found.items()
    }
    own = np.array(right[kind])
    names = np.array([row.example.task for row in rows])
    return {
        "router": kind,
        "n": len(rows),
        "accuracy": {name: round(float(np.mean(hits)), 5) for name, hits in right.items()},
        "tasks": {task: round(float(own[names == task].mean()), 5) for task in dict.fromkeys(names.tolist())},
    }


def routed(found: Mapping[str, Any]) -> list[Said]:
    """What the report says of it."""
    if not found:
        return []
    facts = {"percent": round(100 * found["accuracy"][found["router"]]), "n": found["n"]}
    return [Said("routed_centroid", facts) if found["router"] == "centroid" else Said("routed_learned", facts)]
