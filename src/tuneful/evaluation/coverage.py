"""A map of where rows lie, as SVG that lives inside a page and takes its colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, EDGE = 720.0, 460.0, 18.0
DRAWN = 1500  # rows; more make a page slow and a picture no clearer
AROUND = 2.0  # standard deviations of a group that its ellipse reaches


@dataclass(frozen=True, slots=True)
class Point:
    """A row on the map. `mark` is the kind of a suggestion about it, "" for none; `held` that it is held out."""

    x: float
    y: float
    group: int
    mark: str
    held: bool
    title: str


def drawn(points: Sequence[Point], names: Mapping[int, str], *, label: str) -> str:
    """Rows as dots, those with a suggestion as rings in front of them, groups as ellipses with a name. `label` is read
    out instead of the picture."""
    scale = _Scale(points)
    parts = [_ellipse([scale(point) for point in points if point.group == group and not point.held], name)
             for group, name in names.items()]  # fmt: skip
    for point in sorted(_thinned(points), key=lambda point: bool(point.mark)):
        x, y = scale(point)
        kind = f"odd {point.mark}" if point.mark else "held" if point.held else "row"
        size = 4.5 if point.mark else 2.2
        title = f"<title>{escape(point.title)}</title>"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}">{title}</circle>')
    head = f'<svg class="chart map" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
    return f'{head} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


class _Scale:
    """From the plane to the picture, both axes alike."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = [point.x for point in points], [point.y for point in points]
        self.x, self.y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        wide, high = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
        self.by = min((WIDTH - 2 * EDGE) / wide, (HEIGHT - 2 * EDGE) / high)

    def __call__(self, point: Point) -> tuple[float, float]:
        return WIDTH / 2 + (point.x - self.x) * self.by, HEIGHT / 2 - (point.y - self.y) * self.by


def _thinned(points: Sequence[Point]) -> list[Point]:
    """All that are marked, as far as there is room, and evenly of the others."""
    marked = [point for point in points if point.mark][:DRAWN]
    others = [point for point in points if not point.mark]
    room = DRAWN - len(marked)
    if len(others) > room:
        others = [others[number * len(others) // room] for number in range(room)]
    return [*others, *marked]


def _ellipse(places: Sequence[tuple[float, float]], name: str) -> str:
    """Around a group: along its own axes, from its covariance in the picture."""
    if len(places) < 3:
        return ""
    count = len(places)
    mx, my = sum(x for x, _ in places) / count, sum(y for _, y in places) / count
    xx = sum((x - mx) ** 2 for x, _ in places) / count
    yy = sum((y - my) ** 2 for _, y in places) / count
    xy = sum((x - mx) * (y - my) for x, y in places) / count
    middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    long, short = (AROUND * math.sqrt(max(0.0, value)) for value in (middle + half, middle - half))
    turned = math.degrees(math.atan2(2 * xy, xx - yy) / 2)
    shape = f'<ellipse class="group" rx="{long:.1f}" ry="{short:.1f}" transform="translate({mx:.1f} {my:.1f}) rotate({turned:.1f})"/>'  # noqa: E501
    return f'{shape}<text class="name" x="{mx:.1f}" y="{my:.1f}">{escape(name)}</text>'
