"""What every adapter asks of a module's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.core.errors import CheckpointError


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def copy_into(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Writes saved weights in place. Raises CheckpointError when names or shapes do not fit."""
    if set(parameters) != set(state):
        odd = sorted(set(parameters) ^ set(state))[0]
        raise CheckpointError(f"the saved weights do not belong to this adapter: '{odd}' is on one side only")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise CheckpointError(
                    f"the saved weights do not belong to this adapter: '{name}' is {tuple(state[name].shape)}, "
                    f"expected {tuple(parameter.shape)}"
                )
            parameter.copy_(state[name])


class Learning:
    """A module some of whose weights learn, as `core.protocols.Learning` has it."""

    _module: nn.Module

    @property
    def module(self) -> nn.Module:
        return self._module

    def trainable(self) -> dict[str, nn.Parameter]:
        return trainable(self._module)

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trainable().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        copy_into(self.trainable(), state)


def head_names(module: nn.Module) -> list[str]:
    """The parts of a model that are not its pretrained body: the classification head, whatever it is called."""
    body = getattr(module, "base_model", None)
    return [
        name
        for name, child in module.named_children()
        if child is not body and next(child.parameters(), None) is not None
    ]


def vocabulary_head(module: Any) -> list[nn.Parameter]:
    """The output matrix of a language model; empty for a classifier."""
    output = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    return list(output.parameters()) if output is not None else []


def put_body(module: Any, body: nn.Module) -> None:
    """Gives a module another body of its kind. An output matrix that was the input embedding is that of the new one."""
    setattr(module, module.base_model_prefix, body)
    if hasattr(module, "tie_weights"):
        module.tie_weights()


class Pull(torch.autograd.Function):
    """A weight, what it was, and how much each of its numbers counts -> () sum of that times the squared change. Its
    slope alone waits for the backward pass."""

    @staticmethod
    def forward(ctx: Any, now: Tensor, then: Tensor, counts: Tensor) -> Tensor:
        apart = now - then
        slope = counts * apart
        ctx.save_for_backward(slope)
        return (slope * apart).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return 2 * grad * slope, None, None


class PullOfProduct(torch.autograd.Function):
    """The same for the update s B A of A (K, I) and B (O, K), of which each number of (O, I) counts differently: made
    whole here, with its slope, and let go. Those of A and B wait for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, down_KI: Tensor, up_OK: Tensor, then: tuple[Tensor, Tensor], scale: float, counts_OI: Tensor
    ) -> Tensor:
        apart_OI = (up_OK @ down_KI).sub_(then[1] @ then[0]).mul_(scale)
        slope_OI = counts_OI * apart_OI
        ctx.save_for_backward(scale * (up_OK.T @ slope_OI), scale * (slope_OI @ down_KI.T))
        return (slope_OI * apart_OI).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        down_KI, up_OK = ctx.saved_tensors
        return 2 * grad * down_KI, 2 * grad * up_OK, None, None, None
