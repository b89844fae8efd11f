"""What the page, the card and the terminal say under *Is it fairer or less fair?*"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.phrases import Say

Report = Mapping[str, Any]
MEASURES = ("accuracy", "selection_rate", "tpr", "fpr", "bpsn")  # of a group, that the page shows
OF_COLUMN = re.compile(r"^(?P<gap>\w+)(?P<column> \(.*\))$", re.DOTALL)  # one of several columns of groups


def name_of(probe: str, say: Say) -> str:
    """Of an entry of `bias`, its column of groups behind it where there are several; names we do not know as they
    stand."""
    found = OF_COLUMN.match(probe)
    gap, column = (found["gap"], found["column"]) if found else (probe, "")
    return f"{say.get(f'probe_{gap}', gap)}{column}"


def reason(probe: Mapping[str, Any], say: Say) -> str:
    """Why there is no number; empty where there is one."""
    if probe.get("measurable", True):
        return ""
    why = probe.get("reason")
    words = say.get(f"why_{why}", why) if why else ""
    return f"{say['not_measurable']}: {words}" if words else say["not_measurable"]


def probes(report: Report, say: Say) -> list[dict[str, Any]]:
    """One row for each entry of `bias`."""
    return [
        {"name": name_of(name, say), "found": probe, "why": reason(probe, say)}
        for name, probe in report["bias"].items()
    ]


def groups(report: Report, say: Say) -> list[dict[str, Any]]:
    """One table for each column of groups."""
    found = []
    for feature, told in (report["groups"].get("features") or {}).items():
        shown = [name for name in MEASURES if any(name in cells for cells in told["groups"].values())]
        rows = [
            {"name": name, "n": cells["n"], "cells": [_cell(cells.get(measure) or {}, say) for measure in shown]}
            for name, cells in told["groups"].items()
        ]
        names = [say[f"groups_measure_{name}"] for name in shown]
        found.append({"caption": say["groups_caption"].format(feature=feature), "measures": names, "rows": rows})
    return found


def _cell(measure: Mapping[str, Any], say: Say) -> dict[str, Any]:
    why = measure.get("reason")
    return {**measure, "why": say.get(f"why_{why}", why) if why else ""}


def group_notes(report: Report, say: Say) -> list[str]:
    return [phrases.said(note, say) for note in report["groups"].get("notes") or []]


def widest(bias: Mapping[str, Any]) -> float | None:
    """The largest rise of a gap between groups."""
    gaps = (probe for probe in bias.values() if probe.get("gap") and probe.get("measurable"))
    return max((probe["delta"] for probe in gaps), default=None)


def tile(bias: Mapping[str, Any], say: Say) -> str:
    """The answer in a word or two."""
    if len(bias) == 1:
        ((name, probe),) = bias.items()
        return f"{name_of(name, say)} {phrases.signed(probe.get('delta'))}"
    return say["tile_probes"].format(n=len(bias)) if bias else say["missing"]
