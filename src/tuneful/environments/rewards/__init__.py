"""How good a reply is."""

from tuneful.core.spec import Spec, Table
from tuneful.environments.rewards.asked import Judge, RewardModel, Scorer
from tuneful.environments.rewards.coded import UnitTests
from tuneful.environments.rewards.numbers import Numeric
from tuneful.environments.rewards.own import Python
from tuneful.environments.rewards.structured import JsonSchema
from tuneful.environments.rewards.texts import Contains, Exact, Length, Regex

__all__ = [
    "REWARDS", "Contains", "Exact", "JsonSchema", "Judge", "Length", "Numeric", "Python", "Regex", "RewardModel",
    "Scorer", "UnitTests",
]  # fmt: skip

REWARDS: Table[Spec] = Table(
    "reward",
    [Exact, Numeric, Contains, Regex, JsonSchema, Length, UnitTests, Judge, RewardModel, Python],
    group="tuneful.rewards",
)
