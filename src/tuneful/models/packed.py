"""Attention over packed rows that may share prefixes, as one function in transformers' attention registry.

Rows lie behind one another without padding. A row may be cut into segments that form a tree: a segment attends to
itself and to every token of its ancestors, so a prefix that many rows share is stored, and computed, once. The
result, gradients included, equals that of separate rows.

Shapes: N packed tokens, H query heads, G key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from tuneful.core.device import variable_length_attention
from tuneful.models import scores
from tuneful.models.cut import cut
from tuneful.models.scores import Group, Kept, Settings
from tuneful.models.variable import Variable

NAME = "tuneful_packed"
UNPACKABLE = (
    "softcap",
    "position_bias",
    "s_aux",
)  # arguments that change the scores in ways not written here


class NotPackable(Exception):
    """This architecture's attention does something packed attention does not do; use padded rows."""


class Reading(Protocol):
    """What the tokens of a forward pass attend to; every attention layer asks it. `memo` is for what a layer wants to
    remember as long as this reading lasts, in which no weight changes."""

    @property
    def memo(self) -> dict[Any, Any]: ...
    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor: ...


@dataclass(frozen=True)
class Plan:
    """How the attention of one batch is cut in groups; made once a forward pass."""

    groups: tuple[Group, ...]
    back: Tensor  # (N,) the place of each token in the groups' queries, one group behind the other
    tree: bool  # some keys are read by several segments
    memo: dict[Any, Any] = field(default_factory=dict)
    variable: Variable | None = None  # a kernel of the device, which reads all segments at once

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor:
        """q (N, H, E), k and v (N, G, E) -> (N, H, E), differentiable."""
        if self.variable is not None and self.variable.reads(q, settings):
            return self.variable.attend(q, k, v, settings)
        mixed: Tensor = _Attention.apply(q, k, v, self, settings)
        return mixed

    def forward(self, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> tuple[Tensor, list[Kept]]:
        """The same with what `backward` needs, outside of autograd."""
        parts, kept = [], []
        for group in self.groups:
            if _flash(q, group, settings):
                part, keep = scores.flash_forward(q, k, v, group, settings)
            else:
                part, keep = scores.forward(
                    q, k, v, group, self._bias(group, q.shape[1], k.shape[1], q.dtype, settings), settings
                )
            parts.append(part)
            kept.append(keep)
        return self._in_order(parts), kept

    def backward(self, grad: Tensor, kept: list[Kept], settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
        """grad (N, H, E) -> slopes of q, k and v."""
        slopes = []
        for group, keep in zip(self.groups, kept, strict=True):
            if _flash(grad, group, settings):
                slopes.append(scores.flash_backward(grad, keep, group, settings))
            else:
                bias = self._bias(group, grad.shape[1], len(keep.keys) // group.rows, grad.dtype, settings)
                slopes.append(scores.backward(grad, keep, group, bias, settings))
        grad_q, grad_k, grad_v = zip(*slopes, strict=True)
        if not self.tree:
            return self._in_order(grad_q), self._in_order(grad_k), self._in_order(grad_v)
        of_keys, of_values = self._summed(grad_k, grad_v, len(grad)).to(grad.dtype).chunk(2, 1)
        return self._in_order(grad_q), of_keys, of_values

    def _in_order(self, parts: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, self.back)

    def _summed(self, keys: tuple[Tensor, ...], values: tuple[Tensor, ...], tokens: int) -> Tensor:
        """(N, 2 G, E): many rows add to one prefix, so in float32, not in 8 bits."""
        _, groups, width = keys[0].shape
        total = torch.zeros(tokens, 2 * groups, width, device=keys[0].device)
        for group, of_keys, of_values in zip(self.groups, keys, values, strict=True):
            total.index_add_(0, group.keys, torch.cat([of_keys, of_values], 1).float())
        return total

    def _bias(self, group: Group, heads: int, groups: int, dtype: torch.dtype, settings: Settings) -> Tensor:
        key = (id(group), settings.causal, groups, heads, dtype)
        if key not in self.memo:
            repeats = heads // groups
            self.memo[key] = group.bias(causal=settings.causal, groups=groups, repeats=repeats, dtype=dtype)
        found: Tensor = self.memo[key]
        return found


def plan(segments: Tensor, *, causal: bool) -> Plan:
    """`segments` (S, 3): start, end, parent (-1 = none); parents first, descendants contiguous."""
    device = segments.device
    groups, back = cut(segments.tolist(), causal=causal, chained=device.type != "cpu")
    tree = any(group.keys is not group.queries for group in groups)
    kernel = variable_length_attention(device)
    variable = None if kernel is None else Variable.of(segments.tolist(), kernel, device)
    return Plan(tuple(group.on(device) for group in groups), back.to(device), tree, variable=variable)


def packed_attention(
    module: nn.Module,
    query: Tensor,  # (1, H, N, E)
    key: Tensor,  # (1, G, N, E)
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: Reading | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every layer; `plan` travels down as an extra argument of the model."""
    if plan is None or any(others.get(name) is not None for name in UNPACKABLE):
        raise NotPackable(type(module).__name__)
    # Under autocast the rotary embedding answers in float32, between products in bf16.
    query, key = query.to(value.dtype), key.to(value.dtype)
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    settings = Settings(scaling or query.shape[-1] ** -0.5, causal, dropout)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return plan.attend(module, q, k, v, settings)[None], None


AttentionInterface.register(NAME, packed_attention)


def _flash(q: Tensor, group: Group, settings: Settings) -> bool:
    return group.long and q.device.type == "cpu" and not settings.dropout


class _Attention(torch.autograd.Function):
    """q (N, H, E), k and v (N, G, E) -> (N, H, E)"""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, settings: Settings) -> Tensor:
        mixed, kept = plan.forward(q, k, v, settings)
        ctx.save_for_backward(*flat(kept))
        ctx.plan, ctx.settings = plan, settings
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.plan.backward(grad, unflat(ctx.saved_tensors), ctx.settings), None, None


def flat(kept: Sequence[Kept]) -> list[Tensor | None]:
    """As autograd keeps it."""
    return [tensor for keep in kept for tensor in keep]


def unflat(saved: Sequence[Any]) -> list[Kept]:
    size = len(Kept._fields)
    return [Kept(*saved[at : at + size]) for at in range(0, len(saved), size)]
