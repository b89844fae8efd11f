"""The most memory a run will hold, before it starts, and how it is made to hold less.

What a layer keeps for its backward pass was counted tensor by tensor for the ways a layer is run; the constants beside
it were measured (`python -m benchmarks memory`).
"""

from __future__ import annotations

from dataclasses import replace

from tuneful.engine.work import Work

IMPORTED_MB = 455  # torch, transformers, peft and a tokenizer before any weight
KERNELS_MB = {True: 190, False: 60}  # kernels made for each shape of a product; with a vocabulary: and its chunks
WASTE = 1.35  # gaps between blocks of memory, and what is alive only for a moment
MEASURING_MB = {True: 500, False: 100}  # what the report's own work takes, with and without writing; nothing lowers it
KEPT = {"joined": 1.15, "frozen": 2.3, "learns": 4.4}  # bytes a token and output of a layer, over bytes of a number
DENSE = 256  # tokens; scores of longer rows are computed again, and rows of mixed length keep about half of that
FASTEST, LEAST = 256, 64  # tokens at once below which products slow down, and below which nothing is gained


def memory_mb(work: Work) -> int:
    """The peak, in MB of 2**20 bytes."""
    return IMPORTED_MB + KERNELS_MB[work.vocabulary > 0] + int((_weights(work) + _passing(work)) / 2**20)


def ways(work: Work, *, twice: bool = True, fewer: bool = True) -> list[Work]:
    """The same run with `fewer` tokens at once (not where rows are told apart by those read with them), and with layers
    computed `twice`; fastest first.
    Small products cost less than computing layers twice, until they are very small."""
    found = []
    for lowest in (FASTEST, LEAST):
        for again in (True,) if work.checkpointing else (False, True) if twice else (False,):
            tokens = work.micro_tokens
            if not fewer:
                found.append(replace(work, checkpointing=again))
                continue
            while tokens >= max(lowest, min(work.longest, work.micro_tokens)) or tokens == work.micro_tokens:
                found.append(replace(work, micro_tokens=tokens, checkpointing=again))
                tokens //= 2
    return found


def _weights(work: Work) -> int:
    """Bytes of what stays: the model in the orders its products want, and what is kept of each weight that learns."""
    number = _bytes(work)
    # Frozen bf16 weights lie in memory twice, in the order of the forward and of the backward product.
    packed = work.body if work.joined and work.precision == "bf16" else 0
    held = (work.total + packed) * (number if work.frozen_body else 4)
    if work.frozen_bytes is not None:
        held = round((work.total - work.body) * number + work.body * work.frozen_bytes)
    # Weights that learn are kept as they were, to be compared with at the end.
    original = 0 if work.frozen_body else work.trainable * 4
    adapter = work.trainable * 4 if work.frozen_body else 0
    # Gradient, two moments, and the best weights so far.
    return (held + original + adapter + work.trainable * 4 * (4 + work.copies)) // work.shares


def _passing(work: Work) -> float:
    """Bytes of what comes and goes: a training step's, or the report's, which is made afterwards."""
    return max(WASTE * _activations(work), MEASURING_MB[work.vocabulary > 0] * 2**20)


def _activations(work: Work) -> int:
    """Bytes of what the forward pass of one micro-batch leaves for the backward pass."""
    tokens = max(work.micro_tokens, work.longest)
    layer = _layer(work)
    learn = max(1, work.layers - work.below)
    if not work.checkpointing:
        return tokens * learn * layer
    return tokens * (learn * work.width * _bytes(work) + layer)  # of one layer everything, of all their inputs


def _layer(work: Work) -> int:
    """Bytes of one layer and token."""
    way = ("joined" if work.joined else "frozen") if work.frozen_body else "learns"
    number = _bytes(work)
    # Where weights learn, autocast keeps most numbers in both precisions.
    kept = KEPT[way] * (2 if way == "learns" else number) * work.outputs
    scores = work.heads * (work.longest if work.longest <= DENSE else DENSE // 2) * number
    return round(kept + scores)


def _bytes(work: Work) -> int:
    return 2 if work.precision == "bf16" else 4
