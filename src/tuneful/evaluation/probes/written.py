"""How a model goes on with a text, in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.errors import DataError, ModelError
from tuneful.core.policy import Policy
from tuneful.models.processors import TextProcessor
from tuneful.models.sampling import Generator

DISTINCT = 0.5  # least share of different pairs of neighbours; English and Chinese prose of 20 tokens has 0.9 and more


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt and how it went on."""

    text: str  # of both
    continuation: str
    ids: tuple[int, ...]  # of the continuation

    @property
    def said(self) -> bool:
        """It is not blank, and no more than half of its pairs of neighbouring tokens have come before (distinct-2, Li
        et al. 2016, arXiv:1510.03055, section 5)."""
        pairs = list(zip(self.ids, self.ids[1:], strict=False))
        return bool(self.continuation.strip()) and len(set(pairs)) >= DISTINCT * len(pairs)


def write(
    policy: Policy, processor: TextProcessor, prompts: Sequence[str], *, limit: int, seed: int, original: bool = False
) -> list[Written]:
    """One continuation of each prompt, drawn at temperature 1, of at most `limit` tokens; it ends at the end token. A
    prompt is plain text, no turn of a conversation. Raises ModelError for a model that names masked tokens, DataError
    for a prompt that leaves no room."""
    if not policy.network.causal:
        raise ModelError(
            f"{type(policy.module).__name__} names masked tokens and writes no text; ask it a probe of "
            "likelihood, such as descriptors"
        )
    given = [_ids(prompt, processor, limit) for prompt in prompts]
    found = Generator(processor).sample(
        policy, given, limit=limit, temperature=1.0, seed=seed, original=original
    )  # fmt: skip
    return [
        Written(processor.decode([*ids.tolist(), *one.ids]), one.text, one.ids)
        for ids, one in zip(given, found, strict=True)
    ]


def _ids(prompt: str, processor: TextProcessor, limit: int) -> np.ndarray:
    """Without the token that would end it."""
    encoded = processor.passage(prompt)
    starts, ends = encoded.spans.T
    ids = encoded.ids[: int(np.flatnonzero(ends > starts)[-1]) + 1]
    if len(ids) + limit > processor.max_tokens:
        raise DataError(
            f"the model reads {processor.max_tokens} tokens; this prompt has {len(ids)}, and {limit} more are to be "
            f"written: {prompt[:60]!r} ... Shorten it, or write fewer (new_tokens)"
        )
    return ids
