"""One run from a recipe to a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import yaml

from tuneful.core.errors import DataError, RunFolderError
from tuneful.core.files import write_text
from tuneful.core.types import Record
from tuneful.recipe import Recipe
from tuneful.run.build import build
from tuneful.run.finish import finish, recipe_of, write_lock
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.train import Progress, train

Say = Callable[[str], None]


def run(
    recipe: Recipe,
    path: Path,
    *,
    resume: bool = False,
    language: str = "en",
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    say: Say = lambda _: None,
) -> Iterator[Record]:
    """Yields every record; the first is the plan. Afterwards `path` holds the report.

    Raises InputError before anything is written when the recipe, the data or the model cannot be used."""
    folder = RunFolder(path)
    _refuse_taken(folder, resume)
    if resume:
        recipe = recipe_of(folder.read_json(folder.lock))
    prepared = prepare(recipe, say)
    refuse(prepared)
    with folder.claimed():
        _refuse_taken(folder, resume)  # another run may have come and gone meanwhile
        built = build(prepared, say)
        if not resume:
            write_lock(built, folder, command)
            write_text(folder.recipe, yaml.safe_dump(_given(recipe), allow_unicode=True, sort_keys=False))
        progress = Progress()
        yield Record(0, "plan", recipe.task.name, {name: float(value) for name, value in asdict(built.cost).items()})
        for record in train(built, folder, progress, resume=resume, should_stop=should_stop, say=say):
            folder.append(record)
            yield record
        finish(built, folder, progress, language=language, say=say, should_stop=should_stop)


def refuse(prepared: Prepared) -> None:
    """Nothing starts while the X-ray shows a fault."""
    if prepared.xray.problems:
        raise DataError("this run would go wrong:\n" + "\n".join(f"  {problem}" for problem in prepared.xray.problems))


def _refuse_taken(folder: RunFolder, resume: bool) -> None:
    folder.refuse_foreign()
    if resume and folder.report.exists():
        raise RunFolderError(f"{folder.path} has ended, so there is nothing to go on with; see {folder.page}")
    if folder.exists() and not resume:
        raise RunFolderError(
            f"{folder.path} holds a run already; go on with --resume if it was stopped, "
            "or choose another folder with --out"
        )


def _given(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(mode="json", exclude_unset=True)
