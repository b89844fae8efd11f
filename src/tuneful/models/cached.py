"""Writing with packed attention: prompts are read in one packed pass, a long beginning of all of them is stored once,
and keys and values live in room made ahead, so a new token copies nothing but itself.

Shapes: B rows, S tokens of the common beginning, C columns of a row's own tokens, H query heads, G key-value heads,
R = H / G, E head width. A row's own tokens end in the same column for all rows, so the padding is on their left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneful.models.network import Network
from tuneful.models.packed import Plan, plan
from tuneful.models.scores import Settings

ROOM = 32  # columns made at a time; scores are computed over a multiple of it, so few shapes occur
LEAST_SHARED = 64  # tokens; each row has its own copy of a shorter beginning, which saves a block of its own


@dataclass(slots=True)
class Layer:
    """Keys and values of one attention layer: (G, S, E) of the common beginning, (B, G, C, E) of the rows."""

    shared_keys: Tensor
    shared_values: Tensor
    keys: Tensor
    values: Tensor


class _Listening:
    """The first pass: attention over the packed prompts, and a note of every layer's keys and values."""

    def __init__(self, cut: Plan) -> None:
        self._plan = cut
        self.memo: dict[Any, Any] = {}
        self.heard: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor:
        self.heard[module] = (k, v)
        return self._plan.attend(module, q, k, v, settings)


class PackedRows:
    """Rows being written; `owners` say which prompt each row answers."""

    def __init__(self, network: Network, module: nn.Module, prompts: Sequence[np.ndarray]) -> None:
        self._network, self._module = network, module
        self._device = next(module.parameters()).device
        self.owners = list(range(len(prompts)))
        self.memo: dict[Any, Any] = {}
        self._next: Tensor | None = None
        self._known_bias: tuple[object, Tensor] | None = None
        self._bias: Tensor  # (B, C) 0 where a column holds a token of the row
        self._column: int  # where the next token goes
        self._layers: dict[nn.Module, Layer]
        self._positions = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        self._first = self._read_prompts(prompts)

    def read(self) -> Tensor:
        """(B, D): the hidden state behind each row's last token."""
        if self._next is None:
            return self._first
        states = self._network.packed_states(self._module, self._next, self._positions - 1, self)
        self._column += 1
        return states

    def append(self, tokens_B: Tensor) -> None:
        """The next token of each row."""
        self._next = tokens_B
        self._positions = self._positions + 1
        if self._column == self._bias.shape[1]:
            self._make_room()
        self._bias[:, self._column] = 0.0

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only."""
        self.owners = [self.owners[index] for index in rows.tolist()]
        self._positions, self._bias = self._positions[rows], self._bias[rows]
        self._next = None if self._next is None else self._next[rows]
        for layer in self._layers.values():
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor:
        """One new token a row: q (B, H, E), k and v (B, G, E) -> (B, H, E)."""
        layer = self._layers[module]
        layer.keys[:, :, self._column], layer.values[:, :, self._column] = k, v
        rows, groups = k.shape[:2]
        queries = q.reshape(rows * groups, -1, q.shape[-1])  # (B*G, R, E)
        keys, values = layer.keys.flatten(0, 1), layer.values.flatten(0, 1)
        bias = self._bias_for(q.dtype, groups)
        own = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=settings.scale)
        if not layer.shared_keys.shape[1]:
            return torch.bmm(own.softmax(-1), values).view_as(q)
        return self._with_beginning(q, own, layer, settings)

    def _with_beginning(self, q: Tensor, own: Tensor, layer: Layer, settings: Settings) -> Tensor:
        """All rows read the common beginning as one block of queries."""
        (rows, _, width), groups, shared = q.shape, len(layer.shared_keys), layer.shared_keys.shape[1]
        queries = q.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1, 2)  # (G, B*R, E)
        common = (queries @ layer.shared_keys.transpose(1, 2)).mul_(settings.scale)
        common = common.unflatten(1, (rows, -1)).transpose(0, 1).flatten(0, 1)  # (B*G, R, S)
        shares = torch.cat([common, own], -1).softmax(-1)
        mixed = torch.bmm(shares[..., shared:], layer.values.flatten(0, 1))
        theirs = shares[..., :shared].unflatten(0, (rows, -1)).transpose(0, 1).flatten(1, 2) @ layer.shared_values
        return mixed.add_(theirs.unflatten(1, (rows, -1)).transpose(0, 1).flatten(0, 1)).view(rows, -1, width)

    def _bias_for(self, dtype: torch.dtype, groups: int) -> Tensor:
        """(B*G, 1, C), the same for every layer of a step."""
        key = (self._column, len(self.owners), dtype, groups)
        if self._known_bias is None or self._known_bias[0] != key:
            self._known_bias = (key, self._bias.to(dtype).repeat_interleave(groups, 0)[:, None])
        return self._known_bias[1]

    def _read_prompts(self, prompts: Sequence[np.ndarray]) -> Tensor:
        """Reads all prompts in one packed pass; the hidden states behind their ends, (B, D)."""
        shared = common(prompts)
        own = [len(prompt) - shared for prompt in prompts]
        ends = shared + np.cumsum(own)
        segments = [[0, shared, -1], *([end - size, end, 0] for end, size in zip(ends, own, strict=True))]
        ids = np.concatenate([prompts[0][:shared], *(prompt[shared:] for prompt in prompts)])
        positions = np.concatenate([np.arange(shared), *(np.arange(shared, len(prompt)) for prompt in prompts)])
        if not shared:
            segments = [[start, end, -1] for start, end, _ in segments[1:]]
        listening = _Listening(plan(torch.tensor(segments, device=self._device), causal=True))
        states = self._network.packed_states(self._module, self._to(ids), self._to(positions), listening)
        self._store(listening.heard, shared, own, ends)
        return states[self._to(ends - 1)]

    def _store(
        self, heard: dict[nn.Module, tuple[Tensor, Tensor]], shared: int, own: list[int], ends: np.ndarray
    ) -> None:
        longest = max(own)
        columns = np.arange(-longest, 0)[None] + ends[:, None]  # (B, longest); negative columns are padding
        real = self._to(columns >= (ends - own)[:, None])
        room = -longest % ROOM
        where = self._to(np.maximum(columns, 0))
        blank = torch.full((len(own), room), -torch.inf, device=self._device)
        self._bias = torch.cat([torch.zeros(real.shape, device=self._device).masked_fill(~real, -torch.inf), blank], 1)
        self._column = longest
        self._layers = {}
        while heard:  # one layer at a time, so that nothing is held twice
            module, (k, v) = heard.popitem()
            self._layers[module] = Layer(
                k[:shared].transpose(0, 1).contiguous(),
                v[:shared].transpose(0, 1).contiguous(),
                _with_room(k[where].transpose(1, 2), room),
                _with_room(v[where].transpose(1, 2), room),
            )

    def _make_room(self) -> None:
        self._bias = nn.functional.pad(self._bias, (0, ROOM), value=-torch.inf)
        for layer in self._layers.values():
            layer.keys, layer.values = _with_room(layer.keys, ROOM), _with_room(layer.values, ROOM)

    def _to(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values if values.dtype == bool else values.astype(np.int64))).to(
            self._device
        )


def _with_room(stored: Tensor, columns: int) -> Tensor:
    return nn.functional.pad(stored, (0, 0, 0, columns))


def common(prompts: Sequence[np.ndarray]) -> int:
    """Tokens all prompts begin with; every prompt keeps one token of its own, whose state is read."""
    shortest = min(map(len, prompts)) - 1
    for prompt in prompts[1:]:
        different = np.flatnonzero(prompt[:shortest] != prompts[0][:shortest])
        shortest = int(different[0]) if len(different) else shortest
    return shortest if len(prompts) > 1 and shortest >= LEAST_SHARED else 0
