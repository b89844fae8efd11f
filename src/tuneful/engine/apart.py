"""Gradients of several tasks, each kept by itself until an update is whole, and joined by weights.

What a rule needs to know of T gradients is how they lie to one another: their products, (T, T). Whatever it makes of
them is a sum of them with weights. So no rule sees a gradient, and one more task costs one more gradient in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tuneful.core.ranks import add_up

Slopes = list[Tensor | None]  # of one task, one a parameter; None: the task does not use it
CHUNK = 1 << 20  # numbers of a gradient taken to float64 at once


@dataclass(frozen=True, slots=True)
class Joined:
    """What counts how much in the gradient of an update."""

    shared: np.ndarray  # (T,) in parameters that several tasks use
    own: np.ndarray  # (T,) in those of one task only; 0: not learned
    measured: Mapping[str, float] = field(default_factory=dict)


class Join(Protocol):
    """A rule: from tasks, the products of their gradients over what they share, and the number of the update from 1."""

    def __call__(self, tasks: Sequence[str], products_TT: np.ndarray, number: int) -> Joined: ...


class Apart:
    """A gradient rule at work in one run. It keeps `KeepsGradients` and `Measures` (`core.protocols`)."""

    def __init__(self, join: Join, done: int = 0) -> None:
        self._join, self._number = join, done
        self._found: dict[str, Slopes] = {}
        self._measured: dict[str, float] = {}

    def add(self, task: str, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        # Through `.grad`, not `autograd.grad`: it adds to what the task has in place, without a further copy.
        for parameter, held in zip(parameters, self._of(task, parameters), strict=True):
            parameter.grad = held
        loss.backward()
        self._found[task] = [parameter.grad for parameter in parameters]
        _clear(parameters)

    def kept(self, tasks: Sequence[str], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """What any rank has found, with zeros where this one has not. What none has stays None, so that the same
        parameters are shared, and the same learn, as in one process."""
        used_TP = torch.tensor(
            [[float(held is not None) for held in self._of(task, parameters)] for task in tasks],
            device=parameters[0].device,
        )
        add_up([used_TP])
        for task, used_P in zip(tasks, used_TP.tolist(), strict=True):
            self._found[task] = [
                torch.zeros_like(parameter) if used and held is None else held
                for parameter, held, used in zip(parameters, self._of(task, parameters), used_P, strict=True)
            ]
        return [held for task in tasks for held in self._found[task] if held is not None]

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        self._number += 1
        found = {task: slopes for task, slopes in sorted(self._found.items()) if any(s is not None for s in slopes)}
        tasks, slopes_T = list(found), list(found.values())
        products_TT = products(slopes_T, parameters)
        joined, self._measured = plain(tasks), {}
        # What is not finite has no direction; the sum shows it to who looks before the update is made.
        if np.isfinite(products_TT).all():
            joined = self._join(tasks, products_TT, self._number)
            self._measured = {**conflicts(tasks, products_TT), **joined.measured}
        _put(joined, slopes_T, parameters)
        self._found = {}

    def restart(self, parameters: Sequence[nn.Parameter]) -> None:
        self._found = {}
        _clear(parameters)

    def measured(self) -> Mapping[str, float]:
        return self._measured

    def _of(self, task: str, parameters: Sequence[nn.Parameter]) -> Slopes:
        return self._found.get(task) or [None] * len(parameters)


def plain(tasks: Sequence[str]) -> Joined:
    """The sum."""
    return Joined(np.ones(len(tasks)), np.ones(len(tasks)))


def products(slopes_T: Sequence[Slopes], parameters: Sequence[nn.Parameter]) -> np.ndarray:
    """(T, T) float64: products of gradients over the parameters that at least two tasks use; a task that does not use
    one of these has zeros there."""
    device = parameters[0].device
    exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's devices know no float64
    found_TT = torch.zeros(len(slopes_T), len(slopes_T), dtype=exact, device=device)
    for place, parameter in enumerate(parameters):
        held_T = [slopes[place] for slopes in slopes_T]
        if _users(held_T) > 1:
            nothing = parameter.detach().new_zeros(()).expand(parameter.numel())
            flat_T = [nothing if held is None else held.flatten() for held in held_T]
            for part_T in zip(*(flat.split(CHUNK) for flat in flat_T), strict=True):
                part_TN = torch.stack(part_T).to(exact)
                found_TT += part_TN @ part_TN.T
    return found_TT.double().cpu().numpy() if exact is torch.float64 else found_TT.cpu().double().numpy()


def conflicts(tasks: Sequence[str], products_TT: np.ndarray) -> dict[str, float]:
    """Of each pair of tasks, named in order, the cosine of their gradients; none where one of them is zero."""
    norms_T = np.sqrt(products_TT.diagonal())
    return {
        f"conflict/{tasks[one]}/{tasks[other]}": float(products_TT[one, other] / (norms_T[one] * norms_T[other]))
        for one, other in combinations(range(len(tasks)), 2)
        if norms_T[one] > 0 and norms_T[other] > 0
    }


def _put(joined: Joined, slopes_T: Sequence[Slopes], parameters: Sequence[nn.Parameter]) -> None:
    """Into `.grad`. Takes the gradients' own memory."""
    for place, parameter in enumerate(parameters):
        held_T = [slopes[place] for slopes in slopes_T]
        weights_T = joined.shared if _users(held_T) > 1 else joined.own
        parameter.grad = None
        for held, weight in zip(held_T, weights_T.tolist(), strict=True):
            if held is not None and weight:
                if parameter.grad is None:
                    parameter.grad = held if weight == 1 else held.mul_(weight)
                else:
                    parameter.grad.add_(held, alpha=weight)


def _users(held_T: Slopes) -> int:
    return sum(held is not None for held in held_T)


def _clear(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
