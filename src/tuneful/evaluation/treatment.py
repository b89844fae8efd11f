"""How a classifier treats the groups of its test rows, before and after tuning: what the report's `bias` and `groups`
hold of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuneful.core.types import Example, Row
from tuneful.data.identity import Group, mentioned, swapped
from tuneful.evaluation.compare import DRAWS
from tuneful.evaluation.fairness import LEAST, Findings, compared, examine_groups, flips
from tuneful.evaluation.fairness.changes import ideal
from tuneful.evaluation.fairness.gaps import WIDER_IS_WORSE
from tuneful.evaluation.fairness.measures import Measure
from tuneful.evaluation.fairness.members import Columns

EXCHANGED = 500  # rows that are asked about other groups, at most
FLIPS = "counterfactual_flip_rate"
Read = Callable[[Row, Example], Row]  # the row of a changed example
Ask = Callable[[list[Row], list[Row]], "Asked"]  # of rows and their originals


@dataclass(frozen=True, slots=True)
class Asked:
    """The same test rows, put to the tuned model and to the one before, where there was one."""

    truth: np.ndarray  # (R,) class ids
    after: np.ndarray  # (R, C) probabilities
    before: np.ndarray | None = None
    said: np.ndarray | None = None  # (R,) class ids, where something else than `after` decides

    @property
    def answered(self) -> np.ndarray:
        """(R,) class ids, by the tuned model."""
        return self.after.argmax(1) if self.said is None else self.said


@dataclass(frozen=True, slots=True)
class Treated:
    bias: dict[str, Any] = field(default_factory=dict)  # by probe
    groups: dict[str, Any] = field(default_factory=dict)


def columns_of(examples: Sequence[Example], column: str | None) -> Columns:
    """The column of the data that says whose row each is, and for each group that enough texts mention whether a text
    does."""
    found: dict[str, Sequence[Any]] = {}
    if any(example.group is not None for example in examples):
        found[column or "group"] = [example.group for example in examples]
    told = [mentioned(f"{example.text or ''}\n{example.second or ''}") for example in examples]
    for group in sorted({group for groups in told for group in groups}):
        flags = [group in groups for groups in told]
        if min(sum(flags), len(flags) - sum(flags)) >= LEAST:
            found[str(group)] = flags
    return found


def treatment(asked: Asked, columns: Columns, positive: int | None, *, seed: int = 0) -> Treated:
    """Each gap between groups and the table of the groups; nothing where no column has two groups of rows enough."""
    if not columns:
        return Treated()
    after = examine_groups(asked.truth, asked.after, columns, positive=positive, said=asked.said, seed=seed)
    if asked.before is None:
        return Treated(_alone(after), after.as_json())
    before = examine_groups(asked.truth, asked.before, columns, positive=positive, seed=seed)
    changes = compared(before, after, seed=seed)
    several, bias = len(changes) > 1, {}
    for feature, gaps in changes.items():
        for name, change in gaps.items():
            measure = after[feature].gaps[name]
            bias[_named(name, feature, several)] = {**change.as_json(), **_of_gap(measure)}
    return Treated(bias, {**after.as_json(), "before": before.as_json()["features"]})


def _alone(found: Findings) -> dict[str, Any]:
    """Of a model that nothing is compared with."""
    several, bias = len(found.features) > 1, {}
    for feature in found.features:
        for name, measure in feature.gaps.items():
            told = {"after": measure.value, "ci95": measure.ci95 and list(measure.ci95), "reason": measure.reason}
            bias[_named(name, feature.name, several)] = {
                **{key: value for key, value in told.items() if value is not None}, **_of_gap(measure),
                "n": len(feature.part.answers), "measurable": measure.reason is None, "gap": False,
                "ideal": ideal(gap=name in WIDER_IS_WORSE),
            }  # fmt: skip
    return bias


def _of_gap(measure: Measure) -> dict[str, Any]:
    """How far chance would go, and whose gap it is: of which groups, in which rate of which class."""
    told = {"chance": measure.by_chance, "p": measure.p, "groups": list(measure.groups) or None, "rate": measure.rate,
            "label": measure.label}  # fmt: skip
    return {key: value for key, value in told.items() if value is not None}


def _named(gap: str, feature: str, several: bool) -> str:
    return f"{gap} ({feature})" if several else gap


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Rows that mention a group, and the same rows about another."""

    places: list[int]  # among all rows
    rows: list[Row]
    replaced: list[tuple[str, str]]


def exchange(rows: Sequence[Row], read: Read, *, seed: int = 0) -> Exchanged:
    """A seeded sample of the rows whose text mentions a group that can be exchanged."""
    found = Exchanged([], [], [])
    for place in np.random.default_rng(seed).permutation(len(rows)).tolist():
        row, rng = rows[place], np.random.default_rng([seed, *rows[place].ids.tolist()])
        text = row.example.text or ""
        new = swapped(text, rng)
        if new is None or len(found.rows) == EXCHANGED:
            continue
        twin = read(row, replace(row.example, text=new))
        if not np.array_equal(twin.ids, row.ids):
            found.places.append(place)
            found.rows.append(twin)
            found.replaced.append(_replaced(mentioned(text), mentioned(new)))
    return found


def _replaced(old: frozenset[Group], new: frozenset[Group]) -> tuple[str, str]:
    """The groups that went and those that came."""
    went, came = (" and ".join(map(str, sorted(groups))) for groups in (old - new, new - old))
    return went, came


def flipped(asked: Asked, twins: Asked, exchanged: Exchanged, positive: int | None) -> dict[str, Any]:
    """How often an answer changes when a text speaks of another group; `twins` are the exchanged rows."""
    places = exchanged.places
    said = None if asked.said is None or twins.said is None else (asked.said[places], twins.said)
    after = flips(asked.after[places], twins.after, exchanged.replaced, positive=positive, said=said)
    found: dict[str, Any] = {"after": after.rate.value, "n": after.n, "gap": True, "ideal": ideal(gap=True),
                             "directions": after.as_json()}  # fmt: skip
    if after.rate.reason is not None:
        return {FLIPS: {**found, "measurable": False, "reason": after.rate.reason}}
    if asked.before is None or twins.before is None:
        ends = after.rate.ci95
        return {FLIPS: {**found, "measurable": True, "gap": False, "ci95": list(ends) if ends else None}}
    was = asked.before[places].argmax(1) != twins.before.argmax(1)
    now = asked.answered[places] != twins.answered
    return {FLIPS: {**found, "before": float(was.mean()), **_paired(now.astype(float) - was), "measurable": True}}


def treated(
    rows: list[Row], columns: Columns, exchanged: Exchanged, asked: Ask, counts: Mapping[int, int],
    classes: Sequence[str], *, seed: int = 0,
) -> Treated:  # fmt: skip
    """Gaps, groups and flips of a classifier. `asked` puts rows to it; as a chance it takes must not differ for a row
    and the same about others, it is told the original of each. `counts` (of class ids) say which of two is rarer."""
    whole, positive = asked(rows, rows), rarer(counts, len(classes))
    found = treatment(whole, columns, positive, seed=seed)
    if found.groups and positive is not None:
        found = replace(found, groups={**found.groups, "class": classes[positive]})
    found = replace(found, bias={name: _called(entry, classes) for name, entry in found.bias.items()})
    if not exchanged.rows:
        return found
    twins = asked(exchanged.rows, [rows[place] for place in exchanged.places])
    return replace(found, bias={**found.bias, **flipped(whole, twins, exchanged, positive)})


def _called(entry: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The class by its name."""
    return {**entry, "label": classes[entry["label"]]} if "label" in entry else dict(entry)


def _paired(apart: np.ndarray) -> dict[str, Any]:
    """The mean difference of rows, with the middle 95 % of its bootstrap."""
    rng = np.random.default_rng(0)
    draws = [apart[rng.integers(len(apart), size=len(apart))].mean() for _ in range(DRAWS // 2)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"delta": round(float(apart.mean()), 5), "ci95": [round(float(low), 5), round(float(high), 5)]}


def shares(logits_RC: np.ndarray) -> np.ndarray:
    """(R, C) probabilities."""
    raised = np.exp(logits_RC - logits_RC.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def rarer(counts: Mapping[int, int], classes: int) -> int | None:
    """Of two classes the rarer, which is usually what is looked for; None of several."""
    return min(range(2), key=lambda place: (counts.get(place, 0), -place)) if classes == 2 else None
