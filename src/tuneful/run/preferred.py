"""What a run that learns which answers are better is measured by."""

from __future__ import annotations

from typing import cast

from tuneful.core.types import Layout
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.preferences import Rewards, examine_judged, examine_preferences
from tuneful.objectives import Dpo
from tuneful.run.build import Built


def of_preferences(built: Built) -> Examined:
    """On the test rows."""
    prepared, objective = built.prepared, built.prepared.resolved.objective
    train, test = prepared.rows("train"), prepared.rows("test")
    processor, settings = prepared.processor, built.recipe.evaluate
    says = cast(Rewards, objective)
    if prepared.layout is Layout.JUDGED:
        return examine_judged(built.policy, processor, says, built.collate, train, test, settings)
    by_mean = objective.normalise if isinstance(objective, Dpo) else True
    return examine_preferences(built.policy, processor, says, built.collate, train, test, settings, by_mean=by_mean)
