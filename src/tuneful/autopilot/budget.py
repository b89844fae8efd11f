"""How long the next way will take, and whether there is time for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Done = Sequence[tuple[float, float]]  # of the ways that were tuned: what each was thought to cost, and its seconds


def foretold(cost: float, done: Done) -> float:
    """Seconds; `cost` is beside the plain way, which costs 1. Raises ValueError before anything was tuned."""
    if not done:
        raise ValueError("nothing was tuned yet, so no seconds are known")
    return cost * sum(seconds for _, seconds in done) / sum(cost for cost, _ in done)


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of one call; None: as many as it takes. `whole` is how long a run on all training rows takes beside
    a way, which makes one for each part that it is asked about; so much is kept free for the way that is recommended,
    and nothing where there are no test rows to tell it on."""

    seconds: float | None
    whole: float = 0.0
    began: float = 0.0  # by the clock of whoever asks

    def allows(self, cost: float, done: Done, spent: float) -> bool:
        if self.seconds is None:
            return True
        return spent + foretold(cost, done) * (1 + self.whole) <= self.seconds
