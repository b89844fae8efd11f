"""What a round of answers looked like, for the records: rewards, lengths, and how sure the model was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tuneful.models.playing import Tried, parts_of
from tuneful.objectives.policy_gradient import ALIKE


def figures(groups: Sequence[Sequence[Tried]]) -> Mapping[str, float]:
    """Of answers with a reward, if any has one, its mean, and of what it is made of; the share of prompts whose answers
    differ in it; of all answers the length in tokens and turns; the share that was cut, and that broke; and nats a
    token, an estimate of the entropy by what was drawn."""
    tried = [one for group in groups for one in group]
    rewarded = [one for one in tried if not np.isnan(one.reward)]
    found = {
        **({"reward": _mean([one.reward for one in rewarded])} if rewarded else {}),
        "spread": _mean([float(np.nanmax(own) - np.nanmin(own) > ALIKE) for own in _rewards(groups)]),
        "length": _mean([float(len(one.written)) for one in tried]),
        "turns": _mean([float(len(one.replies)) for one in tried]),
        "truncated": _mean([float(one.truncated) for one in tried]),
        "broken": _mean([float(bool(one.broken)) for one in tried]),
        "entropy": -_mean([logprob for one in tried for logprob in one.drawn]),
        "written": float(sum(len(one.written) for one in tried)),
    }
    return {**found, **{f"reward/{name}": value for name, value in parts_of(rewarded).items()}}


def _rewards(groups: Sequence[Sequence[Tried]]) -> list[np.ndarray]:
    found = [np.array([one.reward for one in group]) for group in groups]
    return [own for own in found if not np.isnan(own).all()]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
