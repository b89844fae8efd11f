"""The recipe: what a run is, with every default written once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuneful.adapters import ADAPTERS
from tuneful.core.device import PrecisionName
from tuneful.core.quantised import Kind
from tuneful.core.spec import Spec
from tuneful.data.augment import AUGMENTATIONS
from tuneful.data.balance import BALANCES
from tuneful.data.select import SELECTORS
from tuneful.engine.average import AVERAGES
from tuneful.engine.rules import GRADIENTS
from tuneful.engine.update import AdamW, Sum
from tuneful.evaluation.settings import Evaluate
from tuneful.objectives import OBJECTIVES
from tuneful.recipe.aliases import NOTHING
from tuneful.recipe.amounts import as_memory
from tuneful.recipe.gates import Gates
from tuneful.regularisers import REGULARISERS
from tuneful.repairs import REPAIRS
from tuneful.schedules import SCHEDULES
from tuneful.schedules.epochs import Epochs

LayoutName = Literal[
    "messages", "alpaca", "self_instruct", "prompt_completion", "text", "labelled", "labelled_pair",
    "preference", "kto", "rewards", "pairs",
]  # fmt: skip


def _several(component: Any) -> Any:
    """What may be written for a list of components."""
    return list[component] | component | Literal["none", "off", False] | None


def _listed(value: Any) -> Any:
    """One component is a list of one."""
    if value in NOTHING:
        return []
    return [value] if isinstance(value, str | dict) else value


class Source(Spec):
    """One of several sources."""

    path: str
    """File, folder or hub id; `path#500` takes a seeded sample of 500 rows."""
    weight: PositiveFloat = 1.0
    """How often its rows are seen an epoch: 2 = twice, 0.5 = every second one."""


class Data(Spec):
    """Where rows come from, what their columns mean, and what is held out."""

    source: str | list[Source]
    """File, folder with train.* (validation.*, test.*), hub id, or a list of them."""
    unlabelled: str | None = None
    """Texts without labels (file, folder or hub id), learned beside the rows as what they seem to be."""
    unlabelled_text: str | None = None
    """Column of the text in `unlabelled`. None: found as that of the rows."""
    teacher: str | None = None
    """A run, or a model with a class head, that labels the texts of `unlabelled`, or those of a source that has no
    labels at all, so that a smaller model learns what it knows."""
    generated: str | None = None
    """Rows that a model wrote (`tuneful synthesise`), labelled or with answers. Learned beside the others if these say
    that they help: few labels by cross-validation, answers by two short runs; never measured by."""
    patch: str | None = None
    """Suggestions of `tuneful check --coach --patch FILE`; those that are accepted change the rows that are learned,
    never one that is held out."""
    layout: LayoutName | None = None
    """None: found from the columns."""
    encoding: str = "utf-8"
    """Of text files."""
    messages: str | None = None
    """Column of the conversation."""
    prompt: str | None = None
    """Column of the request."""
    completion: str | None = None
    """Column of the answer."""
    text: str | None = None
    """Column of the text."""
    second: str | None = None
    """Column of the second text of a pair."""
    label: str | None = None
    """Column of the label."""
    query: str | None = None
    """Column of what is to find a document."""
    positive: str | None = None
    """Column of the document it is to find; with it the layout is `pairs`."""
    negative: str | None = None
    """Column of a document it is not to find, or of a list of them."""
    labels: list[str] | dict[str, str] | None = None
    """The classes, where some or all of them have no rows; a mapping describes each in a sentence. Texts without a
    label column are then told apart by the names alone."""
    prior: dict[str, PositiveFloat] | None = None
    """How often each class of `labels` comes, in any unit. None: not known."""
    group: str | None = None
    """Column of the sensitive group, for fairness."""
    mentions: list[str] | str | None = None
    """Where no column says whose rows they are: kinds of people (gender, religion, ...) whose mention in a text makes
    its group; `all` takes every kind."""
    cluster: str | None = None
    """Column whose equal values must stay on one side of a split (a person, a document)."""
    validation: NonNegativeFloat = 0.1
    """Rows held out to steer training when the source has none: a share below 1, else a number; 0 = none. Of classes
    instead of rows with objective prototype."""
    test: NonNegativeFloat = 0.15
    """Rows held out for the verdict when the source has none: a share below 1, else a number; 0 = none. Of classes
    instead of rows with objective prototype."""
    learn: Literal["answers", "all"] = "answers"
    """Which turns of a conversation are learned, where no turn says so itself."""
    select: SELECTORS.field | None = None  # type: ignore[name-defined]
    """Learn some of the training rows only, and which. None: all of them."""
    balance: BALANCES.field | None = None  # type: ignore[name-defined]
    """With classes of uneven size: how rare ones are made up for. None: not at all."""
    max_tokens: PositiveInt | None = None
    """Longest row. None: the model's limit, at most 2,048."""
    drop: bool = False
    """Start although more than 1 % of the rows cannot be used."""
    streaming: bool | Literal["auto"] = "auto"
    """Read rows from disk when an update needs them instead of holding them. auto: from 16 MB of JSONL, CSV, TSV,
    Parquet, Arrow or Feather on."""

    @field_validator("source", mode="before", json_schema_input_type=str | list[str | Source])
    @classmethod
    def _as_sources(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("labels", mode="after")
    @classmethod
    def _two_or_more(cls, labels: list[str] | dict[str, str] | None) -> list[str] | dict[str, str] | None:
        names = [str(name).strip() for name in labels or ()]
        if labels is not None and (len(set(names)) < len(names) or len(names) < 2 or not all(names)):
            raise ValueError(f"expected at least two names, all different and none empty; found {names}")
        return labels

    @model_validator(mode="after")
    def _prior_of_labels(self) -> Data:
        if self.prior is not None and set(self.prior) != set(self.labels or ()):
            odd = sorted(set(self.prior) ^ set(self.labels or ()))[0]
            raise ValueError(f"prior: '{odd}' is on one side only of `prior` and `labels`")
        return self

    @property
    def sources(self) -> list[Source]:
        return [Source(path=self.source)] if isinstance(self.source, str) else self.source

    @property
    def columns(self) -> dict[str, str]:
        """The columns the person named."""
        parts = ("messages", "prompt", "completion", "text", "second", "label", "query", "positive", "negative",
                 "group", "cluster")  # fmt: skip
        return {part: column for part in parts if (column := getattr(self, part)) is not None}


class Task(Spec):
    """Data and what is to be learned from it."""

    name: str = "main"
    """In records and reports."""
    data: Data
    objective: OBJECTIVES.field | None = None  # type: ignore[name-defined]
    """None: `classify` for labels, `retrieve` for queries and documents, `next_token` for text to write."""

    @field_validator("data", mode="before", json_schema_input_type=str | list[str | Source] | Data)
    @classmethod
    def _as_data(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str | list) else value


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


class Recipe(Spec):
    """One run. A bare string where a component is expected is its `kind`."""

    name: str | None = None
    """For the run folder and the report."""
    model: str | None = None
    """Hub id, folder, or embedded name. None: minilm-l6 to read (labels, queries and documents), smollm2-135m to
    write."""
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
    """One task; `data` and `objective` may also stand at the top level."""
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
    """What is learned next."""
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
        """`data` and `objective` at the top level are those of the only task."""
        if not isinstance(value, dict) or not value.keys() & {"data", "objective"}:
            return value
        rest = {key: item for key, item in value.items() if key not in ("data", "objective")}
        tasks = [dict(task) if isinstance(task, dict) else task for task in rest.get("tasks") or [{}]]
        for key in ("data", "objective"):
            if key in value and isinstance(tasks[0], dict):
                given = {"source": value[key]} if key == "data" and isinstance(value[key], str | list) else value[key]
                both = isinstance(given, dict) and isinstance(tasks[0].get(key), dict)
                tasks[0][key] = {**tasks[0][key], **given} if both else given
        return {**rest, "tasks": tasks}

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
    def _one_task(cls, tasks: list[Task]) -> list[Task]:
        if len(tasks) > 1:
            raise ValueError(f"the schedule 'epochs' learns one task, {len(tasks)} are given; make one recipe of each")
        return tasks

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

    @model_validator(mode="after")
    def _gates_are_asked(self) -> Recipe:
        probes = self.evaluate.bias
        asked = {"descriptors"} if probes == "auto" else {probe.kind for probe in probes}
        if odd := sorted(set(self.gates.bias_probe_increase) - asked):
            raise ValueError(f"gates.bias_probe_increase: '{odd[0]}' is no probe of evaluate.bias; add it there")
        return self

    @property
    def task(self) -> Task:
        return self.tasks[0]
