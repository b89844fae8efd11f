"""One run, counted: what its cost and its memory are reckoned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Work:
    """Numbers of tokens, weights and layers."""

    tokens: int  # read in all updates
    learned: int  # of these projected to the vocabulary
    steps: int
    body: int  # matrix weights a token meets
    vocabulary: int  # weights of the output matrix
    trainable: int
    total: int  # weights in memory
    width: int
    layers: int
    outputs: int  # of all matrices of one layer together
    heads: int
    longest: int  # tokens of the longest row
    frozen_body: bool  # the body's own weights get no gradient
    joined: bool  # decoder layers run as one function each
    micro_tokens: int  # read at once
    precision: Literal["fp32", "bf16"]
    frozen_bytes: float | None = None  # of a weight of the frozen body, where it is quantised
    shares: int = 1  # processes each weight is shared out to
    copies: int = 0  # of what learns, that are kept beside gradient, moments and the best weights
    below: int = 0  # layers beneath the first that learns, which keep nothing for a backward pass
    once: float = 1.0  # share of the tokens that pass through these: the rest were kept from an earlier visit
    checkpointing: bool = False  # layers are computed again in the backward pass, instead of kept


def operations(body: int, trainable: int, *, frozen: bool) -> float:
    """Of one trained token, without the vocabulary: a product costs 2 a weight forward, 2 for the slope of its input, 2
    for that of its weights. `trainable` are an adapter's weights where the body is frozen."""
    return 4.0 * body + 6.0 * trainable if frozen else 6.0 * body
