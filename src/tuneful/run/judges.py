"""Rewards that a model of another run gives, in runs that learn from their own answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tuneful.environments.judging import Rewarded
from tuneful.environments.rewards import RewardModel
from tuneful.evaluation.settings import Evaluate
from tuneful.recipe import Recipe
from tuneful.run.folder import RunFolder
from tuneful.run.rating import Rater, objection, open_rater


def problems(recipe: Recipe) -> Iterator[str]:
    """What stands against a reward model of the environment, or among those that verify."""
    environment = recipe.task.environment
    asked = {
        "environment": environment.rewards if isinstance(environment, Rewarded) else [],
        "evaluate.verify": recipe.evaluate.verify,
    }
    for where, rewards in asked.items():
        for reward in rewards:
            if isinstance(reward, RewardModel) and (why := objection(reward.path)) is not None:
                yield f"{where}: reward_model.path: {why}"


def with_raters(environment: Any) -> Any:
    """An environment whose reward models are loaded."""
    if not isinstance(environment, Rewarded):
        return environment
    return environment.model_copy(update={"rewards": _given(environment.rewards)})


def with_verifiers(settings: Evaluate) -> Evaluate:
    """The same of what verifies."""
    return settings.model_copy(update={"verify": _given(settings.verify)})


def _given(rewards: Sequence[Any]) -> list[Any]:
    return [one.given(_of(one)) if isinstance(one, RewardModel) else one for one in rewards]


def _of(reward: RewardModel) -> Rater:
    return _rater(reward.path, RunFolder(Path(reward.path)).lock.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _rater(path: str, written: int) -> Rater:
    """Once for all that ask it; `written` tells a run from a later one in the same folder."""
    return open_rater(path)
