"""A way through a grid with walls, told in words."""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from tuneful.core.environment import Turn
from tuneful.core.errors import InputError
from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message
from tuneful.environments.drawn import apart, chance, example

MOVES = {"north": (-1, 0), "south": (1, 0), "east": (0, 1), "west": (0, -1)}
COMMAND = re.compile(rf"\b({'|'.join(MOVES)})\b", re.IGNORECASE)
TRIES = 2000  # worlds drawn for one that has a way
EXPECTED = "Reply with one word: north, south, east or west."


class Square(NamedTuple):
    """From 1; row 1 is the northern one, column 1 the western one."""

    row: int
    column: int

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}"


class GridWorld(Spec):
    """The model walks to a goal, one step a reply, and is told where it is. Arriving is worth the length of the
    shortest way over the number of replies; what runs into a wall or is no direction is a reply, too. Not arriving is
    worth `partial` times the share of the way that was walked."""

    kind: Literal["grid_world"] = "grid_world"
    rows: Annotated[int, Field(ge=2, le=50)] = 4
    """Of the grid."""
    columns: Annotated[int, Field(ge=2, le=50)] = 4
    """Of the grid."""
    walls: Annotated[int, Field(ge=0)] = 3
    """Squares that cannot be entered. There is always a way of no more than `turns` steps."""
    turns: PositiveInt = 12
    """Replies in all."""
    partial: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What coming near is worth, where arriving is worth 1: above 0, a model that never arrives learns, too."""
    patience: PositiveFloat = 10.0
    """Seconds that a step may take."""

    def examples(self, count: int, seed: int) -> list[Example]:
        """All different."""
        worlds = apart(count, seed, self._draw, self.kind)
        return [example(self.kind, seed, number, asked(world), world) for number, world in enumerate(worlds)]

    def episode(self, example: Example, seed: int) -> Walk:
        """The world is the example's label; of an example without one, it is drawn by the seed."""
        world = self._draw(chance(seed)) if example.label is None else example.label
        prompt = example.messages or (Message("user", asked(world)),)
        return Walk(self, prompt, world)

    def optimum(self) -> float:
        """What the best player gets: the shortest way is always taken."""
        return 1.0

    def _draw(self, chance: random.Random) -> dict[str, Any]:
        squares = [(row, column) for row in range(1, self.rows + 1) for column in range(1, self.columns + 1)]
        walls = min(self.walls, len(squares) - 2)
        for _ in range(TRIES):
            start, goal, *blocked = chance.sample(squares, walls + 2)
            world = {"size": (self.rows, self.columns), "start": start, "goal": goal, "walls": sorted(blocked)}
            if 1 <= distances(world).get(Square(*start), 0) <= self.turns:
                return world
        raise InputError(f"{self.kind}: no way of at most {self.turns} steps is found; take fewer walls or more turns")


class Walk:
    """One way."""

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(self, rules: GridWorld, prompt: Sequence[Message], world: Mapping[str, Any]) -> None:
        self.prompt, self._rules, self._replies = prompt, rules, 0
        self._here, self._goal = Square(*world["start"]), Square(*world["goal"])
        self._left = distances(world)
        self._shortest = self._left[self._here]

    def reply(self, text: str) -> Turn:
        self._replies += 1
        told = self._step({word.lower() for word in COMMAND.findall(text)})
        if self._here == self._goal:
            return self._end(self._shortest / self._replies)
        if self._replies == self._rules.turns:
            walked = 1 - self._left[self._here] / self._shortest
            return self._end(self._rules.partial * max(0.0, walked))
        return Turn(0.0, done=False, messages=(Message("user", f"{told} The goal is at {self._goal}."),))

    def _step(self, commands: set[str]) -> str:
        if len(commands) != 1:
            return f"{EXPECTED} You are at {self._here}."
        down, right = MOVES[commands.pop()]
        there = Square(self._here.row + down, self._here.column + right)
        if there not in self._left:  # what cannot be reached from the goal cannot be entered from here
            return f"There is a wall. You are still at {self._here}."
        self._here = there
        return f"You are at {self._here}."

    def _end(self, reward: float) -> Turn:
        return Turn(reward, done=True, parts={"arrived": float(self._here == self._goal)})


def asked(world: Mapping[str, Any]) -> str:
    """The task in words."""
    rows, columns = world["size"]
    walls = "; ".join(str(Square(*wall)) for wall in world["walls"])
    blocked = f" There are walls at {walls}." if walls else ""
    start, goal = Square(*world["start"]), Square(*world["goal"])
    return (
        f"You are in a grid of {rows} rows and {columns} columns. Row 1 is in the north, column 1 in the west. You are "
        f"at {start}. The goal is at {goal}.{blocked} Walk to the goal, one step at a "
        f"time. {EXPECTED}"
    )


def distances(world: Mapping[str, Any]) -> dict[Square, int]:
    """Steps to the goal from each square that it can be reached from (breadth-first search)."""
    rows, columns = world["size"]
    walls = {Square(*wall) for wall in world["walls"]}
    goal = Square(*world["goal"])
    found, waiting = {goal: 0}, deque([goal])
    while waiting:
        here = waiting.popleft()
        for down, right in MOVES.values():
            there = Square(here.row + down, here.column + right)
            inside = 1 <= there.row <= rows and 1 <= there.column <= columns
            if inside and there not in walls and there not in found:
                found[there] = found[here] + 1
                waiting.append(there)
    return found
