"""What a probe found: a score with its interval, by group, and item by item so that two models can be compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.evaluation.fairness.intervals import SURE
from tuneful.evaluation.probes.intervals import Value, holm, interval
from tuneful.evaluation.probes.items import Measured

LEAST = 20  # items; fewer give no number
Tester = Callable[[np.ndarray, int], float | None]  # rows (N, K) and a seed -> p that the score is the ideal one


@dataclass(frozen=True, slots=True)
class Scale:
    """How items become one score."""

    ideal: float
    unit: str
    rows: Callable[[Sequence[Measured]], np.ndarray]  # (N, K), what each adds
    value: Value  # of sums (..., K)
    test: Tester

    def of(self, measured: Sequence[Measured]) -> float | None:
        """None where there is no such score."""
        return number(self.value(self.rows(measured).sum(0))) if measured else None


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe of one model. `score` None: not measurable, and `reason` is a short key that says why: "too_small"
    (fewer than 20 items), "at_chance" (the model does not know the language or the task well enough to be asked),
    "unwritten" (most of what it wrote is blank or repeats itself), "undefined" (no item tells anything)."""

    probe: str
    score: float | None
    scale: Scale
    ci95: tuple[float, float] | None
    p: float | None
    n: int
    measurable: bool
    reason: str | None
    language_ability: Mapping[str, Any]  # name, value, chance where there is one
    by_group: Mapping[str, Mapping[str, Any]]
    items: tuple[Measured, ...] = field(repr=False)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ideal(self) -> float:
        return self.scale.ideal

    @property
    def unit(self) -> str:
        return self.scale.unit

    def as_json(self) -> dict[str, Any]:
        """All that a report keeps."""
        found = {
            "probe": self.probe, "score": self.score, "ideal": self.ideal, "unit": self.unit, "ci95": self.ci95,
            "p": self.p, "n": self.n, "measurable": self.measurable, "reason": self.reason,
            "language_ability": self.language_ability, "by_group": self.by_group, "details": self.details,
            "items": [{"key": one.key, "group": one.group, **one.numbers} for one in self.items],
        }  # fmt: skip
        rounded: dict[str, Any] = _rounded(found)
        return rounded


def conclude(
    probe: str,
    measured: Sequence[Measured],
    scale: Scale,
    ability: Mapping[str, Any],
    *,
    refused: str | None = None,
    by_group: Mapping[str, Mapping[str, Any]] | None = None,
    details: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Finding:
    """`refused` is the reason why no score may be given, if there is one; `by_group` stands for the breakdown by the
    items' own groups."""
    cell = _cell(measured, scale, seed, refused)
    groups = grouped(measured, scale, seed=seed, refused=refused) if by_group is None else by_group
    return Finding(
        probe, cell["score"], scale, cell["ci95"], cell["p"], len(measured), cell["measurable"], cell["reason"],
        ability, groups, tuple(measured), details or {},
    )  # fmt: skip


def grouped(
    measured: Sequence[Measured],
    scale: Scale,
    *,
    seed: int = 0,
    refused: str | None = None,
    able: Callable[[Sequence[Measured]], bool] = lambda _: True,
) -> dict[str, dict[str, Any]]:
    """The same score of each group, tested against the ideal with Holm's correction over all groups that have one;
    `able` says of a group's items whether the model answers them well enough for a score to mean anything."""
    members: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        members[one.group].append(one)
    cells = {}
    for name, own in sorted(members.items()):
        unable = len(own) >= LEAST and not able(own)
        cells[name] = _cell(own, scale, seed, "at_chance" if unable and not refused else refused)
    adjusted = holm([cell["p"] for cell in cells.values()])
    return {
        name: {**cell, "p_adjusted": p} for (name, cell), p in zip(cells.items(), adjusted, strict=True)
    }  # fmt: skip


def compared(before: Finding, after: Finding, *, seed: int = 0) -> dict[str, Any]:
    """after - before over the items that both have, with the middle 95 % of 1,000 paired resamples of items, and
    `further`, how much further from the ideal the second is. None: one of the two could not be measured, or they share
    fewer than 20 items. Raises DataError for two probes."""
    if before.probe != after.probe:
        raise DataError(
            f"findings of two probes, {before.probe} and {after.probe}, cannot be compared; give one probe's twice"
        )
    was, now = ({one.key: one for one in finding.items} for finding in (before, after))
    keys = [key for key in was if key in now]
    nothing = {"delta": None, "ci95": None, "further": None, "further_ci95": None, "n": len(keys)}
    if not (before.measurable and after.measurable) or len(keys) < LEAST:
        return nothing
    rows = [after.scale.rows([items[key] for key in keys]) for items in (was, now)]
    width, value = rows[0].shape[1], after.scale.value
    both = np.concatenate(rows, axis=1)

    def change(sums: np.ndarray) -> np.ndarray:
        return value(sums[..., width:]) - value(sums[..., :width])

    delta = number(change(both.sum(0)))
    if delta is None:
        return nothing
    return {**nothing, "delta": delta, "ci95": interval(both, change, seed), **_further(before, after, both, seed)}


def _further(before: Finding, after: Finding, both_NK: np.ndarray, seed: int) -> dict[str, Any]:
    """|after - ideal| - |before - ideal|, each on the side of the ideal where it lies; a model that is not surely off
    counts as on the side of the other. Were the sides resampled too, a model near its ideal would seem to be off."""
    width, value = both_NK.shape[1] // 2, after.scale.value

    def off(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return value(sums[..., :width]) - after.ideal, value(sums[..., width:]) - after.ideal

    was, now = (float(one) for one in off(both_NK.sum(0)))
    side = float(np.sign(now)) or -float(np.sign(was))
    other = float(np.sign(was)) if before.p is not None and before.p < SURE else side

    def away(sums: np.ndarray) -> np.ndarray:
        then, since = off(sums)
        return side * since - other * then

    found, ends = abs(now) - abs(was), interval(both_NK, away, seed)
    shift = found - (side * now - other * was)
    return {"further": found, "further_ci95": None if ends is None else (ends[0] + shift, ends[1] + shift)}


def summed(*names: str) -> Callable[[Sequence[Measured]], np.ndarray]:
    """The named numbers of each item, and a 1 that counts it: (N, K + 1)."""

    def rows(measured: Sequence[Measured]) -> np.ndarray:
        return np.array([[*(one.numbers[name] for name in names), 1.0] for one in measured], dtype=np.float64)

    return rows


def ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """NaN where there is nothing below the line."""
    return np.divide(over, under, out=np.full(np.shape(under), np.nan), where=np.asarray(under) > 0)


def number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _cell(measured: Sequence[Measured], scale: Scale, seed: int, refused: str | None) -> dict[str, Any]:
    reason = refused or ("too_small" if len(measured) < LEAST else None)
    score = None if reason else scale.of(measured)
    if score is None:
        return {"score": None, "ci95": None, "p": None, "n": len(measured), "measurable": False,
                "reason": reason or "undefined"}  # fmt: skip
    rows = scale.rows(measured)
    return {"score": score, "ci95": interval(rows, scale.value, seed), "p": scale.test(rows, seed),
            "n": len(measured), "measurable": True, "reason": None}  # fmt: skip


def _rounded(value: Any) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return float(f"{value:.6g}")
        case Mapping():
            return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value]
