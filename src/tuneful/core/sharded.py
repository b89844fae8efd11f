"""Models that do not fit one device: every rank keeps a share of each weight (Zhao et al. 2023, arXiv:2304.11277).

torch's `fully_shard` brings the weights of a layer together for as long as it computes, and adds up gradients over the
ranks in the backward pass. A weight is then a DTensor between two passes, which only this file knows. What lies outside
the layers (embeddings, last norm, heads) is read in many places, so it is brought together for a whole pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tuneful.core.device import is_first, mesh
from tuneful.core.errors import CheckpointError, ModelError, RecipeError
from tuneful.core.layers import blocks

if TYPE_CHECKING:
    from tuneful.core.protocols import Attached


def is_sharded(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every rank; all ranks must ask."""
    return _brought_together(tensor) if isinstance(tensor, DTensor) else tensor


def for_saving(tensor: Tensor) -> Tensor:
    """All of it, on the first rank, which saves; of a sharded one the others get nothing, to spare their memory."""
    if not isinstance(tensor, DTensor):
        return tensor
    found = _brought_together(tensor.detach())
    return found.cpu() if is_first() else torch.empty(0)


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """The first rank's `value`, laid out as the parameter is."""
    if not isinstance(parameter, DTensor) or not value.dim():
        return value.clone().to(parameter.device)
    given = value.to(parameter.dtype) if is_first() else torch.empty(parameter.shape, dtype=parameter.dtype)
    return distribute_tensor(given, parameter.device_mesh, parameter.placements)


class Sharded:
    """An attached adapter whose module is shared out; it keeps the contract of `Attached`."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        with attached.original() as original:
            owned = {id(parameter) for parameter in attached.module.parameters()}
            apart = original is not attached.module
            if apart and any(id(parameter) in owned for parameter in original.parameters()):
                raise RecipeError(["sharded: this adapter keeps weights in common with the model as it was; "
                                   "'lora' and 'full' can be sharded"])  # fmt: skip
        self._roots = {attached.module: _shard(attached.module)}
        if apart:
            self._roots[original] = _shard(original)

    @property
    def module(self) -> nn.Module:
        return self._attached.module

    def trainable(self) -> dict[str, nn.Parameter]:
        return self._attached.trainable()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What lies outside the layers is at hand, for one forward and backward pass or for many without a slope."""
        self._roots[self.module]()
        try:
            yield
        finally:
            for root in self._roots.values():
                root.reshard()

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        """Inside `gathered`."""
        with self._attached.original() as module:
            if module is not self.module:
                self._roots[module]()
            yield module

    def distance(self) -> Tensor:
        raise RecipeError(["regularisers: the distance from the start needs whole weights; leave out sharded"])

    def nearer(self, share: float) -> None:
        raise RecipeError(["interpolate: the way back to the start needs whole weights; leave out sharded"])

    def sloped(self) -> AbstractContextManager[dict[str, nn.Parameter]]:
        raise RecipeError(["regularisers: slopes of whole weights are at no rank; leave out sharded"])

    def pull(self, since: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        raise RecipeError(["regularisers: a pull at whole weights needs them; leave out sharded"])

    def state(self) -> dict[str, Tensor]:
        """On the first rank; see `for_saving`."""
        return {name: for_saving(parameter) for name, parameter in self.trainable().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        parameters = self.trainable()
        if set(parameters) != set(state):
            odd = sorted(set(parameters) ^ set(state))[0]
            raise CheckpointError(f"the saved weights do not belong to this adapter: '{odd}' is on one side only")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(like(parameter, state[name]))

    def merged(self) -> nn.Module:
        raise ModelError(
            "a sharded model is not merged while it learns; afterwards: tuneful.load(run).save_merged(folder)"
        )

    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """All ranks; the first one writes."""
        weights = weights or self.state()
        if is_first():
            self._attached.save(folder, weights)


class _Root(nn.Module):
    """A model as `fully_shard` wants to see it: its forward pass brings together what lies outside the layers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self) -> None:
        """The hooks around it do the work."""


def _brought_together(tensor: Any) -> Tensor:
    found: Tensor = tensor.full_tensor()
    return found


def _shard(module: nn.Module) -> Any:
    for block in blocks(module):
        fully_shard(block, mesh=mesh(), reshard_after_forward=True)
    root: Any = fully_shard(_Root(module), mesh=mesh())
    for part in root.modules():
        if isinstance(part, FSDPModule):
            # The engine divides by the units of the whole step, so gradients are sums; gloo has no scaled ones.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    root()
    for part in root.modules():
        if isinstance(part, FSDPModule):
            part.unshard()  # once now, while everything that learns says so: the gathered weights remember it
            part.reshard()
    return root
