"""What the page, the card and the terminal say under *Is it fairer or less fair?*"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.fairness.intervals import SURE
from tuneful.evaluation.phrases import Say

Report = Mapping[str, Any]
GAPS = ("equalised_odds_difference", "demographic_parity_difference", "accuracy_gap")  # the first says most
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


def sentences(report: Report, say: Say) -> list[str]:
    """What the table of gaps means: which class is meant, and of each column of groups its first gap."""
    features = report["groups"].get("features") or {}
    gaps = [(feature, gap, found) for feature in features
            if (told := _first_gap(report["bias"], feature)) for gap, found in [told]]  # fmt: skip
    name = report["groups"].get("class")
    meant = [say["fair_class"].format(name=name)] if name and gaps else []
    return [*meant, *(_sentence(*one, say) for one in gaps)]


def _first_gap(bias: Mapping[str, Any], feature: str) -> tuple[str, Mapping[str, Any]] | None:
    """That could be measured."""
    for gap in GAPS:
        found = bias.get(f"{gap} ({feature})", bias.get(gap)) or {}
        if found.get("measurable") and found.get("after") is not None:
            return gap, found
    return None


def _sentence(feature: str, gap: str, found: Mapping[str, Any], say: Say) -> str:
    between = [*(found.get("groups") or ()), "", ""][:2]
    facts = {key: phrases.number(found.get(key)) for key in ("before", "after", "chance", "p")}
    words = {"feature": feature, "gap": name_of(gap, say), "first": between[0], "other": between[1],
             "where": _where(found, say), **facts}  # fmt: skip
    parts = ["fair_gap" if all(between) else "fair_gap_alone"]
    if found["after"] and found.get("p") is not None and found.get("chance") is not None:
        parts.append("fair_beyond" if found["p"] < SURE else "fair_within")
    if found.get("before") is not None and found.get("ci95"):
        low, high = found["ci95"]
        parts.append("fair_grown" if low > 0 else "fair_shrunk" if high < 0 else "fair_unsure")
    return say["between_sentences"].join(say[part].format(**words) for part in parts)


def _where(found: Mapping[str, Any], say: Say) -> str:
    """Which rate of which class is furthest apart, where there are several."""
    label, rate = found.get("label"), found.get("rate")
    parts = [*([say["fair_label"].format(label=label)] if label else []),
             *([say[f"groups_measure_{rate}"]] if rate else [])]  # fmt: skip
    return say["fair_where"].format(what=say["between_items"].join(parts)) if parts else ""


def groups(report: Report, say: Say) -> list[dict[str, Any]]:
    """One table for each column of groups."""
    found = []
    for feature, told in (report["groups"].get("features") or {}).items():
        shown = [name for name in MEASURES if any(name in cells for cells in told["groups"].values())]
        rated = any("positives" in cells for cells in told["groups"].values())
        rows = [
            {"name": name, "n": cells["n"], "cells": [
                *([{"value": cells["positives"] / cells["n"]}] if rated else []),
                *(_cell(cells.get(measure) or {}, say) for measure in shown),
            ]}
            for name, cells in told["groups"].items()
        ]  # fmt: skip
        names = [say[f"groups_measure_{name}"] for name in (*(["rate"] if rated else []), *shown)]
        found.append({"caption": say["groups_caption"].format(feature=feature), "measures": names, "rows": rows})
    return found


def _cell(measure: Mapping[str, Any], say: Say) -> dict[str, Any]:
    why = measure.get("reason")
    return {**measure, "why": say.get(f"why_{why}", why) if why else ""}


def notes_beside(report: Report) -> set[str]:
    """Keys of the notes that stand beside the table of gaps."""
    return {note["key"] for note in report["groups"].get("notes") or []} if report["bias"] else set()


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
