"""Writing with the architecture's own attention and key-value cache, for models that cannot be packed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(slots=True)
class PaddedRows:
    """Rows being written, padded on the left. `owners` say which prompt each row answers; B rows, L places."""

    module: Any
    cache: Any
    ids: Tensor  # (B, new) the tokens not yet read
    real: Tensor  # (B, L) False at the padding on the left
    owners: list[int]

    @staticmethod
    def of(module: Any, prompts: Sequence[np.ndarray], pad: int) -> PaddedRows:
        from transformers import DynamicCache

        device = next(module.parameters()).device
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), pad)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            real[row, longest - len(prompt) :] = True
        cache = DynamicCache(config=module.config)
        return PaddedRows(module, cache, ids.to(device), real.to(device), list(range(len(prompts))))

    def read(self) -> Tensor:
        """(B, D): the hidden state behind each row's last token."""
        positions = (self.real.long().cumsum(1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        states = self.module.base_model(
            input_ids=self.ids,
            attention_mask=self.real.long(),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return states.last_hidden_state[:, -1]

    def append(self, tokens_B: Tensor) -> None:
        """The next token of each row."""
        self.ids = tokens_B[:, None]
        self.real = torch.cat([self.real, torch.ones_like(self.real[:, :1])], 1)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only; with all where the cache holds what cannot be cut down, as of convolutions."""
        if not all(hasattr(layer, "batch_select_indices") for layer in self.cache.layers):
            return
        self.ids, self.real = self.ids[rows], self.real[rows]
        self.owners = [self.owners[index] for index in rows.tolist()]
        self.cache.batch_select_indices(rows)


@dataclass(slots=True)
class RereadRows:
    """Rows being written by a model that keeps its past in a way of its own: every token reads its row anew. Slow,
    and right for anything causal."""

    module: Any
    rows: list[list[int]]
    owners: list[int]

    @staticmethod
    def of(module: Any, prompts: Sequence[np.ndarray]) -> RereadRows:
        return RereadRows(module, [prompt.tolist() for prompt in prompts], list(range(len(prompts))))

    def read(self) -> Tensor:
        """(B, D): the hidden state behind each row's last token."""
        device = next(self.module.parameters()).device
        longest = max(map(len, self.rows))
        ids = torch.tensor([row + row[-1:] * (longest - len(row)) for row in self.rows], device=device)
        last = torch.tensor([len(row) - 1 for row in self.rows], device=device)
        states = self.module.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return states[torch.arange(len(last), device=device), last]

    def append(self, tokens_B: Tensor) -> None:
        """The next token of each row."""
        for row, token in zip(self.rows, tokens_B.tolist(), strict=True):
            row.append(token)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only."""
        self.rows = [self.rows[index] for index in rows.tolist()]
        self.owners = [self.owners[index] for index in rows.tolist()]


def remembers(module: Any) -> bool:
    """The model takes transformers' key-value cache."""
    return "past_key_values" in inspect.signature(module.base_model.forward).parameters
