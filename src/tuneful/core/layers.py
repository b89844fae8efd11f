"""Where a model's layers are, and as what class they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def blocks(module: nn.Module) -> nn.ModuleList:
    """The stack of transformer layers: the longest list of modules."""
    stacks = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    return max(stacks, key=len)


def frozen_depth(module: nn.Module) -> int:
    """How many layers at the bottom of the stack answer as they always did: neither they nor what is registered before
    them, which is what runs before them, has a weight that learns."""
    stack = blocks(module)
    inside = {id(parameter): number for number, block in enumerate(stack) for parameter in block.parameters()}
    depth, passed = len(stack), False
    for parameter in module.parameters():
        number = inside.get(id(parameter))
        passed = passed or number is not None
        if parameter.requires_grad and (number is not None or not passed):
            depth = min(depth, number or 0)
    return depth


def heights(module: nn.Module) -> dict[int, int]:
    """How far below the head each parameter (by `id`) lies: 0 above the stack of layers, 1 in its highest layer, one
    more in each below, and most in what is registered before the stack."""
    stack = blocks(module)
    inside = {
        id(parameter): len(stack) - number for number, block in enumerate(stack) for parameter in block.parameters()
    }
    found, height = {}, len(stack) + 1
    for parameter in module.parameters():
        if id(parameter) in inside:
            height = 0  # of what comes behind the stack
        found[id(parameter)] = inside.get(id(parameter), height)
    return found


@contextmanager
def instead(layer: nn.Module, answer: Callable[..., Any]) -> Iterator[None]:
    """The layer answers so for as long as the context."""
    before = layer.__dict__.get("forward")
    layer.forward = answer
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


def as_written(module: nn.Module) -> None:
    """Modules that run in a form of our own get the class they were written with."""
    for layer in module.modules():
        if (own := getattr(type(layer), "joined_from", None)) is not None:
            layer.__class__ = own
