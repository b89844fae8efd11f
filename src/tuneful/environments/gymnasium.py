"""Any environment of Gymnasium whose actions can be named, put into words."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tuneful.core.environment import Turn
from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message, Place
from tuneful.environments.drawn import own_seed
from tuneful.environments.rewards.own import function

MOST = 64  # numbers of an observation that are written out
INSTALL = "gymnasium is not here: pip install 'tuneful[rl]'"


class Gymnasium(Spec):
    """An environment that is registered with Gymnasium (Towers et al. 2024, arXiv:2407.17032), with numbered actions or
    actions that are texts. Each observation is told in words, and a reply names the next action; a reply that names
    none of them, or several, is answered by their names and changes nothing, but is one of the `turns`. The reward of
    the episode is the sum of the environment's own rewards, times `scale`.

    An example's label is the seed of its episode, so that all replies to it begin in the same state."""

    kind: Literal["gymnasium"] = "gymnasium"
    id: str = "FrozenLake-v1"
    """Its name, with `module:` before it where a module must be imported first."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it is made with, such as `{is_slippery: false}`."""
    actions: list[str] = Field(default_factory=list)
    """A name for each action, in the order of their numbers. Empty: the numbers."""
    task: str = ""
    """What the model is told to do, before the first observation. Empty: the name, and that rewards add up."""
    describe: str = ""
    """A function of your own that puts an observation into words, as `package.module:function` or
    `folder/file.py:function`. Empty: its numbers are written out."""
    scale: PositiveFloat = 1.0
    """What its rewards are multiplied by."""
    turns: PositiveInt = 30
    """Replies in all."""
    patience: PositiveFloat = 30.0
    """Seconds that making it, or a step, may take."""

    def lacking(self) -> list[str]:
        if importlib.util.find_spec("gymnasium") is None:
            return [INSTALL]
        try:
            made = self._make()
            if self.describe:
                function(self.describe)
        except Exception as error:  # noqa: BLE001 - an environment is other people's code, which may raise anything
            return [f"gymnasium: {self.id}: {error}"]
        found = [*self._objections(made.action_space), *self._unclear(made.observation_space)]
        made.close()
        return [f"gymnasium: {self.id}: {problem}" for problem in found]

    def examples(self, count: int, seed: int) -> list[Example]:
        """Each with a seed of its own."""
        seeds = [own_seed(seed, number) for number in range(count)]
        return [Example(Place(f"{self.id} {seed}", n + 1, "task"), label=one) for n, one in enumerate(seeds)]

    def episode(self, example: Example, seed: int) -> Acting:
        made = self._make()
        first = self._first(made)
        names = self.actions or [str(first + number) for number in range(getattr(made.action_space, "n", 0))]
        observation, _ = made.reset(seed=int(seed if example.label is None else example.label))
        task = self.task or f"You act in {self.id}. What you do is rewarded; get as much as you can."
        expected = f"Reply with one of these: {', '.join(names)}." if names else "Reply with your action."
        asked = Message("user", f"{task} {expected}\n{self.told(observation)}")
        return Acting(self, made, names, expected, (*example.messages, asked))

    def told(self, observation: Any) -> str:
        """An observation in words."""
        own: Any = function(self.describe) if self.describe else None
        return str(own(observation)) if own else f"Observation: {words(observation)}"

    def _make(self) -> Any:
        return importlib.import_module("gymnasium").make(self.id, disable_env_checker=True, **self.settings)

    def _first(self, made: Any) -> int:
        return int(getattr(made.action_space, "start", 0))

    def _objections(self, space: Any) -> list[str]:
        kind, count = type(space).__name__, int(getattr(space, "n", 0))
        if kind not in ("Discrete", "Text"):
            return [f"its actions are of kind {kind}, which cannot be named; only numbered actions and texts can"]
        if self.actions and len(self.actions) != count:
            return [f"actions: {len(self.actions)} names for {count} actions"]
        if len({name.lower() for name in self.actions}) != len(self.actions):
            return ["actions: two have the same name"]
        return []

    def _unclear(self, space: Any) -> list[str]:
        size = getattr(space, "shape", None)
        numbers = 1
        for one in size or ():
            numbers *= one
        if self.describe or numbers <= MOST:
            return []
        return [f"an observation is {numbers} numbers; put it into words by a function of your own, with `describe`"]


class Acting:
    """One episode."""

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self, rules: Gymnasium, made: Any, names: Sequence[str], expected: str, prompt: Sequence[Message]
    ) -> None:
        self.prompt, self._rules, self._made, self._names, self._expected = prompt, rules, made, names, expected
        self._first, self._replies, self._return = rules._first(made), 0, 0.0

    def reply(self, text: str) -> Turn:
        self._replies += 1
        named = [number for number, name in enumerate(self._names) if self._says(name, text)]
        reward, over, told = 0.0, False, self._expected
        if not self._names or len(named) == 1:
            action = self._first + named[0] if self._names else text
            observation, found, terminated, truncated, _ = self._made.step(action)
            reward, over = self._rules.scale * float(found), bool(terminated or truncated)
            told = self._rules.told(observation)
        self._return += reward
        if over or self._replies == self._rules.turns:
            self._made.close()
            return Turn(reward, done=True, parts={"return": self._return})
        return Turn(reward, done=False, messages=(Message("user", told),), parts={"return": self._return})

    def _says(self, name: str, text: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def words(observation: Any) -> str:
    """Texts as they are, numbers with three digits, what is made of several with commas or names."""
    if isinstance(observation, str):
        return observation
    if isinstance(observation, Mapping):
        return "; ".join(f"{name}: {words(value)}" for name, value in observation.items())
    if hasattr(observation, "tolist"):
        return words(observation.tolist())
    if isinstance(observation, list | tuple):
        return ", ".join(words(value) for value in observation)
    return f"{observation:.3g}" if isinstance(observation, float) else str(observation)
