"""Which tasks of a mixture pull together and which apart: cosines of their gradients, as a gradient rule has measured
them (`engine/apart.py`), over a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

Pair = tuple[str, str]


def conflicts(updates: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> dict[str, Any]:
    """The report's `forgetting.conflicts`. `updates`: the metrics of each. Of each pair of tasks the mean `cosine`, in
    what `share` of updates they pulled apart (below 0), and of how many (`updates`) that is; and `groups` of tasks that
    pull together. Empty where nothing was measured.

    The product of two gradients is, to first order, what a step for one task takes off the loss of the other (the
    affinity of Fifty et al. 2021, arXiv:2109.04617, section 3.1, per step length)."""
    found = {}
    for one, other in combinations(sorted(tasks), 2):
        name = f"conflict/{one}/{other}"
        if cosines := [metrics[name] for metrics in updates if name in metrics]:
            found[one, other] = cosines
    if not found:
        return {}
    means = {pair: fmean(cosines) for pair, cosines in found.items()}
    return {
        "pairs": [
            {"tasks": list(pair), "cosine": round(means[pair], 4), "updates": len(cosines),
             "share": round(fmean(cosine < 0 for cosine in cosines), 4)}
            for pair, cosines in sorted(found.items(), key=lambda entry: -means[entry[0]])
        ],
        "groups": grouped(means, tasks),
    }  # fmt: skip


def grouped(cosines: Mapping[Pair, float], tasks: Sequence[str]) -> list[list[str]]:
    """Tasks joined for as long as two groups pull together in the mean over their pairs, those that do most first
    (agglomerative clustering, average linkage, cut at 0). What is not known counts as 0."""
    groups = [[task] for task in tasks]

    def mean(one: Sequence[str], other: Sequence[str]) -> float:
        return fmean(cosines.get((a, b), cosines.get((b, a), 0.0)) for a in one for b in other)

    while len(groups) > 1:
        nearest, one, other = max((mean(a, b), -i, -j) for (i, a), (j, b) in combinations(enumerate(groups), 2))
        if nearest <= 0:
            break
        groups[-one] += groups.pop(-other)
    return groups
