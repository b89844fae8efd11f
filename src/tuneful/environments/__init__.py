"""What a model that writes can try itself at."""

from tuneful.core.spec import Spec, Table
from tuneful.environments.grid_world import GridWorld
from tuneful.environments.guess_number import GuessNumber
from tuneful.environments.gymnasium import Gymnasium
from tuneful.environments.reasoning_gym import ReasoningGym
from tuneful.environments.rewards import REWARDS
from tuneful.environments.running import Game, Play, play
from tuneful.environments.scripted_user import ScriptedUser
from tuneful.environments.simulated_user import SimulatedUser
from tuneful.environments.single_turn import SingleTurn
from tuneful.environments.ticket_desk import TicketDesk

__all__ = [
    "ENVIRONMENTS", "REWARDS", "Game", "GridWorld", "GuessNumber", "Gymnasium", "Play", "ReasoningGym", "ScriptedUser",
    "SimulatedUser", "SingleTurn", "TicketDesk", "play",
]  # fmt: skip

ENVIRONMENTS: Table[Spec] = Table(
    "environment",
    [SingleTurn, ScriptedUser, SimulatedUser, GuessNumber, GridWorld, TicketDesk, ReasoningGym, Gymnasium],
    group="tuneful.environments",
)
