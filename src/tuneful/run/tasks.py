"""Several tasks as one set of examples, each of which says whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

from tuneful.adapters import Head
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import WeighsTasks
from tuneful.core.spec import kind_of
from tuneful.core.types import MEMORY, OWN_TEXT, Dropped, Example, Layout, Row
from tuneful.data.duplicates import said_in
from tuneful.data.formats import Format
from tuneful.data.labels import LabelSet, name_of
from tuneful.data.splits import split
from tuneful.engine.surgery import AGem, Surgery
from tuneful.recipe import Data, Recipe, Task
from tuneful.run.each import each_of
from tuneful.run.regularised import comparing
from tuneful.schedules import Lifelong, Mixture
from tuneful.schedules.mixture import shares_of

LABELLED = {"labelled", "labelled_pair"}
PARTS = ("train", "validation", "test")
# What is about the rows of one task, and has no meaning yet where several are learned.
OF_ONE = ("unlabelled", "teacher", "generated", "patch", "labels", "prior", "select", "balance")
OF_ALL = ("learn", "max_tokens", "drop", "mentions")  # what must be said alike of all


@dataclass(frozen=True, slots=True)
class Found:
    """What the sources of one task hold."""

    task: Task
    form: Format
    examples: dict[str, list[Example]]
    held_out: dict[str, float]
    weights: Mapping[str, float]  # of the rows of each file

    @property
    def labelled(self) -> bool:
        return self.form.name in LABELLED

    @property
    def labels(self) -> set[str]:
        return {name_of(example.label) for example in self.examples.get("train", ())} if self.labelled else set()


@dataclass(frozen=True, slots=True)
class Joined:
    """The rows of all tasks, split task by task."""

    form: Format
    examples: dict[str, list[Example]]
    weights: dict[str, float]
    leaked: list[Dropped]


def alone(recipe: Recipe, task: Task) -> Recipe:
    """A recipe of one of the tasks, whose rows are held."""
    data = task.data.model_copy(update={"streaming": False})
    return recipe.model_copy(update={"tasks": [task.model_copy(update={"data": data})]})


def check_tasks(recipe: Recipe) -> None:
    """Raises RecipeError for what several tasks cannot have, before any of their rows is read."""
    tasks, usual = recipe.tasks, Data(source="")
    problems = [
        f"tasks.{number}.data.{name}: is for a run of one task; leave it out"
        for number, task in enumerate(tasks)
        for name in OF_ONE
        if getattr(task.data, name) != getattr(usual, name)
    ]
    problems += [f"tasks.{number}.data.streaming: rows of several tasks are held; leave it out"
                 for number, task in enumerate(tasks) if task.data.streaming is True]  # fmt: skip
    problems += [f"tasks.{number}.name: '{task.name}' is what rows that come back are called; take another name"
                 for number, task in enumerate(tasks) if task.name in (MEMORY, OWN_TEXT)]  # fmt: skip
    problems += _unlike(tasks, "objective", [task.objective for task in tasks])
    for name in OF_ALL:
        problems += _unlike(tasks, f"data.{name}", [getattr(task.data, name) for task in tasks])
    if any(getattr(task.objective, "label_names", False) for task in tasks):
        problems.append("objective.label_names: names of classes are of no task; leave it out")
    if recipe.evaluate.canaries:
        problems.append("evaluate.canaries: planted sequences are of no task; leave them out")
    if recipe.choose.enabled is True:
        problems.append("choose: a way of learning few labels is chosen for one task; leave it out")
    if isinstance(recipe.schedule, Lifelong):
        problems += list(_against_turns(recipe))
    if problems:
        raise RecipeError(problems)


def _unlike(tasks: Sequence[Task], name: str, values: Sequence[Any]) -> list[str]:
    """Where two tasks say different things of what is one for all."""
    return [
        f"tasks.{number}.{name}: found {_shown(value)}, and {tasks[number - 1].name} has {_shown(before)}; this "
        "version learns several tasks by one objective and with the same data.learn, max_tokens, drop and mentions; "
        "say the same of all"
        for number, (before, value) in enumerate(pairwise(values), 1)
        if value != before
    ]  # fmt: skip


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(getattr(value, "kind", value))


def _against_turns(recipe: Recipe) -> Iterator[str]:
    """What looks at a whole run, where tasks are learned one after the other."""
    for name in ("average", "soup", "interpolate"):
        if getattr(recipe, name) is not None:
            yield f"{name}: is of a whole run, and the schedule 'lifelong' learns task after task; leave it out"
    if comparing(recipe):
        yield "regularisers: groups are compared within updates, which a schedule 'lifelong' does not fill for that"
    for number, task in enumerate(recipe.tasks):
        if task.weight != 1:
            yield f"tasks.{number}.weight: says how often a task is drawn with schedule mixture; leave it out"


def joined(recipe: Recipe, found: Sequence[Found]) -> Joined:
    """Raises RecipeError where labels of two tasks would be confused, DataError where rows do not suffice."""
    found = [_named(one, found) for one in found]
    known = recipe.schedule.behind if isinstance(recipe.schedule, Lifelong) else 0
    _check_labels(found, known)
    forms = [one.form for one in found]
    writes = next((form for form in forms if form.name not in LABELLED), None)  # labels are written out beside text
    examples: dict[str, list[Example]] = {part: [] for part in PARTS}
    leaked: list[Dropped] = []
    for number, one in enumerate(found):
        parts = split(one.examples, **one.held_out, seed=recipe.seed, labelled=one.labelled)
        leaked += parts.leaked
        kept = {said_in(example) for example in examples["train"]} if number >= known else set()
        for part in PARTS:
            own = [_of(one.task, example) for example in getattr(parts, part)]
            # A row that an earlier run kept stays, and is no question for the new task then.
            examples[part] += own if part == "train" else [row for row in own if said_in(row) not in kept]
    weights = {source: weight for one in found for source, weight in one.weights.items()}
    return Joined(writes or forms[0], examples, weights, leaked)


def _of(task: Task, example: Example) -> Example:
    return replace(example, task=task.name)


def _named(one: Found, found: Sequence[Found]) -> Found:
    """Labels that mean something else than the same ones of another task bear the name of theirs; so do files, where
    two tasks have some of one name."""
    taken = {source for other in found if other is not one for source in _sources(other)}
    names = {source: f"{one.task.name}/{source}" if source in taken else source for source in _sources(one)}

    def told(example: Example) -> Example:
        if one.task.labels == "own" and one.labelled:
            example = replace(example, label=f"{one.task.name}: {name_of(example.label)}")
        return replace(example, place=replace(example.place, source=names[example.place.source]))

    examples = {part: [told(example) for example in rows] for part, rows in one.examples.items()}
    weights = {names.get(source, source): weight for source, weight in one.weights.items()}
    return replace(one, examples=examples, weights=weights)


def _sources(one: Found) -> set[str]:
    return {example.place.source for rows in one.examples.values() for example in rows}


def _check_labels(found: Sequence[Found], known: int) -> None:
    """Those that were learned before went together then."""
    problems = []
    for (_, one), (number, other) in combinations([pair for pair in enumerate(found) if pair[1].labels], 2):
        common = one.labels & other.labels
        said = "shared" in (one.task.labels, other.task.labels) or number < known
        if common and one.labels != other.labels and not said:
            problems.append(
                f"tasks.{number}.labels: '{sorted(common)[0]}' is a label of {one.task.name} and of {other.task.name}, "
                f"which otherwise have different ones; --set tasks.{number}.labels=shared if it means the same, or =own"
            )
    if problems:
        raise RecipeError(problems)


def task_by_task(labels: LabelSet, examples: Sequence[Example]) -> LabelSet:
    """The same with the labels of the first task first. Raises RecipeError where they are no classes."""
    if labels.kind != "class":
        raise RecipeError([f"tasks: here a label is a {'number' if labels.kind == 'number' else 'list of several'}; "
                           "this version learns several tasks whose rows have one class each, or text"])  # fmt: skip
    home: dict[str, int] = {}
    places = {name: place for place, name in enumerate(dict.fromkeys(example.task for example in examples))}
    for example in examples:
        name = name_of(example.label)
        home[name] = min(home.get(name, len(places)), places[example.task])
    return replace(labels, names=tuple(sorted(labels.names, key=lambda name: home[name])))  # sorted() keeps the rest


def check_gradient(recipe: Recipe) -> None:
    """Raises RecipeError where a rule for the gradients of several tasks would be a plain sum."""
    rule = recipe.gradient
    if isinstance(rule, Surgery) and len(recipe.tasks) < 2:
        raise RecipeError([f"gradient: {kind_of(type(rule))} joins the gradients of several tasks, and this run learns "
                           "one; leave it out"])  # fmt: skip
    turns = recipe.schedule if isinstance(recipe.schedule, Lifelong) else None
    if isinstance(rule, AGem) and not (turns is not None and turns.replay and turns.mixed):
        raise RecipeError(["gradient: a_gem protects rows that come back, and none do here; take schedule lifelong "
                           "with a share of replay and of mixed, or leave it out"])  # fmt: skip


def asks_affinity(recipe: Recipe) -> bool:
    """Which task helps which is measured."""
    return recipe.evaluate.affinity and recipe.evaluate.enabled


def against_affinity(recipe: Recipe) -> Iterator[str]:
    """What stands against it in a recipe, before any row is read."""
    if not asks_affinity(recipe):
        return
    problems = {
        "under adapter head nothing learns below the head, where tasks meet": isinstance(recipe.adapter, Head),
        "tasks with adapters of their own share nothing that one could change for another": bool(each_of(recipe)),
        "takes each weight a step further and back, and sharded spreads these over ranks": recipe.sharded,
        "says which of several tasks help one another, and this run learns one": len(recipe.tasks) < 2,
        "is about tasks that are learned together; of tasks in turn the report has forgetting.transfer": (
            len(recipe.tasks) > 1 and not isinstance(recipe.schedule, Mixture)
        ),
        "draws rows by lot, and there are some that are told apart by rows of their class": any(
            task.objective is not None and task.objective.layout is Layout.CLASSES for task in recipe.tasks
        ),
    }
    yield from (f"evaluate.affinity: {why}; leave it out" for why, found in problems.items() if found)


def settled(recipe: Recipe) -> Recipe:
    """Where a gradient rule or a regulariser tells tasks apart, so does a mixture; where tasks come in turn, nothing
    looks at rows for validation, and none are held out if nobody says."""
    tells = isinstance(recipe.gradient, Surgery) or any(isinstance(part, WeighsTasks) for part in recipe.regularisers)
    if tells and isinstance(recipe.schedule, Mixture):
        return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"apart": True})})
    if not isinstance(recipe.schedule, Lifelong):
        return recipe
    tasks = [
        task if "validation" in task.data.model_fields_set
        else task.model_copy(update={"data": task.data.model_copy(update={"validation": 0.0})})
        for task in recipe.tasks
    ]  # fmt: skip
    return recipe.model_copy(update={"tasks": tasks})


def reads_apart(recipe: Recipe) -> bool:
    """Rows of two tasks are never in one batch."""
    apart = isinstance(recipe.schedule, Mixture) and recipe.schedule.apart
    return len(recipe.tasks) > 1 and (apart or isinstance(recipe.schedule, Lifelong))


def tasks_of(recipe: Recipe) -> list[str]:
    """What batches may be of."""
    if each := each_of(recipe):
        return [recipe.about, *each]
    if not reads_apart(recipe):
        return [recipe.about]
    back = [MEMORY, OWN_TEXT] if isinstance(recipe.schedule, Lifelong) else []
    return [*(task.name for task in recipe.tasks), *back]


def counted(recipe: Recipe, parts: Mapping[str, Sequence[Row]], learned: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of each task its rows in each part, and its share of the rows that updates draw, or its place in the order; empty
    for one task. `learned` are the training rows as they are repeated."""
    if len(recipe.tasks) < 2:
        return {}
    mixed = isinstance(recipe.schedule, Mixture)
    drawn = [row for row in learned if row.counts] if each_of(recipe) else recipe.schedule.learns(learned)
    shares = shares_of(drawn) if mixed else {}
    return {
        task.name: {
            **{part: sum(row.example.task == task.name for row in rows) for part, rows in parts.items()},
            **({"share": round(shares.get(task.name, 0.0), 3)} if mixed else {"turn": number}),
        }
        for number, task in enumerate(recipe.tasks, 1)
    }


def sha256_of(parts: Sequence[str]) -> str:
    """Of the data of all tasks."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()
