"""How far are groups apart, how sure is that, and how far would they be apart if the group did not matter?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.evaluation.fairness.answers import Answers, Rate
from tuneful.evaluation.fairness.areas import Areas
from tuneful.evaluation.fairness.cells import Cells
from tuneful.evaluation.fairness.chance import chance, dealt, dealt_bpsn, dealt_rates
from tuneful.evaluation.fairness.extremes import Drawn, lowest, widest
from tuneful.evaluation.fairness.intervals import padded, percentile
from tuneful.evaluation.fairness.measures import LEAST, Case, Measure, refused, times
from tuneful.evaluation.fairness.members import tells_label
from tuneful.evaluation.fairness.ranking import KINDS, power_mean

Chosen = list[tuple[Rate, np.ndarray]]  # rates, and the places of the groups each is measured of


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is taken of the rates of all groups: the widest difference, or the lowest."""

    kinds: tuple[str, ...]
    lowest: bool = False
    by_label: bool = False  # chance deals groups among rows of one class

    def rates(self, answers: Answers) -> list[Rate]:
        return [Rate(kind, label) for kind in self.kinds for label in
                (answers.classes[:1] if kind == "accuracy" else answers.classes)]  # fmt: skip

    def __call__(self, rates: Sequence[np.ndarray]) -> np.ndarray:
        """(...,) of rates, each (..., G)."""
        if self.lowest:
            return np.min([rate.min(-1) for rate in rates], axis=0)
        return np.max([np.ptp(rate, axis=-1) for rate in rates], axis=0)


# Of several classes, each is taken against the rest, and the class that is widest apart counts.
GAUGES = {
    "demographic_parity_difference": Gauge(("selection_rate",)),
    # Hardt et al. 2016, arXiv:1610.02413; as one number as fairlearn has it, the larger of both differences.
    "equalised_odds_difference": Gauge(("tpr", "fpr"), by_label=True),
    "accuracy_gap": Gauge(("accuracy",)),
    "worst_group_accuracy": Gauge(("accuracy",), lowest=True),
}
WORST_BPSN = "worst_bpsn"
POWER_MEANS = {f"power_mean_{kind}": kind for kind in KINDS}
WIDER_IS_WORSE = tuple(name for name, gauge in GAUGES.items() if not gauge.lowest)


def gaps(part: Case, found: Areas | None, rng: np.random.Generator) -> dict[str, Measure]:
    """Each gauge; where one class matters also the lowest BPSN area and the power means of the areas. Only groups that
    have `LEAST` rows of the kind a rate is about count; fewer than two of them leave nothing to compare."""
    rates = {name: own for name, gauge in GAUGES.items() if (own := chosen(gauge, part))}
    draws, noise = redraw(part.cells, rates, rng)
    chances, measured = _dealt(part, rates, rng), dict.fromkeys(GAUGES, _nothing(part))
    for name, own in rates.items():
        drawn = drawn_rates(part.cells, own, draws, noise)
        measured[name] = _gauged(GAUGES[name], part, own, drawn, chances[name])
    if found is not None:
        measured[WORST_BPSN] = _worst_bpsn(part, found, rng)
        measured |= {name: _power_mean(part, found, kind) for name, kind in POWER_MEANS.items()}
    return measured


def plain(part: Case) -> dict[str, float]:
    """The value of each gauge that can be measured, as `gaps` has it, and nothing of how sure it is."""
    truth, said = part.answers.truth, part.answers.said
    found = {}
    for name, gauge in GAUGES.items():
        if own := chosen(gauge, part):
            shares = [(part.counts(rate.hits(truth, said)) / part.counts(rate.among(truth)).clip(1))[groups]
                      for rate, groups in own]  # fmt: skip
            found[name] = float(gauge(shares))
    return found


def chosen(gauge: Gauge, part: Case) -> Chosen:
    """Empty where the groups of one kind of rate are fewer than two."""
    found: Chosen = []
    for rate in gauge.rates(part.answers):
        enough = part.counts(rate.among(part.answers.truth))[: part.members.compared] >= LEAST
        if enough.sum() > 1:
            found.append((rate, np.flatnonzero(enough)))
    return found if {rate.kind for rate, _ in found} == set(gauge.kinds) else []


def redraw(counted: Cells, rates: Mapping[str, Chosen], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(B, D) draws of cells and (B, G) noise; fewer where gauges take many rates."""
    draws = counted.draws(times(len(counted.counts) * _most(rates)), rng)
    return draws, rng.standard_normal((len(draws), counted.mask.shape[1]))


def _most(rates: Mapping[str, Chosen]) -> int:
    """How many rates a gauge takes at most."""
    return max([1, *(len(own) for own in rates.values())])


def _gauged(gauge: Gauge, part: Case, rates: Chosen, drawn: Sequence[Drawn], dealt_values: np.ndarray) -> Measure:
    value, interval = lowest(drawn) if gauge.lowest else widest(drawn)
    by = chance(value, dealt_values, high=not gauge.lowest)
    count = len(np.unique(np.concatenate([groups for _, groups in rates])))
    where = _where(gauge, part, rates, drawn) if gauge.lowest or value > 0 else {}
    return Measure(value + 0.0, count, interval, by_chance=by.mean, p=by.p, **where)


def _nothing(part: Case) -> Measure:
    enough = part.counts(np.ones(len(part.answers)))[: part.members.compared] >= LEAST
    return refused(
        "group_is_label" if tells_label(part.members, part.answers.truth) else "few_groups", int(enough.sum())
    )


def drawn_rates(counted: Cells, rates: Chosen, draws: np.ndarray, noise: np.ndarray, system: int = 0) -> list[Drawn]:
    """The rates of one system as found and as redrawn; `draws` (B, D) of cells, `noise` (B, G) for `padded`."""
    found = []
    for rate, groups in rates:
        hits, n = (sums[groups] for sums in counted.sums(rate, counted.counts.astype(np.float64), system))
        redrawn = counted.rates(rate, draws, system)[:, groups]
        found.append(Drawn(hits / n, padded(hits / n, n, redrawn, noise[:, groups])))
    return found


def _dealt(part: Case, rates: Mapping[str, Chosen], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(T,) values of each gauge where groups are dealt to all rows, or for rates among one class within classes, so
    that classes stay as rare in each group as they are."""
    truth, found = part.answers.truth, dict[str, np.ndarray]()
    for by_label in (False, True):
        names = [name for name in rates if GAUGES[name].by_label == by_label]
        strata = truth if by_label else np.zeros_like(truth)
        draws = times(len(truth) * _most({name: rates[name] for name in names})) if names else 0
        blocks = [
            [dealt_rates(rates[name], truth, part.answers.said, part.mask, order, GAUGES[name]) for name in names]
            for order in dealt(strata, draws, rng)
        ]
        found |= {name: np.concatenate([block[n] for block in blocks]) for n, name in enumerate(names)}
    return found


def _where(gauge: Gauge, part: Case, rates: Chosen, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Which groups are farthest apart, in which rate of which class."""
    widths = [float(np.ptp(own.found)) for own in drawn]
    n = int(np.argmax(widths))
    (rate, groups), found = rates[n], drawn[n].found
    high, low = (part.members.names[groups[place]] for place in (int(found.argmax()), int(found.argmin())))
    names = (low,) if gauge.lowest else (high, low)
    return {"groups": names, "rate": rate.kind if len(gauge.kinds) > 1 else None,
            "label": rate.label if len(part.answers.classes) > 1 and rate.kind != "accuracy" else None}  # fmt: skip


def _worst_bpsn(part: Case, found: Areas, rng: np.random.Generator) -> Measure:
    groups = among_areas(part, found, "bpsn")
    if len(groups) < 2:
        return _nothing(part)
    drawn = drawn_areas(found, "bpsn", groups, rng.standard_normal(found.draws.shape[1:]))
    value, interval = lowest([drawn])
    negatives = int((~found.ranks.positive).sum())
    orders = dealt(np.zeros(negatives, dtype=np.int64), times(negatives * 2), rng)
    values = np.concatenate([dealt_bpsn(found.ranks, groups, order).min(1) for order in orders])
    by = chance(value, values, high=False)
    names = (part.members.names[groups[int(drawn.found.argmin())]],)
    return Measure(value, len(groups), interval, by_chance=by.mean, p=by.p, groups=names)


def drawn_areas(found: Areas, kind: str, groups: np.ndarray, noise: np.ndarray) -> Drawn:
    """Areas whose pairs all stand in order have draws without any spread, and only these need `noise` (B, G)."""
    k = KINDS.index(kind)
    areas, n = found.found[k, groups], found.sides[k].min(0)[groups]
    wanted = noise[:, groups] * ((areas == 0) | (areas == 1))
    return Drawn(areas, padded(areas, n, found.draws[k][:, groups], wanted))


def _power_mean(part: Case, found: Areas, kind: str) -> Measure:
    groups, k = among_areas(part, found, kind), KINDS.index(kind)
    if len(groups) < 2:
        return _nothing(part)
    interval = percentile(power_mean(found.draws[k][:, groups]))
    return Measure(float(power_mean(found.found[k, groups])), len(groups), interval)


def among_areas(part: Case, found: Areas, kind: str) -> np.ndarray:
    """The places of the groups whose areas of a kind are measured and compared."""
    return np.flatnonzero(found.measurable(kind)[: part.members.compared])
