"""`tuneful merge`: finished runs of one base model become one run, which is measured as they were, and beside them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from tuneful.adapters import Lora
from tuneful.adapters.merging import DENSITY, THINNING, WAYS, Way, merged_head, merged_model, merged_updates
from tuneful.adapters.merging import usual_weights as usual
from tuneful.adapters.weights import head_names
from tuneful.core.device import prepare_process, seed_everything, world
from tuneful.core.errors import InputError, RunFolderError
from tuneful.core.files import new_folder, write_text
from tuneful.core.policy import Policy
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Said
from tuneful.data.labels import LabelSet
from tuneful.data.written import write_examples
from tuneful.evaluation.compare import Examined
from tuneful.models.load import load
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.added import saved_lora
from tuneful.run.build import Built, build_on, build_policy
from tuneful.run.finish import finish
from tuneful.run.folder import RunFolder
from tuneful.run.lock import write_lock
from tuneful.run.measured import Heard, beside, hear
from tuneful.run.parents import (
    OF_ROWS,
    Lesson,
    Parent,
    check_base,
    check_labels,
    lessons_of,
    parents_of,
    told_apart,
)
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.progress import Progress
from tuneful.run.start import places

Say = Callable[[str], None]
ALIKE = ("model", "quantise", "precision", "trust_remote_code", "save", "seed")  # as in the first run
UNMEASURED = {"learning_curve": False, "canaries": 0, "every": None}  # what is of training


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person said of how; None is for what usually is."""

    how: str = "linear"
    weights: Sequence[float] | None = None
    density: float | None = None
    seed: int = 0
    labels: str | None = None  # "shared": equal names mean the same


def merge_runs(
    paths: Sequence[Path],
    out: Path,
    asked: Asked,
    *,
    language: str = "en",
    command: str = "",
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """The report of the run that `out` then holds; a kill leaves no run there. Raises InputError before anything is
    written where these runs cannot be one."""
    if world() > 1:
        raise RunFolderError("merge takes one process; leave torchrun out")
    way = way_of(asked, len(paths))
    parents = parents_of(paths)
    check_labels(parents, asked.labels)
    _check_svd(way, parents)
    check_base(parents)
    target = RunFolder(out)
    _refuse_taken(target)
    with target.claimed(), tempfile.TemporaryDirectory() as place:
        _refuse_taken(target)
        lessons = told_apart([(parent, lessons_of(parent, say)) for parent in parents])
        prepared, recipe = _prepared(parents, lessons, way, Path(place))
        with new_folder(out) as scratch:
            folder = RunFolder(scratch)
            built, progress, heard = _merged(prepared, parents, way, say)
            facts = _facts(parents, way)

            def measured(built: Built, examined: Examined | None) -> dict[str, Any]:
                return {"merged": {**facts, "tasks": beside(built, examined, heard)}}

            report = finish(built, folder, progress, language=language, say=say, measured=measured)
            write_lock(built, folder, command)
            folder.write_json(folder.lock, {**folder.read_json(folder.lock), "merged": facts})
            given = recipe.model_dump(mode="json", exclude_unset=True)
            write_text(folder.recipe, yaml.safe_dump(given, allow_unicode=True, sort_keys=False))
    return report


def _facts(parents: Sequence[Parent], way: Way) -> dict[str, Any]:
    """What was merged, and how."""
    runs = {parent.name: str(parent.path) for parent in parents}
    return {"how": way.how, "weights": list(way.weights), "density": way.density, "seed": way.seed, "runs": runs}


def way_of(asked: Asked, runs: int) -> Way:
    """Raises InputError with what cannot be."""
    if asked.how not in WAYS:
        raise InputError(f"--how: there is no way '{asked.how}'.{did_you_mean(asked.how, WAYS)} "
                         f"Known: {', '.join(WAYS)}")  # fmt: skip
    weights = usual(asked.how, runs) if asked.weights is None else tuple(asked.weights)
    if len(weights) != runs or not all(0 < weight < float("inf") for weight in weights):
        raise InputError(f"--weights: found {', '.join(map(str, weights))}, expected a number above zero for each of "
                         f"the {runs} runs, such as {','.join(['1'] * runs)}")  # fmt: skip
    if asked.density is not None and asked.how not in THINNING:
        raise InputError(f"--density: says how much of each change is kept by {', '.join(THINNING)}; {asked.how} keeps "
                         "all of it, so leave it out")  # fmt: skip
    if asked.density is not None and not 0 < asked.density <= 1:
        raise InputError(f"--density: found {asked.density}, expected a share above 0, at most 1")
    density = (asked.density or DENSITY) if asked.how in THINNING else None
    return Way(asked.how, weights, density, asked.seed)


def _check_svd(way: Way, parents: Sequence[Parent]) -> None:
    if way.how == "svd" and not isinstance(parents[0].recipe.adapter, Lora):
        raise InputError("--how svd: keeps a LoRA adapter at the rank of the runs, and these tuned the weights "
                         "themselves; take --how linear")  # fmt: skip


def _refuse_taken(folder: RunFolder) -> None:
    folder.refuse_foreign()
    if folder.exists():
        raise RunFolderError(f"{folder.path} holds a run already; choose another folder with --out")


def _prepared(
    parents: Sequence[Parent], lessons: Mapping[str, Lesson], way: Way, place: Path
) -> tuple[Prepared, Recipe]:
    """The run as if all tasks had been learned at once, with the rows there still are of them; and its recipe, which
    says where they came from. That equal labels mean the same was made sure of."""
    decided = parents[0].recipe.model_dump(mode="json")
    if decided["save"]["memory"] and not any(lesson.whole for lesson in lessons.values()):
        decided["save"]["memory"] = 1.0  # they are few already
    recipe, _ = from_mapping(
        {
            **{key: decided[key] for key in ALIKE},
            "name": "-".join(["merged", *(parent.name for parent in parents)]),
            "adapter": _adapter(parents, way),
            "tasks": _tasks(parents[0], lessons, place),
            "regularisers": [],
            "choose": {"enabled": False},
            "evaluate": {**decided["evaluate"], **UNMEASURED},
        },
        [],
    )
    prepared = prepare(recipe)
    told = _with_sources(prepared.recipe, lessons)
    return replace(prepared, resolved=replace(prepared.resolved, recipe=told)), _with_sources(recipe, lessons)


def _tasks(first: Parent, lessons: Mapping[str, Lesson], place: Path) -> list[dict[str, Any]]:
    """Their rows are written to `place`."""
    tasks = []
    alike = {part: getattr(first.recipe.task.data, part) for part in OF_ROWS}
    for number, (name, lesson) in enumerate(lessons.items()):
        source = place / str(number)
        source.mkdir()
        for part, examples in (("train", lesson.train), ("test", lesson.test)):
            if examples:
                write_examples(source / f"{part}.jsonl", examples)
        data = {"source": str(source), "validation": 0, "test": 0, "streaming": False, **alike}
        shared = {"labels": "shared"} if len(lessons) > 1 else {}
        tasks.append({"name": name, "data": data, "objective": first.objective.model_dump(mode="json"), **shared})
    return tasks


def _adapter(parents: Sequence[Parent], way: Way) -> dict[str, Any]:
    """Of LoRA runs the ranks in one, at a scale of one."""
    adapter = parents[0].recipe.adapter
    assert adapter is not None
    found: dict[str, Any] = adapter.model_dump(mode="json")
    if not isinstance(adapter, Lora):
        return found
    rank = way.rank([int(saved_lora(parent.folder)["r"]) for parent in parents])
    return {**found, "rank": rank, "alpha": float(rank), "dropout": 0.0, "rslora": False, "turns": "same"}


def _with_sources(recipe: Recipe, lessons: Mapping[str, Lesson]) -> Recipe:
    """Rows come from where the runs had them from; whose each is was not looked at."""
    nobody = {"group": None, "mentions": None}
    tasks = [
        task.model_copy(
            update={"data": lesson.task.data.model_copy(update=nobody), "labels": lesson.task.labels or task.labels}
        )
        for task, lesson in zip(recipe.tasks, lessons.values(), strict=True)
    ]
    return recipe.model_copy(update={"tasks": tasks})


def _merged(
    prepared: Prepared, parents: Sequence[Parent], way: Way, say: Say
) -> tuple[Built, Progress, list[tuple[Parent, Heard]]]:
    """The run with what the others have learned, and what these answer."""
    prepare_process()
    seed_everything(prepared.recipe.seed)
    heard = [(parent, hear(parent, prepared, say)) for parent in parents]
    began = time.perf_counter()
    if repaired := [str(parent.path) for parent in parents if parent.recipe.repair]:
        say(f"not taken over: what was repaired of {', '.join(repaired)}; thresholds belong to one model")
    say(f"merging {len(parents)} runs: {way.how}")
    updates = _updates(prepared, parents, way)
    policy = build_policy(prepared, say)
    _put(policy, prepared, heard, way, updates)
    built = build_on(policy, prepared)
    progress = Progress(seconds=time.perf_counter() - began)
    progress.stopped = Said("merged", {"n": len(parents), "how": way.how})
    return replace(built, cost=replace(built.cost, steps=0, seconds=0.0, tflop=0.0)), progress, heard


def _updates(prepared: Prepared, parents: Sequence[Parent], way: Way) -> dict[str, Tensor]:
    """Of LoRA runs; none of others."""
    if not isinstance(prepared.resolved.adapter, Lora):
        return {}
    recipe = prepared.recipe
    plain = load(str(recipe.model), labels=prepared.head, trust_remote_code=recipe.trust_remote_code).module
    return merged_updates(plain, [str(parent.folder.adapter) for parent in parents], way)


def _put(
    policy: Policy,
    prepared: Prepared,
    heard: Sequence[tuple[Parent, Heard]],
    way: Way,
    updates: Mapping[str, Tensor],
) -> None:
    """Gives what learns the values that the runs together make of it; of heads, class by class."""
    parameters, labels = policy.trainable(), prepared.labels
    heads = head_names(policy.module) if labels else []
    of_head = [name for name in parameters if any(part in heads for part in name.split("."))]
    body = [name for name in parameters if name not in of_head]
    found = [one.values for _, one in heard]
    values = dict(updates) or merged_model({name: parameters[name].detach().clone() for name in body}, found, body, way)
    where = [places(LabelSet("class", parent.labels), labels) for parent, _ in heard]
    for name in of_head:
        values[name] = merged_head([one[name] for one in found], where, len(labels.names if labels else ()), way.shares)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.zero_()  # a rank may be more than a small layer has
            parameter[tuple(slice(size) for size in values[name].shape)] = values[name].to(parameter)
            torch.autograd.graph.increment_version([parameter])
    policy.forget()
