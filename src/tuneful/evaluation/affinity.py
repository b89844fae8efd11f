"""Which task helps which: what steps on one alone took off the losses of others (`engine/lookahead.py`), over a whole
run; and how the page and the card show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.conflicts import Pair, grouped
from tuneful.evaluation.phrases import Say

METRIC = "affinity/{one}/{other}"
FAINTEST, DEEPEST = 8, 45  # percent of colour in a cell
LEVEL = 0.975  # of an interval that holds 95 %


def affinity(looks: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> dict[str, Any]:
    """The report's `forgetting.affinity`. `looks`: the metrics of each. `matrix` has of each task i, by each task j,
    the mean part of j's loss that a step on i alone took away (below 0: added); `errors` how much that mean may be off,
    half of a 95 % interval of Student's t over the looks, None for fewer than two; `groups` are tasks that help one
    another, by the mean of both directions, where what is not sure counts as nothing. Empty without any look."""
    found = {
        (one, other): values
        for one in tasks for other in tasks
        if (values := [look[name] for look in looks if (name := METRIC.format(one=one, other=other)) in look])
    }  # fmt: skip
    if not found:
        return {}
    means: dict[Pair, float | None] = {pair: fmean(values) for pair, values in found.items()}
    errors = {pair: _error(values) for pair, values in found.items()}
    sure = {pair: mean for pair, mean in means.items() if mean is not None and _sure(mean, errors[pair])}
    both = {(a, b): (sure.get((a, b), 0.0) + sure.get((b, a), 0.0)) / 2 for a, b in combinations(tasks, 2)}

    def table(values: Mapping[Pair, float | None]) -> dict[str, dict[str, float | None]]:
        return {one: {other: _rounded(values.get((one, other))) for other in tasks} for one in tasks}

    return {
        "looks": len(looks),
        "seconds": round(sum(look["seconds"] for look in looks), 2),
        "matrix": table(means),
        "errors": table(errors),
        "groups": grouped(both, tasks),
    }


def _error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf(LEVEL, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def heat(report: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """The matrix as cells of a heat map, with the sentence above it; empty where it was not measured. A cell's `tone`
    is "own" on the diagonal, else "gained" or "lost" where the interval says so, "before" where it does not; `depth`
    beside the largest change of one task by another."""
    found = (report.get("forgetting") or {}).get("affinity")
    if not found:
        return {}
    matrix, errors = found["matrix"], found["errors"]
    others = [abs(value) for one, row in matrix.items() for other, value in row.items()
              if one != other and phrases.is_number(value)]  # fmt: skip
    most = max(others, default=0.0) or 1.0
    return {
        "columns": list(matrix),
        "sentence": sentence(found, say),
        "caption": say["affinity_caption"].format(looks=phrases.number(found["looks"])),
        "rows": {
            one: [_cell(value, errors[one][other], most, say, own=one == other) for other, value in row.items()]
            for one, row in matrix.items()
        },
    }


def _cell(value: Any, error: Any, most: float, say: Say, *, own: bool) -> dict[str, Any]:
    cell = {"value": percent(value), "tone": "", "depth": 0, "told": ""}
    if not phrases.is_number(value):
        return cell
    if own:
        return {**cell, "tone": "own"}
    if not _sure(value, error):
        return {**cell, "tone": "before", "told": say["affinity_unsure"]}
    tone, word = ("gained", "affinity_helps") if value > 0 else ("lost", "affinity_harms")
    depth = round(FAINTEST + (DEEPEST - FAINTEST) * abs(value) / most)
    return {**cell, "tone": tone, "depth": depth, "told": say[word]}


def _sure(value: Any, error: Any) -> bool:
    return phrases.is_number(value) and phrases.is_number(error) and abs(value) > error


def sentence(found: Mapping[str, Any], say: Say) -> str:
    """Who surely helps whom most, who harms whom most, and which tasks may go together."""
    sure = {
        (one, other): value
        for one, row in found["matrix"].items() for other, value in row.items()
        if one != other and _sure(value, found["errors"][one][other])
    }  # fmt: skip
    told = []
    if helps := {pair: value for pair, value in sure.items() if value > 0}:
        told.append(_said("affinity_helped", max(helps, key=lambda pair: helps[pair]), helps, say))
    if harms := {pair: value for pair, value in sure.items() if value < 0}:
        told.append(_said("affinity_harmed", min(harms, key=lambda pair: harms[pair]), harms, say))
    if not sure:
        return say["affinity_nothing"]
    if not harms:
        told.append(say["affinity_no_harm"])
    elif len(found["groups"]) > 1:
        groups = say["between_groups"].join(say["between_items"].join(group) for group in found["groups"])
        told.append(say["affinity_groups"].format(groups=groups))
    return say["between_sentences"].join(told)


def _said(key: str, pair: tuple[str, str], of: Mapping[tuple[str, str], float], say: Say) -> str:
    return say[key].format(one=pair[0], other=pair[1], part=percent(abs(of[pair])).lstrip("+"), n=len(of))


def percent(value: Any) -> str:
    """A change of a loss, as +3.1%."""
    return f"{phrases.signed(100 * value)}%" if phrases.is_number(value) else phrases.MISSING
