"""What a run will take, before it starts: floating-point operations and seconds."""

from __future__ import annotations

from dataclasses import dataclass

from tuneful.engine.memory import memory_mb
from tuneful.engine.work import Work, operations

UTILISATION = {"fp32": 0.60, "bf16": 0.42}  # of the measured matrix rate; measured, see docs/log.md
STEP_SECONDS = 0.03  # what an update takes beside its products


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
    below = round(work.body * work.below / max(1, work.layers))
    a_token = operations(work.body - below, work.trainable, frozen=work.frozen_body) + 2.0 * below * work.once
    needed = work.tokens * a_token + work.learned * 4.0 * work.vocabulary
    again = work.tokens * 2.0 * (work.body - below) if work.checkpointing else 0.0
    seconds = (needed + again) / (gflops * 1e9 * UTILISATION[work.precision]) + work.steps * STEP_SECONDS
    return Cost(work.steps, round(seconds, 1), memory_mb(work), needed / 1e12, gflops)
