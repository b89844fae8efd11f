"""Does an answer change when a text speaks of another group, and says the same otherwise?

Counterfactual fairness of text classifiers (Garg et al. 2019, arXiv:1809.10610): the share of rows whose answer
changes, and how far the score moves. A text in which only names of groups are exchanged need
not mean the same, nor be one that anybody would write, so a rate above zero asks for a look at its rows first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.evaluation.fairness.answers import Answers, answers
from tuneful.evaluation.fairness.intervals import percentile, wilson
from tuneful.evaluation.fairness.measures import LEAST, Measure, refused, times
from tuneful.evaluation.fairness.ranking import redrawn

Replaced = tuple[str, str]  # the group a text speaks of, and the one its counterfactual speaks of


@dataclass(frozen=True, slots=True)
class Flips:
    """Of `n` rows that have a counterfactual.

    `rate`: the share whose answer changes. `moved`: the mean distance between what is said of a text and of its
    counterfactual, of scores where one class matters, and of several classes half the sum over classes (total
    variation), which of two classes is the same. `shift`: the mean of the counterfactual's score less the text's, where
    one class matters; against zero it says which way an exchange pushes."""

    n: int
    rate: Measure
    moved: Measure
    shift: Measure | None = None
    by_direction: Mapping[Replaced, Flips] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"n": self.n, "rate": self.rate.as_json(), "moved": self.moved.as_json()}
        if self.shift:
            found["shift"] = self.shift.as_json()
        if self.by_direction:
            found["by_direction"] = [
                {"from": old, "to": new, **part.as_json()} for (old, new), part in self.by_direction.items()
            ]
        return found


def flips(
    original: np.ndarray, counterfactual: np.ndarray, replaced: Sequence[Replaced | None], *,
    positive: int | None = None, threshold: float = 0.5, seed: int = 0,
    said: tuple[np.ndarray, np.ndarray] | None = None,
) -> Flips:  # fmt: skip
    """Probabilities (R, C) of texts and of their counterfactuals, and (R,) which group replaced which; None where a row
    has no counterfactual: its row of `counterfactual` is not read. `said`: the answers (R,) to both, class ids, where
    something else than the probabilities decides. Directions by how many rows they have. Raises
    DataError.

    Intervals: Wilson's for the rate, percentile bootstrap of rows for the means. Fewer than 30 rows: not measured."""
    there = np.array([pair is not None for pair in replaced], dtype=bool)
    _check(original, counterfactual, there)
    if not there.any():
        return Flips(0, refused("few_rows", 0), refused("few_rows", 0))
    pairs = [pair for pair in replaced if pair is not None]
    one, other = (
        _answers(shares[there], positive, threshold, None if answered is None else answered[there])
        for shares, answered in zip((original, counterfactual), said or (None, None), strict=True)
    )
    changed, moved = one.said != other.said, np.abs(one.shares - other.shares).sum(1) / 2
    shift = None if one.score is None or other.score is None else other.score - one.score
    rng, parts = np.random.default_rng(seed), {}
    for kind in sorted(set(pairs), key=lambda kind: (-pairs.count(kind), kind)):
        own = np.array([pair == kind for pair in pairs])
        parts[kind] = _flips(changed[own], moved[own], None if shift is None else shift[own], rng)
    return replace(_flips(changed, moved, shift, rng), by_direction=parts)


def _check(original: np.ndarray, counterfactual: np.ndarray, there: np.ndarray) -> None:
    if not original.shape == counterfactual.shape or original.shape[:1] != there.shape:
        raise DataError(f"flips: texts have probabilities {original.shape}, counterfactuals {counterfactual.shape}, "
                        f"and {len(there)} rows say what was replaced; expected as many of each")  # fmt: skip


def _answers(shares: np.ndarray, positive: int | None, threshold: float, said: np.ndarray | None) -> Answers:
    """What is right is not asked."""
    nothing = np.zeros(len(shares), dtype=np.int64)
    return answers(nothing, shares, positive=positive, threshold=threshold, said=said)


def _flips(changed: np.ndarray, moved: np.ndarray, shift: np.ndarray | None, rng: np.random.Generator) -> Flips:
    n = len(changed)
    if n < LEAST:
        return Flips(n, refused("few_rows", n), refused("few_rows", n))
    rate = Measure(float(changed.mean()), n, wilson(int(changed.sum()), n))
    return Flips(n, rate, _mean(moved, rng), None if shift is None else _mean(shift, rng))


def _mean(values: np.ndarray, rng: np.random.Generator) -> Measure:
    n = len(values)
    draws = [counts @ values / n for counts in redrawn(n, times(n), rng)]
    return Measure(float(values.mean()), n, percentile(np.concatenate(draws)))
