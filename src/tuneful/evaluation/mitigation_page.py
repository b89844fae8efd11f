"""Which ways make a classifier fairer and what they cost, as one web page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import ChainableUndefined, Environment
from markupsafe import Markup

from tuneful.evaluation import phrases
from tuneful.evaluation.fairer import reason
from tuneful.evaluation.phrases import Say
from tuneful.evaluation.scatter import Dot, Pair, scatter
from tuneful.evaluation.words import words


def mitigation_page(found: Mapping[str, Any], language: str) -> str:
    """`found` as it stands in mitigation.json. The same findings give the same bytes."""
    say = words(language)
    made = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["number"], made.filters["signed"] = phrases.number, phrases.signed
    made.filters["interval"] = partial(phrases.interval, say=say)
    made.filters["duration"] = partial(phrases.duration, say=say)
    lines = [{**line, "number": number, "title": title(line["way"], say), "set": written(line["settings"])}
             for number, line in enumerate(found["ways"], 1)]  # fmt: skip
    return made.from_string(_asset("mitigation.html.jinja")).render(
        language=language,
        say=say,
        found=found,
        lines=[line for line in lines if "gap" in line],
        left=[line for line in lines if "gap" not in line],
        gap=gap_name(found["measure"], say),
        metric=phrases.metric_name(found["metric"], say),
        sentence=sentence(found, say),
        why=reason((found["retold"] or {}).get("gap") or {}, say),
        css=Markup(_asset("report.css") + _asset("mitigation.css")),
        plane=Markup(_plane(found, lines, say)),
    )


def title(way: str, say: Say) -> str:
    """Of a way in the page's language; all but the plain one are called as their settings are."""
    return say["mitigation_plain"] if way == "plain" else way


def gap_name(measure: str, say: Say) -> str:
    """Of what is small where groups are treated alike."""
    return say.get(f"mitigation_gap_{measure}", say.get(f"probe_{measure}", measure))


def sentence(found: Mapping[str, Any], say: Say) -> str:
    """What is recommended, or why nothing is; and why the recommended way could not be tuned after all."""
    way = title(str(found["recommended"]), say)
    parts = [say[f"mitigation_why_{found['why']}"].format(way=way, points=phrases.number(100 * found["limit"]))]
    if found.get("unfit"):
        parts.append(say["mitigation_unfit"].format(way=way, why=found["unfit"]))
    return say["between_sentences"].join(parts)


def written(settings: Mapping[str, Any]) -> str:
    """Settings as a recipe's dotted paths."""
    return " ".join(f"{path}={_value(value)}" for path, value in settings.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plane(found: Mapping[str, Any], lines: list[dict[str, Any]], say: Say) -> str:
    """Intervals are of what a way has more than the plain one, so they are drawn from the plain one's values on."""
    shown = [line for line in lines if "gap" in line]
    plain = shown[0]
    dots = [
        Dot(line["number"], line["title"], line["quality"], line["gap"],
            _around(plain["quality"], line["quality_change"]), _around(plain["gap"], line["gap_change"]),
            "chosen" if line["recommended"] else "plain" if line is plain else "", line["front"])
        for line in shown
    ]  # fmt: skip
    metric, gap = phrases.metric_name(found["metric"], say), gap_name(found["measure"], say)
    label = say["mitigation_plane_label"].format(n=len(dots), metric=metric, gap=gap)
    return scatter(dots, across=say["mitigation_across"].format(metric=metric),
                   up=say["mitigation_up"].format(gap=gap), label=label)  # fmt: skip


def _around(start: float, ends: list[float] | None) -> Pair | None:
    return None if ends is None else (start + ends[0], start + ends[1])


def _asset(name: str) -> str:
    return files("tuneful.evaluation").joinpath("assets", name).read_text(encoding="utf-8")
