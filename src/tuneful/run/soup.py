"""The mean of several runs from one start, a soup: they differ by the order of rows, by dropout, and by what else is
drawn.

Wortsman et al. 2022, arXiv:2203.05482, recipe 1 (greedy soup). Differs: the loss on the validation rows decides, not
the accuracy, which few rows cannot tell apart; without such rows all runs are averaged (uniform soup)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.types import Record
from tuneful.run.build import Built, build_on
from tuneful.run.heads import begin
from tuneful.run.look import look
from tuneful.run.loop import Interrupted, updates
from tuneful.run.losses import looked_at, validation_metrics
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


def start_of(built: Built) -> State:
    """The weights before training, where runs will start from them again."""
    return _copied(built) if built.recipe.soup else {}


def stir(
    built: Built, start: State, should_stop: Callable[[], bool], note: Callable[[Record], None]
) -> Generator[Record, None, Soup]:
    """Runs that follow the first one, whose weights the policy has; afterwards it has the mean, which is returned.
    `note` is told of every update. Raises Interrupted: what was learned since the first run is then lost."""
    runs, found = built.recipe.soup or 1, [_copied(built)]
    for number in range(1, runs):
        built.policy.attached.load(start)
        built.policy.forget()
        other = _reseeded(built, number)
        begin(other)
        yield from _learned(other, number * len(built.schedule), should_stop, note)
        found.append(_copied(other))
    soup = mixed(built, found)
    built.policy.attached.load(soup.weights)
    built.policy.forget()
    return soup


def mixed(built: Built, found: Sequence[State]) -> Soup:
    """The best run, and of the others, best first, those that do not make the mean worse."""
    rows = looked_at(built) if built.recipe.evaluate.enabled else []
    if not rows:
        soup = Soup(found[0], 1)
        for weights in found[1:]:
            soup = soup.plus(weights)
        return soup
    alone = [_loss(built, weights) for weights in found]
    order = sorted(range(len(found)), key=alone.__getitem__)
    soup, best = Soup(found[order[0]], 1), alone[order[0]]
    for number in order[1:]:
        more = soup.plus(found[number])
        if (loss := _loss(built, more.weights)) <= best:
            soup, best = more, loss
    return soup


def _learned(
    other: Built, before: int, should_stop: Callable[[], bool], note: Callable[[Record], None]
) -> Iterator[Record]:
    """One more run from its start to the weights it keeps; its updates are counted on from those `before`."""
    watch = Watch(other.recipe.evaluate.patience)
    for record in updates(other):
        counted = replace(record, step=before + record.step)
        note(counted)
        yield counted
        if should_stop():
            raise Interrupted
        for seen in look(other, watch, record.step):
            yield replace(seen, step=before + seen.step)
        if watch.over:
            break
    settle(other, watch)


def _reseeded(built: Built, number: int) -> Built:
    """The same run with another order, other dropout and other augmentation, over the rows as they were dealt."""
    prepared = built.prepared
    seed = int(np.random.default_rng([built.recipe.seed, number, 29]).integers(2**31))
    recipe = prepared.recipe.model_copy(update={"seed": seed})
    torch.manual_seed(seed)
    resolved = replace(prepared.resolved, recipe=recipe)
    return build_on(built.policy, replace(prepared, resolved=resolved))


def _loss(built: Built, weights: State) -> float:
    built.policy.attached.load(weights)
    built.policy.forget()
    return validation_metrics(built, looked_at(built))["loss"]


def _copied(built: Built) -> State:
    return {name: tensor.cpu().clone() for name, tensor in built.policy.attached.state().items()}
