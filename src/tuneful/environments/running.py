"""Episodes played side by side. Whatever an environment does wrong ends one episode, which teaches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tuneful.core.environment import Crowded, Environment, Episode, Turn
from tuneful.core.types import Example, Message
from tuneful.environments.in_time import AT_ONCE, Failed, answers, finite

Writer = Callable[[list[Sequence[Message]]], list[str]]


@dataclass(slots=True)
class Game:
    """One episode and what has been said in it."""

    example: Example
    seed: int
    messages: list[Message] = field(default_factory=list)  # the prompt, replies, and what came back
    tools: Sequence[Mapping[str, Any]] = ()
    turns: list[Turn] = field(default_factory=list)  # one a reply
    broken: str = ""  # why nothing is learned from it
    cut: bool = False  # it was not over when its turns were
    episode: Episode | None = None

    @property
    def open(self) -> bool:
        """It waits for a reply."""
        return not self.broken and not (self.turns and self.turns[-1].done)

    @property
    def reward(self) -> float:
        """Of all replies. Means nothing if it is `broken`."""
        return sum(turn.reward for turn in self.turns)


class Play:
    """Games of one environment. Each example goes with the seed of its episode; a group whose members are to be
    compared has the same example and seed several times."""

    def __init__(self, environment: Environment, asked: Sequence[tuple[Example, int]]) -> None:
        self.environment = environment
        self.at_once = environment.at_once if isinstance(environment, Crowded) else AT_ONCE
        begun = self._answers([partial(_begun, environment, example, seed) for example, seed in asked])
        self.games: list[Game] = []
        for (example, seed), found in zip(asked, begun, strict=True):
            game = Game(example, seed) if isinstance(found, Failed) else found
            game.broken = f"the episode did not begin: {found.why}" if isinstance(found, Failed) else ""
            self.games.append(game)

    @property
    def open(self) -> list[int]:
        """The numbers of the games that wait for a reply."""
        return [number for number, game in enumerate(self.games) if game.open]

    def reply(self, texts: Mapping[int, str]) -> dict[int, Turn]:
        """What comes back for a reply in each of some open games, by number."""
        for number in texts:
            if not self.games[number].open:
                raise ValueError(f"game {number} is over")
        found = self._answers([partial(_turn, self.games[number].episode, text) for number, text in texts.items()])
        for (number, text), turn in zip(texts.items(), found, strict=True):
            if isinstance(turn, Failed):
                turn = Turn(0.0, done=True, broken=turn.why)
            self._keep(self.games[number], text, turn)
        return {number: self.games[number].turns[-1] for number in texts}

    def _keep(self, game: Game, text: str, turn: Turn) -> None:
        """An environment that does not end is ended after the turns it said it has."""
        if not turn.done and len(game.turns) + 1 >= self.environment.turns:
            turn, game.cut = Turn(turn.reward, done=True, parts=turn.parts), True
        game.turns.append(turn)
        game.messages += [Message("assistant", text), *turn.messages]
        game.broken = turn.broken
        if not game.open:
            game.episode = None  # what it holds is not needed any more

    def _answers(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        return answers(jobs, patience=self.environment.patience, at_once=self.at_once)


def play(environment: Environment, asked: Sequence[tuple[Example, int]], write: Writer) -> list[Game]:
    """Play all games to their end; `write` is given the conversations of those that are open, and returns a reply to
    each."""
    held = Play(environment, asked)
    while numbers := held.open:
        texts = write([held.games[number].messages for number in numbers])
        held.reply(dict(zip(numbers, texts, strict=True)))
    return held.games


def _begun(environment: Environment, example: Example, seed: int) -> Game:
    episode = environment.episode(example, seed)
    messages = list(episode.prompt)
    if not messages or not all(isinstance(message, Message) for message in messages):
        raise ValueError("its prompt should be messages, at least one")
    return Game(example, seed, messages, tuple(episode.tools), episode=episode)


def _turn(episode: Episode | None, text: str) -> Turn:
    """A turn that keeps the contract; raises what is wrong with it, in words."""
    assert episode is not None
    turn = episode.reply(text)
    if not isinstance(turn, Turn):
        raise TypeError(f"{type(episode).__name__}.reply returned {turn!r:.60}, where a Turn was expected")
    if turn.broken:
        return Turn(0.0, done=True, parts=turn.parts, broken=turn.broken)
    reward = finite(turn.reward, type(episode).__name__)
    parts = {name: finite(value, name) for name, value in turn.parts.items()}
    if not turn.done and not turn.messages:
        raise ValueError(f"{type(episode).__name__} goes on and says nothing that could be replied to")
    return Turn(reward, bool(turn.done), () if turn.done else tuple(turn.messages), parts)
