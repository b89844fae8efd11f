"""Rows as the coach sees them: those that would be learned, those held out, and where an encoder places both."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from tuneful.core.errors import DataError
from tuneful.core.types import Example, Said
from tuneful.data.duplicates import clusters, said_in, whole
from tuneful.data.labels import LabelSet
from tuneful.data.patch import SHOWN, Kind, Line, mark_of
from tuneful.data.splits import units_of
from tuneful.evaluation.words import words
from tuneful.run.embedded import reader_for
from tuneful.run.few import writes
from tuneful.run.prepare import Prepared
from tuneful.run.tuned import open_encoder

Say = Callable[[str], None]
Item = TypeVar("Item")
MOST = 20_000  # training rows that are looked at; of more, a seeded sample
MOST_HELD_OUT = 4000


@dataclass(frozen=True, slots=True)
class Looked:
    """`vectors` (N, D) and `held_vectors` (M, D) are of unit length; `near` (N,) numbers near-duplicates."""

    prepared: Prepared
    rows: list[Example]
    held: list[tuple[str, Example]]  # and what each is held out for
    vectors: Tensor
    held_vectors: Tensor
    near: list[int]
    encoder: str
    language: str
    of: int  # training rows there are

    @property
    def labels(self) -> LabelSet | None:
        return self.prepared.labels

    @property
    def units(self) -> Sequence[Hashable]:
        """(N,) which rows must stay together; near-duplicates are known already."""
        return units_of(self.rows) if any(row.cluster is not None for row in self.rows) else self.near

    @property
    def writes(self) -> bool:
        """A model would learn to write what the rows answer."""
        return self.prepared.layout.writes and bool(self.rows[0].messages)

    def line(
        self, example: Example, kind: Kind, sure: float, why: Said, *, to: object = None, accept: bool = False
    ) -> Line:
        """A suggestion: another label where there is one, else to drop the row."""
        return Line(
            source=example.place.source, row=example.place.row, unit=example.place.unit, mark=mark_of(example),
            kind=kind, text=" ".join(said_in(example).split())[:SHOWN], label=_shown(example),
            suggest="drop" if to is None else "relabel", to=to, sure=round(min(1.0, max(0.0, sure)), 4),
            why=words(self.language)[f"said_{why.key}"].format(**why.facts), accept=accept,
        )  # fmt: skip


def look_at(prepared: Prepared, encoder: str | None, language: str, say: Say) -> Looked:
    """Reads every row with an encoder: that which is named, the model itself where it is one of sentences, else the
    embedded one for the language of the rows. Raises InputError."""
    train = prepared.split.train
    rows = _thinned(train, MOST, prepared.recipe.seed)
    held = [(part, example) for part in ("validation", "test") for example in getattr(prepared.split, part)]
    held = _thinned(held, MOST_HELD_OUT, prepared.recipe.seed)
    if len(rows) < 2:
        raise DataError(f"--coach: there is {len(rows)} training row; what is odd among rows takes at least 2")
    if len(rows) < len(train):
        say(f"--coach looks at a seeded sample of {len(rows):,} of {len(train):,} training rows")
    name = encoder or _encoder_of(prepared)
    say(f"reading {len(rows) + len(held):,} rows with {name}")
    reader = open_encoder(name, None, say)
    read = reader.vectors([_as_read(example) for example in [*rows, *(example for _, example in held)]])
    compared = said_in if prepared.labels is not None or rows[0].messages else whole
    near = clusters([compared(example) for example in rows])
    return Looked(prepared, rows, held, read[: len(rows)], read[len(rows) :], near, name, language, len(train))


def _encoder_of(prepared: Prepared) -> str:
    if writes(prepared.folder):
        return reader_for(said_in(example) for example in prepared.split.train)
    return str(prepared.recipe.model)


def _as_read(example: Example) -> str | tuple[str, str]:
    if example.text is not None and example.second is not None:
        return (example.text, example.second)
    return said_in(example)


def _shown(example: Example) -> object:
    """The label, or the beginning of the answer."""
    if example.label is not None:
        return example.label
    return answer_of(example)[:SHOWN] or None


def answer_of(example: Example) -> str:
    """What a model would learn to write."""
    if example.positive is not None:
        return example.positive
    return "\n".join(message.content for message in example.messages if message.learned)


def _thinned(rows: Sequence[Item], most: int, seed: int) -> list[Item]:
    if len(rows) <= most:
        return list(rows)
    chosen = np.random.default_rng([seed, 19]).choice(len(rows), most, replace=False)
    return [rows[place] for place in sorted(chosen.tolist())]
