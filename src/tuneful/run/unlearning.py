"""Which runs unlearn: those with the loss of rows that are to be forgotten, and such rows as their last task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tuneful.core.errors import DataError
from tuneful.core.types import FORGOTTEN, Example, Row
from tuneful.recipe import Recipe
from tuneful.regularisers import Forget
from tuneful.schedules import Lifelong

LISTED = 5  # rows that a message names


def forgets(recipe: Recipe) -> bool:
    """The run is there to unlearn rows, those of its last task."""
    return any(isinstance(part, Forget) for part in recipe.regularisers)


def against_unlearning(recipe: Recipe) -> Iterator[str]:
    """Rows that are called forgotten and would be learned, or the other way round."""
    last = len(recipe.tasks) - 1
    called = [number for number, task in enumerate(recipe.tasks) if task.name.startswith(FORGOTTEN)]
    if not forgets(recipe):
        for number in called:
            yield (f"tasks.{number}.name: '{FORGOTTEN}' is what rows are called that are unlearned (tuneful unlearn), "
                   "and without the regulariser forget these would be learned; take another name")  # fmt: skip
    elif called != [last] or recipe.start is None or not isinstance(recipe.schedule, Lifelong):
        yield ("regularisers: forget is of rows that a finished run has learned; leave it out, and have them unlearned "
               "with tuneful unlearn RUN ROWS")  # fmt: skip
    elif recipe.schedule.behind != last:
        yield "schedule.behind: all tasks but the one to be unlearned were learned before; leave it out"


def check_unlearned(recipe: Recipe, given: Mapping[str, Sequence[Example]], rows: Sequence[Row]) -> None:
    """Raises DataError where a row that is to be forgotten is not among those of which updates are made."""
    if not forgets(recipe):
        return
    name = recipe.tasks[-1].name
    there = {row.example.place for row in rows if row.counts}
    lost = [row for row in given["train"] if row.task == name and row.place not in there]
    if lost:
        raise refused(
            [f"row {row.place.row} of them: nothing of it can be learned, so nothing unlearned" for row in lost]
        )


def refused(faults: Sequence[str]) -> DataError:
    more = [f"  and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
    return DataError(
        f"{len(faults)} rows cannot be unlearned, so none are and nothing was changed; mend them or leave them out:\n"
        + "\n".join([*(f"  {fault}" for fault in faults[:LISTED]), *more])
    )
