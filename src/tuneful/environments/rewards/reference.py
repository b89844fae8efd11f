"""What an example says the right reply is, and what else all rewards over texts read."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message

END = ".!?。！？"
FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


class Weighted(Spec):
    """What all rewards have."""

    weight: float = 1.0
    """What its number is multiplied by before those of all rewards are added up; below 0, it is a fine."""


def reference(example: Example) -> str:
    """The last message, if the assistant says it; else the label."""
    if example.messages and example.messages[-1].role == "assistant":
        return example.messages[-1].content
    if example.label is None:
        raise ValueError(f"{example.place}: nothing to compare with; end it with the right answer, or give it a label")
    label = example.label
    return label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)


def wanted(example: Example) -> Any:
    """The label as it is; else the last message, if the assistant says it."""
    return reference(example) if example.label is None else example.label


def plain(text: str, *, case: bool) -> str:
    """White space is one blank, and none at the ends, nor a full stop; capitals count if `case`."""
    text = " ".join(unicodedata.normalize("NFKC", text).split()).rstrip(END).rstrip()
    return text if case else text.casefold()


def fenced(reply: str) -> str:
    """The last block of code of a reply; all of a reply that has none."""
    blocks = FENCE.findall(reply)
    return blocks[-1] if blocks else reply


class Slow(Weighted):
    """A reward that asks something which takes its time, and which too many must not ask at the same moment."""

    seconds: PositiveFloat = 30.0
    """That one answer may take."""
    at_once: PositiveInt = 4
    """Replies judged at the same moment."""

    @property
    def clock(self) -> float:
        """Seconds by the clock that judging one reply may take by its own rules."""
        return self.seconds


def prompt(example: Example) -> tuple[Message, ...]:
    """What is asked: the conversation without the reference at its end, or the text."""
    messages = example.messages
    if messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    if not messages and example.text:
        messages = (Message("user", example.text),)
    if not messages:
        raise ValueError(f"{example.place}: nothing is asked; the example needs a prompt, messages or a text")
    return messages
