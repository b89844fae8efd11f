"""What all ways of writing share: how a token is drawn, where an answer ends, and which prompts are decoded together.

An answer may be written behind several prompts at once, which one rule turns into shares of the next token.

Shapes: B answers, P prompts of each, V vocabulary, D width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Completion
from tuneful.models.cached import PackedRows, common
from tuneful.models.network import text_config
from tuneful.models.padded import PaddedRows, RereadRows, remembers

PAST_MB = 256  # keys and values held at once, except those of one longer row
SHRINK = 0.75  # a batch is cut down when no more than this share of it is still at work


Mix = Callable[[Tensor], Tensor]  # (P, B, V) logits -> (B, V), which a temperature may come after


class Rows(Protocol):
    """Rows being written; `owners` say which prompt each row answers."""

    @property
    def owners(self) -> list[int]: ...
    def read(self) -> Tensor: ...  # the hidden state behind each row's last token
    def append(self, tokens_B: Tensor) -> None: ...
    def keep(self, rows: Tensor) -> None: ...  # or more than these, as `owners` then say


@dataclass(frozen=True, slots=True)
class Abreast:
    """Rows of several prompts an answer: those of the first of each, then those of the second, in the same order."""

    rows: Rows
    prompts: int

    @property
    def owners(self) -> list[int]:
        return self.rows.owners[: len(self.rows.owners) // self.prompts]

    def read(self) -> Tensor:
        """(P * B, D)"""
        return self.rows.read()

    def append(self, tokens_B: Tensor) -> None:
        self.rows.append(tokens_B.repeat(self.prompts))

    def keep(self, rows: Tensor) -> None:
        starts = len(self.owners) * torch.arange(self.prompts, device=rows.device)
        self.rows.keep((starts[:, None] + rows).flatten())


@dataclass(slots=True)
class Several:
    """Several answers to each prompt, which is read once; those to one prompt stand behind one another."""

    rows: Rows
    count: int
    owners: list[int]
    _spread: bool = False

    @staticmethod
    def of(rows: Rows, count: int) -> Several:
        return Several(rows, count, list(range(count * len(rows.owners))))

    def read(self) -> Tensor:
        """(B, D); at first of B answers of which none has a token."""
        states = self.rows.read()
        return states if self._spread else states.repeat_interleave(self.count, 0)

    def append(self, tokens_B: Tensor) -> None:
        if not self._spread:
            prompts = torch.arange(len(self.rows.owners), device=tokens_B.device)
            self.rows.keep(prompts.repeat_interleave(self.count))
            self._spread = True
        self.rows.append(tokens_B)

    def keep(self, rows: Tensor) -> None:
        self.owners = [self.owners[index] for index in rows.tolist()]
        self.rows.keep(rows)


@dataclass(slots=True)
class Produced:
    """The tokens of an answer, the one it ended with included, and the log-probability of each where it was drawn."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are drawn, how long they may get, and where they end."""

    processor: Processor
    limit: int
    temperature: float
    random: torch.Generator
    stops: tuple[str, ...] = ()

    def decode(self, rows: Rows, logits: Callable[[Tensor], Tensor]) -> list[Produced]:
        """Of each answer. `logits` makes (B, V) of what rows read."""
        produced = [Produced() for _ in rows.owners]
        ended: set[int] = set()
        for count in range(self.limit):
            tokens_B, logprobs_B = self._choose(logits(rows.read()))
            for row, token, *logprob in zip(rows.owners, tokens_B.tolist(), *logprobs_B, strict=True):
                if row not in ended:
                    produced[row].ids.append(token)
                    produced[row].logprobs.extend(logprob)
                    if self._ends(produced[row].ids):
                        ended.add(row)
            at_work = [place for place, row in enumerate(rows.owners) if row not in ended]
            if not at_work or count + 1 == self.limit:
                break
            rows.append(tokens_B)
            if len(at_work) <= SHRINK * len(rows.owners):
                rows.keep(torch.tensor(at_work, device=tokens_B.device))
        return produced

    def completion(self, produced: Produced) -> Completion:
        """An answer without what it ended with."""
        found = produced.ids
        stopped = bool(found) and found[-1] in self.processor.stop_ids
        kept, end = (found[:-1], found[-1:]) if stopped else (found, [])
        place = self._stop(kept)
        return Completion(
            tuple(kept), self.processor.decode(kept)[:place], stopped or place is not None, tuple(end),
            tuple(produced.logprobs),
        )  # fmt: skip

    def _choose(self, logits_BV: Tensor) -> tuple[Tensor, list[list[float]]]:
        """(B,) the next token of each row; and B log-probabilities in a list, which is empty where the likeliest are
        taken."""
        if self.temperature == 0:
            return logits_BV.argmax(-1), []
        shares = torch.softmax(logits_BV / self.temperature, -1)
        tokens = drawn(shares, self.random)
        return tokens.squeeze(1), [shares.gather(1, tokens).log().squeeze(1).tolist()]

    def _ends(self, found: list[int]) -> bool:
        return found[-1] in self.processor.stop_ids or self._stop(found) is not None

    def _stop(self, found: list[int]) -> int | None:
        """Where in the text the first of the wanted stops begins."""
        text = self.processor.decode(found) if self.stops else ""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return min(places, default=None)


def drawn(shares_BV: Tensor, random: torch.Generator) -> Tensor:
    """(B, 1) by lot, each as likely as its share: one number a row is drawn, where `torch.multinomial` draws V."""
    ends = shares_BV.double().cumsum(-1)
    lots = torch.rand(len(ends), 1, generator=random, device=ends.device, dtype=ends.dtype) * ends[:, -1:]
    return torch.searchsorted(ends, lots, right=True).clamp(max=ends.shape[1] - 1)


def write(
    policy: Policy,
    prompts: Sequence[Sequence[np.ndarray]],
    writing: Writing,
    *,
    mix: Mix,
    count: int,
    original: bool = False,
    each: int = 1,
) -> list[Completion]:
    """`each` answers to each of the groups of P prompts, those to one group behind one another; at most `count` answers
    at once. `original` asks the model as it was before tuning."""
    if not prompts:
        return []
    answers: dict[int, list[Completion]] = {}
    size = len(prompts[0])
    policy.module.eval()
    scope = policy.attached.original() if original else nullcontext(policy.module)
    with scope as module, torch.no_grad(), policy.autocasting():
        vocabulary = policy.network.vocabulary(module).often()

        def logits(states: Tensor) -> Tensor:
            return mix(vocabulary.logits(states).unflatten(0, (size, -1)))

        longest = [max(group, key=len) for group in prompts]
        most, at_once = _tokens_held(module) // (size * each), max(1, count // each)
        for part in together(longest, writing.limit, most=most, count=at_once):
            given = [prompts[index][place] for place in range(size) for index in part]
            with _rows_of(policy.network, module, given, writing, each) as rows:
                produced = writing.decode(Abreast(rows, size), logits)
            found = [writing.completion(answer) for answer in produced]
            answers.update((row, found[place * each : (place + 1) * each]) for place, row in enumerate(part))
    return [answer for index in range(len(prompts)) for answer in answers[index]]


@contextmanager
def _rows_of(network: Any, module: Any, prompts: Sequence[np.ndarray], writing: Writing, each: int) -> Iterator[Rows]:
    """`each` rows that begin with each of these prompts, read once by packed attention where the architecture allows
    it."""
    if network.shares and network.reaches(max(map(len, prompts)) + writing.limit):
        rows = PackedRows(network, module, prompts)
        yield Several.of(rows, each) if each > 1 else rows
        return
    prompts = [prompt for prompt in prompts for _ in range(each)]
    with network.natively(module):
        if remembers(module):
            yield PaddedRows.of(module, prompts, writing.processor.pad_id)
        else:
            yield RereadRows.of(module, prompts)


def together(prompts: Sequence[np.ndarray], limit: int, *, most: int, count: int) -> list[list[int]]:
    """Prompts of similar length, at most `count`, and as many as have no more than `most` tokens in the end; the
    longest first, so that what does not fit in memory fails at once."""
    parts: list[list[int]] = []
    shared = common(prompts)
    for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        longest = len(prompts[parts[-1][0]]) - shared + limit if parts else 0
        if not parts or len(parts[-1]) >= count or shared + (len(parts[-1]) + 1) * longest > most:
            parts.append([])
        parts[-1].append(index)
    return parts


def _tokens_held(module: Any) -> int:
    """How many tokens' keys and values, of all layers, may be held at once; a model without any holds as many as are
    asked."""
    config = text_config(module)
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        return sys.maxsize
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return int(PAST_MB * 2**20 // (2 * config.num_hidden_layers * groups * width * module.dtype.itemsize))
