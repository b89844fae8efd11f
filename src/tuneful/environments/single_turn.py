"""A question, one reply, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from tuneful.core.environment import Turn
from tuneful.core.types import Example, Message
from tuneful.environments.judging import Rewarded, judged
from tuneful.environments.rewards.reference import prompt


class SingleTurn(Rewarded):
    """The example asks, the model replies once, rewards judge the reply. The reference is the example's last message,
    if the assistant says it, which the model is not shown; else its label."""

    turns: ClassVar[int] = 1

    kind: Literal["single_turn"] = "single_turn"

    def episode(self, example: Example, seed: int) -> Asked:
        return Asked(self.rewards, example)


class Asked:
    """One question."""

    def __init__(self, rewards: Sequence[Any], example: Example) -> None:
        self._rewards, self._example = rewards, example
        self.prompt: Sequence[Message] = prompt(example)
        self.tools: Sequence[Mapping[str, Any]] = example.tools

    def reply(self, text: str) -> Turn:
        total, parts = judged(self._rewards, text, self._example)
        return Turn(reward=total, done=True, parts=parts)
