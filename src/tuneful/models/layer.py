"""The numbers of a decoder layer of the common shape, forward and backward.

    x -> x + O(attention(rotary(Q, K, V (norm x))))  ->  x + Down(silu(Gate (norm x)) * Up (norm x))

Shapes: N packed tokens, D width, H query heads, G key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuneful.core.grouped import Grouped
from tuneful.core.products import Product
from tuneful.models import pieces
from tuneful.models.packed import Plan, flat, unflat
from tuneful.models.scores import Kept, Settings

Attend = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, list[Kept]]]  # q (N, H, E), k and v (N, G, E) -> (N, H, E)
NOWHERE = torch.empty(0)


class Products(NamedTuple):
    """The linear layers of one decoder layer."""

    attention: Product | Grouped  # query, key and value
    output: Product | Grouped
    gates: Product | Grouped  # gate and up
    down: Product | Grouped

    @property
    def learned(self) -> list[nn.Parameter]:
        return [parameter for product in self for parameter in product.learned]


class Layer(NamedTuple):
    """What one forward pass of a layer needs beside its input."""

    products: Products
    norms: tuple[Tensor, Tensor]  # weights (D,)
    epsilons: tuple[float, float]
    width: int  # of a head
    heads: int
    key_heads: int
    settings: Settings
    cos: Tensor = NOWHERE  # (N, E / 2)
    sin: Tensor = NOWHERE

    def split(self, joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[q | k | v] -> (N, H, E), (N, G, E), (N, G, E), views."""
        q, k, v = joint.view(len(joint), -1, self.width).split([self.heads, self.key_heads, self.key_heads], 1)
        return q, k, v

    def turned(self, joint: Tensor) -> Tensor:
        """The queries and keys of [q | k | v]."""
        return joint.view(len(joint), -1, self.width)[:, : self.heads + self.key_heads]


class State(NamedTuple):
    """What the backward pass reads again."""

    x: Tensor
    inverse: Tensor
    mixed: Tensor
    middle: Tensor  # x and what attention added
    middle_inverse: Tensor
    both: Tensor  # [gate | up]
    lows: tuple[Tensor | None, ...]  # A x of the four products
    kept: list[Kept]


def run(x: Tensor, layer: Layer, attend: Attend) -> tuple[Tensor, State]:
    """(N, D) -> (N, D), and what `slopes` reads again."""
    products = layer.products
    inverse = pieces.root_mean_square(x, layer.epsilons[0])
    joint, low_1 = products.attention.forward(pieces.normed(x, inverse, layer.norms[0]))
    pieces.rotate_(layer.turned(joint), layer.cos, layer.sin)
    mixed, kept = attend(*layer.split(joint))
    mixed = mixed.flatten(1)
    added, low_2 = products.output.forward(mixed)
    middle = added.add_(x)
    middle_inverse = pieces.root_mean_square(middle, layer.epsilons[1])
    both, low_3 = products.gates.forward(pieces.normed(middle, middle_inverse, layer.norms[1]))
    added, low_4 = products.down.forward(pieces.gated(both))
    state = State(x, inverse, mixed, middle, middle_inverse, both, (low_1, low_2, low_3, low_4), kept)
    return added.add_(middle), state


def slopes(grad: Tensor, layer: Layer, plan: Plan, state: State, *, slope: bool) -> tuple[Tensor | None, list[Tensor]]:
    """Slopes of x (None unless `slope`) and of what is learned, in the order of `Products.learned`."""
    products, lows = layer.products, state.lows
    opened, inner = pieces.gated_parts(state.both)
    slope_inner, of_down = products.down.backward(grad, inner, lows[3])
    slope_both = pieces.gated_slope(slope_inner, opened, state.both)
    read = pieces.normed(state.middle, state.middle_inverse, layer.norms[1])
    slope_read, of_gates = products.gates.backward(slope_both, read, lows[2])
    grad = _through_norm(slope_read, state.middle, state.middle_inverse, layer.norms[1], grad)
    slope_mixed, of_output = products.output.backward(grad, state.mixed, lows[1])
    heads = slope_mixed.view(len(grad), layer.heads, layer.width)
    of_heads = plan.backward(heads, state.kept, layer.settings)
    slope_joint = torch.cat([part.flatten(1) for part in of_heads], 1)
    pieces.rotate_(layer.turned(slope_joint), layer.cos, layer.sin, back=True)
    read = pieces.normed(state.x, state.inverse, layer.norms[0])
    slope_read, of_attention = products.attention.backward(slope_joint, read, lows[0], slope=slope)
    answer = _through_norm(slope_read, state.x, state.inverse, layer.norms[0], grad) if slope else None
    return answer, [*of_attention, *of_output, *of_gates, *of_down]


def _through_norm(slope: Tensor, x: Tensor, inverse: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
    """The slope of x by way of its norm, and what came past it."""
    return pieces.normed_slope(slope, x, inverse, weight).add_(beside).to(beside.dtype)


class Block(torch.autograd.Function):
    """x (N, D) -> (N, D)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, plan: Plan, *learned: Tensor) -> Tensor:
        answer, state = run(x, layer, lambda q, k, v: plan.forward(q, k, v, layer.settings))
        *tensors, lows, kept = state
        ctx.save_for_backward(*tensors, *lows, *flat(kept))
        ctx.layer, ctx.plan = layer, plan
        return answer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, plain, lows = ctx.saved_tensors, len(State._fields) - 2, len(Products._fields)
        state = State(*saved[:plain], saved[plain : plain + lows], unflat(saved[plain + lows :]))  # type: ignore[call-arg]
        slope, grads = slopes(grad, ctx.layer, ctx.plan, state, slope=ctx.needs_input_grad[0])
        return slope, None, None, *grads
