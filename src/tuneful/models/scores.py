"""Attention of one group of segments: gather, two products and a softmax, forward and backward.

A group holds B segments padded to L queries and K keys each; the keys of a segment are those of its ancestors, then
its own. Shapes: N packed tokens, H query heads, G key-value heads, R = H / G, E head width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tuneful.core.dropout import dropout_mask

KEEP = 256  # keys a query; a group with more computes its probabilities again in the backward pass


@dataclass(frozen=True, slots=True)
class Settings:
    """What one attention layer asks for."""

    scale: float
    causal: bool
    dropout: float = 0.0


class Kept(NamedTuple):
    """What the backward pass of a group reads again: what was gathered, probabilities (G*B, R*L, K) and the dropout
    mask; of the flash kernel its answer (L, H, E) and log-sum-exp (H, L)."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    shares: Tensor | None = None
    mask: Tensor | None = None
    mixed: Tensor | None = None
    spread: Tensor | None = None


@dataclass(frozen=True)
class Group:
    """`rows` segments of `length` queries and `span` keys each, padded by repeating a token."""

    rows: int
    length: int
    span: int
    queries: Tensor  # (B*L,) packed token of each query
    keys: Tensor  # (B*K,) packed token of each key; the same object where no segment has ancestors
    before: Tensor  # (B,) keys that belong to ancestors
    own: Tensor  # (B,) keys, and queries, of the segment itself
    long: bool = False  # one long segment without ancestors, which a flash kernel reads better
    padded: bool = True  # some queries are padding

    def on(self, device: torch.device) -> Group:
        """The same on a device; itself if it is there."""
        if self.queries.device == device:
            return self
        queries = self.queries.to(device)
        keys = queries if self.keys is self.queries else self.keys.to(device)
        return replace(self, queries=queries, keys=keys, before=self.before.to(device), own=self.own.to(device))

    def real(self) -> Tensor:
        """(B*L, 1, 1) False where a query is padding."""
        return (torch.arange(self.length, device=self.own.device) < self.own[:, None]).view(-1, 1, 1)

    def bias(self, *, causal: bool, groups: int, repeats: int, dtype: torch.dtype) -> Tensor:
        """0 where a query may read a key, else -inf: (1 or G*B, R*L, K)."""
        key = torch.arange(self.span, device=self.own.device)
        if causal:
            last = self.before[:, None] + torch.arange(self.length, device=self.own.device)
            if bool((self.before == self.before[0]).all()):
                last = last[:1]
        else:
            last = (self.before + self.own - 1)[:, None].expand(-1, self.length)
        bias = torch.zeros(*last.shape, self.span, dtype=dtype, device=key.device)
        bias = bias.masked_fill_(key > last[..., None], -torch.inf)  # (1 or B, L, K)
        if len(bias) > 1:
            bias = bias.repeat(groups, 1, 1)
        return bias.repeat(1, repeats, 1)


def forward(q: Tensor, k: Tensor, v: Tensor, group: Group, bias: Tensor, settings: Settings) -> tuple[Tensor, Kept]:
    """q (N, H, E), k and v (N, G, E) -> (B*L, H, E)"""
    queries, keys, values = _gather(q, k, v, group)
    shares = _shares(queries, keys, bias, settings)
    used, mask = shares, None
    if settings.dropout:
        mask = dropout_mask(shares, settings.dropout)
        used = shares * mask
    keep = group.span <= KEEP or mask is not None
    kept = Kept(queries, keys, values, shares if keep else None, mask)
    return _unfold(used @ values, q.shape[1], group), kept


def backward(grad: Tensor, kept: Kept, group: Group, bias: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """grad (N, H, E) -> slopes of the gathered queries (B*L, H, E), keys and values (B*K, G, E)."""
    queries, keys, values = kept.queries, kept.keys, kept.values
    slope_mixed = grad.index_select(0, group.queries)
    if group.padded:  # a padded query repeats a token: it must not add to the slopes twice
        slope_mixed = slope_mixed * group.real().to(grad.dtype)
    slope_mixed = _fold(slope_mixed, len(keys) // group.rows, group)
    shares = _shares(queries, keys, bias, settings) if kept.shares is None else kept.shares
    slope, used = slope_mixed @ values.transpose(1, 2), shares
    if kept.mask is not None:
        slope, used = slope * kept.mask, shares * kept.mask
    grad_values = used.transpose(1, 2) @ slope_mixed
    slope = torch._softmax_backward_data(slope, shares, -1, shares.dtype).mul_(settings.scale)
    grad_queries = _unfold(slope @ keys, grad.shape[1], group)
    return grad_queries, _join(slope.transpose(1, 2) @ queries, group), _join(grad_values, group)


def flash_forward(q: Tensor, k: Tensor, v: Tensor, group: Group, settings: Settings) -> tuple[Tensor, Kept]:
    """torch's own CPU kernel for one long segment over itself."""
    q, k, v = (t.index_select(0, group.queries) for t in (q, k, v))
    mixed, spread = _kernel().default(*_long(q, k, v), 0.0, settings.causal, scale=settings.scale)
    mixed = mixed[0].transpose(0, 1)
    return mixed, Kept(q, k, v, mixed=mixed, spread=spread)


def flash_backward(grad: Tensor, kept: Kept, group: Group, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """As `backward`; grad (N, H, E)."""
    assert kept.mixed is not None
    mixed, slope = (t.transpose(0, 1)[None] for t in (kept.mixed, grad.index_select(0, group.queries)))
    given = (slope, *_long(kept.queries, kept.keys, kept.values), mixed, kept.spread)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    gq, gk, gv = (t[0].transpose(0, 1) for t in kernel(*given, 0.0, settings.causal, scale=settings.scale))
    groups = kept.keys.shape[1]
    return gq, gk.unflatten(1, (groups, -1)).sum(2), gv.unflatten(1, (groups, -1)).sum(2)


def _kernel() -> Any:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _long(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(1, H, L, E) each"""
    repeats = q.shape[1] // k.shape[1]
    q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    return q[None], k.repeat_interleave(repeats, 0)[None], v.repeat_interleave(repeats, 0)[None]


def _gather(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (G*B, R*L, E), keys and values (G*B, K, E)."""
    queries = _fold(q.index_select(0, group.queries), k.shape[1], group)
    keys, values = (t.index_select(0, group.keys).unflatten(0, (group.rows, -1)) for t in (k, v))
    return queries, keys.permute(2, 0, 1, 3).flatten(0, 1), values.permute(2, 0, 1, 3).flatten(0, 1)


def _shares(queries: Tensor, keys: Tensor, bias: Tensor, settings: Settings) -> Tensor:
    """(G*B, R*L, K) probabilities, in the dtype of the queries; the softmax itself runs in float32."""
    bias = bias.expand(len(queries), -1, -1)
    return torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=settings.scale).softmax(-1)


def _fold(t: Tensor, groups: int, group: Group) -> Tensor:
    """(B*L, H, E) -> (G*B, R*L, E): the query heads of one key-value head become more queries."""
    parts = t.view(group.rows, group.length, groups, -1, t.shape[-1])  # (B, L, G, R, E)
    return parts.permute(2, 0, 3, 1, 4).reshape(groups * group.rows, -1, t.shape[-1])


def _unfold(t: Tensor, heads: int, group: Group) -> Tensor:
    """(G*B, R*L, E) -> (B*L, H, E)"""
    parts = t.view(-1, group.rows, t.shape[1] // group.length, group.length, t.shape[-1])  # (G, B, R, L, E)
    return parts.permute(1, 3, 0, 2, 4).reshape(-1, heads, t.shape[-1])


def _join(t: Tensor, group: Group) -> Tensor:
    """(G*B, K, E) -> (B*K, G, E)"""
    return t.unflatten(0, (-1, group.rows)).permute(1, 2, 0, 3).flatten(0, 1)
