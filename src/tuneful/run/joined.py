"""A run over tasks of several kinds: one training, and a folder of its own for each kind of task, which is one of an
ordinary run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import yaml

from tuneful.core.errors import RecipeError
from tuneful.core.files import write_text
from tuneful.core.ranks import first_alone, together
from tuneful.core.types import Record
from tuneful.data.balance import Jtt
from tuneful.evaluation.conflicts import conflicts
from tuneful.evaluation.kinds import of_kinds
from tuneful.evaluation.report import compose, write_faces
from tuneful.recipe import Recipe
from tuneful.run.affinity import told_affinity
from tuneful.run.build import Built
from tuneful.run.finish import cost_of, curves_of, finish
from tuneful.run.folder import RunFolder, safe
from tuneful.run.joint import build_joint
from tuneful.run.kinds import kinds_of, on_one_body
from tuneful.run.leaks import apart
from tuneful.run.lock import lock_of, provenance, recipe_of, write_lock
from tuneful.run.look import of_part
from tuneful.run.objections import check_start
from tuneful.run.opening import asked_of_all, claim, given, prepared_for, tell_notes
from tuneful.run.prepare import Prepared
from tuneful.run.progress import Progress, Skipped
from tuneful.run.reworded import with_reworded
from tuneful.run.train import recorded
from tuneful.run.variants import with_variants
from tuneful.run.watch import Watch

Say = Callable[[str], None]
Made = Callable[[int], int]  # updates of a kind of task, of so many of the run


def kinds_in(recipe: Recipe, folder: RunFolder, *, resume: bool, say: Say) -> dict[str, Recipe]:
    """The kinds of task of a run, as they were decided where it goes on; empty where all tasks are of one kind."""
    if resume:
        kinds = folder.read_json(folder.lock).get("kinds") or {}
        return {name: recipe_of({"recipe": kind}) for name, kind in kinds.items()}
    kinds = kinds_of(recipe)
    return on_one_body(kinds, say) if kinds else {}


def checked_kinds(recipe: Recipe, say: Say) -> dict[str, Prepared]:
    """Every kind of task of a recipe as it would be learned; empty where all are of one kind. Raises InputError where a
    run would not start."""
    kinds = kinds_of(recipe)
    prepared = prepared_kinds(on_one_body(kinds, say), say) if kinds else {}
    for kind in prepared.values():
        check_start(kind, say)
    return prepared


def prepared_kinds(kinds: Mapping[str, Recipe], say: Say) -> dict[str, Prepared]:
    """Each as a run of its own would be, but that none learns what another is asked about. Raises InputError, which
    says of which kind it is."""
    found = {}
    for name, kind in kinds.items():
        refuse_alone(name, kind)
        try:
            found[name] = prepared_for(kind, lambda words, name=name: say(f"{name}: {words}"))  # type: ignore[misc]
        except RecipeError as error:
            raise RecipeError([f"{name}: {problem}" for problem in error.problems]) from None
    return apart(found)


def refuse_alone(name: str, kind: Recipe) -> None:
    """Raises RecipeError for what trains more than once, or beside other data, by itself."""
    data = kind.task.data
    asked = {"data.generated": data.generated, "data.unlabelled": data.unlabelled,
             "data.balance=jtt": isinstance(data.balance, Jtt)}  # fmt: skip
    found = [what for what, there in asked.items() if there]
    if problems := [f"{name}: {what}: is for a run of one task; leave it out" for what in found]:
        raise RecipeError(problems)


def run_kinds(
    recipe: Recipe,
    kinds: Mapping[str, Recipe],
    folder: RunFolder,
    *,
    resume: bool,
    language: str,
    command: str,
    should_stop: Callable[[], bool],
    say: Say,
) -> Iterator[Record]:
    """Yields every record; the first is the plan. Afterwards the folder holds the report, and `tasks/NAME` what an
    ordinary run of each kind of task leaves. Raises InputError before anything is written."""
    progress = Progress()
    prepared = together(lambda: prepared_kinds(kinds, say))
    prepared = {name: with_reworded(kind, say) for name, kind in prepared.items()}
    with ExitStack() as held:
        first_alone(lambda: claim(folder, resume, held))
        prepared = {name: with_variants(kind, say) for name, kind in prepared.items()}
        for kind in prepared.values():
            tell_notes(kind, language, say)
        built = together(lambda: build_joint(recipe, prepared, say))
        if not resume:
            first_alone(lambda: _write_down(built, recipe, prepared, folder, command))
        yield from recorded(built, folder, progress, resume=resume, should_stop=asked_of_all(should_stop), say=say)
        first_alone(lambda: _finish(built, folder, progress, command, language=language, say=say, stop=should_stop))


def _write_down(
    built: Built, recipe: Recipe, prepared: Mapping[str, Prepared], folder: RunFolder, command: str
) -> None:
    """Of each kind what a run of its own would be, from which a run that goes on decides alike."""
    kinds = {name: kind.recipe.model_dump(mode="json") for name, kind in prepared.items()}
    decided = {name: getattr(built.recipe, name) for name in ("model", "adapter", "precision", "optimiser")}
    told = recipe.model_copy(update=decided)
    lock = {**lock_of(built, command), "recipe": told.model_dump(mode="json"), "kinds": kinds}
    folder.write_json(folder.lock, {**lock, "labels": None, "label_kind": None})
    write_text(folder.recipe, yaml.safe_dump(given(recipe), allow_unicode=True, sort_keys=False))


def places_of(names: Mapping[str, Any]) -> dict[str, str]:
    """The folder of each kind, inside the run's."""
    found: dict[str, str] = {}
    for name in names:
        place, number = safe(name), 2
        while f"tasks/{place}" in found.values():
            place, number = f"{safe(name)}-{number}", number + 1
        found[name] = f"tasks/{place}"
    return found


def _finish(
    built: Built, folder: RunFolder, progress: Progress, command: str, *, language: str, say: Say,
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Each kind by itself, then what there is to say of all. Raises Interrupted."""
    records, places, reports, costs = folder.read_records(), places_of(built.parts), {}, {}
    for name, part in built.parts.items():
        own = RunFolder(folder.path / places[name])
        own.path.mkdir(parents=True, exist_ok=True)
        say(f"{name}:")
        write_lock(part, own, command)
        write_text(own.recipe, yaml.safe_dump(given(part.recipe), allow_unicode=True, sort_keys=False))
        made = partial(built.schedule.made, name)  # type: ignore[union-attr]
        _write_records(records, own, name, made)
        done = _progress_of(built, progress, records, name, made)
        reports[name] = finish(part, own, done, language=language, say=say, should_stop=stop)
        costs[name] = {"seconds": round(done.seconds, 2), "tokens": done.tokens}
    report = of_kinds(_report(built, folder, progress, records), reports, places, costs)
    write_faces(report, folder.path, language)
    folder.write_json(folder.report, report)  # last: a run that has it has ended


def _report(built: Built, folder: RunFolder, progress: Progress, records: list[Record]) -> dict[str, Any]:
    """What is known of the run as a whole."""
    found = conflicts([record.metrics for record in records if record.kind == "train"], list(built.parts))
    return compose(
        name=str(built.recipe.name), examined=None, limits={}, cost=cost_of(built, progress, {}),
        generalisation={}, bias={}, groups={}, data={},
        forgetting={**({"conflicts": found} if found else {}), **told_affinity(built, folder)},
        provenance=provenance(built), curves=curves_of(folder), choice={}, repair={},
    )  # fmt: skip


def _write_records(records: list[Record], own: RunFolder, name: str, made: Made) -> None:
    """What the run noted of one kind of task, by its own updates."""
    lines = []
    for record in records:
        loss = _of(record, "loss", name)
        if loss is not None and record.kind in ("train", "validation"):
            told = Record(made(record.step), record.kind, name, {"loss": loss})
            lines.append(json.dumps(asdict(told), ensure_ascii=False))
    write_text(own.records, "".join(line + "\n" for line in lines))


def _of(record: Record, metric: str, name: str) -> float | None:
    """Of one kind of task; an update that is of it alone does not say so twice."""
    return record.metrics.get(metric if record.task == name else f"{metric}/{name}")


def _progress_of(built: Built, progress: Progress, records: list[Record], name: str, made: Made) -> Progress:
    """Of one kind of task, by its own updates: its tokens, a shared prefix once, and the time of training in their
    proportion. Rows that were passed over are those of all kinds that read from disk."""
    read = sum(int(_of(record, "read", name) or 0) for record in records if record.kind == "train")
    share = read / max(1, progress.read)
    watch = Watch(progress.watch.patience, best_step=made(progress.watch.best_step))
    watch.seen = [{**look, "step": made(int(look["step"]))} for look in of_part(progress.watch.seen, name)]
    skipped = progress.skipped if built.parts[name].prepared.stream is not None else Skipped()
    return Progress(
        made(progress.step), read, read, share * progress.seconds, skipped, watch, list(progress.kept), progress.stopped
    )
