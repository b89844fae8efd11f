"""How far a request helps to tell its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.rows import build_row
from tuneful.evaluation.reading import token_losses
from tuneful.run.tuned import Tuned


@dataclass(frozen=True, slots=True)
class Answered:
    """A request, its answer, and what stands before both."""

    before: tuple[Message, ...]
    asked: str
    answer: str


def difficulty(judge: Tuned, rows: Sequence[Answered]) -> np.ndarray:
    """(R,) loss of an answer after its request by its loss without it: instruction-following difficulty (Li et al.
    2023, arXiv:2308.12032, equation 4). From 1 on the request does not help. Inf where a row is longer than the model
    reads.

    Differs from the paper: without its request, an answer stands in the same template behind an empty one, so that both
    losses are of the same tokens, the stop token among them."""
    both = [_row(judge, row, asked) for row in rows for asked in (row.asked, "")]
    fits = [len(row) <= judge.processor.max_tokens for row in both]
    found = np.full((len(both), 2), np.inf)
    collate = Collator(Layout.TOKENS, share=judge.policy.network.shares)
    kept = [row for row, short in zip(both, fits, strict=True) if short]
    found[np.array(fits, dtype=bool)] = token_losses(judge.policy, kept, collate)
    after, alone = found[0::2, 0], found[1::2, 0]
    return np.where(np.isfinite(after), after / np.maximum(alone, 1e-9), np.inf)


def _row(judge: Tuned, row: Answered, asked: str) -> Row:
    messages = (*row.before, Message("user", asked), Message("assistant", row.answer))
    encoded = judge.processor.conversation(messages)[-1]
    return build_row(Example(Place("written", 1), messages=messages), encoded)
