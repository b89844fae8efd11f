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
from tuneful.models.cached import PackedRows, common
from tuneful.models.network import text_config
from tuneful.models.padded import PaddedRows, RereadRows, remembers

TOGETHER = 64  # prompts decoded at once
PAST_MB = 256  # keys and values held at once, except those of one longer row
SHRINK = 0.75  # a batch is cut down when no more than this share of it is still at work

Rows = PackedRows | PaddedRows | RereadRows


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How an answer is drawn, and how long it may get."""

    limit: int
    temperature: float
    random: torch.Generator
    stops: tuple[str, ...] = ()

    def choose(self, logits_BV: Tensor) -> Tensor:
        """(B,) the next token of each row."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        shares = torch.softmax(logits_BV / self.temperature, -1)
        return torch.multinomial(shares, 1, generator=self.random).squeeze(1)


@dataclass(frozen=True, slots=True)
class Generator:
    """Decodes with packed attention where the architecture allows it, with the model's own where not; prompts of
    similar length together."""

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
        stops: Sequence[str] = (),
    ) -> list[Completion]:
        """One answer a prompt, at most `limit` tokens each; temperature 0 takes the likeliest token. An answer also
        ends where one of the texts `stops` begins. `original` asks the model as it was before tuning. Draws no random
        numbers from the run's own generator."""
        answers: dict[int, Completion] = {}
        policy.module.eval()
        random = torch.Generator(policy.device).manual_seed(seed)
        wanted = _Wanted(limit, temperature, random, tuple(stop for stop in stops if stop))
        scope = policy.attached.original() if original else nullcontext(policy.module)
        with scope as module, torch.no_grad(), policy.autocasting():
            vocabulary = policy.network.vocabulary(module).often()
            for part in _together(prompts, limit, PAST_MB * 2**20 // _bytes_a_token(module)):
                given = [prompts[index] for index in part]
                produced = self._write(policy.network, module, vocabulary, given, wanted)
                answers.update((row, self._completion(ids, wanted)) for row, ids in zip(part, produced, strict=True))
        return [answers[index] for index in range(len(prompts))]

    def _write(
        self, network: Any, module: Any, vocabulary: Vocabulary, prompts: list[np.ndarray], wanted: _Wanted
    ) -> list[list[int]]:
        if network.shares and network.reaches(max(map(len, prompts)) + wanted.limit):
            return self._decode(PackedRows(network, module, prompts), vocabulary, wanted)
        with network.natively(module):
            if remembers(module):
                return self._decode(PaddedRows.of(module, prompts, self.processor.pad_id), vocabulary, wanted)
            return self._decode(RereadRows.of(module, prompts), vocabulary, wanted)

    def _decode(self, rows: Rows, vocabulary: Vocabulary, wanted: _Wanted) -> list[list[int]]:
        produced: list[list[int]] = [[] for _ in rows.owners]
        ended: set[int] = set()
        for count in range(wanted.limit):
            tokens_B = wanted.choose(vocabulary.logits(rows.read()))
            for row, token in zip(rows.owners, tokens_B.tolist(), strict=True):
                if row not in ended:
                    produced[row].append(token)
                    if self._ends(produced[row], wanted):
                        ended.add(row)
            at_work = [place for place, row in enumerate(rows.owners) if row not in ended]
            if not at_work or count + 1 == wanted.limit:
                break
            rows.append(tokens_B)
            if len(at_work) <= SHRINK * len(rows.owners):
                rows.keep(torch.tensor(at_work, device=tokens_B.device))
        return produced

    def _ends(self, found: list[int], wanted: _Wanted) -> bool:
        return found[-1] in self.processor.stop_ids or self._stop(found, wanted) is not None

    def _stop(self, found: list[int], wanted: _Wanted) -> int | None:
        """Where in the text the first of the wanted stops begins."""
        text = self.processor.decode(found) if wanted.stops else ""
        places = [place for stop in wanted.stops if (place := text.find(stop)) >= 0]
        return min(places, default=None)

    def _completion(self, found: list[int], wanted: _Wanted) -> Completion:
        stopped = bool(found) and found[-1] in self.processor.stop_ids
        kept = found[:-1] if stopped else found
        place = self._stop(kept, wanted)
        return Completion(tuple(kept), self.processor.decode(kept)[:place], stopped or place is not None)


def _together(prompts: Sequence[np.ndarray], limit: int, most: int) -> list[list[int]]:
    """Prompts of similar length, as many as have no more than `most` tokens in the end; the longest first, so that
    what does not fit in memory fails at once."""
    parts: list[list[int]] = []
    shared = common(prompts)
    for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        longest = len(prompts[parts[-1][0]]) - shared + limit if parts else 0
        if not parts or len(parts[-1]) >= TOGETHER or shared + (len(parts[-1]) + 1) * longest > most:
            parts.append([])
        parts[-1].append(index)
    return parts


def _bytes_a_token(module: Any) -> int:
    """Of its keys and values in all layers."""
    config = text_config(module)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * groups * width * module.dtype.itemsize
