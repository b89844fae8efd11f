"""What a run that learns which answers are better is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective, Processor
from tuneful.core.types import Layout, Row
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.preferences import Rewards, examine_judged, examine_preferences
from tuneful.evaluation.reading import Collate
from tuneful.evaluation.settings import Evaluate
from tuneful.objectives import Dpo


def examine_answers(
    policy: Policy,
    processor: Processor,
    objective: Objective,
    collate: Collate,
    rows: tuple[Sequence[Row], Sequence[Row]],
    settings: Evaluate,
) -> Examined:
    """`rows` are those of training, by which simple rules are found, and of the test."""
    (train, test), says = rows, cast(Rewards, objective)
    if objective.layout is Layout.JUDGED:
        return examine_judged(policy, processor, says, collate, train, test, settings)
    by_mean = objective.normalise if isinstance(objective, Dpo) else True
    return examine_preferences(policy, processor, says, collate, train, test, settings, by_mean=by_mean)
