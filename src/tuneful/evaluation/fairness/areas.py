"""The three bias areas of every group, as found and as redrawn, and why some are missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuneful.evaluation.fairness.intervals import percentile, wilson
from tuneful.evaluation.fairness.measures import LEAST, Case, Measure, refused, times
from tuneful.evaluation.fairness.ranking import KINDS, Ranked, ranked, redrawn

SHORT = {
    "subgroup": ("few_positives", "few_negatives"),
    "bpsn": ("few_background_positives", "few_negatives"),
    "bnsp": ("few_positives", "few_background_negatives"),
}


@dataclass(frozen=True, slots=True)
class Areas:
    ranks: Ranked
    found: np.ndarray  # (3, G), in the order of ranking.KINDS; NaN where there is no such row
    draws: np.ndarray  # (3, B, G) of a bootstrap of rows
    sides: np.ndarray  # (3, 2, G) how many positive and negative rows each rests on

    def measurable(self, kind: str) -> np.ndarray:
        """(G,) bool."""
        return self.sides[KINDS.index(kind)].min(0) >= LEAST

    def measure(self, kind: str, group: int) -> Measure:
        k = KINDS.index(kind)
        sides, n = self.sides[k, :, group], int(self.sides[k, :, group].min())
        if n < LEAST:
            return refused(SHORT[kind][int(sides[0] >= LEAST)], n)
        value = float(self.found[k, group])
        # Where all pairs stand in order, so do all redrawn ones; the smaller side bounds what is known.
        interval = wilson(value * n, n) if value in (0.0, 1.0) else percentile(self.draws[k, :, group])
        return Measure(value, n, interval)


def areas(part: Case, rng: np.random.Generator) -> Areas | None:
    """None where no class matters more than others."""
    answers = part.answers
    if answers.score is None:
        return None
    ranks, rows = ranked(answers.score, answers.truth == 1, part.mask), len(answers)
    draws = [ranks.areas(weights) for weights in redrawn(rows, times(rows), rng)]
    return Areas(ranks, ranks.areas(np.ones((1, rows)))[:, 0], np.concatenate(draws, 1), _sides(part))


def _sides(part: Case) -> np.ndarray:
    positive = part.answers.truth == 1
    ours = np.stack([part.counts(positive), part.counts(~positive)])
    rest = np.array([[positive.sum()], [(~positive).sum()]]) - ours
    return np.stack([ours, np.stack([rest[0], ours[1]]), np.stack([ours[0], rest[1]])])
