"""The report as one web page that needs nothing beside it: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import ChainableUndefined, Environment
from markupsafe import Markup

from tuneful.evaluation import phrases, sections
from tuneful.evaluation.panels import gap_lead, gaps, panels
from tuneful.evaluation.phrases import Say
from tuneful.evaluation.words import words

LISTED = 50  # left-out or leaked rows that are listed


def page(report: Mapping[str, Any], language: str) -> str:
    """`report` as it stands in report.json; whatever is missing or empty is said to be. The same report gives the
    same bytes."""
    say, full = words(language), phrases.filled(report)
    template = _environment(say).from_string(_asset("report.html.jinja"))
    return template.render(
        language=language,
        say=say,
        report=full,
        css=Markup(_asset("report.css")),  # ours, so it needs no escaping
        sign=sections.SIGNS,
        listed=LISTED,
        parts=phrases.PARTS,
        helped=phrases.helped(full),
        sentence=phrases.verdict_sentence(full, language, say),
        stopped=phrases.stopped(full["generalisation"], say),
        target=phrases.target_of(full),
        prefers=phrases.prefers(full),
        model=phrases.model_name(full),
        gaps=gaps(full, say),
        gap_lead=gap_lead(full, say),
        panels=panels(full, say),
        advice=phrases.said(full["generalisation"].get("advice"), say),
        **{name: view(full, say) for name, view in sections.VIEWS.items()},
        **_pictures(full, say),
    )


def _pictures(report: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Only a report with something to draw costs the time that matplotlib takes to load."""
    drawn = {"calibration", "learning_curve"} & report["generalisation"].keys()
    if not report["quality"] and not any(report["curves"].values()) and not drawn:
        return {"pictures": [], "curve": None, "panel_pictures": {}}
    from tuneful.evaluation import pictures

    return {
        "pictures": pictures.before_and_after(report, say),
        "curve": pictures.losses(report, say),
        "panel_pictures": pictures.of_panels(report, say),
    }


def _environment(say: Say) -> Environment:
    """Everything that is put into the page is escaped; what the report lacks is empty."""
    made = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("number", "signed", "memory", "percent"):
        made.filters[name] = getattr(phrases, name)
    for name in ("interval", "duration", "share", "said", "answer", "part"):
        made.filters[name] = partial(getattr(phrases, name), say=say)
    made.filters["yaml"] = _as_yaml
    return made


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _asset(name: str) -> str:
    return files("tuneful.evaluation").joinpath("assets", name).read_text(encoding="utf-8")
