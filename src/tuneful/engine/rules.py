"""The gradient rules by name."""

from tuneful.core.spec import Spec, Table
from tuneful.engine.sharpness import Sam
from tuneful.engine.surgery import AGem, PCGrad, UPGrad
from tuneful.engine.update import Sum

GRADIENTS: Table[Spec] = Table("gradient rule", [Sum, Sam, PCGrad, UPGrad, AGem], group="tuneful.gradients")
