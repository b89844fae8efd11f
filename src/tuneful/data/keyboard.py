"""Which keys lie beside which on a QWERTY keyboard."""

from __future__ import annotations

import numpy as np

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SHIFT = (0.0, 0.25, 0.75)  # keys that each row of a keyboard stands to the right of the first
REACH = 1.3  # keys between the middles of two neighbours


def _neighbours() -> dict[str, tuple[str, ...]]:
    at = {key: (SHIFT[row] + column, row) for row, keys in enumerate(ROWS) for column, key in enumerate(keys)}
    return {
        key: tuple(other for other, (u, v) in at.items() if other != key and np.hypot(u - x, v - y) <= REACH)
        for key, (x, y) in at.items()
    }


NEAR = _neighbours()
