"""Are the labels few, so that how they are learned is chosen by trying?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tuneful.adapters import Head, Lora, TopLayers
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Example
from tuneful.data.formats import Format
from tuneful.data.labels import LabelSet, infer, name_of
from tuneful.models.unlabelled import MOST as MOST_TEXTS
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.schedules import SelfTrain

Say = Callable[[str], None]
MOST = 20_000_000  # rows times classes; beyond, a head over all of them is not solved in minutes
LEFT_OPEN = frozenset((
    "adapter", "schedule", "regularisers", "augment", "average", "soup", "gradient", "interpolate", "sharded",
    "quantise",
))  # fmt: skip
"""None of which the person has named."""


def chooses(recipe: Recipe, train: Sequence[Example], folder: Path, labelled: bool) -> bool:
    """Whether the way is chosen by cross-validation. Raises RecipeError where that is asked for and cannot be."""
    asked = recipe.choose.enabled
    if asked is False or len(recipe.tasks) > 1:
        return False
    if not labelled and asked is True and recipe.task.data.generated is not None:
        return False  # of these a model that writes tries whether they help
    if (against := _against(recipe, train, labelled)) is not None:
        if asked is True:
            raise RecipeError([f"choose: {against}"])
        return False
    if asked is True:
        return True
    named = {name for name in recipe.model_fields_set & LEFT_OPEN if getattr(recipe, name) != []}
    given = named or recipe.task.objective is not None
    given = given or recipe.task.data.select is not None  # who leaves rows out is not short of them
    return not given and shots(train) <= recipe.choose.few and not writes(folder)


def _against(recipe: Recipe, train: Sequence[Example], labelled: bool) -> str | None:
    """Why ways cannot be tried here."""
    data = recipe.task.data
    if data.balance is not None:
        return "the ways that are tried learn rows as they are; leave data.balance or choose out"
    if recipe.repair:
        return "ways of learning are compared before anything is repaired; leave repair or choose out"
    if isinstance(recipe.schedule, SelfTrain):
        return "'selftrain' is none of the ways that are tried; leave schedule or choose out"
    if data.teacher is not None:  # it may have seen the labels, so asking about them would prove nothing
        return "a teacher knows the labels that the ways would be asked about; leave one out"
    if not labelled or train[0].second is not None or infer(train) != "class":
        return (
            "the ways there are learn one label a text, or weigh data.generated for a model that writes; "
            "leave choose out"
        )
    if len(train) < 2:
        return "one row cannot be asked about by what learned from others; leave choose out"
    classes = len(data.labels or {name_of(example.label) for example in train})
    if classes * len(train) > MOST:
        return (
            f"{classes:,} classes of {len(train):,} rows are too many to solve heads for again and again; "
            "leave choose out"
        )
    return "ways are tried on whole weights; leave sharded or choose out" if recipe.sharded else None


def against_choosing(recipe: Recipe) -> list[str]:
    """Settings of a recipe that are refused where ways are tried."""
    data = recipe.task.data
    given = {
        "data.select": data.select, "data.balance": data.balance, "augment": recipe.augment, "soup": recipe.soup,
        "interpolate": recipe.interpolate, "sharded": recipe.sharded, "repair": recipe.repair,
        "data.teacher": data.teacher,
        "schedule": isinstance(recipe.schedule, SelfTrain), "adapter": isinstance(recipe.adapter, Head | Lora),
    }  # fmt: skip
    return [name for name, value in given.items() if value]


def to_be_chosen(recipe: Recipe, layers: int, train: Sequence[Example], say: Say) -> tuple[Recipe, Objective]:
    """The recipe of which variants are tried, and what is held out: every label is needed to learn from, and
    cross-validation says how good the result is, so nothing unless the person says so. The upper half of the layers
    learns: as good as all of them with few labels, and twice as fast (docs/log.md)."""
    say(
        f"few labels, {shots(train):g} in the median class: how they are learned is chosen by cross-validation inside "
        "them (--set choose=none changes that)"
    )
    objective = Classify(pooling="mean")
    _check_adapters(recipe)
    adapter = recipe.adapter or TopLayers(layers=max(1, layers // 2))
    data = recipe.task.data
    unsaid = {part: 0.0 for part in ("validation", "test") if part not in data.model_fields_set}
    recipe = recipe.with_data(**unsaid).with_task(objective=objective)
    choose = recipe.choose.model_copy(update={"enabled": True})
    recipe = recipe.model_copy(update={"adapter": adapter, "choose": choose})
    return recipe, objective


def _check_adapters(recipe: Recipe) -> None:
    if isinstance(recipe.adapter, Head):
        raise RecipeError(["adapter: a solved head is tried anyway; leave adapter out, or --set choose=none"])
    for number, adapter in enumerate(recipe.choose.adapters):
        if adapter.freezes or isinstance(adapter, Head):
            raise RecipeError([
                f"choose.adapters.{number}: a solved head is tried anyway, and an adapter of frozen weights cannot "
                "hold a head over means; name full or top_layers"
            ])  # fmt: skip


def data_has_names_only(recipe: Recipe, form: Format) -> bool:
    """Texts without labels, and the names of the classes they are to be told apart by."""
    return recipe.task.data.labels is not None and form.name == "text"


def check_used(
    recipe: Recipe, *, choosing: bool, names_only: bool, taught: bool, streams: bool, writes: bool, pooled: bool
) -> None:
    """Raises RecipeError for texts without labels, a teacher or a prior that nothing here would make use of."""
    data, problems = recipe.task.data, []
    used = choosing or names_only or pooled or isinstance(recipe.schedule, SelfTrain) or data.teacher is not None
    if data.unlabelled is not None and writes:
        problems.append("data.unlabelled: texts without labels go with labels, one a row; a model that writes has none")
    elif data.unlabelled is not None and not used:
        problems.append(
            "data.unlabelled: nothing here learns from texts without labels; --set schedule=selftrain does, or "
            f"--set objective.pooling=mean beside up to {MOST_TEXTS:,} single texts with labels, and "
            "--set choose.enabled=true asks whether it helps"
        )
    if data.teacher is not None and data.unlabelled is None and not taught:
        problems.append("data.teacher: there is no text for it to label; name some: data.unlabelled")
    if streams and (data.generated is not None or data.unlabelled is not None):
        problems.append("data.generated, data.unlabelled: go with rows that are held; --set data.streaming=false")
    asks = data.generated is not None and recipe.choose.enabled is not False
    if asks and writes and recipe.sharded:
        problems.append(
            "data.generated: whether generated rows help is tried on whole weights; leave sharded out, or learn them "
            "unasked with choose=none"
        )
    if asks and not writes and not choosing:
        problems.append(
            "data.generated: generated rows are weighed by cross-validation over few labels; --set choose.enabled=true "
            "asks for that, and choose=none learns them unasked"
        )
    if recipe.choose.adapters and writes:
        problems.append("choose.adapters: is for labels; a model that writes is tuned by its adapter. Leave it out")
    elif recipe.choose.adapters and not choosing:
        problems.append(
            "choose.adapters: nothing is chosen here; where a text has one label, --set choose.enabled=true does that"
        )
    if data.prior is not None and not names_only:
        problems.append("data.prior: is for classes known by name alone; labelled rows say how often each comes")
    if problems:
        raise RecipeError(problems)


def by_name(recipe: Recipe) -> Recipe:
    """The same recipe for classes of which only the names are known: nothing learns but the head."""
    if recipe.task.objective is not None or recipe.adapter is not None:
        raise RecipeError([
            "data.labels: there are texts without labels and names of classes, and a head that is placed by the names; "
            "leave objective and adapter out, or give labelled rows"
        ])  # fmt: skip
    recipe = recipe.with_task(objective=Classify(pooling="mean", label_names=True))
    return recipe.model_copy(update={"adapter": Head()})


def describable(labels: LabelSet) -> LabelSet:
    """Raises DataError where a class cannot be put in words, which is all there is to know it by."""
    if silent := [name for number, name in enumerate(labels.names) if labels.words(number) is None]:
        raise DataError(
            f"the label '{silent[0]}' holds no word, so a text cannot be compared with it; name it in words, "
            f'or describe it in a recipe: data: {{labels: {{"{silent[0]}": "what it means"}}}}'
        )
    return labels


def shots(train: Sequence[Example]) -> float:
    """Rows of the median class."""
    return float(np.median(list(Counter(name_of(example.label) for example in train).values())))


def writes(folder: Path) -> bool:
    """A checkpoint of a decoder says so in its config."""
    file = folder / "config.json"
    if folder.is_file() or not file.exists():
        return True
    names = json.loads(file.read_text(encoding="utf-8")).get("architectures") or ()
    return any(str(name).endswith(("CausalLM", "LMHeadModel")) for name in names)
