"""Tasks one after the other: what each is worth when another was learned, and where the head of the next starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from tuneful.adapters.used import of_used_rows
from tuneful.core.protocols import Consolidates, Recalls
from tuneful.core.types import Layout, Record, Row
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.models.discriminant import Gaussians
from tuneful.models.probe import Probe
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.heads import own_head, put, started
from tuneful.run.memory import TESTED, by_task, keep_sums, names_of, read_memory, read_sums, recalled, some

START = "start"  # a record's kind: what each task is worth before any is learned
ENDED = "boundary"


def begin_task(built: Built, number: int) -> None:
    """A head over means starts, for the classes that come with this task, where their rows lie; the others stay. Other
    heads learn from what they are, and one that makes no updates is solved when the task has ended."""
    turns = built.turns
    if turns is None or not starts_right(built) or not len(turns) or number >= len(turns.tasks):
        return
    rows = list(turns.tasks.values())[number]
    known = 0 if not number else turns.classes(number - 1) or 0
    with built.policy.gathered():
        found = started(vectors(built.policy, rows, built.collate), rows, turns.classes(number) or 0)
    head = own_head(built.policy.module)
    new = slice(known, len(found.weight))
    head.weight[new], head.bias[new] = found.weight[new], found.bias[new]
    put(built.policy.module, Probe(head.weight, head.bias))
    built.policy.forget()


def starts_right(built: Built) -> bool:
    """The head is linear over means of texts, and tells classes apart."""
    return built.prepared.pooled and built.prepared.tells_classes


def solve(built: Built, number: int) -> None:
    """A head over an encoder that does not learn, from sums over this task's rows and those before."""
    found = gaussians(built, number)
    put(built.policy.module, _padded(found.head(), own_head(built.policy.module)))
    built.policy.forget()


def gaussians(built: Built, number: int) -> Gaussians:
    """Sums of all classes up to this task: of those learned in an earlier run, what that kept of them."""
    turns = built.turns
    assert turns is not None
    if turns.summed is None or turns.summed[0] > number:
        earlier = None if built.start is None else read_sums(RunFolder(built.start))
        nothing = Gaussians.none(own_head(built.policy.module).weight.shape[1])
        turns.summed = (turns.settings.behind - 1, earlier) if earlier else (-1, nothing)
    last, found = turns.summed
    tasks = list(turns.tasks.values())
    with built.policy.gathered():
        for place in range(last + 1, number + 1):
            known = vectors(built.policy, tasks[place], built.collate)
            found = found.seen(known, targets(tasks[place]), turns.classes(place) or 0)
    turns.summed = number, found
    return found


def keep_solved(built: Built, folder: RunFolder) -> None:
    """The sums of a head over an encoder that did not learn, so that the next task needs no row of those before."""
    if not starts_right(built) or built.prepared.resolved.steps:
        return
    turns = built.turns
    if turns is not None:
        keep_sums(folder, gaussians(built, len(turns.tasks) - 1))
        return
    head, rows = own_head(built.policy.module), [row for row in built.prepared.rows("train") if row.target is not None]
    nothing = Gaussians.none(head.weight.shape[1])
    keep_sums(folder, nothing.seen(vectors(built.policy, rows, built.collate), targets(rows), len(head.weight)))


def _padded(found: Probe, head: Probe) -> Probe:
    """With zeros for classes that are yet to come."""
    more = len(head.weight) - len(found.weight)
    return Probe(*(torch.cat([part, part.new_zeros(more, *part.shape[1:])]) for part in (found.weight, found.bias)))


def first(built: Built) -> Iterator[Record]:
    """Before the first update: what tasks are worth that were learned in an earlier run, or that need no head."""
    turns = built.turns
    if turns is None:
        return
    behind = turns.settings.behind
    if behind:
        _told(built, behind)
    begin_task(built, behind)
    if built.recipe.evaluate.enabled and (behind or built.prepared.layout is Layout.TOKENS):
        yield Record(0, START, built.recipe.about, scores(built, turns.classes(behind - 1) if behind else None))


def _told(built: Built, behind: int) -> None:
    """What is kept of earlier tasks is kept of those of an earlier run, too."""
    turns = built.turns
    assert turns is not None
    last = replace(turns.boundary(behind - 1, since=0), objective=built.prepared.resolved.objective)
    for part in built.regularisers:
        kept = recalled(built, part.kind) if isinstance(part, Recalls) else {}
        if isinstance(part, Recalls) and kept:
            part.recall(built.policy, of_used_rows(built.policy.module, kept))
        elif isinstance(part, Consolidates):
            part.consolidate(built.policy, last)


def ended(built: Built, record: Record) -> Record:
    """What every task is worth now that another has been learned."""
    turns = built.turns
    assert turns is not None
    number = list(turns.tasks).index(record.task)
    if starts_right(built) and not len(turns):
        solve(built, number)
    found = Record(record.step, ENDED, record.task, _now(built, turns.classes(number)))
    begin_task(built, number + 1)
    return found


def _now(built: Built, classes: int | None) -> dict[str, float]:
    return scores(built, classes) if built.recipe.evaluate.enabled else {}


def scores(built: Built, classes: int | None) -> dict[str, float]:
    """By task, of its test rows: accuracy among the classes that are known, or the perplexity of answers. Tasks of
    which no class is known are left out."""
    with built.policy.gathered():
        found = {task: _score(built, rows, classes) for task, rows in _test_rows(built).items()}
    return {task: round(score, 5) for task, score in found.items() if score is not None}


def _score(built: Built, rows: Sequence[Row], classes: int | None) -> float | None:
    if built.prepared.layout is Layout.TOKENS:
        losses = token_losses(built.policy, rows, built.collate).sum(0)
        return float(np.exp(losses[0] / losses[1]))
    wanted = np.array([row.target for row in rows])
    if classes is not None and wanted.max() >= classes:
        return None
    return float((class_logits(built.policy, rows, built.collate)[:, :classes].argmax(1) == wanted).mean())


def _test_rows(built: Built) -> dict[str, Sequence[Row]]:
    """Those by which a task is measured for as long as the model lives."""
    names = names_of(built)
    found = by_task([row for row in built.prepared.rows("test") if row.counts], names)
    return {name: some(rows, TESTED) for name, rows in found.items() if rows}


def history(built: Built, folder: RunFolder) -> tuple[dict[str, Mapping[str, float]], Mapping[str, float]]:
    """What every task was worth after each was learned, in the order they were, and before the first; those of the run
    that this one goes on from included. Empty where tasks were not learned one after the other."""
    records = folder.read_records()
    begun = next((record.metrics for record in records if record.kind == START), {})
    own = {record.task: record.metrics for record in records if record.kind == ENDED}
    if built.start is None or built.turns is None:
        return own, begun
    earlier = read_memory(RunFolder(built.start))
    known = [task.name for task in earlier.tasks]
    worth = {name: begun[name] for name in known if name in begun}
    at_once = dict.fromkeys(known, worth)
    return {**(earlier.matrix or at_once), **own}, earlier.before
