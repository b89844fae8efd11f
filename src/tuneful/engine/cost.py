"""What a run will take, before it starts: floating-point operations, seconds, memory."""

from __future__ import annotations

from dataclasses import dataclass

UTILISATION = {"fp32": 0.60, "bf16": 0.42}  # of the measured matrix rate; measured, see docs/log.md
STEP_SECONDS = 0.03  # what an update takes beside its products
IMPORTED_MB = 400  # torch, transformers and peft before any weight
KERNELS_MB = 250  # what the products' kernels, the vocabulary's chunks and gaps between blocks of memory take
ACTIVATIONS = {True: 14, False: 20}  # numbers kept a token, layer and unit of width: body frozen, or not; measured


@dataclass(frozen=True, slots=True)
class Work:
    """One run, counted."""

    tokens: int  # read in all updates
    learned: int  # of these projected to the vocabulary
    steps: int
    body: int  # matrix weights a token meets
    vocabulary: int  # weights of the output matrix
    trainable: int
    total: int  # weights in memory
    width: int
    layers: int
    frozen_body: bool  # the body's own weights get no gradient
    micro_tokens: int
    precision: str  # fp32 or bf16
    frozen_bytes: float | None = None  # of a weight of the frozen body, where it is quantised


@dataclass(frozen=True, slots=True)
class Cost:
    """What it will take."""

    steps: int
    seconds: float
    memory_mb: int
    tflop: float
    gflops: float  # the matrix rate this was reckoned with

    def utilisation(self, share: float, seconds: float) -> float:
        """Model-FLOP utilisation of `share` of the work done in `seconds`: what its tokens need, each counted as if
        it were read by itself, over what the machine's products could have done (Chowdhery et al. 2022,
        arXiv:2204.02311, appendix B)."""
        return share * self.tflop * 1e3 / (self.gflops * seconds)


def predict(work: Work, gflops: float) -> Cost:
    """`gflops` is the machine's matrix rate in the run's precision."""
    a_token = operations(work.body, work.trainable, frozen=work.frozen_body)
    needed = work.tokens * a_token + work.learned * 4.0 * work.vocabulary
    seconds = needed / (gflops * 1e9 * UTILISATION[work.precision]) + work.steps * STEP_SECONDS
    return Cost(work.steps, round(seconds, 1), _memory(work), needed / 1e12, gflops)


def operations(body: int, trainable: int, *, frozen: bool) -> float:
    """Of one trained token, without the vocabulary: a product costs 2 a weight forward, 2 for the slope of its input, 2
    for that of its weights. `trainable` are an adapter's weights where the body is frozen."""
    return 4.0 * body + 6.0 * trainable if frozen else 6.0 * body


def _memory(work: Work) -> int:
    width = 2 if work.precision == "bf16" else 4
    # Frozen bf16 weights lie in memory twice, in the order of the forward and of the backward product.
    packed = work.body if work.frozen_body and work.precision == "bf16" else 0
    weights = (work.total + packed) * (width if work.frozen_body else 4)
    if work.frozen_bytes is not None:
        weights = round((work.total - work.body) * width + work.body * work.frozen_bytes)
    learning = work.trainable * 4 * 4  # the weight, its gradient, and Adam's two moments
    activations = work.micro_tokens * work.layers * work.width * ACTIVATIONS[work.frozen_body] * width
    return IMPORTED_MB + KERNELS_MB + int((weights + learning + activations) / 2**20)
