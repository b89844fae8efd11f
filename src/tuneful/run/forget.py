"""`tuneful unlearn`: rows that a finished run has learned are made as unlikely as rows it never saw, and taken out of
all that its folder keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tuneful.adapters import Head
from tuneful.core.device import world
from tuneful.core.errors import RunFolderError
from tuneful.core.files import write_text
from tuneful.core.types import FORGOTTEN, Record
from tuneful.data.duplicates import normal, said_in
from tuneful.data.written import example_of
from tuneful.recipe import Recipe
from tuneful.run.exchange import check_ended, next_of, settle
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import read_memory
from tuneful.run.onward import going_on, onward, stopped
from tuneful.run.prepare import prepare
from tuneful.run.resolve import pools
from tuneful.run.session import run

Say = Callable[[str], None]
EPOCHS = 10.0  # of the rows that are to be forgotten; those that are as unlikely as others are let be
MIXED = 0.75  # of an update, rows that hold what else is known


def forget(
    path: Path,
    rows: str | None,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    language: str = "en",
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    say: Say = lambda _: None,
) -> Iterator[Record]:
    """Yields the records; afterwards `path` holds the run that has forgotten, and nothing of the one before. None for
    `rows` goes on with what was stopped. Raises InputError where nothing can be unlearned, and Interrupted after
    saving."""
    folder = RunFolder(path)
    if world() > 1:
        raise RunFolderError("unlearn takes one process; leave torchrun out")
    if not path.is_dir():
        raise RunFolderError(f"{path} is not the folder of a run, so there is nothing to unlearn")
    with folder.claimed():
        settle(path, say)
        check_ended(folder)
        if rows is None:
            recipe, resume = stopped(next_of(path)), True
        else:
            recipe = recipe_to_forget(folder, rows, overrides, say)
            resume = going_on(next_of(path), recipe, resume)
            take_out(folder, recipe, say)
        yield from run(recipe, next_of(path), resume=resume, language=language, command=command,
                       should_stop=should_stop, say=say)  # fmt: skip
        settle(path, say)


def recipe_to_forget(folder: RunFolder, rows: str, overrides: Sequence[str], say: Say) -> Recipe:
    """The tasks that are known, from what is kept of them, and the rows to be forgotten. Raises InputError."""
    memory = read_memory(folder)
    decided = recipe_of(folder.read_json(folder.lock))
    assert decided.task.objective is not None
    if isinstance(decided.adapter, Head) and pools(decided.task.objective):
        raise RunFolderError(
            f"{folder.path} has a head that was solved, and no update takes a row out of what it was solved from; tune "
            "it anew without these rows, which takes no longer than reading the others"
        )
    before = sum(name.startswith(FORGOTTEN) for name in memory.matrix)
    task = {
        "name": f"{FORGOTTEN} ({before + 1})" if before else FORGOTTEN,
        "labels": "shared",
        "data": {"source": rows, "validation": 0, "test": 0},
    }
    schedule = {"kind": "lifelong", "behind": len(memory.tasks), "asymmetric": False, "epochs": EPOCHS, "mixed": MIXED}
    return onward(folder, task, schedule, overrides, say, regularisers=[{"kind": "forget"}, {"kind": "previous"}])


def take_out(folder: RunFolder, recipe: Recipe, say: Say) -> None:
    """Of what the folder keeps of its tasks, the rows that say what one of those to be forgotten says."""
    rows = prepare(recipe).rows("train")
    gone = {normal(said_in(row.example)) for row in rows if row.example.task == recipe.tasks[-1].name}
    left = {file: _without(file, gone) for file in sorted(folder.memory.glob("*/*.jsonl"))}
    if empty := [file.parent.name for file, (kept, _) in left.items() if not kept and file.name == "train.jsonl"]:
        raise RunFolderError(
            f"all rows that are kept of task {empty[0]} are among those to be forgotten, so nothing would hold what "
            "else it knows; tune it anew without them"
        )
    for file, (kept, dropped) in left.items():
        if dropped and kept:
            write_text(file, "".join(f"{line}\n" for line in kept))
        elif dropped:
            file.unlink()
    found = sum(dropped for _, dropped in left.values())
    say(f"{len(gone)} rows are to be forgotten; {found} of them were kept in {folder.memory}, and are no more")


def _without(file: Path, gone: set[str]) -> tuple[list[str], int]:
    """The lines that stay, and how many do not."""
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if normal(said_in(example_of(json.loads(line)))) not in gone]
    return kept, len(lines) - len(kept)
