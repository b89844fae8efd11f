"""What is learned next."""

from tuneful.core.spec import Spec, Table
from tuneful.schedules.episodes import Episodes
from tuneful.schedules.epochs import Epochs
from tuneful.schedules.lifelong import Lifelong
from tuneful.schedules.mixture import Mixture
from tuneful.schedules.rollouts import Rollouts
from tuneful.schedules.selftrain import SelfTrain

__all__ = ["SCHEDULES", "Episodes", "Epochs", "Lifelong", "Mixture", "Rollouts", "SelfTrain"]

SCHEDULES: Table[Spec] = Table(
    "schedule", [Epochs, SelfTrain, Episodes, Mixture, Lifelong, Rollouts], group="tuneful.schedules"
)
