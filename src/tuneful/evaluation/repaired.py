"""What the page and the card tell of repairs: what each did, on which rows, and what that changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.fairer import name_of
from tuneful.evaluation.fairness.gaps import WIDER_IS_WORSE
from tuneful.evaluation.phrases import Say

POINT = 0.01


def repaired(report: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Empty where nothing was repaired. A row is one number of one repair; numbers are still numbers."""
    parts = report["repair"].get("parts") or []
    if not parts:
        return {}
    rows = [
        {"repair": say[f"repair_name_{part['kind']}"], "measure": _measure(measure, say), **change}
        for part in parts for measure, change in part["changed"].items()
    ]  # fmt: skip
    caption = say["repair_caption"].format(n=phrases.number(report["repair"].get("n")))
    sentences = [sentence for part in parts for sentence in (_sentence(part, say), _worse(part, say)) if sentence]
    return {
        "sentences": sentences if rows else [*sentences, say["repair_unmeasured"]],
        "caption": caption,
        "rows": rows,
    }


def _worse(part: Mapping[str, Any], say: Say) -> str:
    """What became worse by more than a point; empty where nothing did."""
    found = []
    for name, change in part["changed"].items():
        more = round(change["after"] - change["before"], 6)
        if (more if name in WIDER_IS_WORSE else -more) > POINT:
            numbers = say["before_after"].format(**{when: phrases.number(value) for when, value in change.items()})
            found.append(say["with_note"].format(value=_measure(name, say), note=numbers))
    facts = {"repair": say[f"repair_name_{part['kind']}"], "measures": say["between_items"].join(found)}
    return say["repair_wider"].format(**facts) if found else ""


def cuts(report: Mapping[str, Any]) -> bool:
    """Thresholds answer, which no other tool knows of."""
    return any(part["kind"] == "thresholds" for part in report["repair"].get("parts") or [])


def _measure(name: str, say: Say) -> str:
    return say["metric_accuracy"] if name == "accuracy" else name_of(name, say)


def _sentence(part: Mapping[str, Any], say: Say) -> str:
    return say[f"repair_{part['kind']}"].format(**{**part, "part": phrases.part(part["part"], say)})
