"""`tuneful unlearn`: rows that a finished run has learned are made as unlikely as rows it never saw, and taken out of
all that its folder keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tuneful.adapters import Head, Lora
from tuneful.core.device import world
from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.core.types import FORGOTTEN, Record
from tuneful.recipe import Recipe
from tuneful.regularisers import Forget, Previous
from tuneful.run.asked import asked_for, same_as_begun, set_apart
from tuneful.run.exchange import check_ended, next_of, settle
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import read_memory
from tuneful.run.onward import going_on, onward, stopped
from tuneful.run.resolve import pools
from tuneful.run.session import run
from tuneful.run.unlearning import against_unlearning, forgets

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
        following = next_of(path)
        try:
            if rows is None:
                recipe, resume = stopped(following, unlearning=True), True
            else:
                recipe, resume = _begun(folder, rows, overrides, resume, say)
            yield from run(recipe, following, resume=resume, language=language, command=command,
                           should_stop=should_stop, say=say)  # fmt: skip
        finally:
            if not RunFolder(following).exists():
                shutil.rmtree(following, ignore_errors=True)  # nothing was begun, so nothing is left of the rows
        settle(path, say)


def _begun(folder: RunFolder, rows: str, overrides: Sequence[str], resume: bool, say: Say) -> tuple[Recipe, bool]:
    """What is run, and whether it goes on with what was stopped."""
    following = next_of(folder.path)
    recipe = recipe_to_forget(folder, rows, overrides, say)
    asked = asked_for(recipe)
    if going_on(following, resume, unlearning=True):
        if not same_as_begun(following, asked):
            raise RunFolderError(
                f"what was stopped here is about other rows than those of {rows}; go on with tuneful unlearn "
                f"{folder.path} --resume, or remove {following} to begin anew"
            )
        return stopped(following, unlearning=True), True
    recipe, found = set_apart(folder, following, recipe, asked)
    say(
        f"{len(asked)} rows are to be forgotten; {found} rows that say the same are kept in {folder.memory}, and are "
        "no more when it has ended"
    )
    return recipe, False


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
    name = f"{FORGOTTEN} ({before + 1})" if before else FORGOTTEN
    task = {
        "name": name,
        "labels": "shared",
        "data": {"source": rows, "validation": 0, "test": 0},
    }
    schedule = {"kind": "lifelong", "behind": len(memory.tasks), "asymmetric": False, "epochs": EPOCHS, "mixed": MIXED}
    recipe = _whole(onward(folder, task, schedule, overrides, say, regularisers=[Forget(), Previous()]))
    _check_still(recipe, name, folder)
    return recipe


def _whole(recipe: Recipe) -> Recipe:
    """Merged with what was there, a part of what was unlearned would come back."""
    adapter = recipe.adapter
    if not isinstance(adapter, Lora) or adapter.turns != "merged":
        return recipe
    return recipe.model_copy(update={"adapter": adapter.model_copy(update={"turns": "same"})})


def _check_still(recipe: Recipe, name: str, folder: RunFolder) -> None:
    """Raises RecipeError where settings that were given make something else of it."""
    problems = list(against_unlearning(recipe))
    if not forgets(recipe):
        problems = ["regularisers: without forget these rows would be learned; leave it in: "
                    "--set 'regularisers=[forget, ...]'"]  # fmt: skip
    if recipe.tasks[-1].name != name or recipe.start != str(folder.path):
        problems.append("tasks, start: `unlearn` sets them; leave them out")
    if problems:
        raise RecipeError(problems)
