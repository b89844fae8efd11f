"""How wrong each unit is."""

from tuneful.core.spec import Spec, Table
from tuneful.objectives.classify import Classify
from tuneful.objectives.next_token import NextToken

__all__ = ["OBJECTIVES", "Classify", "NextToken"]

OBJECTIVES: Table[Spec] = Table("objective", [NextToken, Classify], group="tuneful.objectives")
