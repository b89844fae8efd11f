"""Decoder layers of the common shape, run as one function each (`layer.py`): Llama and its many kin.

Which layers have this shape is found by their parts, and believed only after the network answers as it did before
(`examine.py`). Frozen weights with or without low-rank updates run so; whatever else learns, or is dropped, runs
through the layer's own modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.core.grouped import Grouped, Routes
from tuneful.core.linear import is_known
from tuneful.core.products import Part, Product
from tuneful.models.layer import Block, Layer, Products, run
from tuneful.models.packed import Plan, Reading
from tuneful.models.scores import Settings

SHAPE = {
    "": {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"},
    "self_attn": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "mlp": {"gate_proj", "up_proj", "down_proj", "act_fn"},
}


def join(module: nn.Module) -> int:
    """Gives every decoder layer of the common shape this forward pass, in place; how many there were."""
    layers: list[Any] = [layer for layer in module.modules() if _fits(layer)]
    for layer in layers:
        own = type(layer)
        layer.__class__ = type(own.__name__, (_Joined, own), {"__module__": own.__module__, "joined_from": own})
    return len(layers)


def is_joined(module: nn.Module) -> bool:
    return any(isinstance(layer, _Joined) for layer in module.modules())


def part(module: nn.Module) -> None:
    """Takes `join` back."""
    forget(module)
    joined: list[Any] = [layer for layer in module.modules() if isinstance(layer, _Joined)]
    for layer in joined:
        layer.__class__ = layer.joined_from


def prepare_training(module: nn.Module) -> None:
    """Brings the frozen weights of every joined layer into the orders of its products now, as a part of loading,
    instead of in the first update."""
    for layer in module.modules():
        if isinstance(layer, _Joined) and (products := _products(layer)) is not None:
            for product in products:
                product.prepare()


def finish_training(module: nn.Module) -> None:
    """Gives back what only the backward pass needs; should one come, it is made again."""
    for layer in module.modules():
        for products in layer.__dict__.get("_products", {}).values():
            for product in products:
                product.forget_backward()


def forget(module: nn.Module) -> None:
    """Lets go of what was made of the weights: they have been replaced."""
    for layer in module.modules():
        layer.__dict__.pop("_products", None)


@contextmanager
def parted(module: nn.Module) -> Iterator[None]:
    """The layers as transformers wrote them, for as long as the context."""
    joined = is_joined(module)
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
            # Where the device has a kernel for all segments at once, the layer's own modules call it.
            if isinstance(reading, Plan) and reading.variable is None:
                found: Tensor = Block.apply(hidden_states[0], layer, reading, *learned)
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
    products = _routed(owner, x)
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


def _routed(owner: Any, x: Tensor) -> Products | None:
    """Where the tokens of a pass belong to several tasks, each of whom has an update of its own: the base of all, and
    for each stretch of tokens the updates of its owner."""
    routes = _routes(owner)
    if routes is None or not routes.several:
        alone = _products(owner)
        return None if alone is None else Products(*alone)
    parts, found = routes.parts(x), []
    for adapter, _ in parts:
        with routes.only(adapter):
            found.append(_products(owner))
    own = [products for products in found if products is not None]
    if len(own) < len(found):
        return None
    stretches = [part for _, part in parts]
    return Products(*(
        Grouped(list(zip(of_each, stretches, strict=True))) if of_each[0].rank else of_each[0]
        for of_each in zip(*own, strict=True)
    ))  # fmt: skip


def _routes(owner: Any) -> Routes | None:
    joint = (owner.self_attn, owner.mlp)
    layers = (layer.__dict__ for place in joint for layer in place.children())
    return next((known["routes"] for known in layers if "routes" in known), None)


def _products(owner: Any) -> tuple[Product, ...] | None:
    """Made once for each state of the layer's parts: with updates, whose they are, and with updates switched off."""
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
    known: dict[int, tuple[Product, ...]] = owner.__dict__.setdefault("_products", {})
    updates, routes = any(part.rank for group in parts for part in group), _routes(owner)
    state = 0 if not updates else 1 if routes is None else 1 + routes.current
    made = known.get(state)
    if made is None or not all(product.holds(group) for product, group in zip(made, parts, strict=True)):
        others = next((found for key, found in known.items() if key != state), None) or [None] * len(parts)
        made = tuple(Product(group, pack=True, like=like) for group, like in zip(parts, others, strict=True))
        known[state] = made
    return made


def _part(layer: Any) -> Part | None:
    if hasattr(layer, "part"):
        part: Part | None = layer.part()
        return part
    if not is_known(layer) or _learns(layer.weight) or (layer.bias is not None and _learns(layer.bias)):
        return None
    return Part(layer.weight, layer.bias)


def _learns(weight: Tensor) -> bool:
    return weight.requires_grad and torch.is_grad_enabled()


def _answer(x: Tensor, layer: Layer, reading: Reading, owner: nn.Module) -> Tensor:
    """(N, D) -> (N, D) without a gradient."""
    return run(x, layer, lambda q, k, v: (reading.attend(owner, q, k, v, layer.settings), []))[0]
