"""Example -> Row: what the model reads of each example, and which of it is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.protocols import Processor
from tuneful.core.types import Dropped, Encoded, Example, Layout, Message, Place, Row
from tuneful.data.labels import LabelSet
from tuneful.data.preferences import judged, preferred, with_mates
from tuneful.data.rewards import rated

UNCUT = 1 << 30  # tokens
NAMES = "label names"  # the source of rows that are names of classes
ARROW, CROSS = "\n\u2192 ", "\n\u2717 "  # stand before a document that is to be found, and before one that is not
GENERATED = "generated row"  # the unit of rows that a model wrote


@dataclass(slots=True)
class Rows:
    """The rows of one split; what could not be used; how many had to be cut."""

    rows: list[Row] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    truncated: int = 0
    texts: dict[int, Encoded] = field(default_factory=dict)  # for the X-ray: rendered text by number of row


def build(
    examples: Sequence[Example],
    layout: Layout,
    processor: Processor,
    limit: int,
    *,
    labels: LabelSet | None = None,
    learn_all: bool = False,
) -> Rows:
    """`limit` is the longest row in tokens; `learn_all` learns every turn that does not say otherwise."""
    out = Rows()
    for example in examples:
        try:
            if labels:
                rows = _labelled(example, processor, limit, labels)
            elif layout is Layout.PAIRS:
                rows = _paired(example, processor, limit)
            elif layout.prefers:
                rows = _told(example, layout, processor, limit)
            elif layout.rates:
                rows = iter([rated(example, processor, limit)])
            elif layout.alone:
                rows = _alone(example, processor, limit, whole=layout.vectors)
            else:
                rows = _learned(example, processor, limit, learn_all)
            for row, encoded, cut in rows:
                if not layout.labelled and not row.counts:
                    raise DataError("nothing in this row would be learned")
                out.texts[len(out.rows)] = encoded
                out.rows.append(row)
                out.truncated += cut
        except DataError as problem:
            out.dropped.append(Dropped(example.place, _without_place(str(problem), example)))
    if layout is Layout.JUDGED:
        out.rows = with_mates(out.rows, limit)
    return out


def conversation_of(example: Example) -> tuple[Message, ...]:
    """An example as a conversation whose answers are to be learned. Raises DataError when there is no answer."""
    if example.chosen:
        return (*example.messages, *example.chosen)
    if example.messages and example.label is False:
        raise DataError("this answer is marked as unwanted; next_token learns only wanted ones")
    if example.messages and not any(message.learned for message in example.messages):
        raise DataError("there is no answer of the assistant to learn from")
    if example.label is not None and example.text is not None:
        asked = "\n".join(part for part in (example.text, example.second) if part)
        return (Message("user", asked), Message("assistant", str(example.label)))
    return example.messages


def name_rows(labels: LabelSet, processor: Processor, limit: int) -> list[Row]:
    """The names of the classes as texts of their own class; none where names are no words."""
    rows = []
    for number, name in enumerate(labels.names if labels.kind == "class" else ()):
        if (text := labels.words(number)) is not None:
            encoded = processor.text(text, limit=limit)
            example = Example(Place(NAMES, number + 1), text=text, label=name)
            rows.append(Row(example, encoded.ids, encoded.learn, target=number))
    return rows


def as_generated(example: Example) -> Example:
    """The same, saying that a model wrote it."""
    return replace(example, place=replace(example.place, unit=GENERATED))


def is_generated(row: Row) -> bool:
    return row.example.place.unit == GENERATED


def build_row(example: Example, encoded: Encoded) -> Row:
    """A row whose last answer is what a generator would be asked for."""
    return Row(example, encoded.ids, encoded.learn, prompt=_prompt_length(encoded.learn))


def _labelled(
    example: Example, processor: Processor, limit: int, labels: LabelSet
) -> Iterator[tuple[Row, Encoded, bool]]:
    if example.text is None or (example.label is None and not labels.open):
        raise DataError("this row has no text with a label")
    encoded = processor.text(example.text, example.second, limit=limit)
    full = len(encoded.ids) >= limit
    cut = full and len(processor.text(example.text, example.second, limit=UNCUT).ids) > len(encoded.ids)
    target = None if example.label is None else labels.target(example)
    yield Row(example, encoded.ids, encoded.learn, target=target), encoded, cut


def _learned(
    example: Example, processor: Processor, limit: int, learn_all: bool
) -> Iterator[tuple[Row, Encoded, bool]]:
    messages = conversation_of(example)
    if learn_all:
        messages = tuple(message if message.train is not None else replace(message, train=True) for message in messages)
    if not messages:
        yield from _passages(example, processor, limit)
        return
    for encoded in processor.conversation(messages, example.tools):
        if len(encoded.ids) > limit:
            raise DataError(
                f"{len(encoded.ids):,} tokens, the limit is {limit:,}: the answer would lose its end. "
                "Shorten the row or raise data.max_tokens"
            )
        yield build_row(example, encoded), encoded, False


def _alone(example: Example, processor: Processor, limit: int, *, whole: bool) -> Iterator[tuple[Row, Encoded, bool]]:
    """A text to be learned from without any answer; `whole` for one row a text, cut where it is too long."""
    if example.text is None:
        raise DataError("this row is no plain text; an encoder learns from texts, one a row")
    pieces = processor.pieces(example.text, limit=limit)
    for encoded in pieces[:1] if whole else pieces:
        yield Row(example, encoded.ids, encoded.learn), encoded, whole and len(pieces) > 1


def _paired(example: Example, processor: Processor, limit: int) -> Iterator[tuple[Row, Encoded, bool]]:
    """Query, document and further documents, each cut to `limit` tokens."""
    if example.text is None or example.positive is None:
        raise DataError("this row has no query with a document")
    others = (example.positive, *example.negatives)
    read = [processor.query(example.text, limit=limit), *(processor.document(text, limit=limit) for text in others)]
    texts = [encoded for encoded, _ in read]
    if any(not encoded.learn.any() for encoded in texts):
        raise DataError("a text of this row holds nothing the model could read")
    encoded = _joined(texts)
    yield (
        Row(example, encoded.ids, encoded.learn, lengths=tuple(len(text.ids) for text in texts)),
        encoded,
        any(cut for _, cut in read),
    )


def _told(example: Example, layout: Layout, processor: Processor, limit: int) -> Iterator[tuple[Row, Encoded, bool]]:
    """Whole answers to a prompt."""
    read = preferred if layout is Layout.PREFERENCES else judged
    yield *read(example, processor, limit), False


def _joined(texts: Sequence[Encoded]) -> Encoded:
    """One behind the other, no token learned by itself; shown, each stands on a line of its own, behind a mark."""
    marks = ["", ARROW, *[CROSS] * (len(texts) - 2)]
    shown, spans = "", []
    for mark, encoded in zip(marks, texts, strict=True):
        shown += mark
        spans.append(encoded.spans + len(shown))
        shown += encoded.text
    ids = np.concatenate([text.ids for text in texts])
    return Encoded(ids, np.zeros(len(ids), dtype=np.float32), shown, np.concatenate(spans))


def _passages(example: Example, processor: Processor, limit: int) -> Iterator[tuple[Row, Encoded, bool]]:
    """A long text becomes several rows; the first token of a later one is context, not learned."""
    whole = processor.passage(example.text or "")
    for start in range(0, len(whole.ids), limit):
        part = slice(start, start + limit)
        learn = whole.learn[part].copy()
        learn[0] = 0.0
        if learn.any():
            encoded = Encoded(whole.ids[part], learn, whole.text, whole.spans[part])
            yield Row(example, encoded.ids, learn), encoded, False


def _prompt_length(learn: np.ndarray) -> int:
    """How many ids come before the last answer."""
    learned = np.flatnonzero(learn)
    if not len(learned):
        return len(learn)
    breaks = np.flatnonzero(np.diff(learned) > 1)
    return int(learned[breaks[-1] + 1] if len(breaks) else learned[0])


def _without_place(text: str, example: Example) -> str:
    return text.removeprefix(f"{example.place}: ")
