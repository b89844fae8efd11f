"""Examples as rows of a file, in columns that reading understands by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tuneful.core.files import write_text
from tuneful.core.types import Example, Message, Place


def fields_of(example: Example) -> dict[str, Any]:
    """A conversation, a text (or two) with its label, or a text alone; a group is nobody's to keep."""
    if example.messages:
        messages = [{**message.template(), "train": message.learned} for message in example.messages]
        tools = {"tools": [dict(tool) for tool in example.tools]} if example.tools else {}
        return {"messages": messages, **tools}
    second = {"text2": example.second} if example.second is not None else {}
    label = {"label": example.label} if example.label is not None else {}
    return {"text": example.text, **second, **label}


def example_of(fields: Mapping[str, Any]) -> Example:
    """What was written so, without its tools."""
    turns = fields.get("messages", ())
    messages = tuple(Message(turn["role"], turn.get("content") or "", turn.get("train")) for turn in turns)
    return Example(Place("", 0), messages=messages, text=fields.get("text"), second=fields.get("text2"))


def write_examples(file: Path, examples: Iterable[Example]) -> None:
    """One JSON object a line."""
    write_text(file, "".join(json.dumps(fields_of(example), ensure_ascii=False) + "\n" for example in examples))
