"""The recipe: what a run is, with every default written once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuneful.adapters import ADAPTERS
from tuneful.core.device import PrecisionName
from tuneful.core.protocols import LearnsTasks
from tuneful.core.quantised import Kind
from tuneful.core.spec import Spec
from tuneful.data.augment import AUGMENTATIONS
from tuneful.engine.average import AVERAGES
from tuneful.engine.rules import GRADIENTS
from tuneful.engine.update import AdamW, Sum
from tuneful.evaluation.settings import Evaluate
from tuneful.recipe.aliases import NOTHING
from tuneful.recipe.amounts import as_memory
from tuneful.recipe.gates import Gates
from tuneful.recipe.task import OF_TASK, Task, spelt_out, stem, with_given
from tuneful.regularisers import REGULARISERS
from tuneful.repairs import REPAIRS
from tuneful.schedules import SCHEDULES
from tuneful.schedules.epochs import Epochs


def _several(component: Any) -> Any:
    """What may be written for a list of components."""
    return list[component] | component | Literal["none", "off", False] | None


def _listed(value: Any) -> Any:
    """One component is a list of one."""
    if value in NOTHING:
        return []
    return [value] if isinstance(value, str | dict) else value


class Choose(Spec):
    """With few labels the way of learning is chosen, by cross-validation inside the training rows; whether a model that
    writes learns generated rows is tried too. `choose: none` takes the recipe as it stands."""

    enabled: bool | Literal["auto"] = "auto"
    """auto: with few labels of an encoder, where neither objective, adapter nor schedule is given."""
    few: PositiveInt = 20
    """Rows of the median class up to which labels are few."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Parts the rows are dealt to, each asked about by what has learned from the others. None: 3, or 2 where there are
    more than 400 rows."""
    adapters: list[ADAPTERS.field] = Field(default_factory=list)  # type: ignore[name-defined]
    """What else the encoder is tuned by, each tried as the first is, the upper half of its layers: [full]."""


class Checkpoint(Spec):
    """Saving on the way, so that a run that was stopped goes on."""

    every: PositiveInt | None = None
    """Updates between checkpoints. None: with each look at the validation rows."""
    keep: PositiveInt = 2
    """Newest checkpoints that stay."""


class Save(Spec):
    """What a run leaves beside the adapter."""

    merged: bool = False
    """Also write `model/`: base and adapter in one, in float32."""
    memory: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of each task's training rows that stays in the run folder, 1,000 at most, with 200 test rows, so that
    `tuneful learn` can teach the model more without losing what it knows. 0: nothing is kept."""


class Recipe(Spec):
    """One run. A bare string where a component is expected is its `kind`."""

    name: str | None = None
    """For the run folder and the report."""
    model: str | None = None
    """Hub id, folder, or embedded name. None: minilm-l6 to read (labels, queries and documents), smollm2-135m to
    write."""
    start: str | None = None
    """A finished run of the same model whose weights this one goes on from; `tuneful learn` fills it in."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    precision: PrecisionName = "auto"
    """What products are computed in. auto: the faster on this machine, measured."""
    memory: Annotated[str, AfterValidator(as_memory)] | None = None
    """The most memory to plan for, for example 4GB: fewer tokens are computed at once, and then layers twice, until the
    run fits. None: nine tenths of what the machine has free."""
    sharded: bool = False
    """Several processes keep a share of every weight each, for models that do not fit one device; slower."""
    quantise: Kind | None = None
    """Frozen layers in int8 (a byte a weight) or nf4 (half a byte, QLoRA; needs tuneful[nf4]), under `lora`."""
    adapter: ADAPTERS.field | None = None  # type: ignore[name-defined]
    """None: `lora` for text to write and over quantised layers, `full` for labels."""
    tasks: list[Task] = Field(min_length=1)
    """What is learned. Of one task `data` and `objective` may also stand at the top level; several are learned at once
    (schedule mixture) or one after the other (schedule lifelong)."""
    regularisers: list[REGULARISERS.field] = Field(default_factory=list)  # type: ignore[name-defined]
    """What joins the loss, or disturbs what is learned. With up to 500 labelled texts a recipe that names no
    regulariser, average, soup, gradient, interpolate or layer_decay gets label smoothing, an average and a layer_decay,
    which were measured to help (docs/concepts/regularisation.md); `none` keeps them away."""
    augment: list[AUGMENTATIONS.field] = Field(default_factory=list)  # type: ignore[name-defined]
    """How training rows are said otherwise at some of their visits, one after the other; never what is learned of them,
    nor rows that are held out."""
    choose: Choose = Choose()
    """With few labels, how they are learned."""
    schedule: SCHEDULES.field = Epochs()  # type: ignore[name-defined]
    """What is learned next. Of several tasks: mixture, if nobody says."""
    optimiser: AdamW = AdamW()
    """From gradients to new weights."""
    gradient: GRADIENTS.field = Sum()  # type: ignore[name-defined]
    """How the gradient of an update is found."""
    average: AVERAGES.field | None = None  # type: ignore[name-defined]
    """Of the weights of many updates, which is then what is measured and saved. None: the last weights."""
    soup: Annotated[int, Field(ge=2, le=20)] | None = None
    """So many runs from one start, which differ by the order of rows and by dropout, and their mean: of those that do
    not make it worse on the validation rows, of all where these are not looked at. It costs so many runs. None: one."""
    interpolate: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] | None = None
    """After training, goes back from the tuned weights towards those before: the share of the way that is kept, a new
    head left as it is. auto: the share that does best on the validation rows. None: all of it."""
    repair: list[REPAIRS.field] = Field(default_factory=list)  # type: ignore[name-defined]
    """What is done to a trained classifier, before it is measured and saved, that does not treat groups alike."""
    evaluate: Evaluate = Evaluate()
    """What is measured."""
    checkpoint: Checkpoint = Checkpoint()
    """Saving on the way."""
    save: Save = Save()
    """What is left at the end."""
    gates: Gates = Gates()
    """What must hold at the end."""
    seed: NonNegativeInt = 0
    """Of splits, order, dropout and new weights."""

    @model_validator(mode="before")
    @classmethod
    def _lift_task(cls, value: Any) -> Any:
        """What is of a task, at the top level, is that of the only task, or of every one."""
        if not isinstance(value, dict) or not value.keys() & set(OF_TASK):
            return value
        rest = {key: item for key, item in value.items() if key not in OF_TASK}
        given = {key: spelt_out(key, value[key]) for key in OF_TASK if key in value}
        tasks = rest.get("tasks") or [{}]
        if len(tasks) > 1 and "source" in (given.get("data") or {}):
            raise ValueError(
                f"data.source: {len(tasks)} tasks are given, each with a source of its own; leave this out"
            )
        return {**rest, "tasks": [with_given(task, given) for task in tasks]}

    @field_validator("evaluate", mode="before", json_schema_input_type=Evaluate | Literal["none", "off", False] | None)
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return {"enabled": False} if value in NOTHING else value

    @field_validator("choose", mode="before", json_schema_input_type=Choose | Literal["none", "off", False] | None)
    @classmethod
    def _as_it_stands(cls, value: Any) -> Any:
        return {"enabled": False} if value in NOTHING else value

    @field_validator("tasks")
    @classmethod
    def _named_apart(cls, tasks: list[Task]) -> list[Task]:
        if len(tasks) < 2:
            return tasks
        named = [task if task.name else task.model_copy(update={"name": stem(task.data.sources[0].path)})
                 for task in tasks]  # fmt: skip
        names = [task.name for task in named]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two tasks are called '{twice}'; give each a name of its own")
        return named

    @field_validator("regularisers", mode="before", json_schema_input_type=_several(REGULARISERS.field))
    @classmethod
    def _as_regularisers(cls, value: Any) -> Any:
        return _listed(value)

    @field_validator("augment", mode="before", json_schema_input_type=_several(AUGMENTATIONS.field))
    @classmethod
    def _as_augmentations(cls, value: Any) -> Any:
        return _listed(value)

    @field_validator("repair", mode="before", json_schema_input_type=_several(REPAIRS.field))
    @classmethod
    def _as_repairs(cls, value: Any) -> Any:
        return _listed(value)

    @field_validator("quantise", mode="before", json_schema_input_type=Kind | Literal["none", "off", False] | None)
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return None if value in NOTHING else value

    @field_validator("adapter")
    @classmethod
    def _frozen(cls, adapter: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("quantise")
        if kind is None or adapter is None or (adapter.freezes and not getattr(adapter, "dora", False)):
            return adapter
        why = "dora measures whole weights" if adapter.freezes else f"'{adapter.kind}' tunes the weights themselves"
        raise ValueError(f"{why}, and quantise: {kind} keeps them frozen; use plain lora, or leave quantise out")

    @model_validator(mode="before")
    @classmethod
    def _mixed(cls, value: Any) -> Any:
        """Several tasks are learned at once if nobody says otherwise."""
        several = isinstance(value, dict) and isinstance(value.get("tasks"), list) and len(value["tasks"]) > 1
        if not several:
            return value
        schedule = value.get("schedule", {})
        open_still = isinstance(schedule, dict) and "kind" not in schedule
        return {**value, "schedule": {**schedule, "kind": "mixture"}} if open_still else value

    @model_validator(mode="before")
    @classmethod
    def _tried(cls, value: Any) -> Any:
        """Where an environment judges, the model learns from its own answers if nobody says otherwise."""
        if not isinstance(value, dict):
            return value
        tasks, schedule = value.get("tasks"), value.get("schedule", {})
        first = tasks[0] if isinstance(tasks, list) and len(tasks) == 1 and isinstance(tasks[0], dict) else {}
        tried = {**first, **value}.get("environment") not in NOTHING
        open_still = isinstance(schedule, dict) and "kind" not in schedule
        return {**value, "schedule": {**schedule, "kind": "rollouts"}} if tried and open_still else value

    @model_validator(mode="after")
    def _tasks_suit_the_schedule(self) -> Recipe:
        kind, count = self.schedule.kind, len(self.tasks)
        if count > 1 and not isinstance(self.schedule, LearnsTasks):
            raise ValueError(f"tasks: the schedule '{kind}' learns one task, {count} are given; take 'mixture' for all "
                             "at once or 'lifelong' for one after the other, or make one recipe of each")  # fmt: skip
        if count == 1 and isinstance(self.schedule, LearnsTasks):
            raise ValueError(f"tasks: the schedule '{kind}' learns several tasks, and one is given; name more of them, "
                             "or leave schedule out")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _gates_are_asked(self) -> Recipe:
        probes = self.evaluate.bias
        asked = {"descriptors"} if probes == "auto" else {probe.kind for probe in probes}
        if odd := sorted(set(self.gates.bias_probe_increase) - asked):
            raise ValueError(f"gates.bias_probe_increase: '{odd[0]}' is no probe of evaluate.bias; add it there")
        return self

    @property
    def task(self) -> Task:
        """The only one, or the first, whose settings are those of all where the tasks are learned together."""
        return self.tasks[0]

    @property
    def about(self) -> str:
        """What records are about."""
        return self.task.name or "main" if len(self.tasks) == 1 else "all"

    def with_task(self, **changes: Any) -> Recipe:
        """The same with changes of its first task."""
        return self.model_copy(update={"tasks": [self.task.model_copy(update=changes), *self.tasks[1:]]})

    def with_data(self, **changes: Any) -> Recipe:
        """The same with changes of the data of its first task."""
        return self.with_task(data=self.task.data.model_copy(update=changes))
