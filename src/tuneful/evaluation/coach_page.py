"""What the coach found as one web page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from tuneful.evaluation import phrases
from tuneful.evaluation.coverage import Point, drawn
from tuneful.evaluation.people_chart import drawn_axis, labels_table, not_drawn, shown
from tuneful.evaluation.words import words

LISTED = 50  # suggestions of a kind


def coach_page(found: Mapping[str, Any], points: Sequence[Point], language: str) -> str:
    """`found` as `check --coach --json` prints it. The same findings give the same bytes."""
    say = words(language)
    made = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["number"], made.filters["percent"] = phrases.number, phrases.percent
    made.filters["answer"] = partial(phrases.answer, say=say)
    names = {number: group["name"] for number, group in enumerate(found["groups"])}
    rows = found["rows"]
    people = found["people"]
    label = say["coach_map_label"].format(rows=phrases.number(rows["looked_at"]), groups=len(names))
    kinds = {
        kind: [line for line in found["suggestions"] if line["kind"] == kind]
        for kind, count in found["counts"].items()
        if count["found"]
    }
    return made.from_string(_asset("coach.html.jinja")).render(
        language=language,
        say=say,
        found=found,
        kinds=kinds,
        listed=LISTED,
        css=Markup(_asset("report.css") + _asset("coach.css")),
        axes=[drawn_axis(axis, people["rows"], language) for axis in shown(people)],
        not_drawn=not_drawn(people, language),
        with_labels=labels_table(people, language),
        map=Markup(drawn(points, names, label=label)),
    )


def _asset(name: str) -> str:
    return files("tuneful.evaluation").joinpath("assets", name).read_text(encoding="utf-8")
