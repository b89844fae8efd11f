"""A prompt with an answer, or with two of which one is preferred, as a model reads it that gives answers a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.protocols import Processor
from tuneful.core.types import Encoded, Example, Message, Row
from tuneful.data.preferences import RIGHT, WRONG, answered, answers_of, paired, side_by_side

UNCUT = 1 << 30  # tokens


def rated(example: Example, processor: Processor, limit: int) -> tuple[Row, Encoded, bool]:
    """One row of two texts: the prompt with the chosen answer, and with the rejected one; with it the row as people are
    shown it, and whether it was cut. Raises DataError."""
    read = [_read(example, answer, processor, limit) for answer in answers_of(example)]
    (chosen, cut), (rejected, also) = read
    if processor.converses:
        return paired(example, chosen, rejected), side_by_side(chosen, rejected), False
    row = replace(paired(example, chosen, rejected), prompt=0)
    return row, _below(chosen, rejected), cut or also


def rated_answer(example: Example, answer: Sequence[Message], processor: Processor, limit: int) -> Row:
    """The prompt of an example with an answer to it. Raises DataError."""
    encoded, _ = _read(example, answer, processor, limit)
    return Row(example, encoded.ids, encoded.learn)


def _read(example: Example, answer: Sequence[Message], processor: Processor, limit: int) -> tuple[Encoded, bool]:
    """And whether it was cut."""
    if processor.converses:
        return _unpadded(answered(example, answer, processor, limit), processor.pad_id), False
    said = "\n".join(message.content for message in answer)
    if not said.strip():
        raise DataError("there is no answer of the assistant; 'chosen' and 'rejected' are what it says")
    asked = _as_text(example.messages)
    encoded = processor.text(asked, said, limit=limit)
    return encoded, len(encoded.ids) >= limit and len(processor.text(asked, said, limit=UNCUT).ids) > limit


def _as_text(messages: Sequence[Message]) -> str:
    """For a reader: one request as it stands; of several turns each with who says it."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _unpadded(encoded: Encoded, pad_id: int) -> Encoded:
    """Without stop tokens at the end that are the pad token, too: heads of transformers read the last token before
    padding, and take these for some."""
    count = int(np.flatnonzero(encoded.ids != pad_id)[-1]) + 1
    return Encoded(encoded.ids[:count], encoded.learn[:count], encoded.text, encoded.spans[:count])


def _below(chosen: Encoded, rejected: Encoded) -> Encoded:
    """Shown: both texts, each behind its mark, as a reader reads them."""
    shown = f"{RIGHT}{chosen.text}\n{WRONG}{rejected.text}"
    start = len(shown) - len(rejected.text)
    return Encoded(
        np.concatenate([chosen.ids, rejected.ids]),
        np.zeros(len(chosen.ids) + len(rejected.ids), dtype=np.float32),
        shown,
        np.concatenate([chosen.spans + len(RIGHT), rejected.spans + start]),
    )
