"""The last layer of a classifier: which it is, what it reads, and another in its place.

Whatever a class head does before it (a dense layer, an activation, the mean of a text at unit length), where the answer
is that of one linear layer, its input is found by listening to the model's own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.core.errors import ModelError


@dataclass(frozen=True, slots=True)
class Heard:
    """One linear layer at work."""

    layer: nn.Linear
    read: Tensor  # (..., D)
    answered: Tensor  # (..., C)


@contextmanager
def listening(module: Any) -> Iterator[list[Heard]]:
    """The linear layers beside the body, each as often as it answers, in that order."""
    heard: list[Heard] = []

    def note(layer: nn.Module, read: tuple[Tensor, ...], answered: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        heard.append(Heard(layer, read[0].detach(), answered.detach()))

    beside = [child for child in module.children() if child is not getattr(module, "base_model", None)]
    layers = [layer for child in beside for layer in child.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def last_of(heard: list[Heard], logits_RC: Tensor) -> tuple[nn.Linear, Tensor]:
    """The layer whose answers these logits are, and the vectors (R, D) it read. Raises ModelError where they are not
    those of one linear layer with a constant."""
    last = heard[-1] if heard else None
    if last is None or last.answered.numel() != logits_RC.numel() or last.layer.bias is None:
        raise ModelError(_refusal("none that answers once a row, and adds a constant"))
    if not torch.equal(last.answered.reshape(logits_RC.shape).to(logits_RC), logits_RC):
        raise ModelError(_refusal("something done to its answers"))
    return last.layer, last.read.reshape(len(logits_RC), -1)


def put(layer: nn.Linear, other: nn.Linear) -> None:
    """Gives a layer the weights of another, in place, so that whoever holds or saves it has them."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(other.get_parameter(name))
            torch.autograd.graph.increment_version([parameter])


def _refusal(found: str) -> str:
    return (f"the last layer of this model cannot be repaired: expected one linear layer whose answers are the logits, "
            f"found {found}; leave repair out, or learn a head over means (objective.pooling: mean)")  # fmt: skip
