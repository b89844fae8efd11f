"""How right a classifier is and how far groups are apart, as plain numbers: what a repair is told by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuneful.evaluation.fairness.answers import Answers
from tuneful.evaluation.fairness.gaps import plain
from tuneful.evaluation.fairness.measures import case
from tuneful.evaluation.fairness.members import memberships


def standing(truth: np.ndarray, said: np.ndarray, groups: Sequence[str | None], classes: int) -> dict[str, float]:
    """`truth` and `said` (R,) class ids. Accuracy over all rows; the gaps over those whose group is known, and only
    those gaps that two groups have rows enough for."""
    found = {"accuracy": float((truth == said).mean())}
    given = Answers(truth, said, np.zeros((len(truth), classes)), tuple(range(classes)))
    for members in memberships({"group": list(groups)}, len(truth))[0]:
        found |= plain(case(given, members))
    return {name: round(value, 5) for name, value in found.items()}
