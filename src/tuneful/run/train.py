"""The holder of the loop: looks at the validation rows, saves, stops early, and yields every record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from tuneful.core.device import is_first
from tuneful.core.errors import Diverged, OutOfMemory
from tuneful.core.policy import Policy
from tuneful.core.protocols import KeepsTensors, Schedule, Stateful
from tuneful.core.ranks import first_alone
from tuneful.core.types import Boundary, Record, Said, Step
from tuneful.engine.checkpoint import Saved, load_newest, newest_step, save_checkpoint
from tuneful.run.affinity import drawings, looked_ahead
from tuneful.run.apart import watching
from tuneful.run.build import Built
from tuneful.run.folder import RunFolder
from tuneful.run.forgotten import looked_up
from tuneful.run.heads import begin, end
from tuneful.run.look import look
from tuneful.run.loop import Interrupted, updates
from tuneful.run.progress import Progress, Skipped
from tuneful.run.settle import interpolate, settle
from tuneful.run.soup import Shelf, start_of, stir
from tuneful.run.turns import ENDED, ended, first


@dataclass(frozen=True, slots=True)
class Noting:
    """A schedule whose skipped rows are noted when their step is begun, not when it is read ahead."""

    schedule: Schedule
    skipped: Skipped

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step | Boundary]:
        for step in self.schedule.steps(policy, start):
            if isinstance(step, Step):
                self.skipped.add(step.skipped)
            yield step


def recorded(built: Built, folder: RunFolder, progress: Progress, **given: Any) -> Iterator[Record]:
    """Trains, and writes down every record; the plan comes before them. `given` is for `train`."""
    yield Record(0, "plan", built.recipe.about, {name: float(value) for name, value in asdict(built.cost).items()})
    for record in train(built, folder, progress, **given):
        if is_first():
            folder.append(record)
        yield record


def train(
    built: Built,
    folder: RunFolder,
    progress: Progress,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Record]:
    """Runs the schedule from where it stands. At the end the policy has the best weights seen.

    Raises Interrupted after saving when `should_stop` says so, and Diverged or OutOfMemory after saving the last
    good state. Of a soup whole runs are saved."""
    recipe, start = built.recipe, start_of(built)
    progress.watch, drawn = watching(recipe), drawings(built)
    if resume:
        _restore(built, folder, progress, say)
    if progress.step == 0:
        progress.seconds += begin(built)
        yield from first(built)
        yield from looked_up(built, 0)
    try:
        for record in _updates(built, progress):
            if record.kind == ENDED:
                yield ended(built, record)
                yield from looked_up(built, record.step)
                yield _save(built, folder, progress)
                continue
            progress.count(record)
            yield record
            yield from looked_ahead(built, record.step, drawn)
            over = yield from look(built, progress.watch, record.step)
            if record.step < len(built.schedule):
                yield from looked_up(built, record.step)  # before saving: a run that goes on aims alike
            stop = should_stop()  # asked once: what says stop must have been saved
            if stop or record.step % built.prepared.resolved.save_every == 0:
                yield _save(built, folder, progress)
            if stop:
                raise Interrupted
            if over:
                break
    except (Diverged, OutOfMemory):
        yield _save(built, folder, progress)
        raise
    if progress.watch.over:
        progress.stopped = Said("no_better", {"step": progress.watch.best_step})
    settle(built, progress.watch)
    if recipe.soup:
        yield from stir(built, start, Shelf(folder.soup), progress, should_stop)
    progress.kept += interpolate(built)
    progress.seconds += end(built)


def _updates(built: Built, progress: Progress) -> Iterator[Record]:
    """The rest of the schedule; nothing for a run that had stopped early before it was interrupted."""
    if progress.watch.over:
        return iter(())
    return updates(built, Noting(built.schedule, progress.skipped), start=progress.step)


def _save(built: Built, folder: RunFolder, progress: Progress) -> Record:
    notes: dict[str, Any] = {
        **progress.counts(),
        "skipped": asdict(progress.skipped),
        "watch": progress.watch.notes(),
        "data_sha256": built.prepared.data_sha256,
        "schedule": dict(built.schedule.state()) if isinstance(built.schedule, Stateful) else {},
        "regularisers": [dict(part.state()) if isinstance(part, Stateful) else {} for part in built.regularisers],
    }
    save_checkpoint(
        folder.checkpoints,
        progress.step,
        built.policy,
        built.optimiser,
        notes=notes,
        best=progress.watch.weights,
        parts=_tensors(built),
        keep=built.recipe.checkpoint.keep,
    )
    return Record(progress.step, "saved", built.recipe.about)


def _restore(built: Built, folder: RunFolder, progress: Progress, say: Callable[[str], None]) -> None:
    if newest_step(folder.checkpoints) is None:
        first_alone(lambda: folder.forget_after(0))
        say("the run was stopped before its first checkpoint: it begins again")
        return

    def same_data(notes: Mapping[str, Any]) -> None:
        folder.refuse_changed(notes["data_sha256"], built.prepared.data_sha256)

    saved, passed = load_newest(folder.checkpoints, built.policy, built.optimiser, same_data)
    for words in passed:
        say(words)
    progress.go_on_from({**saved.notes, "step": saved.step})
    progress.skipped = Skipped(**saved.notes.get("skipped", {}))
    progress.watch.load(saved.notes["watch"], saved.best)
    if isinstance(built.schedule, Stateful):
        built.schedule.load(saved.notes.get("schedule", {}))
    _restore_parts(built, saved)
    first_alone(lambda: folder.forget_after(saved.step))
    say(f"going on after step {saved.step}")


def _restore_parts(built: Built, saved: Saved) -> None:
    """What regularisers kept, each by its number."""
    states = saved.notes.get("regularisers", ())
    for number, (part, state) in enumerate(zip(built.regularisers, states, strict=False)):
        if isinstance(part, Stateful):
            part.load(state)
        if isinstance(part, KeepsTensors):
            own = {key: tensor for key, tensor in saved.parts.items() if key.startswith(f"{number}/")}
            part.restore(built.policy, {key.split("/", 1)[1]: tensor for key, tensor in own.items()})


def _tensors(built: Built) -> dict[str, Tensor]:
    """What regularisers keep, each by its number."""
    kept = [(number, part) for number, part in enumerate(built.regularisers) if isinstance(part, KeepsTensors)]
    return {f"{number}/{name}": tensor for number, part in kept for name, tensor in part.tensors().items()}
