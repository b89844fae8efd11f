"""What every run does before its first update: its folder is claimed, its recipe prepared, and faults are refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tuneful.core.device import machine
from tuneful.core.errors import DataError, RunFolderError
from tuneful.core.ranks import gathered
from tuneful.evaluation.phrases import said
from tuneful.evaluation.words import words
from tuneful.recipe import Recipe
from tuneful.run.folder import RunFolder
from tuneful.run.gated import check_gated
from tuneful.run.plan import planned_mb
from tuneful.run.prepare import Prepared, prepare

Say = Callable[[str], None]


def tell_notes(prepared: Prepared, language: str, say: Say) -> None:
    """What the report will note of the rows that are learned."""
    for note in prepared.xray.notes:
        say(said({"key": note.key, **note.facts}, words(language)))


def prepared_for(recipe: Recipe, say: Say) -> Prepared:
    if recipe.precision == "auto":
        # Measured, so ranks might not agree by themselves.
        recipe = recipe.model_copy(update={"precision": gathered(machine().fastest)[0]})
    # All ranks plan alike, or they would deal an update in different ways.
    prepared = prepare(recipe, say, free_mb=min(gathered(planned_mb())))
    refuse(prepared)
    check_gated(prepared)
    return prepared


def claim(folder: RunFolder, resume: bool, held: ExitStack) -> None:
    held.enter_context(folder.claimed())
    refuse_taken(folder, resume)  # another run may have come and gone meanwhile


def asked_of_all(should_stop: Callable[[], bool]) -> Callable[[], bool]:
    """Ctrl-C on one rank stops all of them after the same update."""
    return lambda: any(gathered(should_stop()))


def refuse(prepared: Prepared) -> None:
    """Nothing starts while the X-ray shows a fault."""
    if prepared.xray.problems:
        raise DataError("this run would go wrong:\n" + "\n".join(f"  {problem}" for problem in prepared.xray.problems))


def refuse_taken(folder: RunFolder, resume: bool) -> None:
    folder.refuse_foreign()
    if resume and folder.report.exists():
        raise RunFolderError(f"{folder.path} has ended, so there is nothing to go on with; see {folder.page}")
    if folder.exists() and not resume:
        raise RunFolderError(
            f"{folder.path} holds a run already; go on with --resume if it was stopped, "
            "or choose another folder with --out"
        )


def given(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(mode="json", exclude_unset=True)
