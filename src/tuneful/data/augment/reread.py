"""A row whose text says the same in other words: what may be changed of an example, and how it is read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuneful.core.protocols import Processor
from tuneful.core.types import Encoded, Example, Layout, Row
from tuneful.data.rows import NAMES, build, conversation_of

Change = Callable[[str, np.random.Generator], str]


def asked_texts(example: Example) -> list[str]:
    """What may be changed: a text and its second, or the requests of a conversation; never what is learned."""
    if example.messages:
        return [message.content for message in example.messages if _asks(message.role, message.learned)]
    return [text for text in (example.text, example.second) if text]


def with_texts(example: Example, change: Change, rng: np.random.Generator) -> Example:
    """The same example with each of these texts changed; one that would be left empty stays."""

    def changed(text: str) -> str:
        new = change(text, rng)
        return new if new.strip() else text

    if example.messages:
        turns = [
            replace(message, content=changed(message.content)) if _asks(message.role, message.learned) else message
            for message in example.messages
        ]
        return replace(example, messages=tuple(turns))
    return replace(
        example,
        text=changed(example.text) if example.text else example.text,
        second=changed(example.second) if example.second else example.second,
    )


def all_texts(example: Example) -> list[str]:
    """What is asked and what is learned, for changes that must be made in both."""
    if example.messages:
        return [message.content for message in example.messages]
    return [text for text in (example.text, example.second) if text is not None]


def with_all_texts(example: Example, texts: Sequence[str]) -> Example:
    """The same example with these in their place, as many as `all_texts` gives."""
    if example.messages:
        turns = [replace(turn, content=text) for turn, text in zip(example.messages, texts, strict=True)]
        return replace(example, messages=tuple(turns))
    return replace(example, text=texts[0], second=texts[1] if len(texts) > 1 else None)


def _asks(role: str, learned: bool) -> bool:
    return role == "user" and not learned


@dataclass(frozen=True, slots=True)
class Reader:
    """How the rows of one task are read."""

    layout: Layout
    processor: Processor
    limit: int  # tokens

    def varies(self, row: Row) -> bool:
        """Whether there is a text in it that may be changed; the name of a class is none."""
        if self.layout is Layout.TOKENS and not has_request(row.example):
            return False  # all of it is learned
        return row.example.place.source != NAMES and bool(asked_texts(row.example))

    def read(self, row: Row, example: Example) -> Row:
        """The row of the changed example, with the target of the row; the row itself where it would not fit."""
        if self.layout.labelled:
            return _read_as(row, self.processor.text(example.text or "", example.second, limit=self.limit))
        if self.layout is Layout.PAIRS:
            query, _ = self.processor.query(example.text or "", limit=self.limit)
            ids = np.concatenate([query.ids, *row.texts[1:]])
            lengths = (len(query.ids), *row.lengths[1:])
            return replace(row, ids=ids, learn=np.zeros(len(ids), dtype=np.float32), lengths=lengths)
        if self.layout is Layout.TEXTS:
            return _read_as(row, self.processor.pieces(example.text or "", limit=self.limit)[0])
        return self._learned(row, example)

    def _learned(self, row: Row, example: Example) -> Row:
        """A conversation may be several rows, where its template rewrites earlier turns."""
        new = build([example], self.layout, self.processor, self.limit).rows
        if len(new) == 1:
            return replace(new[0], example=row.example)
        old = build([row.example], self.layout, self.processor, self.limit).rows
        same = [place for place, one in enumerate(old) if np.array_equal(one.ids, row.ids)]
        return replace(new[same[0]], example=row.example) if same and len(new) == len(old) else row


def has_request(example: Example) -> bool:
    """Whether a model that writes is asked something in this example."""
    return any(_asks(message.role, message.learned) for message in conversation_of(example))


def _read_as(row: Row, encoded: Encoded) -> Row:
    return replace(row, ids=encoded.ids, learn=encoded.learn)
