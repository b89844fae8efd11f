"""Linear layers whose frozen weight is kept quantised, in the place of plain ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuneful.core.layers import blocks
from tuneful.core.packing import release
from tuneful.core.products import Part, Product, Weight
from tuneful.core.quantised import Kind, quantised

NOTHING = torch.empty(0)


class QuantisedLinear(nn.Linear):
    """Answers as the layer did, with the weight made whole for a product and let go after it: the slope needs no copy
    of it either. `weight` are the bytes, in a dtype that no product takes for a weight by mistake."""

    def __init__(self, layer: nn.Linear, kind: Kind, device: torch.device | str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.kept = quantised(kind, layer.weight.detach().to(device))
        self.weight = self.kept.raw
        self.bias = layer.bias
        self.train(layer.training)

    def part(self) -> Part:
        """What a joint product needs to know of this layer."""
        return Part(self.kept, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        answer: Tensor = _Frozen.apply(input, self._product())
        return answer

    def plain(self) -> nn.Linear:
        """The numbers this layer answered with, in float32."""
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        made.weight = nn.Parameter(self.kept.whole().float(), requires_grad=False)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().float(), requires_grad=False)
        return made

    def _product(self) -> Product:
        known: Product | None = self.__dict__.get("_made")
        if known is None or not known.holds([self.part()]):
            self._made = known = Product([self.part()])
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_made"}


class _Frozen(torch.autograd.Function):
    """x (..., I) -> (..., O)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product) -> Tensor:
        ctx.product, ctx.shape = product, x.shape
        y_NO, _ = product.forward(x.reshape(-1, x.shape[-1]))
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        slope_NI, _ = ctx.product.backward(grad.reshape(-1, grad.shape[-1]), NOTHING, None)
        return slope_NI.view(ctx.shape), None


def quantise_layers(module: nn.Module, kind: Kind, device: torch.device | str) -> int:
    """Every linear layer inside the stack of blocks, in place, one after the other on `device`; how many there were.
    Embeddings, norms and what lies above the stack stay as they are."""
    places = [
        (parent, name)
        for parent in blocks(module).modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name in places:
        layer = getattr(parent, name)
        setattr(parent, name, QuantisedLinear(layer, kind, device))
        release(layer.weight)
    return len(places)


def make_plain(module: nn.Module) -> None:
    """Takes `quantise_layers` back, but for what it rounded."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, QuantisedLinear):
                setattr(parent, name, child.plain())


def frozen_weight(layer: nn.Linear) -> Weight:
    """What stands for the weight of a linear layer in a product."""
    return layer.kept if isinstance(layer, QuantisedLinear) else layer.weight


def is_known(layer: nn.Module) -> bool:
    """A linear layer whose numbers are certain: not one that a library gave a weight of its own kind."""
    return type(layer) is QuantisedLinear or (type(layer) is nn.Linear and type(layer.weight) is nn.Parameter)


def count(module: nn.Module) -> int:
    """Weights of a module, each quantised one for one, however many share a byte."""
    missing = sum(
        layer.in_features * layer.out_features - layer.weight.numel()
        for layer in module.modules()
        if isinstance(layer, QuantisedLinear)
    )
    return missing + sum(parameter.numel() for parameter in module.parameters())
