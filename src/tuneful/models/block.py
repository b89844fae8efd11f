"""A decoder layer of the common shape as one function with its gradient written by hand.

    x -> x + O(attention(rotary(Q, K, V (norm x))))  ->  x + Down(silu(Gate (norm x)) * Up (norm x))

Llama and its many kin. Which layers have this shape is found by their parts, and believed only after the network
answers as it did before (`network.py`). Frozen weights with or without low-rank updates run here; whatever else
learns, or is dropped, runs through the layer's own modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuneful.core.layers import as_written
from tuneful.core.products import Part, Product
from tuneful.models import pieces
from tuneful.models.packed import Plan, Reading, flat, unflat
from tuneful.models.scores import Kept, Settings

SHAPE = {
    "": {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"},
    "self_attn": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "mlp": {"gate_proj", "up_proj", "down_proj", "act_fn"},
}


NOWHERE = torch.empty(0)


class Products(NamedTuple):
    """The linear layers of one decoder layer."""

    attention: Product  # query, key and value
    output: Product
    gates: Product  # gate and up
    down: Product

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


def join(module: nn.Module) -> int:
    """Gives every decoder layer of the common shape this forward pass, in place; how many there were."""
    layers: list[Any] = [layer for layer in module.modules() if _fits(layer)]
    for layer in layers:
        own = type(layer)
        layer.__class__ = type(own.__name__, (_Joined, own), {"__module__": own.__module__, "joined_from": own})
    return len(layers)


def part(module: nn.Module) -> None:
    """Takes `join` back."""
    forget(module)
    as_written(module)


def prepare_training(module: nn.Module) -> None:
    """Brings the frozen weights of every joined layer into the orders of its products now, as a part of loading,
    instead of in the first update."""
    for layer in module.modules():
        if isinstance(layer, _Joined) and (products := _products(layer)) is not None:
            for product in products:
                product.prepare()


def forget(module: nn.Module) -> None:
    """Lets go of what was made of the weights: they have been replaced."""
    for layer in module.modules():
        layer.__dict__.pop("_products", None)


@contextmanager
def parted(module: nn.Module) -> Iterator[None]:
    """The layers as transformers wrote them, for as long as the context."""
    joined = any(isinstance(layer, _Joined) for layer in module.modules())
    part(module)
    try:
        yield
    finally:
        if joined:
            join(module)


def _fits(layer: nn.Module) -> bool:
    if isinstance(layer, _Joined):
        return False
    for place, names in SHAPE.items():
        child = layer.get_submodule(place) if not place or hasattr(layer, place) else None
        if child is None or {name for name, _ in child.named_children()} != names:
            return False
    gate = layer.get_submodule("mlp.act_fn")
    return isinstance(gate, nn.SiLU) or type(gate).__name__ == "SiLUActivation"


class _Joined:
    """Mixed into a decoder layer's own class."""

    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        reading: Reading | None = kwargs.get("plan")
        layer = None if args or reading is None else _layer(self, hidden_states, reading, kwargs)
        if layer is not None and reading is not None:
            learned = layer.products.learned if torch.is_grad_enabled() else []
            if not learned and not (torch.is_grad_enabled() and hidden_states.requires_grad):
                return _answer(hidden_states[0], layer, reading, self.self_attn)[None]
            if isinstance(reading, Plan):
                found: Tensor = _Block.apply(hidden_states[0], layer, reading, *learned)
                return found[None]
        answer: Tensor = super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        return answer

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_products"}


def _layer(owner: Any, x: Tensor, reading: Reading, given: Mapping[str, Any]) -> Layer | None:
    """None where something learns, or is dropped, that is not written here. What does not change while a reading
    lasts is asked once."""
    positions = given.get("position_embeddings")
    if owner not in reading.memo:
        reading.memo[owner] = _settled(owner, x)
    layer: Layer | None = reading.memo[owner]
    if layer is None or positions is None:
        return None
    known = reading.memo.get("turn")
    if known is None or known[0] is not positions:
        half = layer.width // 2
        reading.memo["turn"] = known = (positions, *(table[0, :, :half] for table in positions))
    return layer._replace(cos=known[1], sin=known[2])


def _settled(owner: Any, x: Tensor) -> Layer | None:
    norms = (owner.input_layernorm, owner.post_attention_layernorm)
    products = _products(owner)
    if products is None or any(_learns(norm.weight) for norm in norms):
        return None
    if torch.is_autocast_enabled(x.device.type) or x.dtype != products.attention.dtype or x.dtype == torch.float64:
        return None
    attention = owner.self_attn
    width = attention.head_dim
    dropout = attention.attention_dropout if owner.training else 0.0
    return Layer(
        products,
        (norms[0].weight, norms[1].weight),
        (_epsilon(norms[0]), _epsilon(norms[1])),
        width,
        products.output.inputs // width,
        (products.attention.outputs - products.output.inputs) // width // 2,
        Settings(attention.scaling, True, dropout),
    )


def _epsilon(norm: Any) -> float:
    return float(getattr(norm, "variance_epsilon", None) or norm.eps)


def _products(owner: Any) -> Products | None:
    """Made once for each state of the layer's parts: with updates, and with updates switched off."""
    attention, mlp = owner.self_attn, owner.mlp
    joint = (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )
    parts = [[part for layer in layers if (part := _part(layer)) is not None] for layers in joint]
    if any(len(found) < len(layers) for found, layers in zip(parts, joint, strict=True)):
        return None
    known: dict[bool, Products] = owner.__dict__.setdefault("_products", {})
    updates = any(part.rank for group in parts for part in group)
    made = known.get(updates)
    if made is None or not all(product.holds(group) for product, group in zip(made, parts, strict=True)):
        others = known.get(not updates) or [None] * len(parts)
        products = [Product(group, pack=True, like=like) for group, like in zip(parts, others, strict=True)]
        known[updates] = made = Products(*products)
    return made


def _part(layer: Any) -> Part | None:
    if hasattr(layer, "part"):
        part: Part | None = layer.part()
        return part
    if type(layer) is not nn.Linear or _learns(layer.weight):
        return None
    return Part(layer.weight, layer.bias)


def _learns(weight: Tensor) -> bool:
    return weight.requires_grad and torch.is_grad_enabled()


def _answer(x: Tensor, layer: Layer, reading: Reading, owner: nn.Module) -> Tensor:
    """(N, D) -> (N, D) without a gradient."""
    products = layer.products
    joint, _ = products.attention.forward(pieces.normed(x, _inverse(x, layer, 0), layer.norms[0]))
    pieces.rotate_(layer.turned(joint), layer.cos, layer.sin)
    mixed = reading.attend(owner, *layer.split(joint), layer.settings)
    x = x + products.output.forward(mixed.flatten(1))[0]
    both, _ = products.gates.forward(pieces.normed(x, _inverse(x, layer, 1), layer.norms[1]))
    return products.down.forward(pieces.gated(both))[0].add_(x)


def _inverse(x: Tensor, layer: Layer, norm: int) -> Tensor:
    return pieces.root_mean_square(x, layer.epsilons[norm])


def _forward(x: Tensor, layer: Layer, plan: Plan) -> tuple[Tensor, State]:
    products = layer.products
    inverse = _inverse(x, layer, 0)
    joint, low_1 = products.attention.forward(pieces.normed(x, inverse, layer.norms[0]))
    pieces.rotate_(layer.turned(joint), layer.cos, layer.sin)
    mixed, kept = plan.forward(*layer.split(joint), layer.settings)
    mixed = mixed.flatten(1)
    added, low_2 = products.output.forward(mixed)
    middle = added.add_(x)
    middle_inverse = _inverse(middle, layer, 1)
    both, low_3 = products.gates.forward(pieces.normed(middle, middle_inverse, layer.norms[1]))
    added, low_4 = products.down.forward(pieces.gated(both))
    state = State(x, inverse, mixed, middle, middle_inverse, both, (low_1, low_2, low_3, low_4), kept)
    return added.add_(middle), state


def _backward(
    grad: Tensor, layer: Layer, plan: Plan, state: State, *, slope: bool
) -> tuple[Tensor | None, list[Tensor]]:
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
    slopes = plan.backward(heads, state.kept, layer.settings)
    slope_joint = torch.cat([part.flatten(1) for part in slopes], 1)
    pieces.rotate_(layer.turned(slope_joint), layer.cos, layer.sin, back=True)
    read = pieces.normed(state.x, state.inverse, layer.norms[0])
    slope_read, of_attention = products.attention.backward(slope_joint, read, lows[0], slope=slope)
    answer = _through_norm(slope_read, state.x, state.inverse, layer.norms[0], grad) if slope else None
    return answer, [*of_attention, *of_output, *of_gates, *of_down]


def _through_norm(slope: Tensor, x: Tensor, inverse: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
    """The slope of x by way of its norm, and what came past it."""
    return pieces.normed_slope(slope, x, inverse, weight).add_(beside).to(beside.dtype)


class _Block(torch.autograd.Function):
    """x (N, D) -> (N, D)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, plan: Plan, *learned: Tensor) -> Tensor:
        answer, state = _forward(x, layer, plan)
        *tensors, lows, kept = state
        ctx.save_for_backward(*tensors, *lows, *flat(kept))
        ctx.layer, ctx.plan = layer, plan
        return answer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, plain, lows = ctx.saved_tensors, len(State._fields) - 2, len(Products._fields)
        state = State(*saved[:plain], saved[plain : plain + lows], unflat(saved[plain + lows :]))  # type: ignore[call-arg]
        slope, grads = _backward(grad, ctx.layer, ctx.plan, state, slope=ctx.needs_input_grad[0])
        return slope, None, None, *grads
