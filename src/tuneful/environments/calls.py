"""Tools that a model calls in its text, for models whose chat template knows no tools as for those whose does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.environments.forms import faults

PLACES = 100  # of a bracket that are looked at: brackets in brackets take long to read
EXPECTED = 'Reply with one JSON object: {"name": "...", "arguments": {...}}.'


def tool(name: str, description: str, required: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A tool as chat templates read it; all its arguments are required."""
    arguments = dict(required or {})
    form = {"type": "object", "properties": arguments, "required": list(arguments), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": form}}


def told(tools: Sequence[Mapping[str, Any]]) -> str:
    """Tools in words, a line each."""
    lines = []
    for one in tools:
        function = one["function"]
        arguments = ", ".join(
            f'"{name}": {form["type"]}' for name, form in function["parameters"]["properties"].items()
        )
        lines.append(f"- {function['name']} {{{arguments}}}: {function['description']}")
    return "\n".join(lines)


def called(text: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The one call that a reply holds, among whatever other words. Raises ValueError with what is wrong with it."""
    found = [one for one in objects(text) if "name" in one]
    if len(found) != 1:
        raise ValueError(EXPECTED if not found else f"One call at a time. {EXPECTED}")
    name, arguments = found[0]["name"], found[0].get("arguments", {})
    forms = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    if not isinstance(name, str) or name not in forms:
        raise ValueError(f"There is no tool {json.dumps(name)}. Tools: {', '.join(forms)}.")
    if wrong := faults(arguments, forms[name], "arguments"):
        raise ValueError(f"{name}: {'; '.join(wrong)}.")
    return name, arguments


def objects(text: str) -> list[dict[str, Any]]:
    """The outermost JSON objects that stand in a text."""
    decoder, found, place = json.JSONDecoder(), [], text.find("{")
    for _ in range(PLACES):
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found.append(value)
        place = text.find("{", end)
    return found
