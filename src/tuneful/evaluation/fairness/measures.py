"""What a measurement of groups gives: a number with its interval, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.types import Said
from tuneful.evaluation.fairness.answers import Answers
from tuneful.evaluation.fairness.cells import Cells, cells
from tuneful.evaluation.fairness.intervals import Pair
from tuneful.evaluation.fairness.members import Members

LEAST = 30  # rows of a group that a number needs, of the kind it is about: positive ones for a TPR
DRAWS, FEWEST_DRAWS = 1000, 200
WORK = 20_000_000  # rows that are drawn for one number at most, before fewer than `DRAWS` have to do


@dataclass(frozen=True, slots=True)
class Measure:
    """One number. `n` counts the rows it rests on: of an area the smaller side, of a gap the groups it is taken over.

    `reason` where it is not measured: few_rows, few_positives, few_negatives, few_background_positives,
    few_background_negatives, one_class, few_groups, group_is_label."""

    value: float | None
    n: int
    ci95: Pair | None = None
    reason: str | None = None
    by_chance: float | None = None  # what it is in the mean where the group does not matter; of an ECE, see calibration
    p: float | None = None  # of a group: that it is as the rest; of a gap: that the group does not matter
    p_adjusted: float | None = None  # for as many groups
    groups: tuple[str, ...] = ()  # of a gap, the highest and the lowest
    rate: str | None = None  # of a gap between rates of several kinds, the kind that is widest apart
    label: int | None = None  # of a gap between rates of several classes, the class

    def as_json(self) -> dict[str, Any]:
        """What is there; `value` always."""
        found: dict[str, Any] = {"value": _rounded(self.value), "n": self.n}
        optional = {"reason": self.reason, "by_chance": _rounded(self.by_chance), "p": _rounded(self.p),
                    "p_adjusted": _rounded(self.p_adjusted), "rate": self.rate, "label": self.label,
                    "ci95": [round(end, 5) for end in self.ci95] if self.ci95 else None,
                    "groups": list(self.groups) or None}  # fmt: skip
        return found | {name: value for name, value in optional.items() if value is not None}


def refused(reason: str, n: int) -> Measure:
    return Measure(None, n, reason=reason)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one column of groups: the rows whose group is known, and their answers."""

    answers: Answers  # (K,)
    members: Members
    cells: Cells

    @property
    def mask(self) -> np.ndarray:
        """(K, G)."""
        return self.members.mask

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """(G,) of rows (K,) that a mask chooses, how many each group has."""
        return rows.astype(np.int64) @ self.mask.astype(np.int64)


def case(answers: Answers, members: Members) -> Case:
    own = answers.of(members.known)
    return Case(own, members, cells(members.mask, own.truth, [own.said]))


def times(rows: int) -> int:
    """How often to draw `rows` rows: 1,000 times, up to 20,000 rows; then fewer, and never under 200."""
    return int(np.clip(WORK // max(rows, 1), FEWEST_DRAWS, DRAWS))


def few(part: Case) -> Said | None:
    """That some groups are too small for some numbers."""
    sizes = part.counts(np.ones(len(part.answers)))
    small = sizes < LEAST
    if part.answers.score is not None:
        positives = part.counts(part.answers.truth == 1)
        small = small | (np.minimum(positives, sizes - positives) < LEAST)
    names: Sequence[str] = [name for name, is_small in zip(part.members.names, small, strict=True) if is_small]
    if not names:
        return None
    facts = {"feature": part.members.feature, "count": len(names), "groups": ", ".join(names[:8]), "least": LEAST}
    return Said("fairness_small_groups", facts)
