"""What a model that writes can try itself at."""

from tuneful.core.spec import Spec, Table
from tuneful.environments.rewards import REWARDS
from tuneful.environments.running import Game, Play, play
from tuneful.environments.single_turn import SingleTurn

__all__ = ["ENVIRONMENTS", "REWARDS", "Game", "Play", "SingleTurn", "play"]

ENVIRONMENTS: Table[Spec] = Table("environment", [SingleTurn], group="tuneful.environments")
