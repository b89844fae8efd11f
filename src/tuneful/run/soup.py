"""The mean of several runs from one start, a soup: they differ by the order of rows, by dropout, and by what else is
drawn.

Wortsman et al. 2022, arXiv:2203.05482, recipe 1 (greedy soup). Differs: the loss on the validation rows decides, not
the accuracy, which few rows cannot tell apart; without such rows all runs are averaged (uniform soup)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuneful.core.errors import Diverged
from tuneful.core.files import new_folder
from tuneful.core.ranks import first_alone
from tuneful.core.types import Record, Said
from tuneful.run.build import Built, build_on
from tuneful.run.heads import begin
from tuneful.run.look import look
from tuneful.run.loop import Interrupted, updates
from tuneful.run.losses import looked_at, validation_metrics
from tuneful.run.progress import Progress
from tuneful.run.settle import settle
from tuneful.run.watch import Watch

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Soup:
    """What was made of several runs."""

    weights: State
    kept: int  # runs whose weights are in it

    def plus(self, weights: State) -> Soup:
        """With one more run, each counting the same."""
        share = 1 / (self.kept + 1)
        mean = {
            name: torch.lerp(own.float(), weights[name].float(), share).to(own.dtype)
            for name, own in self.weights.items()
        }
        return Soup(mean, self.kept + 1)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Runs that have ended, in a folder, so that a soup that was stopped makes none of them again."""

    folder: Path

    def take(self, number: int, progress: Progress) -> State | None:
        """Its weights, and what had been done by its end; None where it has not ended."""
        place = self._place(number)
        if not place.exists():
            return None
        progress.go_on_from(json.loads((place / "counts.json").read_text(encoding="utf-8")))
        return load_file(place / "weights.safetensors")

    def put(self, number: int, weights: State, progress: Progress) -> None:
        def write() -> None:
            with new_folder(self._place(number)) as scratch:
                save_file({name: tensor.contiguous() for name, tensor in weights.items()},
                          scratch / "weights.safetensors")  # fmt: skip
                (scratch / "counts.json").write_text(json.dumps(progress.counts()), encoding="utf-8")

        first_alone(write)

    def _place(self, number: int) -> Path:
        return self.folder / f"run-{number}"


def start_of(built: Built) -> State:
    """The weights before training, where runs will start from them again."""
    return copied(built) if built.recipe.soup else {}


def stir(
    built: Built, start: State, shelf: Shelf, progress: Progress, should_stop: Callable[[], bool]
) -> Iterator[Record]:
    """Runs that follow the first one, whose weights the policy has; afterwards it has the mean. One that diverges is
    left out. Raises Interrupted: a run that has not ended begins again."""
    built.optimiser.forget()
    runs, found = built.recipe.soup or 1, [copied(built)]
    for number in range(1, runs):
        weights = shelf.take(number, progress)
        if weights is None:
            other = reseeded(built, number, start)
            progress.seconds += begin(other)
            try:
                yield from _learned(other, progress, should_stop)
            except Diverged:
                continue
            weights = copied(other)
            shelf.put(number, weights, progress)
        found.append(weights)
    soup = mixed(found, taste(built))
    _put(built, soup.weights)
    progress.kept.append(Said("souped", {"runs": runs, "kept": soup.kept}))


def mixed(found: Sequence[State], loss: Callable[[State], float] | None) -> Soup:
    """The best run, and of the others, best first, those that do not make the mean worse; all of them where nobody can
    tell."""
    if loss is None:
        soup = Soup(found[0], 1)
        for weights in found[1:]:
            soup = soup.plus(weights)
        return soup
    alone = [loss(weights) for weights in found]
    order = sorted(range(len(found)), key=lambda number: alone[number] if math.isfinite(alone[number]) else math.inf)
    soup, best = Soup(found[order[0]], 1), alone[order[0]]
    for number in order[1:]:
        more = soup.plus(found[number])
        if (now := loss(more.weights)) <= best:
            soup, best = more, now
    return soup


def reseeded(built: Built, number: int, start: State) -> Built:
    """The same run from the start, with another order, other dropout and other augmentation of the same rows."""
    _put(built, start)
    prepared = built.prepared
    seed = int(np.random.default_rng([built.recipe.seed, number, 29]).integers(2**31))
    torch.manual_seed(seed)
    resolved = replace(prepared.resolved, recipe=prepared.recipe.model_copy(update={"seed": seed}))
    return build_on(built.policy, replace(prepared, resolved=resolved))


def copied(built: Built) -> State:
    """The weights as they are."""
    return {name: tensor.cpu().clone() for name, tensor in built.policy.attached.state().items()}


def _learned(other: Built, progress: Progress, should_stop: Callable[[], bool]) -> Iterator[Record]:
    """One more run to the weights it keeps; its updates are counted on."""
    watch = Watch(other.recipe.evaluate.patience)
    for record in updates(other):
        counted = replace(record, step=progress.step + 1)
        progress.count(counted)
        yield counted
        if should_stop():
            raise Interrupted
        for seen in look(other, watch, record.step):
            yield replace(seen, step=progress.step)
        if watch.over:
            break
    settle(other, watch)
    other.optimiser.forget()


def taste(built: Built) -> Callable[[State], float] | None:
    """The loss on the validation rows under given weights; None without such rows."""
    rows = looked_at(built) if built.recipe.evaluate.enabled else []
    if not rows:
        return None

    def loss(weights: State) -> float:
        _put(built, weights)
        return validation_metrics(built, rows)["loss"]

    return loss


def _put(built: Built, weights: State) -> None:
    built.policy.attached.load(weights)
    built.policy.forget()
