"""Which of several ways to take, by how well they answer and how far apart groups are treated: functions of numbers
alone, for whoever has points to choose among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LIMIT = 0.01  # of quality that fairness may cost: one point
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """One way. Intervals are of 95 % and paired: of what it has more than the plain way, which has none itself."""

    way: str
    quality: float  # higher is better
    gap: float  # between groups; lower is better
    quality_change: Pair | None = None
    gap_change: Pair | None = None

    @property
    def surely_smaller(self) -> bool:
        """The gap, than that of the plain way."""
        return self.gap_change is not None and self.gap_change[1] < 0

    def surely_worse(self, limit: float) -> bool:
        """Its quality lies more than `limit` below that of the plain way, and its interval does."""
        return self.quality_change is not None and self.quality_change[1] < -limit

    def dominates(self, other: Point) -> bool:
        """No worse in either, and better in one (Pareto)."""
        better = self.quality > other.quality or self.gap < other.gap
        return better and self.quality >= other.quality and self.gap <= other.gap


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other dominates, by rising quality."""
    kept = [point for point in points if not any(other.dominates(point) for other in points)]
    return sorted(kept, key=lambda point: (point.quality, point.gap))


def recommended(points: Sequence[Point], limit: float = LIMIT) -> Point | None:
    """Among the ways whose gap is surely below the plain one's and whose quality is not surely more than `limit` below
    it, the one of the smallest gap; of equal gaps the better. None where there is no such way."""
    kept = [point for point in points if point.surely_smaller and not point.surely_worse(limit)]
    return min(kept, key=lambda point: (point.gap, -point.quality), default=None)


def reason_of(points: Sequence[Point], chosen: Point | None) -> str:
    """Why that one is recommended, or none: found, none_tried beside the plain way, none_smaller for sure, or
    all_costly, those that are."""
    if chosen is not None:
        return "found"
    if all(point.gap_change is None for point in points):
        return "none_tried"
    return "all_costly" if any(point.surely_smaller for point in points) else "none_smaller"
