"""How wrong each unit is."""

from tuneful.core.spec import Spec, Table
from tuneful.objectives.classify import Classify
from tuneful.objectives.contrast import Contrast
from tuneful.objectives.masked import Masked
from tuneful.objectives.next_token import NextToken

__all__ = ["OBJECTIVES", "Classify", "Contrast", "Masked", "NextToken"]

OBJECTIVES: Table[Spec] = Table("objective", [NextToken, Classify, Masked, Contrast], group="tuneful.objectives")
