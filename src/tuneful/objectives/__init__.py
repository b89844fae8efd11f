"""How wrong each unit is."""

from tuneful.core.spec import Spec, Table
from tuneful.objectives.classify import Classify
from tuneful.objectives.contrast import Contrast
from tuneful.objectives.masked import Masked
from tuneful.objectives.next_token import NextToken
from tuneful.objectives.retrieve import Retrieve

__all__ = ["OBJECTIVES", "Classify", "Contrast", "Masked", "NextToken", "Retrieve"]

OBJECTIVES: Table[Spec] = Table(
    "objective", [NextToken, Classify, Masked, Contrast, Retrieve], group="tuneful.objectives"
)
