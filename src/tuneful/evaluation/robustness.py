"""How much does a classifier lose where texts are written hurriedly, or in other words? The same rows with slips of the
keyboard, in capitals, without punctuation, and as another model rewords them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tuneful.core.protocols import Processor
from tuneful.core.types import Row, Said
from tuneful.data.typos import with_typos, without_punctuation
from tuneful.evaluation.compare import difference
from tuneful.evaluation.metrics import METRICS

Otherwise = Mapping[str, Sequence[Row | None]]  # by way, the same rows written so; None where that cannot be
Classes = Callable[[Sequence[Row]], np.ndarray]  # (R,) the class each row is taken for
WAYS: dict[str, Callable[..., str]] = {
    "typos": with_typos,
    "capitals": lambda text, rng: text.upper(),
    "punctuation": lambda text, rng: without_punctuation(text),
}
SMALL = 0.02  # of accuracy; what costs surely more is told
REWORDED = "paraphrase"


def hurried(rows: Sequence[Row], processor: Processor, limit: int, *, seed: int = 0) -> Otherwise:
    """By way of writing, the same rows written so."""
    return {
        way: [
            _written(row, partial(change, rng=np.random.default_rng([seed, *row.ids.tolist()])), processor, limit)
            for row in rows
        ]
        for way, change in WAYS.items()
    }


def reworded(rows: Sequence[Row], words: Mapping[str, str], processor: Processor, limit: int) -> Otherwise:
    """The same rows in other words, and None for those that have none; nothing where nobody has any."""
    if not words:
        return {}
    known = [bool({row.example.text, row.example.second} & words.keys()) for row in rows]
    return {
        REWORDED: [
            _written(row, lambda text: words.get(text, text), processor, limit) if has else None
            for row, has in zip(rows, known, strict=True)
        ]
    }


def _written(row: Row, change: Callable[[str], str], processor: Processor, limit: int) -> Row:
    text, second = (None if part is None else change(part) for part in (row.example.text, row.example.second))
    encoded = processor.text(text or "", second, limit=limit)
    return replace(row, example=replace(row.example, text=text, second=second), ids=encoded.ids, learn=encoded.learn)


def examine_robustness(
    rows: Sequence[Row], systems: Mapping[str, Classes], clean: Mapping[str, np.ndarray],
    otherwise: Otherwise,
) -> dict[str, Any]:  # fmt: skip
    """By way of writing (`otherwise` holds the same rows, written so) and by system, how often it is right as rows
    stand (`clean` holds what it said of them), written that way, and the difference with its interval. Rows that could
    not be written so do not count, and only those that the model would read otherwise are read again."""
    found: dict[str, Any] = {}
    for way, written in otherwise.items():
        there = [(n, row) for n, row in enumerate(written) if row is not None]
        changed = [(n, row) for n, row in there if not np.array_equal(row.ids, rows[n].ids)]
        asked = [n for n, _ in there]
        found[way] = {"changed": len(changed), "n": len(asked)}
        for system, classes in systems.items():
            said = clean[system].copy()
            if changed:
                said[[n for n, _ in changed]] = classes([row for _, row in changed])
            found[way][system] = _cost([rows[n] for n in asked], clean[system][asked], said[asked])
    return {"ways": found, "advice": advised(found)}


def _cost(rows: Sequence[Row], clean: np.ndarray, said: np.ndarray) -> dict[str, Any]:
    metric, truth = METRICS["accuracy"], [row.target for row in rows]
    before, after = (metric.statistics(truth, answers.tolist()) for answers in (clean, said))
    change = difference(metric, after, before)
    means = {name: round(float(metric.value(sums.sum(0))), 5) for name, sums in (("clean", before), ("so", after))}
    return {**means, **change.as_json()}


def advised(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the way that costs the tuned model most, among those by which it reads any row otherwise."""
    there = [name for name, of in found.items() if of["changed"]]
    if not there:
        return {"key": Said("robust_same").key}
    way = min(there, key=lambda name: found[name]["tuned"]["delta"])
    cost = found[way]["tuned"]
    facts = {"cost": _points(-cost["delta"]), "low": _points(-cost["ci95"][1]), "high": _points(-cost["ci95"][0])}
    if cost["ci95"][1] < -SMALL:
        sentence = _costly(way, facts)
    elif cost["delta"] <= -SMALL:
        sentence = Said("robust_unsure", facts)
    elif facts["cost"] > 0:
        sentence = Said("robust_fine", facts)
    else:
        sentence = Said("robust_none", {"n": found[way]["n"]})
    return {"key": sentence.key, **sentence.facts}


def _costly(way: str, facts: Mapping[str, Any]) -> Said:
    match way:
        case "typos":
            return Said("robust_typos", facts)
        case "capitals":
            return Said("robust_capitals", facts)
        case "punctuation":
            return Said("robust_punctuation", facts)
    return Said("robust_paraphrase", facts)


def _points(share: float) -> float:
    return round(100 * share, 1) + 0.0  # no minus before a zero
