"""Are groups farther apart after tuning than before? Two systems on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.evaluation.fairness.areas import Areas
from tuneful.evaluation.fairness.cells import cells
from tuneful.evaluation.fairness.extremes import higher, wider
from tuneful.evaluation.fairness.findings import Feature, Findings
from tuneful.evaluation.fairness.gaps import (
    GAUGES,
    POWER_MEANS,
    WIDER_IS_WORSE,
    WORST_BPSN,
    among_areas,
    chosen,
    drawn_areas,
    drawn_rates,
    redraw,
)
from tuneful.evaluation.fairness.intervals import Pair, percentile
from tuneful.evaluation.fairness.measures import Case, times
from tuneful.evaluation.fairness.ranking import KINDS, power_mean, redrawn


@dataclass(frozen=True, slots=True)
class Change:
    """One gap before and after. `by_chance` is how much of `delta` there would be in the mean if the group did not
    matter to either system: what is wrong more often differs more between groups by chance alone."""

    before: float | None
    after: float | None
    delta: float | None
    n: int  # rows
    gap: bool  # wider is worse
    ci95: Pair | None = None
    by_chance: float | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        numbers = {"before": self.before, "after": self.after, "delta": self.delta, "by_chance": self.by_chance}
        found: dict[str, Any] = {name: round(value, 5) for name, value in numbers.items() if value is not None}
        if self.ci95:
            found["ci95"] = [round(end, 5) for end in self.ci95]
        if self.reason:
            found["reason"] = self.reason
        return found | {"n": self.n, "gap": self.gap, "ideal": ideal(gap=self.gap), "measurable": self.reason is None}


def ideal(*, gap: bool) -> float:
    """Differences are best at 0, areas and accuracies at 1."""
    return 0.0 if gap else 1.0


Changes = dict[str, dict[str, Change]]  # by feature, by gap


def compared(before: Findings, after: Findings, *, seed: int = 0) -> Changes:
    """Of every gap, after less before, with an interval from a paired bootstrap of rows: each draw is scored for both.
    For gaps and worst groups it is the cautious one of `extremes`, for power means the percentile interval. Raises
    DataError where the two are not of the same rows."""
    names = [feature.name for feature in before.features]
    if names != [feature.name for feature in after.features]:
        raise DataError(f"groups: before are measured {names}, after {[f.name for f in after.features]}; compare two "
                        "systems on the same columns")  # fmt: skip
    pairs = zip(before.features, after.features, strict=True)
    return {one.name: _changes(one, other, np.random.default_rng([seed, n])) for n, (one, other) in enumerate(pairs)}


def _changes(before: Feature, after: Feature, rng: np.random.Generator) -> dict[str, Change]:
    _check(before.part, after.part)
    intervals = _of_rates(before.part, after.part, rng)
    if before.areas is not None and after.areas is not None:
        one, other = _redrawn(before.areas, after.areas, rng)
        intervals |= _of_areas(before.part, one, other, rng)
    return {name: _change(name, before, after, intervals.get(name)) for name in before.gaps}


def _check(before: Case, after: Case) -> None:
    one, other = before.answers, after.answers
    same = np.array_equal(one.truth, other.truth) and np.array_equal(before.mask, after.mask)
    if not same or before.members.names != after.members.names or one.classes != other.classes:
        raise DataError(f"groups: the two findings on '{before.members.feature}' are not of the same rows, groups and "
                        "classes; give both systems the same rows in the same order")  # fmt: skip


def _change(name: str, before: Feature, after: Feature, interval: Pair | None) -> Change:
    one, other, n = before.gaps[name], after.gaps[name], len(before.part.answers)
    gap = name in WIDER_IS_WORSE
    if one.value is None or other.value is None:
        return Change(one.value, other.value, None, n, gap, reason=one.reason)
    by = None if one.by_chance is None or other.by_chance is None else other.by_chance - one.by_chance
    return Change(one.value, other.value, other.value - one.value, n, gap, interval, by)


def _of_rates(before: Case, after: Case, rng: np.random.Generator) -> dict[str, Pair]:
    """By gap. Which groups are measured follows from truth, so it is alike for both."""
    both = cells(before.mask, before.answers.truth, [before.answers.said, after.answers.said])
    rates = {name: own for name, gauge in GAUGES.items() if (own := chosen(gauge, before))}
    draws, noise = redraw(both, rates, rng)
    found = {}
    for name, own in rates.items():
        systems = [drawn_rates(both, own, draws, noise, system) for system in (0, 1)]
        found[name] = higher(*systems) if GAUGES[name].lowest else wider(*systems)
    return found


def _redrawn(before: Areas, after: Areas, rng: np.random.Generator) -> list[Areas]:
    """Both with the same draws of rows."""
    rows = len(before.ranks.order)
    blocks = [[own.ranks.areas(weights) for own in (before, after)] for weights in redrawn(rows, times(rows), rng)]
    return [
        replace(own, draws=np.concatenate([block[n] for block in blocks], 1)) for n, own in enumerate((before, after))
    ]


def _of_areas(part: Case, before: Areas, after: Areas, rng: np.random.Generator) -> dict[str, Pair]:
    noise, found = rng.standard_normal(before.draws.shape[1:]), {}
    groups = among_areas(part, before, "bpsn")
    if len(groups) > 1:
        found[WORST_BPSN] = higher(*([drawn_areas(own, "bpsn", groups, noise)] for own in (before, after)))
    for name, kind in POWER_MEANS.items():
        groups, k = among_areas(part, before, kind), KINDS.index(kind)
        if len(groups) > 1:
            one, other = (power_mean(own.draws[k][:, groups]) for own in (before, after))
            found[name] = percentile(other - one)
    return found
