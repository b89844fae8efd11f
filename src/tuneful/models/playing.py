"""Episodes as tokens: what the model read and what it wrote, exactly as it was read and written.

Nothing is turned into text and back: the ids that were drawn are the ids that are learned, and what an environment
answers is put behind them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tuneful.core.environment import Game, Games
from tuneful.core.errors import DataError
from tuneful.core.policy import Policy
from tuneful.core.types import Completion, Example
from tuneful.models.processors import TextProcessor
from tuneful.models.sampling import Generator

Begin = Callable[[Sequence[tuple[Example, int]]], Games]


@dataclass(slots=True)
class Tried:
    """One episode."""

    game: Game
    ids: list[int]
    prompt: int  # how many ids it began with
    written: list[int] = field(default_factory=list)  # places in `ids` of what the model wrote
    drawn: list[float] = field(default_factory=list)  # log-probabilities of these when they were drawn
    replies: list[str] = field(default_factory=list)
    truncated: bool = False  # a reply was cut by its limit, or there was no room for another
    hint: tuple[int, ...] = ()  # what the first reply begins with: given, and not written by the model
    fault: str = ""  # why the conversation could not be put before the model

    @property
    def broken(self) -> str:
        """Why there is no reward."""
        return self.game.broken or self.fault

    @property
    def reward(self) -> float:
        """Of all replies; not a number where nothing could be said, or judged."""
        return float(self.game.reward) if self.replies and not self.broken else float("nan")

    def say(self, answer: Completion, text: str) -> None:
        """What the model wrote, with what it ended with; `text` is the whole reply."""
        said = [*answer.ids, *answer.end]
        self.written += range(len(self.ids), len(self.ids) + len(said))
        self.ids += said
        self.drawn += answer.logprobs
        self.replies.append(text)
        self.truncated |= not answer.stopped

    def end(self) -> None:
        """There is no room for another reply: what was heard last asks for nothing."""
        self.truncated = True
        del self.ids[self.written[-1] + 1 if self.written else len(self.ids) :]

    def hear(self, following: np.ndarray) -> None:
        """What stands behind a reply, whose end the model may have written itself."""
        heard = following.tolist()
        ended = self.ids[-1:] == heard[:1]
        self.ids += heard[1:] if ended else heard


@dataclass(frozen=True, slots=True)
class Player:
    """Plays episodes with a policy, all of them at once."""

    processor: TextProcessor
    begin: Begin
    new_tokens: int  # of a reply
    longest: int  # tokens of an episode

    def play(
        self,
        policy: Policy,
        asked: Sequence[tuple[Example, int]],
        *,
        count: int = 1,
        temperature: float = 1.0,
        seed: int = 0,
        original: bool = False,
        hints: Sequence[float] = (),
    ) -> list[list[Tried]]:
        """`count` episodes of each example with the seed of its episode. `seed` is that of what is drawn. `original`
        asks the model as it was before tuning. `hints` are the shares of each example's own answer that the first reply
        begins with."""
        games = self.begin([one for one in asked for _ in range(count)])
        tried = [self._begun(game) for game in games.games]
        for place, share in enumerate(hints):
            for one in tried[place * count : (place + 1) * count]:
                self._help(one, asked[place][0], share)
        turn = 0
        while numbers := [number for number in games.open if self._has_room(tried[number])]:
            key = [seed, turn]
            said = self._written(policy, [tried[n].ids for n in numbers], key, temperature, original)
            for number, answer in zip(numbers, said, strict=True):
                self._said(tried[number], answer)
            games.reply({number: tried[number].replies[-1] for number in numbers})
            for number in set(numbers) & set(games.open):
                self._heard(tried[number])
            turn += 1
        return [tried[start : start + count] for start in range(0, len(tried), count)]

    def _begun(self, game: Game) -> Tried:
        if game.broken:
            return Tried(game, [], 0)
        try:
            ids = self.processor.prompt(game.messages, game.tools).ids.tolist()
        except DataError as problem:
            return Tried(game, [], 0, fault=str(problem))
        return Tried(game, ids, len(ids))

    def _said(self, tried: Tried, answer: Completion) -> None:
        """A hint and what was written behind it are one text: a letter may lie across the seam."""
        hinted = tried.hint and not tried.replies
        tried.say(answer, self.processor.decode([*tried.hint, *answer.ids]) if hinted else answer.text)

    def _help(self, tried: Tried, example: Example, share: float) -> None:
        """Puts the beginning of the expected answer behind the prompt, all but a token of it at most."""
        if not share or tried.broken or not has_answer(example):
            return
        earlier = [replace(message, train=False) for message in example.messages[:-1]]
        encoded = self.processor.conversation([*earlier, example.messages[-1]], example.tools)[-1]
        answer = [int(token) for token in encoded.ids[encoded.learn > 0] if int(token) not in self.processor.stop_ids]
        shown = answer[: min(int(share * len(answer) + 0.5), len(answer) - 1)]
        tried.ids += shown
        tried.hint = tuple(shown)

    def _has_room(self, tried: Tried) -> bool:
        if tried.fault:
            return False
        room = len(tried.ids) + self.new_tokens <= self.longest
        if not room:
            tried.end()
        return room

    def _heard(self, tried: Tried) -> None:
        messages = tried.game.messages
        place = max(number for number, message in enumerate(messages) if message.role == "assistant")
        try:
            tried.hear(self.processor.behind(messages, place, tried.game.tools))
        except DataError as problem:  # of a template that takes no such turn
            tried.fault = str(problem)

    def _written(
        self, policy: Policy, texts: Sequence[list[int]], key: Sequence[int], temperature: float, original: bool
    ) -> list[Completion]:
        """An answer to each; equal texts are read once."""
        places: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, ids in enumerate(texts):
            places[tuple(ids)].append(place)
        found: dict[int, Completion] = {}
        for count in sorted({len(own) for own in places.values()}, reverse=True):
            own = {ids: at for ids, at in places.items() if len(at) == count}
            answers = Generator(self.processor).sample(
                policy, [np.asarray(ids, dtype=np.int32) for ids in own], limit=self.new_tokens, count=count,
                temperature=temperature, seed=_drawn_from([*key, count]), original=original,
            )  # fmt: skip
            found.update(zip([place for at in own.values() for place in at], answers, strict=True))
        return [found[place] for place in range(len(texts))]


def parts_of(tried: Sequence[Tried]) -> dict[str, float]:
    """Of what rewards are made of, the mean over episodes, in each of which turns are added up."""
    sums: dict[str, float] = defaultdict(float)
    for one in tried:
        for turn in one.game.turns:
            for name, value in turn.parts.items():
                sums[name] += value
    return {name: value / max(1, len(tried)) for name, value in sorted(sums.items())}


def has_answer(example: Example) -> bool:
    """It says itself what would be right."""
    return bool(example.messages) and example.messages[-1].role == "assistant"


def _drawn_from(key: Sequence[int]) -> int:
    return int(np.random.SeedSequence(list(key)).generate_state(1)[0])
