"""A reward for replies of a given form."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from tuneful.core.types import Example
from tuneful.environments.forms import faults, unreadable
from tuneful.environments.rewards.reference import Weighted, fenced


class JsonSchema(Weighted):
    """1 if the reply is JSON, or holds a block of it, and has the form that a JSON schema describes."""

    kind: Literal["json_schema"] = "json_schema"
    form: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """The schema: type, enum, const, properties, required, additionalProperties, items, minItems, maxItems, minLength,
    maxLength, minimum, maximum, pattern, anyOf. For other words of the standard, install jsonschema."""
    parses: float = 0.0
    """What a reply gets that is JSON of another form."""

    def lacking(self) -> list[str]:
        return [f"json_schema: {problem}" for problem in unreadable(self.form)]

    def __call__(self, reply: str, example: Example) -> float:
        try:
            found = read(fenced(reply))
        except ValueError:
            return 0.0
        return self.parses if faults(found, self.form) else 1.0


def read(text: str) -> Any:
    """JSON, strictly: no NaN. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("this is nested too deeply") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
