"""A run that goes on from a finished one: its recipe, and whether one that was stopped is gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tuneful.core.errors import RunFolderError
from tuneful.core.protocols import ComparesGroups, Replaces
from tuneful.core.spec import Spec, kind_of
from tuneful.recipe import Recipe, from_mapping
from tuneful.regularisers import REGULARISERS
from tuneful.run.exchange import command_of, unlearns
from tuneful.run.folder import RunFolder
from tuneful.run.inherited import given_of, inherited
from tuneful.run.lock import recipe_of
from tuneful.run.memory import Kept, read_memory
from tuneful.run.tasks import OF_ALL

Say = Callable[[str], None]
LEFT = ("augment", "gradient", "average", "soup", "interpolate", "repair")  # what is not taken over, and is said
DECIDED = ("model", "adapter", "quantise", "seed", "name")  # of the recipe as it was run

UNLEARNING = "forget"
HOLDING = {"ewc", "orthogonal"}  # what holds weights would hold what rows to be forgotten need as well


def onward(
    folder: RunFolder,
    task: Mapping[str, Any],
    schedule: Mapping[str, Any],
    overrides: Sequence[str],
    say: Say,
    *,
    regularisers: Sequence[Spec] = (),
) -> Recipe:
    """The tasks that are known, from what is kept of them, and one more. Raises InputError."""
    decided = recipe_of(folder.read_json(folder.lock)).model_dump(mode="json")
    taken = dict(inherited(folder))
    parts, others = _compatible(taken.pop("regularisers", None) or [], regularisers)
    if left := [*(key for key in LEFT if given_of(folder).get(key)), *others]:
        say(f"not taken over from the run: {', '.join(left)}")
    first = decided["tasks"][0]
    objective = {**first["objective"], **({"label_names": False} if "label_names" in first["objective"] else {})}
    alike = {key: first["data"][key] for key in ("learn", "max_tokens")}
    tasks = [*(_known(folder, known) for known in read_memory(folder).tasks), task]
    recipe, _ = from_mapping(
        {
            **taken,
            **{key: decided[key] for key in DECIDED},
            "regularisers": parts,
            "start": str(folder.path),
            "tasks": [{**one, "objective": objective, "data": {**one["data"], **alike}} for one in tasks],
            "schedule": schedule,
        },
        [_of_new(override, len(tasks) - 1) for override in overrides],
    )
    return recipe


def _compatible(given: Any, more: Sequence[Spec]) -> tuple[list[dict[str, Any]], list[str]]:
    """Regularisers of the run and `more`, and the kinds of those of the run that cannot go on: groups are not compared
    while tasks are learned in turn, and of losses in the place of another there is one."""
    found: list[Spec] = TypeAdapter(list[REGULARISERS.field]).validate_python(given)  # type: ignore[name-defined]
    kinds, replaced = set(map(_kind, more)), any(isinstance(part, Replaces) for part in more)
    kinds |= HOLDING if UNLEARNING in kinds else set()
    own = [part for part in found if _kind(part) not in kinds]
    left = [_kind(one) for one in own if isinstance(one, ComparesGroups) or (replaced and isinstance(one, Replaces))]
    stay = [*(part for part in own if _kind(part) not in left), *more]
    return [part.model_dump(mode="json", exclude_unset=True) for part in stay], left


def _kind(part: Spec) -> str:
    return kind_of(type(part))


def _of_new(override: str, number: int) -> str:
    """What is said of data is said of those that are new, unless it is one for all."""
    path = override.split("=")[0].strip()
    alone = path.startswith("data.") and path.removeprefix("data.") not in OF_ALL
    return f"tasks.{number}.{override}" if alone else override


def _known(folder: RunFolder, task: Kept) -> dict[str, Any]:
    return {"name": task.name, "data": {"source": str(folder.memory / task.folder), "validation": 0, "test": 0}}


def stopped(following: Path, *, unlearning: bool) -> Recipe:
    """What is gone on with. Raises RunFolderError where nothing was stopped, or something of the other kind."""
    begun = RunFolder(following)
    if not begun.exists():
        what, how = ("to be forgotten", "unlearn {} ROWS") if unlearning else ("to be learned", "learn {} DATA")
        raise RunFolderError(
            f"nothing was stopped in {following.parent}; say what is {what}: tuneful {how.format(following.parent)}"
        )
    _check_kind(following, unlearning=unlearning)
    return recipe_of(begun.read_json(begun.lock))


def _check_kind(following: Path, *, unlearning: bool) -> None:
    if unlearns(following) != unlearning:
        raise RunFolderError(
            f"what was stopped here {'learns' if unlearning else 'unlearns'}: go on with {command_of(following)}, or "
            f"remove {following} first"
        )


def going_on(following: Path, resume: bool, *, unlearning: bool) -> bool:
    """Whether there is something that was stopped, and is gone on with. Raises RunFolderError where it is there and
    nobody says so, or is of the other kind."""
    if not RunFolder(following).exists():
        shutil.rmtree(following, ignore_errors=True)  # it was stopped before anything was learned
        return False
    _check_kind(following, unlearning=unlearning)
    if not resume:
        raise RunFolderError(f"a run was stopped here: go on with {command_of(following)}, or remove {following} to "
                             "begin anew")  # fmt: skip
    return True


def check_same(following: Path, recipe: Recipe) -> None:
    """Raises RunFolderError where what was stopped is about another task."""
    begun = RunFolder(following)
    theirs, ours = (known.tasks[-1] for known in (recipe_of(begun.read_json(begun.lock)), recipe))
    if (theirs.name, theirs.data.source) != (ours.name, ours.data.source):
        raise RunFolderError(
            f"what was stopped here is about {theirs.name} from {theirs.data.source}; go on with that, or remove "
            f"{following}"
        )
