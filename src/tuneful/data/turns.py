"""Turns of a conversation in the spellings people use -> Message. Raises RowProblem in words that name the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuneful.core.types import Message

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "instruction": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool", "ipython": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip
CALLS = ("function_call", "tool_call")
FLAGS = ("train", "loss", "weight", "loss_weight")
DIALOGUE = re.compile(r"\n\n(Human|Assistant): ?")


class RowProblem(ValueError):
    """Why one row cannot be used."""


def conversation(value: Any, *, system: Any = None) -> tuple[Message, ...]:
    """A whole conversation: an opening of the assistant that nobody asked for is context, not an answer."""
    messages = turns(value)
    if isinstance(system, str) and system.strip():
        messages.insert(0, Message("system", system))
    first = next((i for i, message in enumerate(messages) if message.role != "system"), 0)
    if messages[first].role == "assistant" and messages[first].train is None:
        messages[first] = replace(messages[first], train=False)
    return tuple(messages)


def turns(value: Any) -> list[Message]:
    """A list of turns, each {role, content} or {from, value}; JSON in a text cell is read too."""
    if isinstance(value, str):
        value = _from_json(value)
    if not isinstance(value, Sequence):
        raise RowProblem(f"the conversation is a {type(value).__name__}; expected a list of turns")
    messages = [turn(item) for item in value]
    if not messages:
        raise RowProblem("the conversation has no turns")
    return messages


def turn(value: Any) -> Message:
    """One turn."""
    if not isinstance(value, Mapping):
        raise RowProblem(f"a turn is a {type(value).__name__}; expected {{role, content}}")
    spoken = value.get("role", value.get("from"))
    if spoken is None:
        raise RowProblem("a turn has no 'role' (or 'from')")
    role = ROLES.get(str(spoken).lower())
    if role is None:
        raise RowProblem(f"the role '{spoken}' is unknown; known: {', '.join(sorted(set(ROLES)))}")
    content = value.get("content", value.get("value"))
    calls = _calls(value.get("tool_calls") or ())
    if str(spoken).lower() in CALLS:
        calls, content = _calls(_from_json(str(content))), ""
    text, part_calls = _text(content)
    calls = (*calls, *part_calls)
    if not text.strip() and not calls and role == "assistant":
        raise RowProblem("the assistant says nothing in one turn")
    return Message(role, text, _flag(value), value.get("name"), calls)


def said(value: Any, role: str = "assistant") -> tuple[Message, ...]:
    """An answer given as a text, one turn, or a list of turns."""
    if isinstance(value, str):
        if not value.strip():
            raise RowProblem("the answer is empty")
        return (Message(role, value),)
    if isinstance(value, Mapping):
        return (turn(value),)
    return tuple(turns(value))


def dialogue(text: str) -> tuple[Message, ...]:
    """'\\n\\nHuman: ...\\n\\nAssistant: ...' as one text."""
    parts = DIALOGUE.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(roles[who], words.strip()) for who, words in pairs)


def _flag(value: Mapping[str, Any]) -> bool | None:
    for name in FLAGS:
        if value.get(name) is not None:
            return bool(float(value[name]))
    return None


def _text(content: Any) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    if content is None:
        return "", ()
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, Sequence):
        raise RowProblem(f"the content of a turn is a {type(content).__name__}; expected text")
    texts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        words = part if isinstance(part, str) else part.get("text", part.get("value", ""))
        if kind == "text":
            texts.append(str(words))
        elif kind == "reasoning":
            texts.append(f"<think>\n{words}\n</think>\n\n")
        elif kind == "tool_call":
            calls += _calls(_from_json(str(words)))
        else:
            raise RowProblem(f"a part of type '{kind}' needs a model that reads it; this one reads text")
    return "".join(texts), tuple(calls)


def _calls(value: Any) -> tuple[Mapping[str, Any], ...]:
    calls = []
    for call in [value] if isinstance(value, Mapping) else value:
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        if not isinstance(function, Mapping) or not function.get("name"):
            raise RowProblem("a tool call has no name; expected {name, arguments}")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _from_json(arguments)
        calls.append({"type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return tuple(calls)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowProblem(f"expected JSON, found {text[:40]!r} ({error.msg})") from None
