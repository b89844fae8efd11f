"""Objectives that tell classes apart which were never learned: what their data must be, and how they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Draws, Objective
from tuneful.core.types import Layout, Row, Said
from tuneful.data.episodes import by_class
from tuneful.data.labels import infer, name_of
from tuneful.data.splits import Split
from tuneful.recipe import Recipe
from tuneful.run.gather import Gathered
from tuneful.schedules import Episodes, Epochs

Say = Callable[[str], None]


def with_episodes(recipe: Recipe, objective: Objective, say: Say) -> Recipe:
    """The same with a schedule that draws by class where the objective asks for it. Raises RecipeError where schedule
    and objective do not go together."""
    schedule = recipe.schedule
    if objective.layout is not Layout.CLASSES:
        if isinstance(schedule, Draws):
            raise RecipeError(["schedule: 'episodes' draws several rows of each class, for objective=prototype; other "
                               "objectives learn by epochs"])  # fmt: skip
        return recipe
    if isinstance(schedule, Draws):
        return recipe
    if not isinstance(schedule, Epochs):
        raise RecipeError(["schedule: objective=prototype needs several rows of a class in each step; "
                           "use schedule=episodes"])  # fmt: skip
    say("several rows of each class in a step: schedule episodes")
    return recipe.model_copy(update={"schedule": Episodes(epochs=schedule.epochs, steps=schedule.steps)})


def check_classes(recipe: Recipe, gathered: Gathered) -> None:
    """Raises RecipeError for data from which classes cannot be drawn, and for settings that would do nothing."""
    data = recipe.task.data
    problems = {
        "data.streaming: classes are drawn from rows that are held; --set data.streaming=false": (
            gathered.sampled is not None
        ),
        "data.labels, data.prior: the classes here are those of the rows; leave them out": data.labels is not None,
        "data.unlabelled, data.generated, data.teacher: objective=prototype learns from rows with labels of their own; "
        "leave them out": bool(data.unlabelled or data.generated or data.teacher),
        "data.cluster: whole classes are held out, so rows of a cluster may lie on both sides; leave it out": (
            data.cluster is not None
        ),
        "data.source: classes are drawn alike however many rows they have, so a weight changes nothing; leave it out": (
            any(source.weight != 1 for source in data.sources)
        ),
        "data.label: a class is one label a row, and these are lists": (
            infer(gathered.examples.get("train", ())) == "labels"
        ),
    }
    if any(problems.values()):
        raise RecipeError([words for words, found in problems.items() if found])


def notes(split: Split, rows: Sequence[Row]) -> list[Said]:
    """What the X-ray says of the classes of each part, and of those that have nothing to be compared with."""
    counts = {part: len({name_of(example.label) for example in getattr(split, part)})
              for part in ("train", "validation", "test")}  # fmt: skip
    found = [Said("classes_apart", counts)]
    if single := counts["train"] - len(by_class(rows)):
        found.append(Said("single_rows", {"n": single}))
    return found
