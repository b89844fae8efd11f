"""Tasks that differ in kind (another objective, or a head of their own) as recipes of one kind each, to be learned over
one body in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tuneful.adapters import Full, Lora
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Adapter, WeighsTasks
from tuneful.core.types import Layout
from tuneful.engine.update import Sum
from tuneful.evaluation.settings import Evaluate
from tuneful.models.load import locate
from tuneful.recipe import Recipe, Task
from tuneful.recipe.gates import Gates
from tuneful.recipe.model import Choose
from tuneful.run.embedded import READER, WRITER
from tuneful.run.few import writes
from tuneful.run.gather import gather
from tuneful.run.objective import reads
from tuneful.run.regularised import comparing
from tuneful.run.tasks import OF_ALL, against_affinity
from tuneful.schedules import Epochs, Mixture

Say = Callable[[str], None]
ALL = "all"
OF_ONE_KIND = ("soup", "interpolate", "repair", "sharded")  # of a recipe, what looks at one whole model


def kinds_of(recipe: Recipe) -> dict[str, Recipe]:
    """A recipe of each kind of task, by the names of its tasks; empty where all are of one kind. Raises RecipeError for
    what several kinds cannot have."""
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for task in recipe.tasks:
        groups.setdefault(_kind(task), []).append(task)
    if len(groups) < 2 or not isinstance(recipe.schedule, Mixture):
        return {}
    if problems := list(_problems(recipe)):
        raise RecipeError(problems)
    return {"+".join(task.name for task in tasks): _of(recipe, recipe.schedule, tasks) for tasks in groups.values()}


def _kind(task: Task) -> tuple[Any, ...]:
    """What is alike of tasks that share an objective and a head."""
    alone = task.name if task.head == "own" else ""
    objective = None if task.objective is None else task.objective.model_dump_json()
    return (alone, objective, *(repr(getattr(task.data, name)) for name in OF_ALL))


def _problems(recipe: Recipe) -> Iterator[str]:
    for name in OF_ONE_KIND:
        if getattr(recipe, name):
            yield f"{name}: is about one model, and tasks of several kinds are learned here; leave it out"
    for number, task in enumerate(recipe.tasks):
        if task.name == ALL:
            yield f"tasks.{number}.name: '{ALL}' is what an update of several tasks is called; take another name"
    for part in comparing(recipe):
        if part.by_label:
            yield f"regularisers: {part.kind} compares groups of one class, and kinds of task have classes of their own"
    if getattr(recipe.adapter, "each_task", False):
        yield "adapter.each_task: is for tasks of one kind, and these are of several; leave it out"
    if recipe.choose.enabled is True:
        yield "choose: a way of learning few labels is chosen for one task; leave it out"
    yield from against_affinity(recipe)


def _of(recipe: Recipe, schedule: Mixture, tasks: Sequence[Task]) -> Recipe:
    """What is about all tasks together is the whole run's: gradients, weights, and how many updates it makes."""
    name = "+".join(task.name for task in tasks)
    learned = schedule.model_copy(update={"steps": None}) if len(tasks) > 1 else Epochs(epochs=schedule.epochs)
    return recipe.model_copy(update={
        "gates": _gates(recipe, tasks), "evaluate": _measured(recipe, tasks),
        "name": f"{recipe.name}: {name}" if recipe.name else name,
        "tasks": list(tasks), "schedule": learned, "gradient": Sum(), "choose": Choose(enabled=False),
        "regularisers": [part for part in recipe.regularisers if not isinstance(part, WeighsTasks)],
    })  # fmt: skip


def _gives(tasks: Sequence[Task]) -> str:
    """What comes out, as far as the objective says: "text", "labels", or "" where it does not."""
    layout = None if tasks[0].objective is None else tasks[0].objective.layout
    return "" if layout is None else "text" if layout.writes else "labels" if layout is Layout.LABELS else "vectors"


def _gates(recipe: Recipe, tasks: Sequence[Task]) -> Gates:
    """Those that this kind of task can be held to."""
    gives, gates = _gives(tasks), recipe.gates
    less: dict[str, Any] = {}
    if gives in ("text", "vectors"):
        less["bias_gap_increase"] = None
    if gives in ("labels", "vectors"):
        less["bias_probe_increase"] = {}
    return gates.model_copy(update=less)


def _measured(recipe: Recipe, tasks: Sequence[Task]) -> Evaluate:
    """What can be asked of this kind of task; which helps which is asked of all together."""
    asked = recipe.evaluate.model_copy(update={"affinity": False})
    return asked.model_copy(update={"canaries": 0, "bias": "auto"}) if _gives(tasks) in ("labels", "vectors") else asked


def weight_of(recipe: Recipe) -> float:
    """How often a kind's rows are drawn, beside what their number makes of it."""
    return recipe.task.weight if len(recipe.tasks) == 1 else 1.0


def on_one_body(kinds: Mapping[str, Recipe], say: Say) -> dict[str, Recipe]:
    """The same with one model and one adapter: a model that writes where any of them does, and low-rank updates under
    it. Raises InputError."""
    model = next(iter(kinds.values())).model
    if model is None:
        model = WRITER if any(map(_is_written, kinds.values())) else READER
        why = "one of the tasks writes" if model == WRITER else "none of the tasks writes"
        say(f"model {model}, because {why} (--model changes that)")
    adapter = next(iter(kinds.values())).adapter or _usual(model, next(iter(kinds.values())), say)
    return {name: kind.model_copy(update={"model": model, "adapter": adapter}) for name, kind in kinds.items()}


def _is_written(recipe: Recipe) -> bool:
    """By its objective, or by its data where nobody says."""
    if recipe.task.objective is not None:
        return bool(recipe.task.objective.layout.writes)
    found, gathered = gather(recipe, lambda _: None)
    return not reads(found, gathered.form)


def _usual(model: str, recipe: Recipe, say: Say) -> Adapter:
    folder = locate(model, say, trust_remote_code=recipe.trust_remote_code)
    return Lora() if recipe.quantise is not None or writes(folder) else Full()
