"""What is learned next."""

from tuneful.core.spec import Spec, Table
from tuneful.schedules.epochs import Epochs

__all__ = ["SCHEDULES", "Epochs"]

SCHEDULES: Table[Spec] = Table("schedule", [Epochs], group="tuneful.schedules")
