"""Columns of a table and the parts they play: what people call one thing, and what stands in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneful.data.turns import RowProblem

Fields = Mapping[str, Any]

# The names people give to one thing, most telling first.
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "turns"),
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions"),
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "history": ("history",),
    "instances": ("instances",),
    "prompt": ("prompt", "query", "question", "instruction", "problem", "source"),
    "completion": ("completion", "response", "answer", "output", "target", "solution", "reply"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "query": ("query", "question", "anchor", "search_query"),
    "positive": (
        "positive", "document", "passage", "doc", "pos", "positive_passage", "positive_document", "answer_passage",
    ),
    "negative": ("negative", "negatives", "hard_negative", "hard_negatives", "neg", "negative_passages"),
    "text": ("text", "sentence", "content", "comment", "tweet", "review", "utterance", "sentence1", "text1", "premise"),
    "second": ("sentence2", "text2", "hypothesis", "second"),
    "label": ("label", "labels", "category", "class", "intent", "sentiment", "score", "rating", "toxic", "stars"),
    "group": ("group",),
    "cluster": ("cluster", "group_id", "document_id", "session_id"),
}  # fmt: skip


MISSING = ("", "nan", "null", "<na>")  # how tables spell a label that is not there


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column plays which part."""

    by_part: Mapping[str, str]

    def get(self, fields: Fields, part: str) -> Any:
        column = self.by_part.get(part)
        return fields.get(column) if column is not None else None

    def text(self, fields: Fields, part: str) -> str:
        """A text that must be there."""
        value, column = self.get(fields, part), self.by_part.get(part, part)
        if value is None or not str(value).strip() or is_nan(value):
            raise RowProblem(f"'{column}' is empty")
        if isinstance(value, dict | list):
            raise RowProblem(f"'{column}' is a {type(value).__name__}; expected text")
        return str(value)

    def present(self, fields: Fields, part: str) -> Any:
        """Whatever stands there; something must."""
        value = self.get(fields, part)
        if value is None or (isinstance(value, str) and not value.strip()) or is_nan(value):
            raise RowProblem(f"'{self.by_part.get(part, part)}' is empty")
        return str(value) if is_number(value) else value


def is_there(label: Any) -> bool:
    """Not one of the ways in which tables say that there is none."""
    return not (label is None or is_nan(label) or (isinstance(label, str) and label.strip().lower() in MISSING))


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_number(value: Any) -> bool:
    """A truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def name_or_none(value: Any) -> str | None:
    """Of a group or a cluster; None where nothing stands."""
    return None if value is None or is_nan(value) or str(value) == "" else str(value)
