"""Which pictures the page shows, and what is read out in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from tuneful.evaluation import phrases
from tuneful.evaluation.charts import Bar, bars, curves, growth, reliability
from tuneful.evaluation.phrases import SYSTEMS, Say


def before_and_after(report: Mapping[str, Any], say: Say) -> list[dict[str, Any]]:
    """A bar picture a metric."""
    made = []
    for place, (metric, found) in enumerate(report["quality"].items(), 1):
        if given := _bars(report, found, say):
            name = phrases.metric_name(metric, say)
            values = say["between_items"].join(f"{bar.name} {bar.text}" for bar in given)
            label = say["bars_label"].format(metric=name, values=values)
            svg = Markup(bars(given, label=label, key=f"bars{place}"))
            made.append({"name": name, "metric": metric, "svg": svg})
    return made


def losses(report: Mapping[str, Any], say: Say) -> Markup | None:
    """Training and validation loss over the updates; None without any point."""
    lines = {name: points for name in ("train", "validation") if (points := report["curves"].get(name))}
    if not lines:
        return None
    ends = {name: (points[0][1], points[-1][1]) for name, points in lines.items()}
    facts = {name: _first_to_last(ends.get(name), say) for name in ("train", "validation")}
    found = report["generalisation"]
    facts["test"] = phrases.number(found.get("test"))
    if phrases.is_number(found.get("test")) and found.get("best_step") is not None:
        lines["test"] = [[found["best_step"], found["test"]]]
    if share := report["curves"].get("accuracy"):
        lines["accuracy"] = share
    last = max(points[-1][0] for name, points in lines.items() if name in ends)
    label = say["curves_label"].format(steps=phrases.number(last), **facts)
    return Markup(curves(lines, report["generalisation"].get("best_step"), say, label=label, key="curves"))


def of_panels(report: Mapping[str, Any], say: Say) -> dict[str, Markup]:
    """By panel, for those that have one."""
    found, made = report["generalisation"], {}
    if bins := ((found.get("calibration") or {}).get("tuned") or {}).get("bins"):
        told = say["between_items"].join(phrases.number(right) for _, right, _ in bins)
        ends = {"low": phrases.number(bins[0][0]), "high": phrases.number(bins[-1][0])}
        label = say["calibration_label"].format(n=len(bins), right=told, **ends)
        made["calibration"] = Markup(reliability(bins, say, label=label, key="reliability"))
    curve = found.get("learning_curve") or {}
    if curve.get("forecast"):
        (first, low), (last, high), (rows, guess) = curve["points"][0], curve["points"][-1], curve["forecast"][-1]
        facts = {"first": first, "low": low, "last": last, "high": high, "rows": rows, "guess": guess}
        label = say["curve_label"].format(**{name: phrases.number(value) for name, value in facts.items()})
        made["learning_curve"] = Markup(growth(curve["points"], curve["forecast"], say, label=label, key="growth"))
    return made


def _bars(report: Mapping[str, Any], found: Mapping[str, Any], say: Say) -> list[Bar]:
    """The interval is that of the difference, so it is drawn from the base's value on."""
    given, base, around = [], found.get("base"), found.get("ci95")
    for system in SYSTEMS:
        if phrases.is_number(value := found.get(system)):
            whisker = None
            if system == "tuned" and around and phrases.is_number(base):
                whisker = (base + around[0], base + around[1])
            given.append(Bar(system, phrases.system_name(report, system, say), value, phrases.number(value), whisker))
    return given


def _first_to_last(ends: tuple[float, float] | None, say: Say) -> str:
    if ends is None:
        return phrases.MISSING
    return say["from_to"].format(low=phrases.number(ends[0]), high=phrases.number(ends[1]))
