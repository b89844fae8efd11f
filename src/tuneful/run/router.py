"""Whose text is this? Where every task has an adapter of its own, and nobody says which, what the base model makes of a
text says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tuneful.adapters.each import AttachedEach, attach_saved_each
from tuneful.core.errors import ModelError
from tuneful.core.order import answered
from tuneful.core.policy import Policy
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Layout, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.heads import vectors
from tuneful.models.probe import Probe
from tuneful.run.folder import RunFolder

TASKS, WEIGHTS = "tasks.json", "router.safetensors"  # beside the adapters
KINDS = ("centroid", "learned")
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Router:
    """`probe` scores the tasks by (R, D) unit vectors of the base model."""

    tasks: tuple[str, ...]
    probe: Probe
    classes: Mapping[str, Sequence[int]]  # of each task, where answers are classes

    def of_rows(self, policy: Policy, rows: Sequence[Row]) -> list[str]:
        """The task of each row."""
        return self.of_vectors(seen(policy, rows)) if rows else []

    def of_vectors(self, vectors_RD: Tensor) -> list[str]:
        return [self.tasks[place] for place in self.probe.logits(vectors_RD).argmax(-1).tolist()]


def seen(policy: Policy, rows: Sequence[Row]) -> Tensor:
    """(R, D) of the model before tuning, by what is known of a row before it is answered."""
    asked = [
        replace(row, ids=row.ids[: row.prompt], learn=row.learn[: row.prompt]) if row.prompt else row for row in rows
    ]
    return vectors(policy, asked, Collator(Layout.LABELS), original=True)


def by_task(
    policy: Policy, asked: Sequence[Asked], tasks: Sequence[str], answer: Callable[[Sequence[Asked]], Sequence[Answer]]
) -> list[Answer]:
    """What is asked in its order, each by the adapter of its task; all at once where there are no tasks."""
    if not tasks:
        return list(answer(asked))

    def of(task: str, places: list[int]) -> Sequence[Answer]:
        with policy.of_task(task):
            return answer([asked[place] for place in places])

    return answered(tasks, of)


def of_their_tasks(router: Router | None, policy: Policy, rows: list[Row]) -> list[Row]:
    """The same, each as one of the task that it is taken for; as they are where there is one adapter for all."""
    if router is None:
        return rows
    tasks = router.of_rows(policy, rows)
    return [replace(row, example=replace(row.example, task=task)) for row, task in zip(rows, tasks, strict=True)]


def save_routers(folder: Path, found: Mapping[str, Router], taken: str) -> None:
    """Of either kind, and which is taken."""
    one = found[taken]
    classes = {task: list(own) for task, own in one.classes.items()}
    known = {"tasks": list(one.tasks), "router": taken, "classes": classes}
    (folder / TASKS).write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    weights = {f"{kind}.{name}": getattr(found[kind].probe, name) for kind in KINDS for name in ("weight", "bias")}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS)


def read_routers(folder: Path) -> tuple[str, dict[str, Router]]:
    """The kind that is taken, and those of either kind."""
    known: Any = json.loads((folder / TASKS).read_text(encoding="utf-8"))
    weights, tasks = load_file(folder / WEIGHTS), tuple(known["tasks"])
    return known["router"], {
        kind: Router(tasks, Probe(weights[f"{kind}.weight"], weights[f"{kind}.bias"]), known["classes"])
        for kind in KINDS
    }


def attach_routed(module: nn.Module, folder: Path, task: str | None) -> tuple[AttachedEach, Router | None]:
    """The saved adapters of a run and what tells whose a text is; or that of one task, and None."""
    kind, found = read_routers(folder)
    router = found[kind]
    tasks = router.tasks if task is None else (task,)
    attached = attach_saved_each(module, folder, tasks)
    attached.tell_apart({name: router.classes[name] for name in tasks if name in router.classes})
    return attached, router if task is None else None


def within(name: str, task: str | None) -> tuple[str, str | None]:
    """RUN/adapters/TASK is a task of a run."""
    place = Path(name)
    run = RunFolder(place.parent.parent)
    if task is None and place.parent.name == run.adapters.name and run.exists() and place.is_dir():
        return str(run.path), place.name
    return name, task


def check_task(folder: RunFolder, name: str, task: str | None, *, routes: bool) -> None:
    """Raises ModelError where a task is named that is not there, or none where one must be."""
    if not folder.adapters.exists():
        if task is not None:
            raise ModelError(f"task: {name} has one model for all it learned; leave task out")
        return
    tasks = read_routers(folder.adapters)[1][KINDS[0]].tasks
    if task is not None and task not in tasks:
        raise ModelError(f"task: {name} has no adapter of '{task}'.{did_you_mean(task, tasks)} "
                         f"Known: {', '.join(tasks)}")  # fmt: skip
    if task is None and not routes:
        raise ModelError(f"{name} has an adapter for each of {', '.join(tasks)}, and this asks one model; name one of "
                         f"them: {folder.adapters / tasks[0]}")  # fmt: skip
