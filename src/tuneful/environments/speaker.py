"""A model behind an address that judges, or plays the user."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeFloat, PositiveInt

from tuneful.core.device import secret
from tuneful.core.endpoint import Endpoint
from tuneful.core.spec import Spec, kind_of
from tuneful.core.types import Message


class Speaker(Spec):
    """How it is reached. An address that does not answer is asked four times, with growing pauses."""

    endpoint: str = ""
    """An address that speaks as OpenAI's chat completions do, such as http://localhost:8000/v1."""
    model: str = ""
    """Which of its models is asked."""
    key_from: str | None = None
    """The environment variable that holds the endpoint's key."""
    tokens: PositiveInt = 200
    """It may write."""
    temperature: NonNegativeFloat = 0.0
    """0: it says the same of the same each time."""
    pause: NonNegativeFloat = 1.0
    """Seconds before it is asked again where it did not answer, twice as many before each further time."""

    def say(self, messages: Sequence[Message], *, seconds: float, seed: int) -> str:
        """Raises EndpointError where there is no answer."""
        key = None if self.key_from is None else secret(self.key_from)
        asked = Endpoint(self.endpoint, self.model, key, seconds=seconds, pause=self.pause)
        said, _ = asked.write(messages, limit=self.tokens, temperature=self.temperature, seed=seed)
        return said

    def unset(self) -> list[str]:
        """What is missing before it can be asked."""
        found, own = [], kind_of(type(self))
        if not self.endpoint.startswith(("http://", "https://")):
            found.append(f"{own}: endpoint '{self.endpoint}': expected an address like http://localhost:8000/v1")
        if not self.model:
            found.append(f"{own}: say with `model` which of the endpoint's models is asked")
        if self.key_from is not None and secret(self.key_from) is None:
            found.append(f"{own}: the environment variable {self.key_from} holds no key; set it, or leave out key_from")
        return found
