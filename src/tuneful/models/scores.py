"""The products inside attention: one block of queries against one block of keys, forward and backward.

Shapes: B segments of L tokens, G key-value heads, R query heads a key-value head, E head width; a block that is a
plain range has B = 1. `spread` is the log-sum-exp of the scores of a query over the keys of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

KEEP = 256  # keys; a block with more computes its probabilities again in the backward pass


@dataclass(frozen=True, slots=True)
class Settings:
    """What one attention layer asks for."""

    scale: float
    causal: bool
    dropout: float = 0.0


class Kept(NamedTuple):
    """What the backward pass of a block reuses: probabilities over the block's own keys, and the dropout mask."""

    shares: Tensor | None
    mask: Tensor | None


def block_forward(
    q: Tensor, k: Tensor, v: Tensor, rows: int, bias: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor, Kept]:
    """q (H, B*L, E), k and v (G, B*K, E) -> mixed (H, B*L, E), spread (H, B*L) float32."""
    queries, keys, values = _fold(q, k, rows), _split(k, rows), _split(v, rows)
    scores = _scores(queries, keys, bias, settings)
    spread = scores.logsumexp(-1)
    shares = (scores - spread[..., None]).exp_().to(q.dtype)
    mask = None
    used = shares
    if settings.dropout:
        mask = F.dropout(torch.ones_like(shares), settings.dropout)
        used = shares * mask
    mixed = _unfold(used @ values, q, rows)
    keep = keys.shape[1] <= KEEP or mask is not None
    return mixed, _unfold(spread[..., None], q, rows)[..., 0], Kept(shares if keep else None, mask)


def block_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: int,
    bias: Tensor | None,
    settings: Settings,
    *,
    grad: Tensor,  # (H, B*L, E) of the joined result
    inner: Tensor,  # (H, B*L) float32, sum over E of grad * joined result
    spread: Tensor,  # (H, B*L) float32, over all keys of the query
    own_spread: Tensor | None,  # over the keys of this block; None = the same
    kept: Kept,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v of this block."""
    queries, keys, values, grads = _fold(q, k, rows), _split(k, rows), _split(v, rows), _fold(grad, v, rows)
    if kept.shares is None:
        total = _fold(spread[..., None], k, rows)
        shares = (_scores(queries, keys, bias, settings) - total).exp_().to(q.dtype)
    elif own_spread is None:
        shares = kept.shares
    else:
        shares = kept.shares * _fold((own_spread - spread).exp()[..., None], k, rows).to(q.dtype)
    slope = grads @ values.transpose(1, 2)
    used = shares
    if kept.mask is not None:
        slope, used = slope * kept.mask, shares * kept.mask
    grad_values = used.transpose(1, 2) @ grads
    slope = slope.sub_(_fold(inner[..., None], k, rows).to(slope.dtype)).mul_(shares).mul_(settings.scale)
    grad_queries = _unfold(slope @ keys, q, rows)
    grad_keys = slope.transpose(1, 2) @ queries
    return grad_queries, _join(grad_keys, k), _join(grad_values, v)


def flash_forward(q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """torch's own CPU kernel for one long segment over itself: (H, L, E), spread (H, L)."""
    keys, values = _expand(k, q), _expand(v, q)
    mixed, spread = _flash().default(q[None], keys[None], values[None], 0.0, settings.causal, scale=settings.scale)
    return mixed[0], spread[0]


def flash_backward(
    q: Tensor, k: Tensor, v: Tensor, settings: Settings, *, grad: Tensor, mixed: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the segment's own part, with the joined result and spread of the whole row."""
    keys, values = _expand(k, q), _expand(v, q)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    given = (grad[None], q[None], keys[None], values[None], mixed[None], spread[None])
    gq, gk, gv = backward(*given, 0.0, settings.causal, scale=settings.scale)
    return gq[0], gk[0].unflatten(0, (k.shape[0], -1)).sum(1), gv[0].unflatten(0, (v.shape[0], -1)).sum(1)


def _flash() -> Any:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _scores(queries: Tensor, keys: Tensor, bias: Tensor | None, settings: Settings) -> Tensor:
    """(G*B, R*L, K) float32."""
    scores = (queries @ keys.transpose(1, 2)).float().mul_(settings.scale)
    if bias is not None:
        repeats = scores.shape[1] // bias.shape[-2]
        scores = scores.unflatten(1, (repeats, -1))
        if bias.dim() == 3:  # one bias a segment; the segments of each head lie together
            scores.unflatten(0, (-1, len(bias))).add_(bias[:, None])
        else:
            scores.add_(bias)
        scores = scores.flatten(1, 2)
    return scores


def _fold(t: Tensor, like: Tensor, rows: int) -> Tensor:
    """(H, B*L, E) -> (G*B, R*L, E): the query heads of one key-value head become more queries."""
    groups = like.shape[0]
    parts = t.unflatten(0, (groups, -1)).unflatten(2, (rows, -1))  # (G, R, B, L, E)
    return parts.transpose(1, 2).flatten(0, 1).flatten(1, 2)


def _unfold(t: Tensor, like: Tensor, rows: int) -> Tensor:
    """(G*B, R*L, E) -> (H, B*L, E)"""
    heads, places = like.shape[:2]
    parts = t.unflatten(0, (-1, rows)).unflatten(2, (-1, places // rows))  # (G, B, R, L, E)
    return parts.transpose(1, 2).reshape(heads, places, -1)


def _split(t: Tensor, rows: int) -> Tensor:
    """(G, B*K, E) -> (G*B, K, E)"""
    return t.unflatten(1, (rows, -1)).flatten(0, 1)


def _join(t: Tensor, like: Tensor) -> Tensor:
    """(G*B, K, E) -> (G, B*K, E)"""
    return t.unflatten(0, (like.shape[0], -1)).flatten(1, 2)


def _expand(t: Tensor, like: Tensor) -> Tensor:
    """(G, L, E) -> (H, L, E)"""
    return t.repeat_interleave(like.shape[0] // t.shape[0], 0)
