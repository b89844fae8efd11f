"""How the weights of a product lie in memory: as they are, in the block order of oneDNN, made once, or quantised.

The second is for frozen weights in bf16 on a CPU, where oneDNN otherwise reorders the plain matrix each time: a fifth
of the time at 288 tokens, half at 16. One copy serves the forward pass, one the backward pass, which is made when it
is first asked for. The third is made whole for each product, which costs a fifth of its time at 256 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import torch
from torch import Tensor

from tuneful.core.quantised import Quantised

TOKENS = 256  # the length of input the order is chosen for; others are within a hundredth of their best


class Plain:
    """W (O, I) as it is. Shapes: N tokens."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.weight_OI = weight_OI

    def prepare(self) -> None:
        """Nothing to do."""

    def forget_backward(self) -> None:
        """Nothing was made for it."""

    def across(self, x_NI: Tensor, beside_NO: Tensor | None, bias_O: Tensor | None) -> Tensor:
        """x W' + bias + beside, summed in the accumulator of the product and rounded once."""
        if beside_NO is not None and bias_O is not None:
            beside_NO = beside_NO + bias_O
        return _plus(bias_O if beside_NO is None else beside_NO, x_NI, self.weight_OI.T)

    def back(self, grad_NO: Tensor, beside_NI: Tensor | None) -> Tensor:
        """grad W + beside, in the same way."""
        return _plus(beside_NI, grad_NO, self.weight_OI)


class Packed:
    """The same for frozen weights (O, I) side by side, which are read once for each order that is asked for."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = tuple(weights)

    def prepare(self) -> None:
        """Both orders."""
        _ = self._forward, self._backward

    def forget_backward(self) -> None:
        """Gives back the order of the backward pass; it is made again if somebody asks for it."""
        self.__dict__.pop("_backward", None)

    def across(self, x_NI: Tensor, beside_NO: Tensor | None, bias_O: Tensor | None) -> Tensor:
        return _product(x_NI, self._forward, beside_NO, bias_O)

    def back(self, grad_NO: Tensor, beside_NI: Tensor | None) -> Tensor:
        return _product(grad_NO, self._backward, beside_NI, None)

    @cached_property
    def _forward(self) -> Tensor:
        return self._reordered(lambda joined_OI: joined_OI)

    @cached_property
    def _backward(self) -> Tensor:
        return self._reordered(lambda joined_OI: joined_OI.T)

    def _reordered(self, turn: Callable[[Tensor], Tensor]) -> Tensor:
        joined = (
            torch.cat([weight.detach() for weight in self._weights]) if len(self._weights) > 1 else self._weights[0]
        )
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(turn(joined.detach()), TOKENS)
        for weight in self._weights:
            release(weight)
        return packed


class Dequantised:
    """The same for quantised weights (O, I) side by side, whole only as long as a product takes."""

    def __init__(self, weights: Sequence[Quantised]) -> None:
        self._weights = tuple(weights)

    def prepare(self) -> None:
        """Nothing to do."""

    def forget_backward(self) -> None:
        """Nothing was made for it."""

    def across(self, x_NI: Tensor, beside_NO: Tensor | None, bias_O: Tensor | None) -> Tensor:
        parts = [part for weight in self._weights if (part := weight.times(x_NI)) is not None]
        if len(parts) < len(self._weights):
            return Plain(self._whole()).across(x_NI, beside_NO, bias_O)
        found = torch.cat(parts, 1) if len(parts) > 1 else parts[0]  # writing: here the update is rounded apart
        for more in (beside_NO, bias_O):
            found = found if more is None else found.add_(more)
        return found

    def back(self, grad_NO: Tensor, beside_NI: Tensor | None) -> Tensor:
        return Plain(self._whole()).back(grad_NO, beside_NI)

    def _whole(self) -> Tensor:
        first, sizes = self._weights[0], [len(weight) for weight in self._weights]
        if len(sizes) == 1:
            return first.whole()
        joined_OI = torch.empty(sum(sizes), first.shape[1], dtype=first.dtype, device=first.device)
        for weight, place_OI in zip(self._weights, joined_OI.split(sizes), strict=True):
            weight.whole(place_OI)
        return joined_OI


def release(weight: Tensor) -> None:
    """Gives the memory of a weight back that lies on disk as well, and is not needed from here on."""
    if (give_back := getattr(weight, "release", None)) is not None:
        give_back()


def packs(weight: Tensor) -> bool:
    """Whether this torch, on this machine, has such products for this weight."""
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _works()


@cache
def _works() -> bool:
    """The operators are the compiler's own, without a promise for other versions of torch: tried once."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        weight = torch.ones(16, 32, dtype=torch.bfloat16)
        found = Packed([weight]).across(torch.ones(4, 32, dtype=torch.bfloat16), weight[:4, :16] * 2, None)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    return bool((found == 34).all())


def _product(x: Tensor, packed: Tensor, beside: Tensor | None, bias: Tensor | None) -> Tensor:
    linear = torch.ops.mkldnn._linear_pointwise
    found: Tensor = (
        linear(x, packed, bias, "none", [], "") if beside is None else linear(x, beside, packed, bias, "add")
    )
    return found


def _plus(start: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    return left @ right if start is None else torch.addmm(start, left, right)
