"""Answering with examples in the prompt instead of tuning: for each request the rows that are most like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tuneful.core.errors import DataError, ModelError
from tuneful.core.types import Example, Row
from tuneful.data.formats import detect, understand
from tuneful.data.rows import build_row, conversation_of
from tuneful.data.sources import read
from tuneful.evaluation.shots import KNOWN, before, nearest
from tuneful.run.tuned import Tuned

Say = Callable[[str], None]


def with_examples(
    tuned: Tuned, examples: Sequence[Example], source: str, count: int, limit: int, say: Say
) -> list[Example]:
    """The same requests behind the `count` rows of `source` that are nearest to each, fewer where they do not fit
    together with an answer of `limit` tokens. Raises InputError."""
    if tuned.labels is not None:
        raise ModelError("--shots: examples are shown to models that write; this one gives labels")
    known = _known(tuned, source, say)
    processor = tuned.processor
    asked = [Row(example, (found := processor.prompt(example.messages, example.tools)).ids, found.learn)
             for example in examples]  # fmt: skip
    shown, most = [], processor.max_tokens
    for example, places in zip(examples, nearest(tuned.policy, asked, known, count), strict=True):
        turns = [conversation_of(known[place].example) for place in places]
        longer = [before(example.messages, turns[first:]) for first in range(len(turns) + 1)]
        fits = (found for found in longer if len(processor.prompt(found, example.tools).ids) + limit <= most)
        shown.append(replace(example, messages=next(fits, example.messages)))
    return shown


def _known(tuned: Tuned, source: str, say: Say) -> list[Row]:
    rows = []
    for table in read(source, encoding=tuned.encoding, say=say).values():
        if not table:
            continue
        form, columns = detect(table, {part: name for part, name in tuned.columns.items() if name in table[0].fields})
        for example in understand(table, form, columns)[0]:
            if turns := conversation_of(example):
                rows += [build_row(example, found) for found in tuned.processor.conversation(turns, example.tools)[:1]]
    known = [row for row in rows if row.prompt][:KNOWN]
    if not known:
        raise DataError(f"{source} holds no request with its answer, so there is nothing to show")
    return known
