"""What rewards say of one reply, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from tuneful.core.environment import Crowded, Lacks
from tuneful.core.spec import Spec, kind_of
from tuneful.core.types import Example
from tuneful.environments.in_time import AT_ONCE, finite
from tuneful.environments.rewards import REWARDS, Exact
from tuneful.environments.rewards.reference import Slow


class Rewarded(Spec):
    """What environments have that judge replies by rewards."""

    rewards: list[REWARDS.field] = Field(default_factory=lambda: [Exact()], min_length=1)  # type: ignore[name-defined]
    """What a reply is judged by. Each is multiplied by its `weight`, and they are added up; the sum is not divided."""
    patience: PositiveFloat = 60.0
    """Seconds that judging a reply may take; a reply that takes longer teaches nothing."""

    @field_validator("rewards", mode="before")
    @classmethod
    def _as_rewards(cls, value: Any) -> Any:
        """One reward is a list of one."""
        return [value] if isinstance(value, str | dict | Spec) else value

    @model_validator(mode="after")
    def _waits_long_enough(self) -> Self:
        for reward in self.rewards:
            if isinstance(reward, Slow) and reward.clock > self.patience:
                raise ValueError(
                    f"patience: {kind_of(type(reward))} may take {reward.clock:g} s of its own for one reply; set "
                    "patience above that, or lower its `seconds`"
                )
        return self

    @property
    def at_once(self) -> PositiveInt:
        return min([reward.at_once for reward in self.rewards if isinstance(reward, Crowded)], default=AT_ONCE)

    def lacking(self) -> list[str]:
        return [problem for reward in self.rewards if isinstance(reward, Lacks) for problem in reward.lacking()]


def judged(rewards: Sequence[Any], reply: str, example: Example) -> tuple[float, dict[str, float]]:
    """The sum, and what each reward said before it was weighed, by name."""
    parts: dict[str, float] = {}
    total = 0.0
    for reward in rewards:
        same = sum(name.split(" ")[0] == reward.kind for name in parts)
        value = finite(reward(reply, example), reward.kind)
        parts[f"{reward.kind} {same + 1}" if same else reward.kind] = value
        total += reward.weight * value
    return total, parts
