"""What a run that learns which answers are better is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from tuneful.adapters.full import FinishedWeights
from tuneful.core.device import pick_device
from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective, Processor
from tuneful.core.types import Layout, Row
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.preferences import Rewards, examine_judged, examine_preferences
from tuneful.evaluation.reading import Collate
from tuneful.evaluation.reward_model import examine_rewards, likelier_before
from tuneful.evaluation.settings import Evaluate
from tuneful.models.load import load
from tuneful.objectives import Dpo
from tuneful.recipe import Recipe


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


def examine_rated(
    policy: Policy,
    recipe: Recipe,
    collate: Collate,
    rows: tuple[Sequence[Row], Sequence[Row]],
    settings: Evaluate,
) -> Examined:
    """The same of a model that gives answers a number. One that writes is read once more as it was before tuning, under
    the head that names tokens; an encoder had no opinion."""
    train, test = rows
    before_R = likelier_before(_writer(recipe), test) if policy.network.causal else np.zeros(len(test))
    return examine_rewards(policy, collate, train, test, settings, before_R)


def _writer(recipe: Recipe) -> Policy:
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    loaded = load(str(recipe.model), dtype=dtype, device=pick_device(), trust_remote_code=recipe.trust_remote_code)
    return Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module))
