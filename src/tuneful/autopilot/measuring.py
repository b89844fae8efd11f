"""How well a way answers, and how far apart it treats groups, beside the plain way on the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.autopilot.apart import Questions
from tuneful.autopilot.points import Pair, Point
from tuneful.core.errors import DataError
from tuneful.evaluation.compare import Score, score
from tuneful.evaluation.fairness import LEAST
from tuneful.evaluation.fairness.gaps import WORST_BPSN
from tuneful.evaluation.fairness.members import MENTIONS
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.treatment import FLIPS, Asked, Exchanged, flipped, rarer, treatment
from tuneful.run.prepare import Prepared

MEASURES = ("equalised_odds_difference", "demographic_parity_difference", "accuracy_gap", WORST_BPSN, FLIPS)
UNEVEN = 10  # times as many rows of one class as of another, from which on accuracy says little


@dataclass(frozen=True, slots=True)
class System:
    """What a model said of the same rows, and of those about other groups."""

    shares: np.ndarray  # (R, C)
    twins: np.ndarray  # (T, C)

    @property
    def said(self) -> list[int]:
        return list(map(int, self.shares.argmax(1)))


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What is measured of systems that were asked the same rows."""

    measure: str
    metric: str
    truth: np.ndarray  # (R,) class ids
    groups: Mapping[str, Sequence[str | None]]  # one column
    positive: int | None
    exchanged: Exchanged
    seed: int

    def quality(self, one: System, plain: System) -> Score:
        """`one` is "tuned", the plain way "base"."""
        return score(METRICS[self.metric], self.truth.tolist(), {"tuned": one.said, "base": plain.said}, seed=self.seed)

    def gap(self, one: System, plain: System | None) -> dict[str, Any]:
        """The entry of a report's `bias`: before is the plain way."""
        asked = Asked(self.truth, one.shares, plain.shares if plain else None)
        if self.measure != FLIPS:
            return dict(treatment(asked, self.groups, self.positive, seed=self.seed).bias.get(self.measure, {}))
        if not self.exchanged.rows:
            return {"measurable": False, "reason": "few_rows", "n": 0}
        twins = Asked(self.truth[self.exchanged.places], one.twins, plain.twins if plain else None)
        return dict(flipped(asked, twins, self.exchanged, self.positive)[FLIPS])


@dataclass(frozen=True, slots=True)
class Measured:
    """A way's point, and what its gap would be by chance, where that is known."""

    point: Point
    chance: float | None


def yardstick(measure: str, prepared: Prepared, asked: Questions) -> Yardstick:
    """Which of two classes is the rarer, and by which metric, the training rows say."""
    assert prepared.labels is not None
    counts = Counter(int(row.target) for row in prepared.rows("train") if row.target is not None)
    return Yardstick(
        measure,
        metric_of(counts),
        np.array([int(row.target) for row in asked.rows]),
        {prepared.recipe.task.data.group or MENTIONS: [row.example.group for row in asked.rows]},
        rarer(counts, len(prepared.labels.names)),
        asked.exchanged,
        prepared.recipe.seed,
    )


def metric_of(counts: Mapping[int, int]) -> str:
    """By rows of each class: accuracy, or where one is rare, macro F1."""
    return "macro_f1" if max(counts.values()) > UNEVEN * min(counts.values()) else "accuracy"


def check_measurable(by: Yardstick, classes: int) -> None:
    """Whether there will be a number is a matter of the rows alone, so it is asked before anything is tuned. Raises
    DataError."""
    faultless = System(np.eye(classes)[by.truth], np.eye(classes)[by.truth[by.exchanged.places]])
    found = by.gap(faultless, None)
    if not found.get("measurable"):
        raise DataError(f"{by.measure} cannot be measured on {len(by.truth)} training rows: {_why(by, found)}; bring "
                        f"more rows, or take another measure: {', '.join(MEASURES)}")  # fmt: skip


def _why(by: Yardstick, found: Mapping[str, Any]) -> str:
    if by.measure == FLIPS:
        return f"{len(by.exchanged.rows)} of them mention a group that can be exchanged, and {LEAST} are needed"
    if by.measure == WORST_BPSN and by.positive is None:
        return "it is about two classes, and there are others"
    if found.get("reason") == "group_is_label":
        return "the group tells the class of every row"
    return f"fewer than two groups have {LEAST} rows of each kind that it is about"


def measured(by: Yardstick, way: str, one: System, plain: System) -> Measured | None:
    """None where this way's gap has no number. The plain way is measured against nothing."""
    is_plain = one is plain
    found = by.gap(one, None if is_plain else plain)
    if not found.get("measurable"):
        return None
    quality, turned = by.quality(one, plain), by.measure == WORST_BPSN
    gap = 1 - found["after"] if turned else found["after"] + 0.0  # no gap may come as minus nothing
    chance = found.get("chance")
    chance = 1 - chance if turned and chance is not None else chance
    if is_plain:
        return Measured(Point(way, quality.values["tuned"], gap), chance)
    change = quality.against["base"]
    ends: Pair = tuple(found["ci95"])
    ends = (-ends[1], -ends[0]) if turned else ends
    return Measured(Point(way, quality.values["tuned"], gap, (change.low, change.high), ends), chance)
