"""What a model wrote and was rewarded for, as a row that is learned from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tuneful.core.types import Row


def _nothing() -> np.ndarray:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Played(Row):
    """`learn` weighs each token that the model wrote; what it read, and what an environment answered, weighs nothing.
    The arrays have a number for each learned token, in their order."""

    advantages: np.ndarray = field(default_factory=_nothing)  # how much better than expected it was to write it
    drawn: np.ndarray = field(default_factory=_nothing)  # its log-probability when it was drawn
    units: float = 0.0  # what the row adds to the denominator of the loss
