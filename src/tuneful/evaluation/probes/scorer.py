"""How likely a model finds a text, token by token, and how it goes on with one: what probes of a language model ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tuneful.core.device import place
from tuneful.core.errors import DataError, ModelError
from tuneful.core.policy import Policy
from tuneful.core.types import Encoded, Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.probes.items import Item, Pair
from tuneful.evaluation.probes.written import Written, write
from tuneful.evaluation.reading import batches, outputs
from tuneful.models.processors import TextProcessor

START = "\n"  # stands before a text that nothing stands before, so that its first token is told by something


@dataclass(frozen=True, slots=True)
class Scored:
    """The tokens of one continuation."""

    ids: np.ndarray  # (T,) int32
    logprobs: np.ndarray  # (T,) float64, nats
    spans: np.ndarray  # (T, 2) int32, characters of the continuation

    @property
    def total(self) -> float:
        return float(self.logprobs.sum())

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(self.logprobs.mean())


class Scorer:
    """Log-probabilities of continuations, by the model as it is or, `original`, as it was before tuning.

    A causal model tells each token by what stands before it; where a text has no prompt and the tokenizer puts no start
    token before it, a line break stands there. A token that lies across the end of the prompt is part of the
    continuation. A masked model tells each token by all that stands around it, masked one after the other
    (pseudo-log-likelihood, Salazar et al. 2020, arXiv:1910.14659, section 2; tokens of one word see each other, which
    favours words of many tokens, Kauf and Ivanova 2023, arXiv:2305.10588). Texts that share a beginning are read once
    where the architecture allows it, and equal questions are asked once. Raises ModelError for a model that cannot
    name tokens.
    """

    def __init__(self, policy: Policy, processor: TextProcessor, *, original: bool = False) -> None:
        self._policy, self._processor, self._original = policy, processor, original
        self._causal = policy.network.causal
        try:
            policy.network.vocabulary(policy.module)
        except ModelError:
            raise ModelError(
                f"{type(policy.module).__name__} has no vocabulary head, only one for labels or none: a probe of "
                "language asks how likely texts are, so it needs a model that writes or that names masked tokens. "
                "Probe the model it was made from, or compare its answers by group"
            ) from None
        self._mask = 0 if self._causal else processor.mask_id

    def __call__(self, pairs: Sequence[Pair]) -> list[Scored]:
        """One for each pair. Raises DataError for a continuation without a token, or longer than the model reads."""
        asked = {pair: self._row(*pair) for pair in dict.fromkeys(pairs)}
        rows = [row for row, _ in asked.values()]
        told = self._causally(rows) if self._causal else self._masked(rows)
        found = {
            pair: Scored(row.ids[row.learn > 0], logprobs, spans)
            for (pair, (row, spans)), logprobs in zip(asked.items(), told, strict=True)
        }
        return [found[pair] for pair in pairs]

    def of(self, items: Sequence[Item]) -> list[list[Scored]]:
        """The texts of each item."""
        told = iter(self([pair for item in items for pair in item.texts]))
        return [[next(told) for _ in item.texts] for item in items]

    def write(self, prompts: Sequence[str], *, limit: int, seed: int) -> list[Written]:
        """How it goes on with each. Raises ModelError for a masked model."""
        return write(self._policy, self._processor, prompts, limit=limit, seed=seed, original=self._original)

    def _row(self, prompt: str, continuation: str) -> tuple[Row, np.ndarray]:
        """What is read, learned where it counts, and the characters of the tokens that count."""
        encoded, shown = self._written(prompt, continuation) if self._causal else self._around(prompt, continuation)
        starts, ends = encoded.spans.T
        behind = (ends > shown) & (ends > starts)  # tokens that open or close a text have no characters
        real = np.flatnonzero(behind)
        if not len(real):
            raise DataError(f"no token stands for {continuation!r}, so how likely it is cannot be said")
        if self._causal:  # nor have blanks for some tokenizers, but these count
            real = np.arange(real[0], real[-1] + 1)
        end = int(real[-1]) + 1 if self._causal else len(encoded.ids)
        counts = np.zeros(end, dtype=np.float32)
        counts[real] = 1.0
        row = Row(Example(Place("probe", 1)), encoded.ids[:end], counts)
        return self._cut(row, int(real[0]), continuation), np.clip(encoded.spans[real] - shown, 0, None)

    def _written(self, prompt: str, continuation: str) -> tuple[Encoded, int]:
        """The text as a causal model reads it, and how many characters stand before the continuation."""
        encoded = self._processor.passage(prompt + continuation)
        if prompt or encoded.spans[0, 1] == 0:  # a start token is no character
            return encoded, len(prompt)
        return self._processor.passage(START + continuation), len(START)

    def _around(self, prompt: str, continuation: str) -> tuple[Encoded, int]:
        """The text as a masked model reads it, and how many characters stand before the continuation."""
        text, limit = prompt + continuation, self._processor.max_tokens
        pieces = self._processor.pieces(text, limit=limit)
        if len(pieces) > 1:
            raise DataError(f"the model reads {limit} tokens at once; this text has more: {text[:60]!r} ...")
        return pieces[0], len(pieces[0].text) - len(continuation)

    def _cut(self, row: Row, first: int, continuation: str) -> Row:
        """The beginning of a long prompt is left out; something has to stand before the first token that counts."""
        over = len(row) - self._processor.max_tokens
        if not self._causal or over <= 0:
            return row
        if over >= first:
            raise DataError(
                f"the model reads {self._processor.max_tokens} tokens at once; this continuation alone has "
                f"{len(row) - first}: {continuation[:60]!r} ..."
            )
        return Row(row.example, row.ids[over:], row.learn[over:])

    def _causally(self, rows: Sequence[Row]) -> list[np.ndarray]:
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        collate = Collator(Layout.TOKENS, share=self._policy.network.shares)
        with torch.no_grad():
            for part, batch, read in outputs(self._policy, rows, collate, original=self._original):
                told = read.token_logprobs(batch.targets["tokens"], batch.targets["where"]).double().cpu().numpy()
                owners = batch.targets["rows"].cpu().numpy()
                for number, row in enumerate(part):
                    found[row] = told[owners == number]
        return found

    def _masked(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Each counted token is a row of its own, in which it is masked."""
        asked = [(number, at) for number, row in enumerate(rows) for at in np.flatnonzero(row.learn).tolist()]
        single = [_only(rows[number], at) for number, at in asked]
        told = np.zeros(len(single))
        self._policy.module.eval()
        with torch.no_grad():
            for part, batch in batches(single, Collator(Layout.MASKED)):
                batch = place(batch, self._policy.device)
                where, covered = batch.targets["where"], batch.inputs["input_ids"].clone()
                covered[0, where] = self._mask
                read = self._policy.read({**batch.inputs, "input_ids": covered}, original=self._original)
                told[part] = read.token_logprobs(batch.targets["tokens"], where).double().cpu().numpy()
        owners = np.array([number for number, _ in asked])
        return [told[owners == number] for number in range(len(rows))]


def _only(row: Row, at: int) -> Row:
    learn = np.zeros_like(row.learn)
    learn[at] = 1.0
    return Row(row.example, row.ids, learn)
