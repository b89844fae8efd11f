"""What an environment is: it asks, a model answers, and it says how good that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tuneful.core.types import Example, Message

PARTS = 3  # training, validation, test


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes back for one reply of the model."""

    reward: float  # of this reply; those of an episode are added up
    done: bool
    messages: tuple[Message, ...] = ()  # what the model reads next; empty when the episode is over
    parts: Mapping[str, float] = field(default_factory=dict)  # what the reward is made of, by name, for people
    broken: str = ""  # why there is no reward: an error, a time limit. Nothing is learned from such an episode


class Episode(Protocol):
    """One conversation with an environment. It is used once."""

    @property
    def prompt(self) -> Sequence[Message]: ...
    @property
    def tools(self) -> Sequence[Mapping[str, Any]]: ...
    def reply(self, text: str) -> Turn: ...


class Environment(Protocol):
    """Something to be tried. The same example and seed give the same episode, so that answers can be compared."""

    @property
    def kind(self) -> str: ...
    @property
    def turns(self) -> int: ...  # replies an episode has at most
    @property
    def patience(self) -> float: ...  # seconds an episode may take to begin, or a reply to be judged
    def episode(self, example: Example, seed: int) -> Episode: ...


@runtime_checkable
class MakesExamples(Protocol):
    """Optional, of an environment that needs no data: its own tasks, by number and seed. Two seeds that differ modulo
    `PARTS` have no task in common, so that what is measured was never learned, where tasks are more than a few."""

    def examples(self, count: int, seed: int) -> list[Example]: ...


@runtime_checkable
class Crowded(Protocol):
    """Optional, of an environment or reward that cannot judge as many replies at the same moment as it is given."""

    @property
    def at_once(self) -> int: ...


@runtime_checkable
class Lacks(Protocol):
    """Optional, of an environment or reward: what is missing before it can be used, in words; asked once, before
    anything is learned."""

    def lacking(self) -> list[str]: ...


class Reward(Protocol):
    """How good a reply is, of itself, beside the example it answers. What it raises breaks the episode."""

    @property
    def kind(self) -> str: ...
    @property
    def weight(self) -> float: ...
    def __call__(self, reply: str, example: Example) -> float: ...


class Game(Protocol):
    """An episode that is played, and what has been said in it."""

    @property
    def messages(self) -> Sequence[Message]: ...  # the prompt, replies, and what came back
    @property
    def tools(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def turns(self) -> Sequence[Turn]: ...  # one a reply
    @property
    def broken(self) -> str: ...  # why nothing is learned from it
    @property
    def reward(self) -> float: ...  # of all replies


class Games(Protocol):
    """Episodes that are played side by side."""

    @property
    def games(self) -> Sequence[Game]: ...
    @property
    def open(self) -> Sequence[int]: ...  # numbers of those that wait for a reply
    def reply(self, texts: Mapping[int, str]) -> Mapping[int, Turn]: ...  # of some of these
