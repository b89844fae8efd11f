"""What a report says of several tasks: what each gained, and what later ones made it lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tuneful.core.types import Layout
from tuneful.evaluation.by_task import by_task
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.conflicts import conflicts
from tuneful.evaluation.transfer import summary
from tuneful.run.affinity import told_affinity
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.memory import read_memory

Worth = tuple[Mapping[str, Mapping[str, float]], Mapping[str, float]]  # see `turns.history`


def each_task(built: Built, examined: Examined | None) -> dict[str, Any]:
    """The report's `tasks`; empty for one task, or where nothing was measured."""
    if len(built.recipe.tasks) < 2 or examined is None:
        return {}
    task_of = {str(row.example.place): row.example.task for row in built.prepared.rows("test")}
    rows = Counter(row.example.task for row in built.prepared.rows("train"))
    learned = {task.name: rows[task.name] for task in built.recipe.tasks}
    if built.start is not None and built.turns is not None:  # of earlier tasks there are but the rows that were kept
        learned |= {task.name: task.rows for task in read_memory(RunFolder(built.start)).tasks}
    return by_task(examined, task_of, learned)


def together(built: Built, folder: RunFolder) -> dict[str, Any]:
    """Which of the tasks that are learned at once pull together, as far as a gradient rule measured it, and which helps
    which, as far as that was asked."""
    if len(built.recipe.tasks) < 2 or built.turns is not None:
        return {}
    updates = [record.metrics for record in folder.read_records() if record.kind == "train"]
    found = conflicts(updates, [task.name for task in built.recipe.tasks])
    return {**({"conflicts": found} if found else {}), **told_affinity(built, folder)}


def lost(built: Built, worth: Worth) -> dict[str, Any]:
    """What the report's `forgetting` says of tasks that were learned one after the other; empty for others."""
    matrix, before = worth
    if built.turns is None or not any(matrix.values()):
        return {}
    higher = built.prepared.layout is not Layout.TOKENS  # accuracy, or perplexity
    return {"tasks": dict(matrix), "transfer": summary(matrix, before, higher_is_better=higher)}
