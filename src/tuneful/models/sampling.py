"""Answers to prompts, many at once, with a key-value cache; rows that have ended are dropped from the batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Completion
from tuneful.core.vocabulary import Vocabulary

TOGETHER = 64  # prompts decoded at once
PLACES = 16384  # prompt tokens, padding included, decoded at once
SHRINK = 0.75  # a batch is cut down when no more than this share of it is still at work


@dataclass(frozen=True, slots=True)
class Generator:
    """Decodes with the model's own attention, prompts of similar length together."""

    processor: Processor

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[np.ndarray],
        *,
        limit: int,
        temperature: float = 0.0,
        seed: int = 0,
        original: bool = False,
    ) -> list[Completion]:
        """One answer a prompt, at most `limit` tokens each; temperature 0 takes the likeliest token.
        `original` asks the model as it was before tuning. Draws no random numbers from the run's own generator."""
        answers: dict[int, Completion] = {}
        policy.module.eval()
        random = torch.Generator(policy.device).manual_seed(seed)
        for part in _together(prompts):
            given = [prompts[index] for index in part]
            with (
                policy.attached.original() if original else nullcontext(policy.module) as module,
                torch.no_grad(),
                policy.network.natively(module),
            ):
                vocabulary = policy.network.vocabulary(module)
                produced = self._decode(module, vocabulary, given, limit, temperature, random)
            answers.update(zip(part, map(self._completion, produced), strict=True))
        return [answers[index] for index in range(len(prompts))]

    def _decode(
        self,
        module: Any,
        vocabulary: Vocabulary,
        prompts: list[np.ndarray],
        limit: int,
        temperature: float,
        random: torch.Generator,
    ) -> list[list[int]]:
        device = next(module.parameters()).device
        batch = _Decoding.of(module, prompts, self.processor.pad_id, device)
        produced: list[list[int]] = [[] for _ in prompts]
        stops = torch.tensor(sorted(self.processor.stop_ids), device=device)
        for _ in range(limit):
            tokens_B = _choose(vocabulary.logits(batch.read()), temperature, random)
            for row, token in zip(batch.owners, tokens_B.tolist(), strict=True):
                if not produced[row] or produced[row][-1] not in self.processor.stop_ids:
                    produced[row].append(token)
            batch.append(tokens_B, ended=torch.isin(tokens_B, stops))
            if not batch.owners:
                break
        return produced

    def _completion(self, found: list[int]) -> Completion:
        stopped = bool(found) and found[-1] in self.processor.stop_ids
        kept = found[:-1] if stopped else found
        return Completion(tuple(kept), self.processor.decode(kept), stopped)


@dataclass(slots=True)
class _Decoding:
    """A batch at work. `owners` say which prompt each row answers; shapes: B rows, L places."""

    module: Any
    cache: Any
    ids: Tensor  # (B, new) the tokens not yet read
    real: Tensor  # (B, L) False at the padding on the left
    owners: list[int]
    done: Tensor  # (B,)

    @staticmethod
    def of(module: Any, prompts: list[np.ndarray], pad: int, device: torch.device) -> _Decoding:
        from transformers import DynamicCache

        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), pad)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            real[row, longest - len(prompt) :] = True
        done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        cache = DynamicCache(config=module.config)
        return _Decoding(module, cache, ids.to(device), real.to(device), list(range(len(prompts))), done)

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

    def append(self, tokens_B: Tensor, *, ended: Tensor) -> None:
        """The next token of each row; rows that have ended leave when enough have."""
        self.done |= ended
        self.ids = tokens_B[:, None]
        self.real = torch.cat([self.real, torch.ones_like(self.real[:, :1])], 1)
        at_work = int((~self.done).sum())
        if at_work <= SHRINK * len(self.owners):
            kept = torch.nonzero(~self.done).squeeze(1)
            self.ids, self.real, self.done = self.ids[kept], self.real[kept], self.done[kept]
            self.owners = [self.owners[index] for index in kept.tolist()]
            if self.owners:
                self.cache.batch_select_indices(kept)


def _choose(logits_BV: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits_BV.argmax(-1)
    shares = torch.softmax(logits_BV / temperature, -1)
    return torch.multinomial(shares, 1, generator=random).squeeze(1)


def _together(prompts: Sequence[np.ndarray]) -> list[list[int]]:
    """Prompts of similar length; the longest first, so that what does not fit in memory fails at once."""
    parts: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        if not parts or len(parts[-1]) >= TOGETHER or (len(parts[-1]) + 1) * len(prompts[parts[-1][0]]) > PLACES:
            parts.append([])
        parts[-1].append(index)
    return parts
