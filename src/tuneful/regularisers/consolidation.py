"""Weights that earlier tasks need stay near what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from tuneful.core.device import place, rank, world
from tuneful.core.linear import QuantisedLinear
from tuneful.core.policy import Policy
from tuneful.core.ranks import add_up
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Boundary, Terms
from tuneful.regularisers.units import ONE_OF_MANY

KEPT = torch.bfloat16  # importance differs by orders of magnitude, and is an estimate: 8 bits of it are enough


class Ewc(Spec):
    """Elastic weight consolidation: strength / 2 * sum of F (w - w')^2 over whole weights w; w' is what they were when
    the last task had ended, F how much the tasks so far need them (Kirkpatrick et al. 2017, arXiv:1612.00796, equation
    3). Of LoRA w is the product (alpha / rank) B A, and F is of the weight it is added to (EWC-LoRA, arXiv:2602.17559).

    F is the mean of the squared slopes of the loss of single rows with their own labels (the empirical Fisher), divided
    by its mean over all weights, so that tasks count alike and `strength` is that of `l2_sp` for a weight of middling
    importance; then F <- decay F + F of the new task, and w' moves on (online EWC, Schwarz et al. 2018,
    arXiv:1805.06370). Rows of classes that are yet to come have no importance.

    Memory is constant: F in bf16 and a copy of what learns. No row of earlier tasks is needed. For `schedule: lifelong`
    and `tuneful learn`; before the first task has ended it says nothing.
    """

    suits: ClassVar[frozenset[Answer]] = ONE_OF_MANY
    in_turn: ClassVar[bool] = True
    measures_weights: ClassVar[bool] = True

    kind: Literal["ewc"] = "ewc"
    strength: NonNegativeFloat = 1.0
    """Weight beside the loss of the task; 0 = nothing is held."""
    decay: Annotated[float, Field(ge=0, le=1)] = 1.0
    """What stays of the importance of earlier tasks when another has ended; below 1 the oldest fade."""
    rows: PositiveInt = 200
    """Training rows of a task, drawn by lot, from which importance is found: a pass forward and backward each."""

    def problems(self, policy: Policy) -> list[str]:
        """Slopes of weights that are kept as a few bits each are nowhere."""
        if any(isinstance(layer, QuantisedLinear) for layer in policy.module.modules()):
            return ["regularisers: ewc takes slopes of whole weights; leave out quantise, or take previous instead"]
        return []

    def begin(self, counts_GC: np.ndarray) -> RunningEwc:
        """At work in one run."""
        return RunningEwc(self)


class RunningEwc:
    """Importance and weights as they were at the last boundary, in one run."""

    kind: ClassVar[str] = "ewc"

    def __init__(self, settings: Ewc) -> None:
        self._settings = settings
        self._importance: dict[str, Tensor] = {}
        self._since: dict[str, Tensor] = {}  # what learned, as it was
        self._known: tuple[tuple[int, ...], Tensor, tuple[Tensor, ...]] | None = None  # versions, penalty, its slopes

    def consolidate(self, policy: Policy, boundary: Boundary) -> None:
        if not self._settings.strength:
            return
        found = importance(policy, boundary, self._settings.rows)
        for name, old in self._importance.items():
            found[name] += self._settings.decay * old
        self._hold(policy, {name: new.to(KEPT) for name, new in found.items()})

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        if not self._since:
            return terms.losses.new_zeros(())
        parameters = list(policy.trainable().values())
        versions = tuple(parameter._version for parameter in parameters)
        if self._known is None or self._known[0] != versions:  # the same in all batches of an update
            penalty = 0.5 * self._settings.strength * policy.attached.pull(self._since, self._importance)
            slopes = torch.autograd.grad(penalty, parameters, allow_unused=True)
            self._known = versions, penalty.detach(), slopes
        found: Tensor = _Known.apply(*self._known[1:], *parameters)
        return found

    def _hold(self, policy: Policy, importance: dict[str, Tensor]) -> None:
        self._importance, self._known = importance, None
        self._since = {name: tensor.clone() for name, tensor in policy.attached.state().items()}

    def tensors(self) -> Mapping[str, Tensor]:
        kept = {"importance": self._importance, "since": self._since}
        return {f"{kind}/{name}": tensor for kind, group in kept.items() for name, tensor in group.items()}

    def restore(self, policy: Policy, tensors: Mapping[str, Tensor]) -> None:
        found: dict[str, dict[str, Tensor]] = {"importance": {}, "since": {}}
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            found[kind][name] = tensor.to(policy.device)
        self._importance, self._since, self._known = found["importance"], found["since"], None

    def kept(self) -> Mapping[str, Tensor]:
        return self._importance

    def recall(self, policy: Policy, kept: Mapping[str, Tensor]) -> None:
        """A head has grown since then by classes that no task has needed yet."""
        if not self._settings.strength:
            return
        with policy.attached.sloped() as weights:
            shapes = {name: weight.shape for name, weight in weights.items()}
        found = {name: torch.zeros(shape, dtype=KEPT, device=policy.device) for name, shape in shapes.items()}
        for name in found.keys() & kept.keys():
            found[name][: len(kept[name])] = kept[name].to(found[name])
        self._hold(policy, found)


class _Known(torch.autograd.Function):
    """A number whose slopes are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, slopes: tuple[Tensor | None, ...], *parameters: Tensor) -> Tensor:
        ctx.slopes = slopes
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if slope is None else grad * slope for slope in ctx.slopes)


def importance(policy: Policy, boundary: Boundary, most: int) -> dict[str, Tensor]:
    """Of every number of every whole weight in which something learns, its squared slope, summed over rows and divided
    by the mean over all numbers; float32. Ranks share the rows out. No dropout."""
    objective, count = boundary.objective, min(most, len(boundary.batches))
    with policy.attached.sloped() as weights, _at_rest(policy):
        squares = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
        with _squared(weights, squares):
            for number in range(rank(), count if objective else 0, world()):
                batch = place(boundary.batches[number], policy.device)
                terms = objective(policy, batch)  # type: ignore[misc]
                (terms.losses * batch.weights).sum().backward(inputs=list(weights.values()))
                policy.forget()
    add_up(list(squares.values()))
    total = sum(float(square.sum(dtype=torch.float64)) for square in squares.values())
    mean = total / max(1, sum(square.numel() for square in squares.values()))
    return {name: square.div_(mean) if mean else square for name, square in squares.items()}


@contextmanager
def _at_rest(policy: Policy) -> Iterator[None]:
    training = policy.module.training
    policy.module.eval()
    policy.forget()
    try:
        yield
    finally:
        policy.module.train(training)
        policy.forget()


@contextmanager
def _squared(weights: Mapping[str, nn.Parameter], squares: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, each slope is squared and added where it belongs as soon as it is there, and let go."""

    def add(square: Tensor, weight: Tensor) -> None:
        if weight.grad is not None:
            slope = weight.grad.float()
            square.addcmul_(slope, slope)
            weight.grad = None

    hooks = [weight.register_post_accumulate_grad_hook(partial(add, squares[name])) for name, weight in weights.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
