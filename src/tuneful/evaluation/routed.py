"""Whose a text is, where every task has an adapter of its own: how often that is found out, as the page and the card
show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.phrases import Say


def routed(report: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """A sentence, and a table of words: of each task the share of its test rows that are sent to it. Empty where there
    is one adapter for all, or nothing was measured."""
    found = report.get("routing") or {}
    if not found.get("tasks"):
        return {}
    taken, accuracy = found["router"], found["accuracy"]
    others = {kind: share for kind, share in accuracy.items() if kind != taken}
    shown = {"router": taken, "right": phrases.percent(accuracy[taken]), "n": phrases.number(found["n"])}
    told = [say["routing_taken"].format(**shown)]
    told += [say["routing_other"].format(router=kind, right=phrases.percent(share)) for kind, share in others.items()]
    return {
        "sentence": say["between_sentences"].join(told),
        "caption": say["routing_caption"],
        "columns": [say["column_task"], say["column_routed"]],
        "rows": [[task, phrases.percent(share)] for task, share in found["tasks"].items()],
    }
