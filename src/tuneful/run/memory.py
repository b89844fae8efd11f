"""What a run folder keeps of its tasks, so that the model can be taught more without losing them: a few rows, and what
every task was worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuneful.adapters.used import of_all_rows
from tuneful.core.errors import RunFolderError
from tuneful.core.files import new_folder
from tuneful.core.protocols import Recalls
from tuneful.core.types import Layout, Row
from tuneful.data.written import write_examples
from tuneful.models.discriminant import Gaussians
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.inherited import NOTES, PLACE, inherited
from tuneful.run.unlearning import forgets
from tuneful.schedules.lifelong import stored

VERSION = 1  # of the files
TESTED = 200  # test rows of a task that are kept
MOST = 1000  # training rows of a task that are kept
SUMS, SUMS_FILE = ("counts", "means", "scatter"), "sums.safetensors"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one task."""

    name: str
    folder: str  # inside the memory, as a source of data
    rows: int  # it was learned from, in the run that learned it


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of all, in the order they were learned; `matrix` is what each was worth after each, where they were
    learned one after the other, `before` what they were before the first."""

    tasks: list[Kept]
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)


def remembers(built: Built) -> bool:
    """The run keeps anything: not where the recipe says so, nor where rows are not held, or are neither text to write
    nor classes."""
    prepared = built.prepared
    if not built.recipe.save.memory or prepared.stream is not None:
        return False
    return prepared.layout is Layout.TOKENS or prepared.tells_classes


def keep(built: Built, folder: RunFolder, matrix: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Writes it anew: of tasks that were learned before, what there was of them."""
    names, turns = names_of(built), built.turns
    behind = 0 if turns is None else turns.settings.behind
    earlier = read_memory(RunFolder(built.start)).tasks if behind and built.start else []
    train, test = (by_task(_examples(built, part), names) for part in ("train", "test"))
    with new_folder(folder.memory) as scratch:
        kept = []
        for number, name in enumerate(names):
            if forgets(built.recipe) and number == len(names) - 1:
                continue
            own = train[name] if number < behind else _share_of(built, train[name], number)
            place = f"{number + 1}-{_plain(name)}"
            (scratch / place).mkdir()
            write_examples(scratch / place / "train.jsonl", (row.example for row in own))
            if test[name]:
                write_examples(scratch / place / "test.jsonl", (row.example for row in some(test[name], TESTED)))
            counted = earlier[number].rows if number < behind else len(train[name])
            kept.append(Kept(name, place, counted))
        notes = {"version": VERSION, "tasks": list(map(asdict, kept)), "matrix": dict(matrix), "before": dict(before)}
        if forgets(built.recipe) and built.start:
            notes[PLACE] = dict(inherited(RunFolder(built.start)))
        folder.write_json(scratch / NOTES, notes)


def _examples(built: Built, part: str) -> list[Row]:
    """One row of each example: a long text may be several."""
    return list({row.example.place: row for row in built.prepared.rows(part)}.values())


def _share_of(built: Built, rows: Sequence[Row], number: int) -> list[Row]:
    """Of each class as large a share, so that there are not too many in all."""
    share = min(built.recipe.save.memory, MOST / max(1, len(rows)))
    return stored(rows, share, built.recipe.seed + number)


def keep_sums(folder: RunFolder, found: Gaussians) -> None:
    """Beside the rows, what a head is solved from; of a class that came with one row the mean is that row's vector."""
    save_file({name: getattr(found, name) for name in SUMS}, folder.memory / SUMS_FILE)


def read_sums(folder: RunFolder) -> Gaussians | None:
    """None where the run keeps none."""
    file = folder.memory / SUMS_FILE
    return Gaussians(**load_file(file)) if file.exists() else None


def keep_numbers(built: Built, folder: RunFolder) -> None:
    """Beside the rows, what regularisers ask to find again: of weights that did not learn here, what there was."""
    for part in built.regularisers:
        if isinstance(part, Recalls) and (own := part.kept()):
            found = of_all_rows(built.policy.module, own, recalled(built, part.kind))
            save_file({name: tensor.cpu().contiguous() for name, tensor in found.items()}, _numbers(folder, part.kind))


def recalled(built: Built, kind: str) -> dict[str, Tensor]:
    """What the run that this one goes on from keeps of a regulariser; empty where that is nothing."""
    file = None if built.start is None else _numbers(RunFolder(built.start), kind)
    return load_file(file) if file is not None and file.exists() else {}


def _numbers(folder: RunFolder, kind: str) -> Path:
    return folder.memory / f"{kind}.safetensors"


def read_memory(folder: RunFolder) -> Memory:
    """Raises RunFolderError where there is none, or one of a later version."""
    if not folder.memory.exists():
        folder.refuse_several()
        raise RunFolderError(
            f"{folder.path} keeps nothing of what it learned, so that would be lost: save.memory was 0, its rows were "
            "read from disk, they have several labels, numbers or preferences (which `learn` cannot add to yet), or it "
            "was made by a version before `learn`. Tune it anew, or start from its model with fit --model"
        )
    notes = folder.read_json(folder.memory / NOTES)
    if notes.get("version", 0) > VERSION:
        raise RunFolderError(f"{folder.memory} was written by a later version of tuneful; take that one")
    return Memory([Kept(**task) for task in notes["tasks"]], notes["matrix"], notes["before"])


def names_of(built: Built) -> list[str]:
    """The tasks in the order they were learned."""
    recipe = built.recipe
    return [task.name for task in recipe.tasks] if len(recipe.tasks) > 1 else [recipe.task.name or str(recipe.name)]


def by_task(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in names}
    for row in rows:
        if row.counts:
            found[row.example.task if len(names) > 1 else names[0]].append(row)
    return found


def some(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """A seeded sample where there are more."""
    if len(rows) <= most:
        return rows
    return [rows[place] for place in sorted(np.random.default_rng(0).permutation(len(rows))[:most])]


def _plain(name: str) -> str:
    """As part of the name of a folder."""
    return re.sub(r"[^\w-]+", "-", name)[:40].strip("-") or "task"
