"""A conversation with a user whom another model plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from tuneful.core.environment import Turn
from tuneful.core.types import Example, Message
from tuneful.environments.judging import Rewarded, judged
from tuneful.environments.rewards.reference import prompt
from tuneful.environments.speaker import Speaker

DONE, AT_ONCE = "[DONE]", 4  # users who speak at the same moment
ROLE = """You play a person who talks to an assistant. {person}
You began the conversation with what you say first in it. Write only what the person says next, in a sentence or two. Do
not play the assistant, and do not help it. Once you have what you wanted, or see that you will not get it, write {done}
and nothing else."""


class SimulatedUser(Rewarded, Speaker):
    """The example asks; then a model behind an address plays the user, until it is done or the turns are over. Then the
    rewards judge the last reply, beside the example's reference and the whole conversation; what came before is worth
    nothing of itself.

    The simulated user is another model with weaknesses of its own, and a policy finds them; see with `scripted_user`
    whether what was learned holds. An address that does not answer ends the episode, which teaches nothing."""

    kind: Literal["simulated_user"] = "simulated_user"
    person: Annotated[str, Field(min_length=1)] = "You are in a hurry and know little of the matter."
    """Who the user is, and what that person wants."""
    turns: PositiveInt = 4
    """Replies at most."""
    temperature: NonNegativeFloat = 0.7
    """0: the user says the likeliest thing each time."""
    seconds: PositiveFloat = 30.0
    """That the user may take to answer."""

    @property
    def at_once(self) -> int:
        return min(super().at_once, AT_ONCE)

    def lacking(self) -> list[str]:
        return [*self.unset(), *super().lacking()]

    def episode(self, example: Example, seed: int) -> Simulated:
        return Simulated(self, example, seed)


class Simulated:
    """One conversation."""

    def __init__(self, rules: SimulatedUser, example: Example, seed: int) -> None:
        self._rules, self._example, self._seed, self._replies = rules, example, seed, 0
        self.prompt: Sequence[Message] = prompt(example)
        self.tools: Sequence[Mapping[str, Any]] = example.tools
        self._messages = list(self.prompt)

    def reply(self, text: str) -> Turn:
        self._replies += 1
        before = tuple(self._messages)
        self._messages.append(Message("assistant", text))
        if self._replies < self._rules.turns:
            said = self._user().strip()
            if said and DONE not in said:
                self._messages.append(Message("user", said))
                return Turn(0.0, done=False, messages=(self._messages[-1],))
        right = self._example.messages[len(self.prompt) :]
        total, parts = judged(self._rules.rewards, text, replace(self._example, messages=(*before, *right)))
        return Turn(total, done=True, parts=parts)

    def _user(self) -> str:
        """What the user says next. To the model that plays the user, the assistant is who speaks to it."""
        system = Message("system", ROLE.format(person=self._rules.person, done=DONE))
        swapped = {"user": "assistant", "assistant": "user"}
        heard = [Message(swapped[one.role], one.content) for one in self._messages if one.role in swapped]
        opening = Message("user", "Begin.")
        return self._rules.say([system, opening, *heard], seconds=self._rules.seconds, seed=self._seed)
