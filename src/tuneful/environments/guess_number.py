"""A number is guessed, and each guess is answered by higher or lower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from tuneful.core.environment import Turn
from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message
from tuneful.environments.drawn import chance, example
from tuneful.environments.rewards.numbers import numbers


class GuessNumber(Spec):
    """The model guesses a number it is not told; each guess is answered by higher or lower. Found with the first guess
    it is worth 1, and each further reply costs 1 / `turns`; not found, 0.

    A reply without a number is answered by what is expected, and costs as much as a wrong guess. All games look alike
    at first, so there is nothing to learn by heart: only how to search."""

    kind: Literal["guess_number"] = "guess_number"
    low: int = 1
    """The smallest number it may be."""
    high: int = 20
    """The largest one."""
    turns: PositiveInt = 8
    """Replies in all."""
    patience: PositiveFloat = 10.0
    """Seconds that answering a guess may take."""

    @model_validator(mode="after")
    def _holds_numbers(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"high: {self.high} is not above low, which is {self.low}")
        return self

    def examples(self, count: int, seed: int) -> list[Example]:
        asked = self._asked
        drawn = [chance(seed, number).randint(self.low, self.high) for number in range(count)]
        return [example(self.kind, seed, number, asked, secret) for number, secret in enumerate(drawn)]

    def episode(self, example: Example, seed: int) -> Guessing:
        """The secret is the example's label; of an example without one, it is drawn by the seed."""
        secret = example.label
        if secret is None:
            secret = chance(seed).randint(self.low, self.high)
        if not isinstance(secret, int) or not self.low <= secret <= self.high:
            raise ValueError(f"{example.place}: the number is {secret!r}, not between {self.low} and {self.high}")
        return Guessing(self, example.messages or (Message("user", self._asked),), secret)

    def optimum(self) -> float:
        """What the best player gets in the mean over all numbers: with t guesses at most 2^(t-1) numbers can be told
        from one another, which halving what is left does."""
        left, total = self.high - self.low + 1, 0.0
        for turn in range(self.turns):
            found = min(2**turn, left)
            total, left = total + found * (1 - turn / self.turns), left - found
        return total / (self.high - self.low + 1)

    @property
    def _asked(self) -> str:
        return (
            f"I think of a whole number from {self.low} to {self.high}. Guess it. I answer higher, lower or correct. "
            f"You have {self.turns} guesses. Reply with one number."
        )


class Guessing:
    """One game."""

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(self, rules: GuessNumber, prompt: Sequence[Message], secret: int) -> None:
        self.prompt, self._rules, self._secret, self._replies = prompt, rules, secret, 0

    def reply(self, text: str) -> Turn:
        self._replies += 1
        found = set(numbers(text))
        if found == {self._secret}:
            return Turn(1 - (self._replies - 1) / self._rules.turns, done=True, parts={"found": 1.0})
        if self._replies == self._rules.turns:
            return Turn(0.0, done=True, parts={"found": 0.0})
        return Turn(0.0, done=False, messages=(Message("user", self._answer(found)),))

    def _answer(self, found: set[float]) -> str:
        low, high = self._rules.low, self._rules.high
        if len(found) != 1 or not next(iter(found)).is_integer():
            return f"Reply with one whole number from {low} to {high}."
        guess = int(next(iter(found)))
        if not low <= guess <= high:
            return f"{guess} is not between {low} and {high}. Reply with one whole number."
        return f"The number is {'higher' if guess < self._secret else 'lower'} than {guess}."
