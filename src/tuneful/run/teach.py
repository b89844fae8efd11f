"""`tuneful learn`: a finished run is taught one more task, in its own folder; what it was is kept, to go back to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuneful.adapters import Head
from tuneful.core.device import world
from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.core.types import Record
from tuneful.recipe import Recipe, from_mapping
from tuneful.recipe.task import stem
from tuneful.run.exchange import check_ended, next_of, settle
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import Kept, read_memory, read_sums
from tuneful.run.resolve import pools
from tuneful.run.session import run
from tuneful.run.tasks import OF_ALL

Say = Callable[[str], None]
# Of the recipe as it was given, what another task is learned by too; the rest is decided anew.
INHERITED = ("trust_remote_code", "precision", "memory", "optimiser", "evaluate", "save", "regularisers", "gates")
LEFT = ("augment", "gradient", "average", "soup", "interpolate", "repair")  # what is not taken over, and is said
DECIDED = ("model", "adapter", "quantise", "seed", "name")  # of the recipe as it was run


def teach(
    path: Path,
    data: str | None,
    *,
    name: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    language: str = "en",
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    say: Say = lambda _: None,
) -> Iterator[Record]:
    """Yields the records of learning; afterwards `path` holds the new run, and `path`/before the one it was. None for
    `data` goes on with what was stopped. Raises InputError where nothing can be learned, and Interrupted after
    saving."""
    folder = RunFolder(path)
    if world() > 1:
        raise RunFolderError("learn takes one process; leave torchrun out")
    if not path.is_dir():
        raise RunFolderError(f"{path} is not the folder of a run, so there is nothing to teach more")
    with folder.claimed():
        settle(path, say)
        check_ended(folder)
        if data is None:
            recipe, resume = _stopped(next_of(path)), True
        else:
            recipe = next_recipe(folder, data, name, overrides, say)
            resume = _goes_on(next_of(path), recipe, resume)
        yield from run(recipe, next_of(path), resume=resume, language=language, command=command,
                       should_stop=should_stop, say=say)  # fmt: skip
        settle(path, say)


def _stopped(following: Path) -> Recipe:
    begun = RunFolder(following)
    if not begun.exists():
        raise RunFolderError(f"nothing was stopped in {following.parent}; say what is to be learned: tuneful learn "
                             f"{following.parent} DATA")  # fmt: skip
    return recipe_of(begun.read_json(begun.lock))


def _goes_on(following: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether what was stopped is gone on with. Raises RunFolderError where it is there and nobody says so, or is of
    another task."""
    begun = RunFolder(following)
    if not begun.exists():
        shutil.rmtree(following, ignore_errors=True)  # it was stopped before anything was learned
        return False
    if not resume:
        raise RunFolderError(f"learning was stopped here: go on with --resume, or remove {following} to begin anew")
    stopped = recipe_of(begun.read_json(begun.lock))
    if (stopped.tasks[-1].name, stopped.tasks[-1].data.source) != (recipe.tasks[-1].name, recipe.tasks[-1].data.source):
        raise RunFolderError(
            f"what was stopped here learns {stopped.tasks[-1].name} from {stopped.tasks[-1].data.source}; go on with "
            f"that, or remove {following}"
        )
    return True


def next_recipe(folder: RunFolder, data: str, name: str | None, overrides: Sequence[str], say: Say) -> Recipe:
    """The tasks that are known, from what is kept of them, and the new one. Raises InputError."""
    memory, lock = read_memory(folder), folder.read_json(folder.lock)
    name = name or stem(data)
    if name in [task.name for task in memory.tasks]:
        raise RecipeError([f"--name: {folder.path} has learned a task '{name}' already; give this one another name"])
    decided, given = recipe_of(lock).model_dump(mode="json"), yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
    if left := [key for key in LEFT if given.get(key)]:
        say(f"not taken over from the run: {', '.join(left)}")
    first = decided["tasks"][0]
    objective = {**first["objective"], **({"label_names": False} if "label_names" in first["objective"] else {})}
    alike = {key: first["data"][key] for key in ("learn", "max_tokens")}
    tasks = [_known(folder, task) for task in memory.tasks]
    tasks.append({"name": name, "data": {"source": data}})
    recipe, _ = from_mapping(
        {
            **{key: given[key] for key in INHERITED if key in given},
            **{key: decided[key] for key in DECIDED},
            "start": str(folder.path),
            "tasks": [{**task, "objective": objective, "data": {**task["data"], **alike}} for task in tasks],
            "schedule": {"kind": "lifelong", "behind": len(memory.tasks)},
        },
        [_of_new(override, len(memory.tasks)) for override in overrides],
    )
    _check_sums(folder, recipe)
    return recipe


def _check_sums(folder: RunFolder, recipe: Recipe) -> None:
    """Raises RunFolderError where a head would be solved anew without what is known of its classes."""
    objective = recipe.task.objective
    assert objective is not None
    if isinstance(recipe.adapter, Head) and pools(objective) and read_sums(folder) is None:
        raise RunFolderError(
            f"{folder.path} keeps no sums of its classes, from which a head under adapter head is solved; tune it "
            "anew, or --set adapter=top_layers"
        )


def _of_new(override: str, number: int) -> str:
    """What is said of data is said of those that are new, unless it is one for all."""
    path = override.split("=")[0].strip()
    alone = path.startswith("data.") and path.removeprefix("data.") not in OF_ALL
    return f"tasks.{number}.{override}" if alone else override


def _known(folder: RunFolder, task: Kept) -> dict[str, Any]:
    return {"name": task.name, "data": {"source": str(folder.memory / task.folder), "validation": 0, "test": 0}}
