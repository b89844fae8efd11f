"""How well does a model know random sequences that were planted in its training rows?

Carlini et al. 2019, arXiv:1802.08232: a canary's exposure is log2 of how many sequences there could be, minus log2 of
its rank among them by log-perplexity (definition 5); drawn from some of the others instead of all (section 4.4, by
sampling), so it is never more than log2 of these and itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.types import Row, Said
from tuneful.evaluation.reading import Collate, token_losses

LEARNED = 0.75  # of the bits there could be, from which a canary counts as known by heart


def exposure(own: float, others: Sequence[float] | np.ndarray) -> float:
    """In bits. Of equals the canary is the last."""
    rank = 1 + int((np.asarray(others) <= own).sum())
    return math.log2(len(others) + 1) - math.log2(rank)


def by_chance(candidates: int) -> float:
    """The mean exposure of sequences that were never planted: every rank is as likely."""
    return math.log2(candidates) - math.lgamma(candidates + 1) / math.log(2) / candidates


def examine_canaries(
    policy: Policy, canaries: Sequence[Sequence[Row]], collate: Collate, times: float
) -> dict[str, Any]:
    """Of each canary the row that was planted and then those that were not; `times` is how often each was learned."""
    losses = token_losses(policy, [row for rows in canaries for row in rows], collate)[:, 0]
    found, start = [], 0
    for rows in canaries:
        own, *others = losses[start : start + len(rows)]
        found.append(exposure(float(own), others))
        start += len(rows)
    most = math.log2(len(canaries[0]))
    known = sum(bits >= LEARNED * most for bits in found)
    facts = {"n": len(found), "known": known, "mean": round(float(np.mean(found)), 1), "most": round(most, 1),
             "chance": round(by_chance(len(canaries[0])), 1)}  # fmt: skip
    sentence = Said("canaries_known", facts) if known else Said("canaries_unknown", facts)
    return {
        "exposure": [round(bits, 3) for bits in found],
        "mean": round(float(np.mean(found)), 3),
        "most": round(most, 3),
        "by_chance": round(by_chance(len(canaries[0])), 3),
        "times": round(times, 2),
        "known": known,
        "advice": {"key": sentence.key, **sentence.facts},
    }
