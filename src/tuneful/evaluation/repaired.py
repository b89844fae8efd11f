"""What the page and the card tell of repairs: what each did, on which rows, and what that changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.fairer import name_of
from tuneful.evaluation.phrases import Say


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
    sentences = [_sentence(part, say) for part in parts]
    return {
        "sentences": sentences if rows else [*sentences, say["repair_unmeasured"]],
        "caption": caption,
        "rows": rows,
    }


def cuts(report: Mapping[str, Any]) -> bool:
    """Thresholds answer, which no other tool knows of."""
    return any(part["kind"] == "thresholds" for part in report["repair"].get("parts") or [])


def _measure(name: str, say: Say) -> str:
    return say["metric_accuracy"] if name == "accuracy" else name_of(name, say)


def _sentence(part: Mapping[str, Any], say: Say) -> str:
    return say[f"repair_{part['kind']}"].format(**{**part, "part": phrases.part(part["part"], say)})
