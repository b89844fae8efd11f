"""Prompts with two answers, one of them preferred, and single answers that are wanted or not -> Row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.protocols import Processor
from tuneful.core.types import Encoded, Example, Message, Row

RIGHT, WRONG = "\u2713 ", "\u2717 "  # stand before an answer that is chosen or wanted, and before one that is not


def preferred(example: Example, processor: Processor, limit: int) -> tuple[Row, Encoded]:
    """One row of two texts: the prompt with the chosen answer, and with the rejected one. Only the answers are told;
    what the assistant has said in the prompt is context. With it the row as people are shown it. Raises DataError."""
    chosen, rejected = (answered(example, answer, processor, limit) for answer in answers_of(example))
    return paired(example, chosen, rejected), side_by_side(chosen, rejected)


def answers_of(example: Example) -> tuple[Sequence[Message], Sequence[Message]]:
    """The chosen one, the rejected one. Raises DataError."""
    if not example.chosen or not example.rejected:
        raise DataError("this row has no chosen and rejected answer to one prompt")
    return example.chosen, example.rejected


def answered(example: Example, answer: Sequence[Message], processor: Processor, limit: int) -> Encoded:
    """The prompt of an example with this answer. Raises DataError."""
    encoded = _encoded(example, answer, processor)
    _check_length(encoded, limit)
    return encoded


def paired(example: Example, chosen: Encoded, rejected: Encoded) -> Row:
    """One row of both texts. Raises DataError where they are the same."""
    if np.array_equal(chosen.ids, rejected.ids):
        raise DataError("'chosen' and 'rejected' are the same to this model, so neither is better; leave the row out")
    return Row(
        example, np.concatenate([chosen.ids, rejected.ids]), np.concatenate([chosen.learn, rejected.learn]),
        prompt=_prompt(chosen), lengths=(len(chosen.ids), len(rejected.ids)),
    )  # fmt: skip


def judged(example: Example, processor: Processor, limit: int) -> tuple[Row, Encoded]:
    """One row of one text, of which the last answer is told. Raises DataError."""
    *before, last = example.messages or [Message("user", "")]
    if last.role != "assistant" or not isinstance(example.label, bool):
        raise DataError("this row has no answer of the assistant that is said to be wanted or not")
    encoded = _encoded(replace(example, messages=tuple(before)), (last,), processor)
    _check_length(encoded, limit)
    prompt = _prompt(encoded)
    return Row(example, encoded.ids, encoded.learn, prompt=prompt), _marked(encoded, RIGHT if example.label else WRONG)


def with_mates(rows: Sequence[Row], limit: int) -> list[Row]:
    """Each row with a second text, its prompt with the answer to another prompt: that of the first row behind it that
    is asked something else. As they are where all ask the same."""
    prompts = [row.ids[: row.prompt].tobytes() for row in rows]
    if len(set(prompts)) < 2:
        return list(rows)
    found = []
    for place, row in enumerate(rows):
        others = ((place + step) % len(rows) for step in range(1, len(rows)))
        mate = next(other for other in others if prompts[other] != prompts[place])
        found.append(_with_answer(row, rows[mate], limit))
    return found


def _with_answer(row: Row, mate: Row, limit: int) -> Row:
    end = int(np.flatnonzero(mate.learn)[-1]) + 1  # what a template writes behind an answer is told of none
    text = np.concatenate([row.ids[: row.prompt], mate.ids[mate.prompt : end]])[: max(limit, row.prompt + 1)]
    return replace(
        row,
        ids=np.concatenate([row.ids, text]),
        learn=np.concatenate([row.learn, np.zeros(len(text), dtype=np.float32)]),
        lengths=(len(row.ids), len(text)),
    )


def _encoded(example: Example, answer: Sequence[Message], processor: Processor) -> Encoded:
    context = tuple(replace(message, train=False) for message in example.messages)
    if not any(message.learned for message in answer):
        raise DataError("there is no answer of the assistant; 'chosen' and 'rejected' are what it says")
    found = processor.conversation((*context, *answer), example.tools)
    if len(found) > 1:
        raise DataError("the chat template rewrites earlier turns, so an answer must be one turn here")
    if not found[0].learn[1:].any():
        raise DataError("the answer holds nothing the model could learn")
    return found[0]


def _check_length(encoded: Encoded, limit: int) -> None:
    longest, prompt = len(encoded.ids), _prompt(encoded)
    if prompt >= limit:
        raise DataError(
            f"the prompt alone has {prompt:,} tokens, the limit is {limit:,}: no answer would fit. Shorten it or raise "
            "data.max_tokens"
        )
    if longest > limit:
        raise DataError(
            f"{longest:,} tokens, the limit is {limit:,}: the answer would lose its end. "
            "Shorten the row or raise data.max_tokens"
        )


def _prompt(encoded: Encoded) -> int:
    """How many ids come before the first that is told; 0 of a text of which no token is."""
    told = np.flatnonzero(encoded.learn)
    return int(told[0]) if len(told) else 0


def _marked(encoded: Encoded, mark: str) -> Encoded:
    """As it is shown: a mark before the first character that is told."""
    start = int(encoded.spans[_prompt(encoded), 0])
    text = encoded.text[:start] + mark + encoded.text[start:]
    return replace(encoded, text=text, spans=encoded.spans + np.where(encoded.spans >= start, len(mark), 0))


def side_by_side(chosen: Encoded, rejected: Encoded) -> Encoded:
    """Shown: the prompt once, then both answers, each on a line of its own behind its mark."""
    first, begin = _marked(chosen, RIGHT), _prompt(rejected)
    start = int(rejected.spans[begin, 0])
    mark = f"\n{WRONG}"
    shift = len(first.text) + len(mark) - start
    return Encoded(
        np.concatenate([first.ids, rejected.ids[begin:]]),
        np.concatenate([first.learn, rejected.learn[begin:]]),
        first.text + mark + rejected.text[start:],
        np.concatenate([first.spans, rejected.spans[begin:] + shift]),
    )
