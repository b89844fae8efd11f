"""Where the rows of a task come from, and what is to be learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from tuneful.core.spec import Spec
from tuneful.data.balance import BALANCES
from tuneful.data.select import SELECTORS
from tuneful.environments import ENVIRONMENTS
from tuneful.objectives import OBJECTIVES
from tuneful.recipe.aliases import NOTHING

LayoutName = Literal[
    "messages", "alpaca", "self_instruct", "prompt_completion", "text", "labelled", "labelled_pair",
    "preference", "kto", "rewards", "pairs",
]  # fmt: skip


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


OF_TASK = ("data", "objective", "environment")  # what may stand at the top level of a recipe
OWN = "environment"  # the source of rows that an environment makes itself; `#N` behind it says how many


class Task(Spec):
    """Data and what is to be learned from it."""

    name: str = ""
    """In records and reports. Where several are learned and nobody says: the name of the file."""
    data: Data
    objective: OBJECTIVES.field | None = None  # type: ignore[name-defined]
    """None: `classify` for labels, `retrieve` for queries and documents, `dpo` for pairs of a chosen and a rejected
    answer, `kto` for answers that are wanted or not, `grpo` where an environment judges, `next_token` for other text to
    write."""
    environment: ENVIRONMENTS.field | None = None  # type: ignore[name-defined]
    """What judges answers that the model writes itself, which it learns from with schedule rollouts. One that makes its
    own rows needs no data: 256 of them, or as many as data.source=environment#N says."""
    weight: PositiveFloat = 1.0
    """With schedule mixture: how often its rows are drawn, beside what their number makes of it."""
    labels: Literal["own", "shared"] | None = None
    """Labels that another task has too: `shared` if they mean the same there, `own` if they do not, and are then named
    after the task. None: shared where both tasks have the same labels, refused where they have some in common."""
    head: Literal["own", "shared"] = "shared"
    """With schedule mixture: `own` gives its labels a head of their own, so that they are told from one another alone;
    `shared` one head to all tasks with labels, which tells all of their labels apart."""

    @model_validator(mode="before")
    @classmethod
    def _makes_its_own(cls, value: Any) -> Any:
        """An environment may need no data."""
        if not isinstance(value, dict) or "environment" not in value:
            return value
        if value["environment"] in NOTHING:
            return {key: item for key, item in value.items() if key != "environment"}
        data = spelt_out("data", value.get("data", {}))
        open_still = isinstance(data, dict) and "source" not in data
        return {**value, "data": {**data, "source": OWN}} if open_still else value

    @field_validator("data", mode="before", json_schema_input_type=str | list[str | Source] | Data)
    @classmethod
    def _as_data(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str | list) else value


def stem(source: str) -> str:
    """The name of a file or folder, without what `#` and the first dot begin."""
    return Path(source.split("#")[0]).name.split(".")[0]


def spelt_out(key: str, value: Any) -> Any:
    """A source by itself is data."""
    return {"source": value} if key == "data" and isinstance(value, str | list) else value


def with_given(task: Any, given: Mapping[str, Any]) -> Any:
    """A task as it was written, with what stands at the top level."""
    if not isinstance(task, dict):
        return task
    task = {key: spelt_out(key, value) for key, value in task.items()}
    for key, value in given.items():
        both = isinstance(value, dict) and isinstance(task.get(key), dict)
        task[key] = {**task[key], **value} if both else value
    return task
