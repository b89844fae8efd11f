"""A conversation whose user says what stands in the example, whatever the model replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import PositiveInt

from tuneful.core.environment import Turn
from tuneful.core.types import Example, Message
from tuneful.environments.judging import Rewarded, judged


class ScriptedUser(Rewarded):
    """The user's messages of the example are asked one after the other, and each reply is judged beside the assistant's
    message that follows in the example; the last one beside the label, where the example ends with a question. The
    reward of an episode is the mean over its replies."""

    kind: Literal["scripted_user"] = "scripted_user"
    turns: PositiveInt = 8
    """Replies at most; what the user says after that is left out."""

    def episode(self, example: Example, seed: int) -> Scripted:
        return Scripted(self.rewards, list(_script(example))[: self.turns], example)


class Scripted:
    """One conversation."""

    def __init__(self, rewards: Sequence[Any], script: Sequence[Example], example: Example) -> None:
        if not script:
            raise ValueError(f"{example.place}: the user says nothing in this example; it needs messages of role user")
        self._rewards, self._script, self._said = rewards, script, 0
        self._messages = [*_asked(script[0])]
        self.prompt: Sequence[Message] = tuple(self._messages)
        self.tools: Sequence[Mapping[str, Any]] = example.tools

    def reply(self, text: str) -> Turn:
        """Judged beside the conversation as it was, with what the model said in it."""
        step = self._script[self._said]
        right = step.messages[len(_asked(step)) :]
        total, parts = judged(self._rewards, text, replace(step, messages=(*self._messages, *right)))
        self._said += 1
        reward = total / len(self._script)
        if self._said == len(self._script):
            return Turn(reward, done=True, parts=parts)
        following = _asked(self._script[self._said])
        self._messages += [Message("assistant", text), *following]
        return Turn(reward, done=False, messages=following, parts=parts)


def _script(example: Example) -> Iterator[Example]:
    """For each reply that is wanted, what is said since the last one, and the right reply if there is one."""
    said: list[Message] = []
    for message in example.messages:
        if message.role == "assistant":
            if any(one.role == "user" for one in said):
                yield replace(example, messages=(*said, message), label=None)
                said = []
            else:
                said.append(message)  # the assistant begins
        elif message.role == "user" and any(one.role == "user" for one in said):
            yield replace(example, messages=tuple(said), label=None)
            said = [message]
        else:
            said.append(message)
    if any(one.role == "user" for one in said):
        yield replace(example, messages=tuple(said))


def _asked(step: Example) -> tuple[Message, ...]:
    return step.messages[:-1] if step.messages[-1].role == "assistant" else step.messages
