"""`tuneful learn`: a finished run is taught one more task, in its own folder; what it was is kept, to go back to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tuneful.adapters import Head
from tuneful.core.device import world
from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.core.types import FORGOTTEN, Record
from tuneful.recipe import Recipe
from tuneful.recipe.task import stem
from tuneful.run.exchange import check_ended, next_of, settle
from tuneful.run.folder import RunFolder
from tuneful.run.memory import read_memory, read_sums
from tuneful.run.onward import check_same, going_on, onward, stopped
from tuneful.run.resolve import pools
from tuneful.run.session import run
from tuneful.run.unlearning import forgets

Say = Callable[[str], None]


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
            recipe, resume = stopped(next_of(path), unlearning=False), True
        else:
            recipe = next_recipe(folder, data, name, overrides, say)
            resume = going_on(next_of(path), resume, unlearning=False)
            if resume:
                check_same(next_of(path), recipe)
        yield from run(recipe, next_of(path), resume=resume, language=language, command=command,
                       should_stop=should_stop, say=say)  # fmt: skip
        settle(path, say)


def next_recipe(folder: RunFolder, data: str, name: str | None, overrides: Sequence[str], say: Say) -> Recipe:
    """The tasks that are known, from what is kept of them, and the new one. Raises InputError."""
    memory = read_memory(folder)
    name = name or stem(data)
    if name in [task.name for task in memory.tasks]:
        raise RecipeError([f"--name: {folder.path} has learned a task '{name}' already; give this one another name"])
    if name.startswith(FORGOTTEN):
        raise RecipeError([f"--name: '{FORGOTTEN}' is what rows are called that are unlearned; take another name, or "
                           f"have them unlearned: tuneful unlearn {folder.path} ROWS"])  # fmt: skip
    number = len(memory.tasks)
    recipe = onward(
        folder,
        {"name": name, "data": {"source": data}},
        {"kind": "lifelong", "behind": number},
        overrides,
        say,
    )
    if forgets(recipe):
        raise RecipeError(["regularisers: forget unlearns rows, and `learn` keeps what it is taught; leave it out, or "
                           f"have rows unlearned: tuneful unlearn {folder.path} ROWS"])  # fmt: skip
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
