"""Heads of different kinds over one body that is tuned once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.lowrank import AttachedLora
from tuneful.adapters.weights import Learning

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


class JointAttached(Learning):
    """One adapter over a body that several modules share, with the head of each; a shared weight counts once. What else
    there is to ask is asked of one of them."""

    def __init__(self, parts: Sequence[Single]) -> None:
        self._module = nn.ModuleList(part.module for part in parts)
