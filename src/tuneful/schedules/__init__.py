"""What is learned next."""

from tuneful.core.spec import Spec, Table
from tuneful.schedules.episodes import Episodes
from tuneful.schedules.epochs import Epochs
from tuneful.schedules.selftrain import SelfTrain

__all__ = ["SCHEDULES", "Episodes", "Epochs", "SelfTrain"]

SCHEDULES: Table[Spec] = Table("schedule", [Epochs, SelfTrain, Episodes], group="tuneful.schedules")
