"""Examples in the prompt: what a generator makes of a few rows that it is shown and does not learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Layout, Message, Row
from tuneful.data.layouts import Collator
from tuneful.data.rows import build_row, conversation_of
from tuneful.evaluation.reading import embeddings
from tuneful.evaluation.settings import Evaluate

Turns = tuple[Message, ...]
SPREAD_OVER = 8  # times as many rows as are shown, from the beginning of the data
KNOWN = 2000  # rows among which the nearest are looked for


def with_shots(
    policy: Policy, processor: Processor, train: Sequence[Row], test: Sequence[Row], settings: Evaluate
) -> list[Row] | None:
    """The test rows with a few training rows in front, fewer where they do not fit; None: no such baseline. The same
    rows for all, or for each those whose requests lie nearest to its own (Liu et al. 2022, arXiv:2101.06804)."""
    by_nearness, count = settings.shots_by == "nearest", settings.shots
    known = [row for row in train[: KNOWN if by_nearness else SPREAD_OVER * count] if row.prompt]
    if not count or not known or not all(row.prompt for row in test):
        return None
    shown = nearest(policy, test, known, count) if by_nearness else [spread(len(known), count)] * len(test)
    rows = []
    for row, own, places in zip(test, _own_turns(test), shown, strict=True):
        examples = [conversation_of(known[place].example) for place in places]
        for first in range(len(examples) + 1):  # the nearest stand last, so they are the last to go
            encoded = processor.conversation(before(own, examples[first:]), row.example.tools)
            if len(encoded) == 1 and len(encoded[0].ids) <= processor.max_tokens:
                rows.append(build_row(row.example, encoded[0]))
                break
    return rows if len(rows) == len(test) else None


def spread(known: int, count: int) -> list[int]:
    """Places of so many rows among the known ones, evenly."""
    return [round(place) for place in np.linspace(0, known - 1, min(count, known))]


def nearest(policy: Policy, asked: Sequence[Row], known: Sequence[Row], count: int) -> list[list[int]]:
    """For each row the places of the known rows whose requests are most like its own, the nearest last, by the mean of
    the hidden states of the model as it was before tuning."""
    collate = Collator(Layout.LABELS)
    ours, theirs = (
        torch.from_numpy(embeddings(policy, [_request(row) for row in rows], collate, original=True))
        for rows in (asked, known)
    )
    middle = theirs.mean(0)  # what all requests share (a system message, a template) tells nothing
    ours, theirs = (torch.nn.functional.normalize(vectors - middle, dim=1) for vectors in (ours, theirs))
    return (ours @ theirs.T).topk(min(count, len(known))).indices.flip(1).tolist()


def before(own: Turns, examples: Sequence[Turns]) -> Turns:
    """A conversation behind examples, whose answers are context; its own system message stays first."""
    head = [message for message in own if message.role == "system"][:1]
    shown = [_context(message) for example in examples for message in example if message.role != "system"]
    return (*head, *shown, *own[len(head) :])


def _request(row: Row) -> Row:
    prompt = slice(0, row.prompt or len(row))
    return replace(row, ids=row.ids[prompt], learn=row.learn[prompt], target=None)


def _context(message: Message) -> Message:
    return Message(message.role, message.content, False, message.name, message.tool_calls)


def _own_turns(test: Sequence[Row]) -> Iterator[Turns]:
    """Each row's conversation with the very answers the row asks for, so that all systems are measured on the same
    tokens: all of them, or one, where the template rewrites earlier turns and every answer is a row of its own."""
    rows_of = Counter(id(row.example) for row in test)
    seen: Counter[int] = Counter()
    for row in test:
        own = conversation_of(row.example)
        if rows_of[id(row.example)] > 1:
            learned = [index for index, message in enumerate(own) if message.learned]
            this = learned[seen[id(row.example)]]
            seen[id(row.example)] += 1
            own = (*(_context(message) for message in own[:this]), own[this])
        yield own
