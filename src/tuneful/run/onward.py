"""A run that goes on from a finished one: its recipe, and whether one that was stopped is gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuneful.core.errors import RunFolderError
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import Kept, read_memory
from tuneful.run.tasks import OF_ALL

Say = Callable[[str], None]
# Of the recipe as it was given, what a run that goes on does alike; the rest is decided anew.
INHERITED = ("trust_remote_code", "precision", "memory", "optimiser", "evaluate", "save", "regularisers", "gates")
LEFT = ("augment", "gradient", "average", "soup", "interpolate", "repair")  # what is not taken over, and is said
DECIDED = ("model", "adapter", "quantise", "seed", "name")  # of the recipe as it was run

UNLEARNING = "forget"  # a regulariser of one run, and of none that goes on from it
HOLDING = "ewc"  # it would hold what rows that are to be forgotten need as well


def onward(
    folder: RunFolder,
    task: Mapping[str, Any],
    schedule: Mapping[str, Any],
    overrides: Sequence[str],
    say: Say,
    *,
    regularisers: Sequence[Mapping[str, Any]] = (),
) -> Recipe:
    """The tasks that are known, from what is kept of them, and one more. Raises InputError."""
    decided = recipe_of(folder.read_json(folder.lock)).model_dump(mode="json")
    given = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
    if left := [key for key in LEFT if given.get(key)]:
        say(f"not taken over from the run: {', '.join(left)}")
    first = decided["tasks"][0]
    objective = {**first["objective"], **({"label_names": False} if "label_names" in first["objective"] else {})}
    alike = {key: first["data"][key] for key in ("learn", "max_tokens")}
    tasks = [*(_known(folder, known) for known in read_memory(folder).tasks), task]
    more = [part["kind"] for part in regularisers]
    others = {UNLEARNING, *more, *([HOLDING] if UNLEARNING in more else ())}
    own = [part for part in given.get("regularisers") or () if _kind(part) not in others]
    recipe, _ = from_mapping(
        {
            **{key: given[key] for key in INHERITED if key in given},
            **{key: decided[key] for key in DECIDED},
            "regularisers": [*own, *regularisers],
            "start": str(folder.path),
            "tasks": [{**one, "objective": objective, "data": {**one["data"], **alike}} for one in tasks],
            "schedule": schedule,
        },
        [_of_new(override, len(tasks) - 1) for override in overrides],
    )
    return recipe


def _of_new(override: str, number: int) -> str:
    """What is said of data is said of those that are new, unless it is one for all."""
    path = override.split("=")[0].strip()
    alone = path.startswith("data.") and path.removeprefix("data.") not in OF_ALL
    return f"tasks.{number}.{override}" if alone else override


def _kind(part: Any) -> str:
    return str(part["kind"] if isinstance(part, Mapping) else part)


def _known(folder: RunFolder, task: Kept) -> dict[str, Any]:
    return {"name": task.name, "data": {"source": str(folder.memory / task.folder), "validation": 0, "test": 0}}


def stopped(following: Path) -> Recipe:
    begun = RunFolder(following)
    if not begun.exists():
        raise RunFolderError(f"nothing was stopped in {following.parent}; say what is to be learned: tuneful learn "
                             f"{following.parent} DATA")  # fmt: skip
    return recipe_of(begun.read_json(begun.lock))


def going_on(following: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether what was stopped is gone on with. Raises RunFolderError where it is there and nobody says so, or is of
    another task."""
    begun = RunFolder(following)
    if not begun.exists():
        shutil.rmtree(following, ignore_errors=True)  # it was stopped before anything was learned
        return False
    if not resume:
        raise RunFolderError(f"learning was stopped here: go on with --resume, or remove {following} to begin anew")
    theirs, ours = (known.tasks[-1] for known in (recipe_of(begun.read_json(begun.lock)), recipe))
    if (theirs.name, theirs.data.source) != (ours.name, ours.data.source):
        raise RunFolderError(
            f"what was stopped here is about {theirs.name} from {theirs.data.source}; go on with that, or remove "
            f"{following}"
        )
    return True
