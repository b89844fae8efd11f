"""PEFT's LoRA layers with the same parameters and the same meaning, computed as `core/products.py` says."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

from tuneful.core.grouped import Grouped
from tuneful.core.linear import frozen_weight, is_known
from tuneful.core.products import Part, Product


def fuse(module: nn.Module) -> int:
    """Gives every plain LoRA layer the one-product form, in place; how many there were."""
    layers: list[Any] = [layer for layer in module.modules() if _is_plain(layer)]
    for layer in layers:
        layer.__class__ = FusedLinear
    return len(layers)


def _is_plain(layer: Any) -> bool:
    return (
        type(layer) is Linear
        and is_known(layer.get_base_layer())
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and not any(layer.lora_bias.values())
        and len(layer.active_adapters) == 1
    )


def forget_between_passes(module: nn.Module) -> None:
    """Every pass makes its product anew: the weights come and go (`core/sharded.py`)."""
    for layer in module.modules():
        if isinstance(layer, FusedLinear):
            layer.remembers = False


def forget_parts(module: nn.Module) -> None:
    """Which layers can be part of a joint product is asked anew: what learns is another matter now."""
    for layer in module.modules():
        if isinstance(layer, FusedLinear):
            layer.__dict__.pop("_parts", None)


class FusedLinear(Linear):  # type: ignore[misc]
    """A frozen linear layer and its low-rank update."""

    remembers = True

    @property
    def answering(self) -> str:
        """PEFT's name of the adapter that answers."""
        name: str = self.active_adapters[0]
        return name

    def part(self) -> Part | None:
        """What a joint product needs to know of this layer; None while it is not a plain sum (merged, or dropout)."""
        return self._known_part(self.answering, self._disable_adapters, bool(self.merged_adapters), self.training)

    def _known_part(self, name: str, *state: bool) -> Part | None:
        if not self.remembers:
            return self._part(name, *state)
        known: dict[tuple[object, ...], Part | None] = self.__dict__.setdefault("_parts", {})
        if (name, *state) not in known:
            known[name, *state] = self._part(name, *state)
        return known[name, *state]

    def _part(self, name: str, disabled: bool, merged: bool, training: bool) -> Part | None:
        base = self.get_base_layer()
        if merged or base.weight.requires_grad:
            return None
        if disabled:
            return Part(frozen_weight(base), base.bias)
        if training and not isinstance(self.lora_dropout[name], nn.Identity):
            return None
        learned = self.lora_A[name].weight, self.lora_B[name].weight
        return Part(frozen_weight(base), base.bias, *learned, self.scaling[name])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.get_base_layer()
        if self.disable_adapters or self.merged or base.weight.requires_grad:
            return super().forward(x, *args, **kwargs)
        dropped = self.lora_dropout[self.answering](x)
        product = self.product_for(x)
        return _OneProduct.apply(x, dropped if dropped is not x else None, base.bias, product, *product.learned)

    def product_for(self, x: Tensor) -> Product | Grouped:
        """What the tokens of x are multiplied by."""
        return self.product()

    def product(self) -> Product:
        """Made once, and again when the weights are others (moved, cast, copied)."""
        part = self._known_part(self.answering, False, False, False)
        assert part is not None
        if not self.remembers:
            return Product([part])
        made: dict[str, Product] = self.__dict__.setdefault("_made", {})
        known = made.get(self.answering)
        if known is None or not known.holds([part]):
            made[self.answering] = known = Product([part])
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_made", "_parts")}


class _OneProduct(torch.autograd.Function):
    """x (..., I) -> (..., O)"""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, bias_O: Tensor | None, product: Product | Grouped, *learned: Tensor
    ) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        seen_NI = None if dropped is None else dropped.reshape(-1, x.shape[-1])
        y_NO, low_NK = product.forward(x_NI, seen_NI=seen_NI)
        ctx.save_for_backward(x_NI if seen_NI is None else seen_NI, low_NK)
        ctx.product, ctx.apart, ctx.shape = product, dropped is not None, x.shape
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        read_NI, low_NK = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        bias, apart = grad_NO.sum(0) if ctx.needs_input_grad[2] else None, None
        if ctx.apart:
            slope, apart, grads = ctx.product.backward_apart(grad_NO, read_NI, low_NK)
            return slope.view(ctx.shape), apart.view(ctx.shape), bias, None, *grads
        slope, grads = ctx.product.backward(grad_NO, read_NI, low_NK, slope=ctx.needs_input_grad[0])
        return slope.view(ctx.shape) if ctx.needs_input_grad[0] else None, None, bias, None, *grads
