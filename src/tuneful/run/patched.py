"""A patch at work: `data.patch` changes what is learned, and nothing that is measured by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneful.core.errors import RecipeError
from tuneful.core.types import Row, Said
from tuneful.data.duplicates import clusters, whole
from tuneful.data.patch import Applied, Line, apply, read_patch
from tuneful.data.splits import Split
from tuneful.recipe import Recipe

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Patched:
    """Rows by what they are for, those for training under the patch; `done` None: there is no patch."""

    split: Split
    done: Applied | None = None

    def notes(self) -> Iterator[Said]:
        """For the report."""
        if self.done is None:
            return
        yield Said("patched", {"changed": self.done.changed, "dropped": self.done.dropped})
        if self.done.held_out:
            yield Said("patched_elsewhere", {"n": self.done.held_out})

    def sha256(self, before: str) -> str:
        """Of the data as it is learned."""
        if self.done is None or not self.done.used:
            return before
        told = sorted((line.place, line.mark, line.suggest, str(line.to)) for line in self.done.used)
        return hashlib.sha256(repr((before, told)).encode()).hexdigest()


def measured(recipe: Recipe) -> Recipe:
    """With a patch rows are held out for the test also where the labels are few: cross-validation would ask about rows
    that the patch has changed, or no longer about those it dropped."""
    return recipe if recipe.task.data.patch is None else with_test(recipe)


def with_test(recipe: Recipe) -> Recipe:
    """The same recipe, its test rows named as if the person had."""
    return recipe.with_data(test=recipe.task.data.test)


def check_measured(patched: Patched, test: Sequence[Row], *, by_folds: bool) -> None:
    """Raises RecipeError where quality would be measured by what the patch has changed."""
    if patched.done is not None and by_folds and not test:
        raise RecipeError([
            "data.patch: without test rows cross-validation says how good the result is, and it would ask about rows "
            "as the patch has them; hold rows out (data.test), or take the recipe as it stands (choose: none)"
        ])  # fmt: skip


def with_patch(recipe: Recipe, split: Split, say: Say, *, held: bool = True) -> Patched:
    """The rows are split as they would be without the patch, so that runs with and without it are asked about the same
    rows; then it changes those for training. `held` False: they are read when they are needed. Raises InputError."""
    data = recipe.task.data
    if data.patch is None:
        return Patched(split)
    if not held:
        raise RecipeError(["data.patch: goes with rows that are held; --set data.streaming=false holds them"])
    lines = read_patch(Path(data.patch))
    gone = [str(row.place) for row in split.leaked]
    done = apply(lines, split.train, [*split.validation, *split.test], gone, list(data.labels or ()))
    say(f"{data.patch}: {_told(lines, done)}")
    duplicates = len(done.train) - len(set(clusters([whole(example) for example in done.train])))
    return Patched(replace(split, train=done.train, duplicates=duplicates), done)


def _told(lines: Sequence[Line], done: Applied) -> str:
    told = f"{done.changed} training rows relabelled, {done.dropped} dropped"
    idle = len(lines) - len(done.used) - done.held_out
    told += f"; {idle} accepted lines name rows that are left out anyway" if idle else ""
    if done.held_out:
        told += (
            f"; {done.held_out} name rows that are held out, which stay as they are. The patch was made with another "
            "split, so it knew labels that this run is measured by: make it anew with this run's seed and shares"
        )
    return told
