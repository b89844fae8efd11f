"""How wrong each unit is."""

from tuneful.core.spec import Spec, Table
from tuneful.objectives.classify import Classify
from tuneful.objectives.contrast import Contrast
from tuneful.objectives.denoise import Denoise
from tuneful.objectives.masked import Masked
from tuneful.objectives.next_token import NextToken
from tuneful.objectives.prototype import Prototype
from tuneful.objectives.retrieve import Retrieve

__all__ = ["OBJECTIVES", "Classify", "Contrast", "Denoise", "Masked", "NextToken", "Prototype", "Retrieve"]

OBJECTIVES: Table[Spec] = Table(
    "objective", [NextToken, Classify, Masked, Contrast, Denoise, Prototype, Retrieve], group="tuneful.objectives"
)
