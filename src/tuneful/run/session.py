"""One run from a recipe to a report. All ranks go through it; the first one writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tuneful.core.device import is_first, join_ranks
from tuneful.core.files import write_text
from tuneful.core.ranks import first_alone, gathered, together
from tuneful.core.types import Record
from tuneful.recipe import Recipe
from tuneful.run.beside import compare
from tuneful.run.build import Built, build
from tuneful.run.choose import Choice, choose, to_choose
from tuneful.run.finish import finish
from tuneful.run.folder import RunFolder
from tuneful.run.joined import kinds_in, run_kinds
from tuneful.run.lock import recipe_of, write_lock
from tuneful.run.opening import asked_of_all, claim, given, prepared_for, refuse_taken, tell_notes
from tuneful.run.prepare import Prepared
from tuneful.run.progress import Progress
from tuneful.run.reworded import with_reworded
from tuneful.run.train import recorded
from tuneful.run.twice import twice
from tuneful.run.variants import with_variants
from tuneful.run.weigh import to_weigh, weigh

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
    join_ranks()
    say = say if is_first() else lambda _: None
    progress, stop = Progress(), asked_of_all(should_stop)
    folder = RunFolder(path)
    first_alone(lambda: refuse_taken(folder, resume))
    if resume:
        recipe = recipe_of(folder.read_json(folder.lock))
    if kinds := together(lambda: kinds_in(recipe, folder, resume=resume, say=say)):
        yield from run_kinds(
            recipe, kinds, folder, resume=resume, language=language, command=command, should_stop=should_stop, say=say
        )
        return
    prepared = with_reworded(together(lambda: prepared_for(recipe, say)), say)
    with ExitStack() as held:
        first_alone(lambda: claim(folder, resume, held))
        choice = _choice(recipe, prepared, say, stop)
        if choice is not None:
            recipe = choice.recipe
            prepared = replace(prepared_for(recipe, lambda _: None), reworded=prepared.reworded)
        prepared = with_variants(prepared, say)
        tell_notes(prepared, language, say)
        compared = {} if resume else compare(prepared, say, stop)
        built = together(lambda: build(prepared, say))
        built, missed = twice(built, folder, say, stop, resume=resume)
        if not resume:
            first_alone(lambda: _write_down(built, recipe, folder, command, choice, compared, missed))
        yield from recorded(built, folder, progress, resume=resume, should_stop=stop, say=say)
        if built.sharded:
            finish(built, folder, progress, language=language, say=say, should_stop=stop)
            gathered(None)  # the report is written
        else:
            first_alone(lambda: finish(built, folder, progress, language=language, say=say, should_stop=should_stop))


def _choice(given: Recipe, prepared: Prepared, say: Say, should_stop: Callable[[], bool]) -> Choice | None:
    """What is learned and how, where that is found out by trying. Raises Interrupted."""
    if to_choose(prepared):
        return choose(prepared, say, should_stop)
    return weigh(given, prepared, say, should_stop) if to_weigh(prepared) else None


def _write_down(
    built: Built,
    recipe: Recipe,
    folder: RunFolder,
    command: str,
    choice: Choice | None,
    compared: Mapping[str, Any],
    missed: Mapping[str, Any],
) -> None:
    if missed:
        folder.write_json(folder.missed, missed)
    write_lock(built, folder, command)
    if compared:
        folder.write_json(folder.compared, compared)
    if choice is not None and choice.facts:  # something was tried
        folder.write_json(folder.choice, {"facts": choice.facts, "answers": dict(choice.answers)})
    write_text(folder.recipe, yaml.safe_dump(given(recipe), allow_unicode=True, sort_keys=False))
