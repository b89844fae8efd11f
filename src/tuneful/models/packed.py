"""Attention over packed rows that may share prefixes, as one function in transformers' attention registry.

Rows lie behind one another without padding. A row may be cut into segments that form a tree: a segment attends to
itself and to every token of its ancestors, so a prefix that many rows share is stored, and computed, once. The
result, gradients included, equals that of separate rows.

Shapes: N packed tokens, P padded places, H query heads, G key-value heads, E head width. Every token belongs to the
own block of one segment; segments of similar length are padded to one group. Ancestors are read in further blocks,
and partial results are joined by their log-sum-exp (Dao et al. 2022, arXiv:2205.14135, section 3.1; the backward
pass is theirs with the statistics of the whole row, which makes it exact for every block).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from tuneful.models import scores
from tuneful.models.scores import Kept, Settings

NAME = "tuneful_packed"
LONG = 512  # tokens of a segment; longer ones go through torch's flash kernel on the CPU, else are cut in a chain
EVEN = 16  # a group's length is a multiple of this: the kernels made for each new shape stay in memory
AREA = 1 << 19  # scores a head of one block: bounds the memory of a block whatever the rows are
UNPACKABLE = (
    "softcap",
    "position_bias",
    "s_aux",
)  # arguments that change the scores in ways not written here


class NotPackable(Exception):
    """This architecture's attention does something packed attention does not do; use padded rows."""


@dataclass(frozen=True, slots=True)
class Group:
    """`rows` segments padded to `length` places each, from place `offset` of the padded order on."""

    offset: int
    rows: int
    length: int
    real: Tensor | None  # (rows, length) False at padding; None = nothing is padded

    @property
    def places(self) -> slice:
        return slice(self.offset, self.offset + self.rows * self.length)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A range of packed tokens whose keys a range of later tokens, its descendants, reads in full."""

    queries: slice
    keys: slice


class Reading(Protocol):
    """What the tokens of a forward pass attend to; every attention layer asks it."""

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How the attention of one batch is cut in blocks; made once a forward pass."""

    groups: tuple[Group, ...]
    ancestors: tuple[Ancestor, ...]
    places: Tensor  # (P,) which token fills each padded place
    back: Tensor  # (N,) the place of each token

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor:
        """q (H, N, E), k and v (G, N, E) -> (H, N, E), differentiable."""
        mixed: Tensor = _Attention.apply(q, k, v, self, settings)
        return mixed


def plan(segments: Tensor, *, causal: bool) -> Plan:
    """`segments` (S, 3): start, end, parent (-1 = none); parents first, descendants contiguous."""
    table = [(start, end, parent) for start, end, parent in segments.tolist()]
    ancestors = list(_ancestors(table))
    pieces = [(start, end) for start, end, _ in table if end > start]
    if causal and segments.device.type != "cpu":
        pieces, chained = _chain(pieces)
        ancestors += chained
    groups, places = _groups(pieces, segments.device)
    index = torch.tensor(places, device=segments.device)
    back = torch.empty(sum(end - start for start, end in pieces), dtype=torch.long, device=segments.device)
    # Padding repeats a token that came before it, so writing backwards leaves its first, real place.
    back[index.flip(0)] = torch.arange(len(index) - 1, -1, -1, device=segments.device)
    return Plan(groups, tuple(ancestors), index, back)


def _ancestors(table: list[tuple[int, int, int]]) -> Iterator[Ancestor]:
    last = [end for _, end, _ in table]  # where the descendants of each segment end
    for segment in reversed(range(len(table))):
        parent = table[segment][2]
        if parent >= 0:
            last[parent] = max(last[parent], last[segment])
    for (start, end, _), until in zip(table, last, strict=True):
        yield from _read(slice(end, until), slice(start, end))


def _read(queries: slice, keys: slice) -> Iterator[Ancestor]:
    if queries.stop > queries.start and keys.stop > keys.start:
        step = max(1, AREA // (keys.stop - keys.start))
        for first in range(queries.start, queries.stop, step):
            yield Ancestor(slice(first, min(first + step, queries.stop)), keys)


def _chain(pieces: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[Ancestor]]:
    """Causal attention of a long segment is a chain of short ones, each the ancestor of what follows."""
    links = [(first, min(first + LONG, end), end) for start, end in pieces for first in range(start, end, LONG)]
    reads = [read for start, stop, end in links for read in _read(slice(stop, end), slice(start, stop))]
    return [(start, stop) for start, stop, _ in links], reads


def _groups(pieces: list[tuple[int, int]], device: torch.device) -> tuple[tuple[Group, ...], list[int]]:
    groups: list[Group] = []
    places: list[int] = []
    for members in _similar(sorted((end - start, start) for start, end in pieces)):
        length = _rounded(members[-1][0])
        sizes = torch.tensor([size for size, _ in members])
        real = None if int(sizes.min()) == length else (torch.arange(length) < sizes[:, None]).to(device)
        groups.append(Group(len(places), len(members), length, real))
        for size, start in members:
            places += range(start, start + size)
            places += [start + size - 1] * (length - size)
    return tuple(groups), places


def _rounded(length: int) -> int:
    return length if length > LONG else -(-length // EVEN) * EVEN


def _similar(sizes: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cuts segments, shortest first, in groups that waste little padding and stay within AREA."""
    group: list[tuple[int, int]] = []
    for item in sizes:
        too_different = group and item[0] > 1.5 * group[0][0] + 8
        too_large = (len(group) + 1) * _rounded(item[0]) ** 2 > AREA
        if group and (too_different or too_large or item[0] > LONG):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


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
    mixed = plan.attend(module, query[0], key[0], value[0], settings)
    return mixed.transpose(0, 1).unsqueeze(0), None


AttentionInterface.register(NAME, packed_attention)


class _Attention(torch.autograd.Function):
    """q (H, N, E), k and v (G, N, E) -> (H, N, E)"""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, settings: Settings) -> Tensor:
        padded = [tensor[:, plan.places] for tensor in (q, k, v)]
        parts, spreads, kept = [], [], []
        for group in plan.groups:
            own = [tensor[:, group.places] for tensor in padded]
            part, spread, keep = _own_forward(own[0], own[1], own[2], group, settings)
            parts.append(part)
            spreads.append(spread)
            kept.append(keep)
        mixed, own_spread = torch.cat(parts, 1)[:, plan.back], torch.cat(spreads, 1)[:, plan.back]
        spread = own_spread
        ancestors_kept: list[Kept] = []
        if plan.ancestors:
            mixed, spread, ancestors_kept = _with_ancestors(mixed, spread, q, k, v, plan, settings)
        ctx.save_for_backward(q, k, v, *padded, mixed, spread, own_spread)
        ctx.kept, ctx.ancestors_kept, ctx.plan, ctx.settings = kept, ancestors_kept, plan, settings
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, pq, pk, pv, mixed, spread, own_spread = ctx.saved_tensors
        plan, settings = ctx.plan, ctx.settings
        inner = (grad * mixed).sum(-1, dtype=torch.float32)  # (H, N)
        row = _Row(grad.contiguous(), mixed, inner, spread, own_spread)
        slopes = [
            _own_backward(
                pq[:, group.places],
                pk[:, group.places],
                pv[:, group.places],
                row.at(plan.places[group.places]),
                keep,
                group,
                plan,
                settings,
            )
            for group, keep in zip(plan.groups, ctx.kept, strict=True)
        ]
        dq, dk, dv = (torch.cat(parts, 1)[:, plan.back] for parts in zip(*slopes, strict=True))
        if plan.ancestors:
            dq, dk, dv = _ancestors_backward([dq, dk, dv], q, k, v, row, plan, settings, ctx.ancestors_kept)
        return dq, dk, dv, None, None


@dataclass(frozen=True, slots=True)
class _Row:
    """What the backward pass knows of each query over its whole row; first two (H, N, E), the rest (H, N)."""

    grad: Tensor
    mixed: Tensor
    inner: Tensor
    spread: Tensor
    own_spread: Tensor

    def at(self, where: Tensor | slice) -> _Row:
        return _Row(*(t[:, where] for t in (self.grad, self.mixed, self.inner, self.spread, self.own_spread)))


def _own_forward(q: Tensor, k: Tensor, v: Tensor, group: Group, settings: Settings) -> tuple[Tensor, Tensor, Kept]:
    if _flash(q, group, settings):
        mixed, spread = scores.flash_forward(q, k, v, settings)
        return mixed, spread, Kept(None, None)
    return scores.block_forward(q, k, v, group.rows, _bias(group, settings, q.device), settings)


def _own_backward(
    q: Tensor, k: Tensor, v: Tensor, row: _Row, kept: Kept, group: Group, plan: Plan, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    if _flash(q, group, settings):
        return scores.flash_backward(q, k, v, settings, grad=row.grad, mixed=row.mixed, spread=row.spread)
    grad = row.grad
    if group.real is not None:  # a padded place repeats a token: it must not add to the slopes twice
        grad = grad * group.real.flatten()[:, None].to(grad.dtype)
    return scores.block_backward(
        q, k, v, group.rows, _bias(group, settings, q.device), settings,
        grad=grad, inner=row.inner if group.real is None else row.inner * group.real.flatten(),
        spread=row.spread, own_spread=row.own_spread if plan.ancestors else None, kept=kept,
    )  # fmt: skip


def _flash(q: Tensor, group: Group, settings: Settings) -> bool:
    return q.device.type == "cpu" and group.length > LONG and not settings.dropout


def _bias(group: Group, settings: Settings, device: torch.device) -> Tensor | None:
    """What keeps a query from keys it may not read. Behind a causal mask padding is never read."""
    if settings.causal:
        return torch.full((group.length, group.length), -torch.inf, device=device).triu(1)
    if group.real is None:
        return None
    return torch.zeros(group.real.shape, device=device).masked_fill(~group.real, -torch.inf)[:, None]


def _with_ancestors(
    mixed: Tensor, spread: Tensor, q: Tensor, k: Tensor, v: Tensor, plan: Plan, settings: Settings
) -> tuple[Tensor, Tensor, list[Kept]]:
    """Joins what each query reads of its ancestors to what it read of its own segment. Of each
    ancestor only what dropout drew is kept; the backward pass computes the rest again."""
    joined, spread, kept = mixed.float(), spread.clone(), []
    for ancestor in plan.ancestors:
        rows, keys = ancestor.queries, ancestor.keys
        part, theirs, keep = scores.block_forward(q[:, rows], k[:, keys], v[:, keys], 1, None, settings)
        ours = spread[:, rows]
        both = torch.logaddexp(ours, theirs)
        old, new = (ours - both).exp()[..., None], (theirs - both).exp()[..., None]
        joined[:, rows] = joined[:, rows] * old + part.float() * new
        spread[:, rows] = both
        kept.append(Kept(None, keep.mask))
    return joined.to(mixed.dtype), spread, kept


def _ancestors_backward(
    slopes: list[Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row: _Row,
    plan: Plan,
    settings: Settings,
    kept: list[Kept],
) -> list[Tensor]:
    """Adds the slopes of the ancestor blocks. Many rows add to one prefix: in float32, not in 8 bits."""
    wide = [slope.float() for slope in slopes]
    for ancestor, keep in zip(plan.ancestors, kept, strict=True):
        rows, keys = ancestor.queries, ancestor.keys
        here = row.at(rows)
        parts = scores.block_backward(
            q[:, rows], k[:, keys], v[:, keys], 1, None, settings,
            grad=here.grad, inner=here.inner, spread=here.spread, own_spread=None, kept=keep,
        )  # fmt: skip
        for slope, part, where in zip(wide, parts, (rows, keys, keys), strict=True):
            slope[:, where] += part
    return [slope.to(like.dtype) for slope, like in zip(wide, slopes, strict=True)]
