"""Heads of different kinds over one body that is tuned once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.lowrank import AttachedLora
from tuneful.adapters.weights import copy_into, trainable

Single = AttachedWeights | AttachedLora


def share_body(parts: Sequence[Single]) -> None:
    """All stand on one body, adapters and all: that of the first which has a part for every other to stand on, as some
    bodies lack a pooler. Output matrices that are the input embedding as well are so again."""
    first = max(parts, key=lambda part: sum(1 for _ in body_of(part.module).parameters()))
    for part in parts:
        if part is not first:
            part.stand_on(first)


def body_of(module: Any) -> nn.Module:
    body: nn.Module = module.base_model
    return body


class JointAttached:
    """One adapter over a body that several modules share, with the head of each; a shared weight counts once. As it was
    before tuning, and how far from there, is asked of the first of them."""

    def __init__(self, parts: Sequence[Single]) -> None:
        self._parts = parts
        self._module = nn.ModuleList(part.module for part in parts)

    @property
    def module(self) -> nn.Module:
        return self._module

    def trainable(self) -> dict[str, nn.Parameter]:
        return trainable(self._module)

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        with self._parts[0].original() as first:
            yield first

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trainable().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        copy_into(self.trainable(), state)

    def distance(self) -> Tensor:
        return self._parts[0].distance()

    def nearer(self, share: float) -> None:
        raise TypeError("a body under several heads does not go back by itself; each part is a model of its own")

    def merged(self) -> nn.Module:
        raise TypeError("each part is a model of its own, and is merged by itself")

    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        raise TypeError("each part is a model of its own, and is saved by itself")
