"""Ways as points of a plane, two things to want on its axes, as SVG that lives inside a page and takes its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720.0, 440.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 30.0, 52.0  # beside the plane
TICKS = 5  # of an axis, about
ROOM = 0.06  # of the range, on both sides
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dot:
    """One way. `mark` names how it is drawn: plain, chosen, or "" for any other."""

    number: int  # stands beside it
    name: str
    x: float
    y: float
    x_ends: Pair | None = None
    y_ends: Pair | None = None
    mark: str = ""
    front: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From a value to a place in the picture."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Axis:
        low, high = min(values), max(values)
        room = ROOM * (high - low) or ROOM
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


def scatter(dots: Sequence[Dot], *, across: str, up: str, label: str) -> str:
    """The front as a line, intervals as bars, every way as a numbered dot. `across` and `up` are the words of the axes;
    `label` is read out instead of the picture."""
    x = Axis.over([value for dot in dots for value in (dot.x, *(dot.x_ends or ()))], LEFT, WIDTH - RIGHT)
    y = Axis.over([value for dot in dots for value in (dot.y, *(dot.y_ends or ()))], HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, across, up), _front(dots, x, y)]
    parts += [_bars(dot, x, y) for dot in dots]
    parts += [_dot(dot, x, y) for dot in sorted(dots, key=lambda dot: dot.mark == "chosen")]
    head = f'<svg class="chart plane" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
    return f'{head} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def _axes(x: Axis, y: Axis, across: str, up: str) -> str:
    lines = [f'<line class="rule" x1="{x.start}" x2="{x.end}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
             f'<text class="tick side" x="{x.start - 8}" y="{y(tick) + 4:.1f}">{_number(tick)}</text>'
             for tick in y.ticks]  # fmt: skip
    lines += [f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y.start}" y2="{y.start + 4}"/>'
              f'<text class="tick" x="{x(tick):.1f}" y="{y.start + 18}">{_number(tick)}</text>'
              for tick in x.ticks]  # fmt: skip
    names = (f'<text class="axis end" x="{x.end}" y="{HEIGHT - 10}">{escape(across)}</text>'
             f'<text class="axis" x="8" y="16">{escape(up)}</text>')  # fmt: skip
    return "".join(lines) + names


def _number(tick: float) -> str:
    return f"{tick + 0.0:.6g}".replace("-", "\u2212")


def _front(dots: Sequence[Dot], x: Axis, y: Axis) -> str:
    ends = sorted((dot.x, dot.y) for dot in dots if dot.front)
    line = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in ends)
    return f'<polyline class="front" points="{line}"/>' if len(ends) > 1 else ""


def _bars(dot: Dot, x: Axis, y: Axis) -> str:
    kind, made = f"bar {dot.mark}".strip(), ""
    if dot.x_ends:
        made += f'<line class="{kind}" x1="{x(dot.x_ends[0]):.1f}" x2="{x(dot.x_ends[1]):.1f}" ' \
                f'y1="{y(dot.y):.1f}" y2="{y(dot.y):.1f}"/>'  # fmt: skip
    if dot.y_ends:
        made += f'<line class="{kind}" x1="{x(dot.x):.1f}" x2="{x(dot.x):.1f}" ' \
                f'y1="{y(dot.y_ends[0]):.1f}" y2="{y(dot.y_ends[1]):.1f}"/>'  # fmt: skip
    return made


def _dot(dot: Dot, x: Axis, y: Axis) -> str:
    size = {"chosen": 8.0, "plain": 6.5}.get(dot.mark, 4.5)
    aside = 14 if dot.mark == "chosen" else 9
    ring = f'<circle class="ring" cx="{x(dot.x):.1f}" cy="{y(dot.y):.1f}" r="13"/>' if dot.mark == "chosen" else ""
    return (
        f'{ring}<circle class="{f"dot {dot.mark}".strip()}" cx="{x(dot.x):.1f}" cy="{y(dot.y):.1f}" r="{size}">'
        f"<title>{escape(dot.name)}</title></circle>"
        f'<text class="count" x="{x(dot.x) + aside:.1f}" y="{y(dot.y) - 8:.1f}">{dot.number}</text>'
    )
