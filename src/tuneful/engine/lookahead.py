"""What a step on one task alone would do to the losses of the others. Nothing of it stays: every weight is afterwards
what it was, to the last bit, and no random number is drawn."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tuneful.core.device import place
from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective
from tuneful.core.ranks import add_up, totals
from tuneful.core.types import Batch
from tuneful.engine.update import Updater

LEAST = 0.1  # nats: a loss below counts as that, or a task that is nearly solved would tell of nothing but rounding


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of one task, and how they are learned."""

    policy: Policy
    objective: Objective
    batches: Sequence[Batch]  # of this rank


def affinities(
    tasks: Mapping[str, Asked],
    optimiser: Updater,
    learned: Mapping[str, nn.Parameter],
    *,
    stay: Collection[str],
    clip: float,
) -> dict[tuple[str, str], float]:
    """Of each two tasks (i, j), i = j too, 1 - L_j(w_i) / L_j(w): which part of the loss of j on its own rows a step on
    i alone takes away, below 0 where it adds to it (Fifty et al. 2021, arXiv:2109.04617, equation 2). `learned` are all
    weights that learn, by the names that the optimiser has; of these some `stay`, as the paper moves what tasks share
    and no head. All ranks ask together.

    Differs from the paper: the step is what Adam makes of one gradient (see `step`), of the highest rate the share that
    momentum lets in at once, 1 - beta1, so looks at the end of a run count like those at its beginning; dropout is off;
    and a loss counts as 0.1 at least in the denominator."""
    moved = {name: parameter for name, parameter in learned.items() if name not in stay}
    before = {name: parameter.detach().clone() for name, parameter in moved.items()}
    losses = {name: _loss(asked) for name, asked in tasks.items()}
    found: dict[tuple[str, str], float] = {}
    for name, asked in tasks.items():
        _slopes(asked, learned)
        optimiser.clip(clip)
        steps = {key: _step(key, parameter, optimiser) for key, parameter in moved.items()}
        optimiser.clear()
        with _moved(moved, before, steps):
            after = {other: _loss(theirs) for other, theirs in tasks.items()}
        for other, loss in after.items():
            change = (losses[other] - loss) / max(losses[other], LEAST)
            if math.isfinite(change):
                found[name, other] = change
    return found


def step(gradient: Tensor, squares: Tensor | None, rate: float, epsilon: float) -> Tensor:
    """What Adam makes at once of one gradient g: rate * g / (sqrt(max(v, g^2)) + epsilon), v the mean `squares` of the
    gradients so far, None before the first. Differs from Adam: v is nowhere below g^2, so no weight goes further than
    the rate, also one that has hardly been learned yet."""
    known = gradient.square() if squares is None else torch.maximum(gradient.square(), squares)
    return gradient.div(known.sqrt_().add_(epsilon)).mul_(rate)


def _step(name: str, parameter: nn.Parameter, optimiser: Updater) -> Tensor:
    rate, squares = optimiser.seen(name)
    assert parameter.grad is not None
    return step(parameter.grad, squares, (1 - optimiser.settings.beta1) * rate, optimiser.settings.epsilon)


def _slopes(asked: Asked, learned: Mapping[str, nn.Parameter]) -> None:
    """Into `.grad`, of the task's mean loss over all ranks; zeros where it does not reach."""
    units = _units(asked) or 1.0
    for batch in _placed(asked):
        terms = asked.objective(asked.policy, batch)
        ((terms.losses * batch.weights).sum() / units).backward()
        asked.policy.forget()
    for parameter in learned.values():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    add_up([parameter.grad for parameter in learned.values() if parameter.grad is not None])


@contextmanager
def _moved(
    moved: Mapping[str, nn.Parameter], before: Mapping[str, Tensor], steps: Mapping[str, Tensor]
) -> Iterator[None]:
    try:
        with torch.no_grad():
            for name, parameter in moved.items():
                parameter.sub_(steps[name])
        yield
    finally:
        with torch.no_grad():
            for name, parameter in moved.items():
                parameter.copy_(before[name])


def _loss(asked: Asked) -> float:
    """A unit, over the rows of all ranks; not a number where none of them counts."""
    summed = 0.0
    with torch.no_grad():
        for batch in _placed(asked):
            terms = asked.objective(asked.policy, batch)
            summed += float((terms.losses * batch.weights).sum())
            asked.policy.forget()
    return totals({"loss": summed})["loss"] / (_units(asked) or math.nan)


def _units(asked: Asked) -> float:
    return totals({"units": sum(batch.units for batch in asked.batches)})["units"]


def _placed(asked: Asked) -> Iterator[Batch]:
    return (place(batch, asked.policy.device) for batch in asked.batches)
