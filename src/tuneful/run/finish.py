"""After training: save what was learned, measure it, and write the report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuneful.core.device import give_back_freed_memory, is_first, peak_memory_mb
from tuneful.core.files import write_text
from tuneful.core.linear import count
from tuneful.core.types import Layout, Said
from tuneful.data.layouts import Collator
from tuneful.data.rows import is_generated
from tuneful.data.xray import as_json as xray_json
from tuneful.evaluation import alone, forgetting, generators, readers, retrieval
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.prototypes import examine_prototype
from tuneful.evaluation.report import compose, write_faces
from tuneful.evaluation.rewarded import examine_rewarded
from tuneful.evaluation.treatment import Treated
from tuneful.models.block import finish_training
from tuneful.models.heads import holds_masked_head
from tuneful.objectives import Contrast, Denoise, Masked, Prototype, Retrieve
from tuneful.run import routing
from tuneful.run.beside import with_selection
from tuneful.run.build import Built
from tuneful.run.each import each_of
from tuneful.run.fairness import fairness
from tuneful.run.folder import RunFolder
from tuneful.run.forgotten import unlearned
from tuneful.run.generalise import generalise
from tuneful.run.judges import with_verifiers
from tuneful.run.lock import provenance
from tuneful.run.loop import Interrupted
from tuneful.run.memory import keep, keep_numbers, remembers
from tuneful.run.plan import rate_again
from tuneful.run.preferred import examine_answers, examine_rated
from tuneful.run.progress import Progress
from tuneful.run.repaired import Repaired, repair
from tuneful.run.rollouts import never_apart
from tuneful.run.saving import save_weights
from tuneful.run.several import Worth, each_task, lost, together
from tuneful.run.turns import history, keep_solved
from tuneful.run.twice import told
from tuneful.schedules.rollouts import RolloutSteps

Say = Callable[[str], None]
ALIKE = "embedding_similarity"  # of an encoder, in the place of a KL
Measured = Callable[[Built, Examined | None], Mapping[str, Any]]


def finish(
    built: Built,
    folder: RunFolder,
    progress: Progress,
    *,
    language: str,
    say: Say,
    should_stop: Callable[[], bool] = lambda: False,
    measured: Measured = lambda _built, _examined: {},
) -> dict[str, Any]:
    """Saves first and measures then, so a fault in measuring loses nothing that was learned. Raises Interrupted
    between two measurements when `should_stop` says so; a resumed run measures again. `measured` says more of what
    became of earlier runs."""
    built.optimiser.forget()
    repaired = repair(built, say, built.prepared.rows("test") if built.recipe.evaluate.enabled else ())
    if repaired.decisions is not None:  # before the weights: with those a folder answers, and must not without these
        folder.write_json(folder.decisions, repaired.decisions.as_json())
    save_weights(built, folder)
    finish_training(built.policy.module)
    worth = history(built, folder)
    with built.policy.gathered():
        report, answers = _measured(
            built, folder, progress, repaired, worth, measured, say=say, should_stop=should_stop
        )
    if is_first():
        if remembers(built):
            keep(built, folder, *worth)
            keep_solved(built, folder)
            keep_numbers(built, folder)
        if answers:
            write_text(folder.answers, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in answers))
        write_faces(report, folder.path, language)
        folder.write_json(folder.report, report)  # last: a run that has it has ended
    return report


def _measured(
    built: Built,
    folder: RunFolder,
    progress: Progress,
    repaired: Repaired,
    worth: Worth,
    more: Measured,
    *,
    say: Say,
    should_stop: Callable[[], bool],
) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """The report, and the answers to the test rows."""
    began = time.perf_counter()
    measures = built.recipe.evaluate.enabled
    chosen = folder.read_json(folder.choice) if folder.choice.exists() else {}
    _go_on(should_stop)
    examined = _quality(built, repaired, chosen, say) if measures else None
    _go_on(should_stop)
    generalisation, watching = generalise(built, progress, say) if measures else ({}, {})
    _go_on(should_stop)
    treated = fairness(built, say, seconds=progress.seconds, decide=repaired.decide) if measures else Treated()
    _go_on(should_stop)
    forgotten = _forgetting(built) if measures and built.recipe.evaluate.forgetting else {}
    forgotten |= {**lost(built, worth), **together(built, folder), **unlearned(built, folder)}
    sent = routing.examined(built, folder.adapters) if measures else {}
    report = compose(
        name=str(built.recipe.name),
        examined=examined,
        limits=built.recipe.gates.model_dump(),
        generalisation=generalisation,
        cost={
            **cost_of(built, progress, chosen),
            **_before_training(built, folder),
            "watching_seconds": watching,
            "measuring_seconds": round(time.perf_counter() - began, 2),
        },
        bias=treated.bias,
        groups=treated.groups,
        forgetting={**forgotten, **more(built, examined)},
        data=with_selection(
            _data(built, folder, progress, chosen, [*routing.routed(sent), *_noted(built, examined, folder)], say),
            built.prepared.selection,
            _compared(folder),
        ),
        provenance=provenance(built),
        curves=curves_of(folder),
        choice=_choice(chosen, built),
        repair=repaired.facts,
        tasks=each_task(built, examined),
        routing=sent,
    )
    return report, examined.answers if examined else ()


def _quality(built: Built, repaired: Repaired, chosen: Mapping[str, Any], say: Say) -> Examined | None:
    """By the test rows, or by what cross-validation answered in their place; None without either."""
    if built.prepared.rows("test"):
        say("measuring the tuned model, the base model and simple baselines on the test rows")
        return _examine(built, repaired.decide)
    if not chosen.get("answers"):
        return None
    say("no rows are held out: cross-validation has measured the way that was taken")
    prepared, labels = built.prepared, built.prepared.labels
    assert labels is not None
    return readers.examine_unseen(prepared.rows("train"), chosen["answers"], labels, built.recipe.evaluate)


def _choice(chosen: Mapping[str, Any], built: Built) -> dict[str, Any]:
    """The ways of learning that were tried, and whether that is what quality was measured by."""
    by_folds = bool(chosen.get("answers")) and not built.prepared.rows("test")
    return {**chosen["facts"], "measures_quality": by_folds} if chosen else {}


def _go_on(should_stop: Callable[[], bool]) -> None:
    """Between two pieces of work."""
    if should_stop():
        raise Interrupted
    give_back_freed_memory()


def _examine(built: Built, decide: readers.Decide | None) -> Examined | None:
    prepared, settings = built.prepared, built.recipe.evaluate
    train, test, objective = prepared.rows("train"), prepared.rows("test"), prepared.resolved.objective
    tasks = each_of(built.recipe)
    if isinstance(objective, Masked):
        own = holds_masked_head(prepared.folder)
        return alone.examine_masked(built.policy, objective, built.collate, train, test, base=own)
    if isinstance(objective, Contrast):
        return alone.examine_contrast(built.policy, objective, built.collate, test)
    if isinstance(objective, Denoise):
        return alone.examine_denoise(built.policy, objective, built.collate, train, test)
    if isinstance(objective, Prototype):
        return examine_prototype(built.policy, built.collate, test, settings)
    if isinstance(objective, Retrieve):
        return retrieval.examine_retrieval(built.policy, test, [*prepared.rows("validation"), *train], settings)
    if isinstance(built.schedule, RolloutSteps) and built.schedule.rounds is not None:
        return examine_rewarded(built.policy, built.schedule.rounds.player, train, test, with_verifiers(settings))
    if prepared.layout.rates:
        return examine_rated(built.policy, prepared.recipe, built.collate, (train, test), settings)
    if prepared.layout.prefers:
        return examine_answers(built.policy, prepared.processor, objective, built.collate, (train, test), settings)
    if prepared.labels is not None and prepared.by_name:
        names = [row for row in prepared.repeated if row.target is not None]
        return readers.examine_named(built.policy, built.collate, names, test, prepared.labels, settings)
    if prepared.labels is not None:
        return readers.examine(
            built.policy, built.collate, train, test, prepared.labels, settings, decide=decide, tasks=tasks
        )
    return generators.examine(built.policy, prepared.processor, built.collate, train, test, settings, tasks=tasks)


def _forgetting(built: Built) -> dict[str, Any]:
    """Of several adapters that which went furthest, and of each by its task."""
    tasks, found = each_of(built.recipe), {}
    for task in tasks:
        with built.policy.of_task(task):
            found[task] = _of_one(built)
    if not found:
        return _of_one(built)
    furthest = max(tasks, key=lambda task: (found[task]["kl_from_base"] or 0.0, -found[task].get(ALIKE, 0.0)))
    return {**found[furthest], "adapter": furthest, "adapters": found}


def _of_one(built: Built) -> dict[str, Any]:
    prepared = built.prepared
    if prepared.layout.writes and built.policy.network.causal:
        collate = Collator(Layout.TOKENS, share=built.policy.network.shares)
        return forgetting.generator_forgetting(built.policy, prepared.processor, collate)
    rows = forgetting.sentence_rows(prepared.processor)
    return forgetting.encoder_forgetting(built.policy, rows, Collator(Layout.LABELS))


def _noted(built: Built, examined: Examined | None, folder: RunFolder) -> list[Said]:
    """What a report says beside the scores."""
    return [*(examined.notes if examined else ()), *never_apart(built.recipe, folder.read_records())]


def _data(
    built: Built,
    folder: RunFolder,
    progress: Progress,
    chosen: Mapping[str, Any],
    measured: Sequence[Said],
    say: Say,
) -> dict[str, Any]:
    """The X-ray, and what only training came across."""
    found, skipped = xray_json(built.prepared.xray), progress.skipped
    if chosen.get("answers"):  # cross-validation stands for the test rows
        found["notes"] = [note for note in found["notes"] if note["key"] != "no_test"]
    if not chosen and any(map(is_generated, built.prepared.repeated)):
        found["notes"].append({"key": Said("ungated").key})
    if built.prepared.stream is not None:
        found["skipped"] = {"count": skipped.count, "rows": skipped.first}
    twice = [told(folder.read_json(folder.missed))] if folder.missed.exists() else []
    found["notes"] += [{"key": said.key, **said.facts} for said in (*twice, *progress.kept, *measured)]
    if skipped.count:
        first = skipped.first[0]
        note = Said("skipped", {"n": skipped.count, **first})
        found["notes"].append({"key": note.key, **note.facts})
        say(f"{skipped.count} rows were passed over in training; the first: {first['row']}: {first['reason']}")
    return found


def _before_training(built: Built, folder: RunFolder) -> dict[str, float]:
    """What choosing rows took, and the first of two trainings, beside the seconds of training."""
    found, chosen = {}, built.prepared.selection
    if chosen is not None:
        found["selecting_seconds"] = round(chosen.facts["seconds"] + _compared(folder).get("seconds", 0.0), 2)
    if folder.missed.exists():
        found["first_seconds"] = folder.read_json(folder.missed)["seconds"]
    return found


def _compared(folder: RunFolder) -> Mapping[str, Any]:
    return folder.read_json(folder.compared) if folder.compared.exists() else {}


def cost_of(built: Built, progress: Progress, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The report's `cost`: what training took."""
    seconds = max(progress.seconds, 1e-9)
    return {
        "seconds": round(progress.seconds, 2),
        "choosing_seconds": round(sum(way["seconds"] for way in chosen["facts"]["ways"]), 2) if chosen else 0.0,
        "steps": progress.step,
        "tokens": progress.tokens,
        "tokens_shared": progress.tokens - progress.read,
        "tokens_per_second": round(progress.tokens / seconds, 1),
        "utilisation": None
        if isinstance(built.schedule, RolloutSteps)  # how much will be written is only guessed
        else round(_utilisation(built, progress.step / max(1, built.cost.steps), seconds), 3),
        "peak_memory_mb": peak_memory_mb(),
        "trainable_parameters": sum(p.numel() for p in built.policy.trainable().values()),
        "parameters": count(built.policy.module),
        "predicted": {"seconds": built.cost.seconds, "memory_mb": built.cost.memory_mb},
    }


def _utilisation(built: Built, share: float, seconds: float) -> float:
    found = built.cost.utilisation(share, seconds)
    if found <= 1:
        return found
    again = replace(built.cost, gflops=rate_again(built.prepared.resolved, built.cost.gflops))
    return again.utilisation(share, seconds)


def curves_of(folder: RunFolder) -> dict[str, Any]:
    """What the page draws: the loss of training and validation over the updates; accuracy where there are classes."""
    curves: dict[str, list[list[float]]] = {"train": [], "validation": []}
    records = list(folder.read_records())
    rewarded = any("reward" in record.metrics for record in records)  # then the loss says nothing of how well it does
    for record in records:
        if record.kind in ("train", "validation") and (not rewarded or "reward" in record.metrics):
            value = -record.metrics["reward"] if rewarded else record.metrics["loss"]
            curves[record.kind].append([record.step, round(value, 5)])
        if record.kind == "validation" and "accuracy" in record.metrics:
            curves.setdefault("accuracy", []).append([record.step, round(record.metrics["accuracy"], 5)])
    return _thinned(curves)


def _thinned(curves: Mapping[str, list[list[float]]], most: int = 400) -> dict[str, Any]:
    return {name: points[:: max(1, len(points) // most)] for name, points in curves.items()}
