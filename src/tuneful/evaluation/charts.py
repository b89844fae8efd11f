"""The report's pictures as SVG that lives inside the page: its colours are the page's CSS variables, its letters the
page's font, so one picture serves light, dark and paper.

Lengths are in points, one of which is one CSS pixel at the picture's own width.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

INK, FAINT, PAPER = "#010101", "#010102", "#010109"
# matplotlib knows no CSS, so it is given colours nobody would choose, which become these.
PAINTS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    PAPER: "var(--paper)",
    "#010103": "var(--base)",
    "#010104": "var(--kshot)",
    "#010105": "var(--trivial)",
    "#010106": "var(--tuned)",
    "#010107": "var(--train)",
    "#010108": "var(--validation)",
    "#01010a": "var(--test)",
}
PAINT = {css[6:-1]: colour for colour, css in PAINTS.items() if css.startswith("var(--")}

BAR_WIDTH, BAR_HEIGHT, NAMES = 340, 26, 74
CURVE_WIDTH, CURVE_HEIGHT = 480, 260
SQUARE = 260
ROOM = 1.3  # the axis reaches this many times the longest bar that is shown whole: room for the value
SMOOTHED = 20  # from this many points on, a moving mean is drawn over them
LETTERS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """One system's value. `interval` lies around the end of the bar."""

    system: str  # base | kshot | trivial | tuned
    name: str
    value: float
    text: str
    interval: tuple[float, float] | None = None


def bars(given: Sequence[Bar], *, label: str, key: str) -> str:
    """Horizontal bars from zero. `label` is read out instead of the picture; `key` tells its ids from others'."""
    height = BAR_HEIGHT * len(given) + 8
    with _figure(BAR_WIDTH, height, key) as figure:
        axes = figure.add_axes((NAMES / BAR_WIDTH, 4 / height, 1 - NAMES / BAR_WIDTH, 1 - 8 / height))
        low, high = _reach(given)
        for place, bar in enumerate(given):
            _draw_bar(axes, place, bar, high)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlim=(low, high), ylim=(len(given) - 0.5, -0.5), xticks=[])
        axes.set_yticks(range(len(given)), [bar.name for bar in given])
        for name, bar in zip(axes.get_yticklabels(), given, strict=True):
            name.set_fontweight("bold" if bar.system == "tuned" else "normal")
        return _inline(figure, label, key)


def curves(
    lines: Mapping[str, Sequence[Sequence[float]]],
    kept: int | None,
    say: Mapping[str, str],
    *,
    label: str,
    key: str,
) -> str:
    """Loss over updates: `lines` holds points (step, loss) of "train", "validation" and "test", and where there are any
    (step, share) of "accuracy", which has an axis of its own; `kept` is the update whose weights stayed."""
    left, bottom, top = 40, 34, 24
    wide, high = 1 - (left + (36 if lines.get("accuracy") else 12)) / CURVE_WIDTH, 1 - (bottom + top) / CURVE_HEIGHT
    with _figure(CURVE_WIDTH, CURVE_HEIGHT, key) as figure:
        axes = figure.add_axes((left / CURVE_WIDTH, bottom / CURVE_HEIGHT, wide, high))
        for name, points in lines.items():
            if name != "accuracy":
                _draw_line(axes, name, [point for point in points if math.isfinite(point[1])])
        _ruled(axes, say["axis_updates"], say["axis_loss"])
        if lines.get("accuracy"):
            _draw_share(axes, lines["accuracy"], say["axis_right"])
        if kept is not None:
            _draw_kept(axes, kept, say["kept_at"].format(step=f"{kept:,}"))
        return _inline(figure, label, key)


def _reach(given: Sequence[Bar]) -> tuple[float, float]:
    """Ends of the axis. A constant answer may be a hundred times as long as the others, and would hide them."""
    ends = [(bar.system, end) for bar in given for end in (bar.value, *(bar.interval or ()))]
    longest = max(0.0, *(end for _, end in ends))
    others = max((end for system, end in ends if system != "trivial"), default=longest)
    high = ROOM * (others if 0 < others < longest / 2 else longest) or 1.0
    low = ROOM * min(0.0, *(end for _, end in ends))
    return max(low, -high), high


def _draw_bar(axes: Any, place: int, bar: Bar, high: float) -> None:
    most, end = high / ROOM, min(bar.value, high / ROOM)
    body = {"height": 0.62, "color": PAINT[bar.system], "linewidth": 0}
    axes.barh(place, end, **body)
    if bar.value > most:
        # The gap says that the bar goes on.
        axes.barh(place, most * 0.02, left=most * 1.03, **body)
        end = most * 1.05
    if bar.interval is not None:
        for paint, width, tick in ((PAPER, 4, 10), (INK, 1.6, 8)):
            line = {"linewidth": width, "marker": "|", "markersize": tick, "markeredgewidth": width}
            axes.plot(bar.interval, (place, place), color=paint, **line)
        end = max(end, bar.interval[1])
    weight = "bold" if bar.system == "tuned" else "normal"
    letters = {"va": "center_baseline", "fontweight": weight, "color": INK}
    axes.text(max(end, 0.0) + high * 0.025, place, bar.text, **letters)


def _draw_line(axes: Any, name: str, points: Sequence[Sequence[float]]) -> None:
    if not points:
        return
    steps, losses = zip(*points, strict=True)
    paint = PAINT[name]
    if name == "test":
        axes.plot(steps, losses, color=paint, linewidth=0, marker="D", markersize=7, zorder=5)
    elif name == "validation":
        axes.plot(steps, losses, color=paint, linewidth=2, marker="o", markersize=5, zorder=4)
    elif len(points) < SMOOTHED:
        axes.plot(steps, losses, color=paint, linewidth=1.5, marker="." if len(points) < 3 else "", zorder=3)
    else:
        axes.plot(steps, losses, color=paint, linewidth=0.8, alpha=0.4, zorder=2)
        axes.plot(steps, _smooth(losses, min(15, len(points) // 10)), color=paint, linewidth=1.8, zorder=3)


def _draw_share(axes: Any, points: Sequence[Sequence[float]], words: str) -> None:
    """On an axis of its own at the right."""
    steps, shares = zip(*points, strict=True)
    other = axes.twinx()
    other.plot(steps, shares, color=PAINT["validation"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    other.set(ylim=(0, 1.02), yticks=[0, 0.5, 1])
    other.annotate(words, (1, 1), (30, 10), "axes fraction", "offset points", color=INK, ha="right")


def reliability(points: Sequence[Sequence[float]], say: Mapping[str, str], *, label: str, key: str) -> str:
    """How often groups of rows are right over how sure the model is of them: points (confidence, accuracy, rows)."""
    side, left, bottom, top = SQUARE, 40, 34, 24
    with _figure(side, side, key) as figure:
        place = (left / side, bottom / side, 1 - (left + 12) / side, 1 - (bottom + top) / side)
        axes = figure.add_axes(place)
        axes.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        most = max(rows for _, _, rows in points)
        for sure, right, rows in points:
            axes.plot(sure, right, color=PAINT["tuned"], marker="o", markersize=4 + 5 * rows / most, zorder=3)
        axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            color=PAINT["tuned"],
            linewidth=1.2,
            zorder=2,
        )
        _named(axes, say["axis_confidence"], say["axis_accuracy"])
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.02, 1.04), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        return _inline(figure, label, key)


def growth(
    points: Sequence[Sequence[float]],
    guessed: Sequence[Sequence[float]],
    say: Mapping[str, str],
    *,
    label: str,
    key: str,
) -> str:
    """Accuracy over training rows: points (rows, accuracy) that were measured, and those that were guessed."""
    left, bottom, top = 40, 34, 24
    wide, high = 1 - (left + 12) / CURVE_WIDTH, 1 - (bottom + top) / CURVE_HEIGHT
    with _figure(CURVE_WIDTH, CURVE_HEIGHT, key) as figure:
        axes = figure.add_axes((left / CURVE_WIDTH, bottom / CURVE_HEIGHT, wide, high))
        ahead = [points[-1], *(point for point in guessed if point[0] > points[-1][0])]
        for line, style, mark in ((points, "-", "o"), (ahead, (0, (4, 3)), "")):
            sizes, shares = zip(*line, strict=True)
            axes.plot(sizes, shares, color=PAINT["tuned"], linewidth=2, linestyle=style, marker=mark, markersize=5)
        axes.plot(*ahead[-1], color=PAINT["tuned"], marker="D", markersize=7, fillstyle="none")
        _ruled(axes, say["axis_rows"], say["axis_accuracy"])
        return _inline(figure, label, key)


def _smooth(values: Sequence[float], reach: int) -> list[float]:
    """Mean of each value and up to `reach` on both sides. At the start, where a loss falls fast, no more are taken
    from behind than there are in front, so that the line begins where the values do."""
    found = []
    for index in range(len(values)):
        before = min(reach, index)
        near = values[index - before : index + before + 1]
        found.append(sum(near) / len(near))
    return found


def _ruled(axes: Any, below: str, above: str) -> None:
    """Quiet lines across, whole numbers below, the words of both axes at their ends."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.spines["bottom"].set_visible(True)
    axes.grid(axis="y", color=FAINT, linewidth=1)
    axes.set_axisbelow(True)
    axes.margins(x=0.03, y=0.08)
    _named(axes, below, above)


def _named(axes: Any, below: str, above: str) -> None:
    """The words of both axes at their ends."""
    for words, corner, shift, side in (
        (below, (1, 0), (0, -31), "right"),
        (above, (0, 1), (-36, 10), "left"),
    ):
        axes.annotate(words, corner, shift, "axes fraction", "offset points", color=INK, ha=side)


def _draw_kept(axes: Any, step: int, words: str) -> None:
    axes.axvline(step, color=INK, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    side = "right" if step > sum(axes.get_xlim()) / 2 else "left"
    axes.annotate(words, (step, 1), (0, 6), axes.get_xaxis_transform(), "offset points", color=INK, ha=side)


@contextmanager
def _figure(width: float, height: float, key: str) -> Iterator[Any]:
    """A figure in our style whatever the person's matplotlibrc says."""
    import matplotlib.style
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": key,
        "font.size": LETTERS,
        "axes.facecolor": "none",
        "axes.edgecolor": INK,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.spines.bottom": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 4,
        "ytick.major.size": 0,
        "text.parse_math": False,
    }
    with matplotlib.style.context(["default", style]), warnings.catch_warnings():
        # The page's font draws the letters, so it does not matter which ones matplotlib's own lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        yield Figure(figsize=(width / 72, height / 72))


def _inline(figure: Any, label: str, key: str) -> str:
    """The figure as one <svg> element: no prolog, no metadata, no style that leaks, ids of its own."""
    stream = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    # Two ways of two releases of matplotlib to name its own font.
    svg = re.sub(r"font-family: [^;\"]+;?", "", svg)
    svg = re.sub(r"font: ((?:bold |\d+ )?)[\d.]+px [^;\"]+", rf"font-size: {LETTERS}px; font-weight: \1", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    for colour, css in PAINTS.items():
        svg = svg.replace(colour, css)
    named = f'class="chart" role="img" aria-label="{escape(label)}"'
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', f" {named}", svg, count=1).strip()
