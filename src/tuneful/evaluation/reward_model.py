"""Does a model that gives answers a number tell the better of two apart, and is length all that it looks at?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tuneful.core.policy import Policy
from tuneful.core.types import Layout, Row, Said
from tuneful.data.layouts import Collator
from tuneful.evaluation.compare import Examined, score
from tuneful.evaluation.metrics import METRICS, PREFERENCE_METRICS
from tuneful.evaluation.preferences import by_length, likelier, read_answers, shown
from tuneful.evaluation.reading import Collate, outputs
from tuneful.evaluation.settings import Evaluate

LARGE, LARGER = 0.5, 0.1  # a correlation, and by how much more than that of the data it is too much


def read_rewards(policy: Policy, rows: Sequence[Row], collate: Collate) -> np.ndarray:
    """(T,) the number of each text, rows behind one another as they are given."""
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    with torch.no_grad():
        for part, _, read in outputs(policy, rows, collate):
            rewards_T = read.class_logits()[:, 0].double().cpu().numpy()
            ends = np.cumsum([len(rows[row].texts) for row in part])
            for row, own in zip(part, np.split(rewards_T, ends[:-1]), strict=True):
                found[row] = own
    return np.concatenate(found) if found else np.empty(0)


def likelier_before(writer: Policy, rows: Sequence[Row]) -> np.ndarray:
    """(R,) nats a token by which a model that writes finds the chosen answer likelier."""
    collate = Collator(Layout.PREFERENCES, share=writer.network.shares)
    return likelier(read_answers(writer, rows, collate), by_mean=True)


def examine_rewards(
    policy: Policy,
    collate: Collate,
    train: Sequence[Row],
    test: Sequence[Row],
    settings: Evaluate,
    before_R: np.ndarray,
) -> Examined:
    """Pairs of a chosen and a rejected answer. `before_R` is by how much the model before tuning, which gives no
    numbers, holds with the chosen one; the trivial rule prefers by length, as most training pairs say."""
    rewards_R2 = read_rewards(policy, test, collate).reshape(-1, 2)
    margins = {"base": before_R, "trivial": by_length(train, test), "tuned": rewards_R2[:, 0] - rewards_R2[:, 1]}
    scores = [score(METRICS[PREFERENCE_METRICS[0]], range(len(test)), margins)]
    answers: list[dict[str, Any]] = [
        {**shown(row, row.example.chosen),
         "margins": {system: float(values[number]) for system, values in margins.items()},
         "rated": [round(float(value), 5) for value in rewards_R2[number]]}
        for number, row in enumerate(test)
    ]  # fmt: skip
    return Examined(scores, settings.primary or PREFERENCE_METRICS[0], answers, [with_length(margins["tuned"], test)])


def with_length(margins_R: np.ndarray, rows: Sequence[Row]) -> Said:
    """How much of the rewards goes with length, beside how much of what people chose does."""
    longer_R = np.array([row.lengths[0] - row.lengths[1] for row in rows], dtype=np.float64)
    found, people = together(margins_R, longer_R), together(np.ones(len(rows)), longer_R)
    much = abs(found) > LARGE and abs(found) > abs(people) + max(LARGER, 2 / np.sqrt(len(rows)))
    facts = {"n": len(rows), "rewards": round(found, 2) + 0.0, "people": round(people, 2) + 0.0}
    return Said("reward_is_length", facts) if much else Said("reward_length", facts)


def together(one_R: np.ndarray, other_R: np.ndarray) -> float:
    """Correlation of two differences within pairs. No mean is taken off: which of a pair comes first is a name, and the
    mean over both orders is 0."""
    size = float(np.sqrt(np.square(one_R).sum() * np.square(other_R).sum()))
    return float((one_R * other_R).sum()) / size if size else 0.0
