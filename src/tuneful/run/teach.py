"""`tuneful learn`: a finished run is taught one more task, in its own folder; what it was is kept, to go back to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.core.types import Record
from tuneful.recipe import Recipe, from_mapping
from tuneful.recipe.task import stem
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import Kept, read_memory
from tuneful.run.session import run

Say = Callable[[str], None]
APART = {".claim", "next", "before", "before.tmp"}  # in a run folder, what is no part of the run itself
# Of the recipe as it was given, what another task is learned by too; the rest is decided anew.
INHERITED = ("trust_remote_code", "precision", "memory", "optimiser", "evaluate", "save", "regularisers")
DECIDED = ("model", "adapter", "quantise", "seed", "name")  # of the recipe as it was run


def teach(
    path: Path,
    data: str,
    *,
    name: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    language: str = "en",
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    say: Say = lambda _: None,
) -> Iterator[Record]:
    """Yields the records of learning; afterwards `path` holds the new run, and `path`/before the one it was. Raises
    InputError where nothing can be learned, and Interrupted after saving."""
    folder = RunFolder(path)
    _check_ended(folder)
    with folder.claimed():
        settle(path, say)
        following = path / "next"
        if following.exists() and not resume:
            shutil.rmtree(following)
        recipe = next_recipe(folder, data, name, overrides)
        yield from run(recipe, following, resume=resume, language=language, command=command,
                       should_stop=should_stop, say=say)  # fmt: skip
        settle(path, say)


def next_recipe(folder: RunFolder, data: str, name: str | None, overrides: Sequence[str]) -> Recipe:
    """The tasks that are known, from what is kept of them, and the new one. Raises InputError."""
    memory, lock = read_memory(folder), folder.read_json(folder.lock)
    name = name or stem(data)
    if name in [task.name for task in memory.tasks]:
        raise RecipeError([f"--name: {folder.path} has learned a task '{name}' already; give this one another name"])
    decided, given = recipe_of(lock).model_dump(mode="json"), yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
    objective = decided["tasks"][0]["objective"]
    tasks = [_known(folder, task, objective) for task in memory.tasks]
    recipe, _ = from_mapping(
        {
            **{key: given[key] for key in INHERITED if key in given},
            **{key: decided[key] for key in DECIDED},
            "start": str(folder.path),
            "tasks": [*tasks, {"name": name, "data": {"source": data}, "objective": objective}],
            "schedule": {"kind": "lifelong", "behind": len(memory.tasks)},
        },
        [_of_new(override, len(tasks)) for override in overrides],
    )
    return recipe


def _of_new(override: str, number: int) -> str:
    """What is said of data is said of those that are new."""
    return f"tasks.{number}.{override}" if override.startswith("data.") else override


def _known(folder: RunFolder, task: Kept, objective: Any) -> dict[str, Any]:
    data = {"source": str(folder.memory / task.folder), "validation": 0, "test": 0}
    return {"name": task.name, "data": data, "objective": objective}


def _check_ended(folder: RunFolder) -> None:
    if not folder.exists():
        raise RunFolderError(f"{folder.path} is not the folder of a run, so there is nothing to teach more")
    if not folder.report.exists() and not (folder.path / "before.tmp").exists():
        raise RunFolderError(f"{folder.path} has not ended: go on with tuneful fit {folder.path} --resume first")


def settle(path: Path, say: Say = lambda _: None) -> None:
    """Puts a run that has ended in `next` in the place of the one that is there, which goes to `before`. A kill on the
    way loses nothing: asked again, it goes on."""
    following, passing, before = path / "next", path / "before.tmp", path / "before"
    if not (following / "report.json").exists():
        return
    if (path / "report.json").exists() or passing.exists():
        passing.mkdir(exist_ok=True)
        for entry in _own(path):
            entry.rename(passing / entry.name)
        if before.exists():
            shutil.rmtree(before)
        passing.rename(before)
    for entry in sorted(following.iterdir(), key=lambda entry: entry.name == "report.json"):
        if entry.name != ".claim":
            entry.rename(path / entry.name)
    shutil.rmtree(following)
    say(f"{path} has learned the new task; what it was is in {before} (tuneful learn {path} --undo goes back)")


def undo(path: Path) -> None:
    """Goes back to the run before the last `learn`. Raises RunFolderError where there is none."""
    folder, before = RunFolder(path), path / "before"
    _check_ended(folder)
    with folder.claimed():
        settle(path)
        if not (before / "report.json").exists():
            raise RunFolderError(
                f"{path} holds no earlier version to go back to: nothing was learned since it was made"
            )
        following = path / "next"
        if following.exists():
            shutil.rmtree(following)
        before.rename(following)
        settle(path)


def _own(path: Path) -> list[Path]:
    """Of the run itself, its report first: without one a folder says that it is being changed."""
    own = [entry for entry in path.iterdir() if entry.name not in APART]
    return sorted(own, key=lambda entry: (entry.name != "report.json", entry.name))
