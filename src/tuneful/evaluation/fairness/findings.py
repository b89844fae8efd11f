"""How does a classifier treat groups of people, and did that change? What a report keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.types import Said
from tuneful.evaluation.fairness.answers import answers
from tuneful.evaluation.fairness.areas import Areas, areas
from tuneful.evaluation.fairness.gaps import gaps
from tuneful.evaluation.fairness.measures import LEAST, Case, Measure, case, few
from tuneful.evaluation.fairness.members import Columns, memberships, tells_label
from tuneful.evaluation.fairness.table import Group, table


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of groups; `part` holds the rows, so that two systems can be compared in pairs."""

    part: Case
    groups: Mapping[str, Group]  # by group, by measure
    gaps: Mapping[str, Measure]
    areas: Areas | None = None  # where one class matters

    @property
    def name(self) -> str:
        return self.part.members.feature

    def as_json(self) -> dict[str, Any]:
        members = self.part.members
        return {
            "n": len(self.part.answers),
            "unknown": int((~members.known).sum()),
            "pooled": members.pooled,
            "overlap": members.overlap,
            "groups": {name: {**self._sizes(g), **_as_json(self.groups[name])} for g, name in enumerate(members.names)},
            "gaps": _as_json(self.gaps),
            "not_measured": self.not_measured,
        }

    @property
    def not_measured(self) -> list[dict[str, Any]]:
        """Group, measure, why, and how many rows there were of what it needs."""
        return [
            {"group": group, "measure": name, "reason": measure.reason, "n": measure.n}
            for group, measures in self.groups.items() for name, measure in measures.items() if measure.reason
        ]  # fmt: skip

    def _sizes(self, group: int) -> dict[str, int]:
        own = self.part.answers.of(self.part.mask[:, group])
        sizes = {"n": len(own)}
        return sizes if own.score is None else sizes | {"positives": int(own.truth.sum())}


@dataclass(frozen=True, slots=True)
class Findings:
    features: tuple[Feature, ...]
    notes: tuple[Said, ...]

    def __getitem__(self, feature: str) -> Feature:
        return next(found for found in self.features if found.name == feature)

    def as_json(self) -> dict[str, Any]:
        return {
            "least": LEAST,
            "features": {feature.name: feature.as_json() for feature in self.features},
            "notes": [{"key": note.key, **note.facts} for note in self.notes],
        }


def examine_groups(
    truth: np.ndarray, probabilities: np.ndarray, groups: Columns, *,
    positive: int | None = None, threshold: float = 0.5, said: np.ndarray | None = None, seed: int = 0,
) -> Findings:  # fmt: skip
    """`truth` (R,) class ids, `probabilities` (R, C); `groups`: by name, columns (R,) of names of groups, or of true
    and false, see `memberships`. Each column is measured by itself; for groups of two columns at once, give a column
    that joins them.

    `positive`: the class that matters, which a row is answered with from `threshold` on. None: several classes matter
    alike. `said` (R,) are the answers, class ids, where something else than the probabilities decides. The table has
    accuracy, macro F1 and calibration; of several classes gaps between rates take each class against the rest and tell
    the widest, and there are no areas. Raises DataError."""
    given = answers(truth, probabilities, positive=positive, threshold=threshold, said=said)
    columns, notes = memberships(groups, len(given))
    features = []
    for n, members in enumerate(columns):
        part = case(given, members)
        notes += _notes(part)
        features.append(_feature(part, np.random.default_rng([seed, n]), seed))
    return Findings(tuple(features), tuple(notes))


def _feature(part: Case, rng: np.random.Generator, seed: int) -> Feature:
    found = areas(part, rng)
    return Feature(part, table(part, found, seed), gaps(part, found, rng), found)


def _notes(part: Case) -> list[Said]:
    small = few(part)
    notes = [small] if small else []
    if tells_label(part.members, part.answers.truth):
        notes.append(Said("fairness_group_is_label", {"feature": part.members.feature}))
    return notes


def _as_json(measures: Mapping[str, Measure]) -> dict[str, Any]:
    return {name: measure.as_json() for name, measure in measures.items()}
