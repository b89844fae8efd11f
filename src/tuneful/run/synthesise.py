"""A model writes further rows for labelled data: asked, kept as answered, sifted, and each says where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.files import write_text
from tuneful.core.types import Example
from tuneful.data.formats import Format, detect, understand
from tuneful.data.labels import infer, name_of, spoken
from tuneful.data.sources import read
from tuneful.data.synthesise import EACH, groups, requests_for
from tuneful.run.embedded import reader_for
from tuneful.run.journal import ask, open_journal
from tuneful.run.sift import Written, sift
from tuneful.run.tuned import open_encoder
from tuneful.run.writers import Writer

Say = Callable[[str], None]
LEAST, MOST, CHARACTERS = 256, 4096, 2  # tokens of an answer: at least, at most, and between one for so many characters
LONG = 0.95  # share of the rows that are no longer than what an answer is measured by


@dataclass(slots=True)
class Synthesised:
    """What came of it."""

    requests: int
    texts: int
    kept: int
    refused: Counter[str] = field(default_factory=Counter)  # by reason


@dataclass(frozen=True, slots=True)
class Given:
    """The rows that people wrote, and what is drawn of them with which seed."""

    source: str  # as the person named it
    seed: int
    form: Format  # of the rows for training
    parts: Mapping[str, list[Example]]  # those that can be used


def synthesise(given: Given, out: Path, writer: Writer, *, count: int, encoder: str | None, say: Say) -> Synthesised:
    """`count` texts a class are asked for. Every answer is written down beside `out` as soon as it is there; the same
    command goes on. Raises InputError, and EndpointError when no more is answered."""
    journal = open_journal(out, writer, given.source, given.seed)
    rows = labelled_rows(given)
    said = {label: spoken(label) or label for _, label in rows}
    requests = requests_for(rows, said, count=count, seed=given.seed)
    ask(requests, writer, journal, tokens_of(EACH, [text for text, _ in rows]), say)
    written = [Written(text, request.label, request) for request in requests for text in journal.texts(request)]
    reader = open_encoder(encoder or reader_for(text for text, _ in rows), None, say)
    dealt = groups(rows, given.seed)
    kept, refused = sift(written, rows, dealt, reader.vectors)
    lines = []
    for one in kept:
        key = one.request.key(writer.name, writer.temperature)
        origin = {"model": writer.name, "source": given.source, "request": key}
        lines.append(json.dumps(one.as_json(rows, dealt, origin), ensure_ascii=False))
    write_text(out, "".join(f"{line}\n" for line in lines))
    return Synthesised(len(requests), len(written), len(kept), refused)


def tokens_of(times: int, texts: Sequence[str]) -> int:
    """Tokens of an answer that may be so many times as long as a long text; a single one that is longer than all
    others does not count, as servers refuse requests for more than their model can write."""
    long = float(np.quantile([len(text) for text in texts], LONG, method="higher"))
    return min(MOST, max(LEAST, int(times * long) // CHARACTERS))


def given_in(source: str, named: Mapping[str, str], seed: int, say: Say) -> Given:
    """Read once, as `fit` reads it; `named` are columns the person named. Raises DataError."""
    forms, examples = {}, {}
    for part, table in read(source, seed=seed, say=say).items():
        if table:
            forms[part], columns = detect(table, named)
            examples[part], bad = understand(table, forms[part], columns)
            if bad:
                say(f"{len(bad)} rows are left out; the first: {bad[0].place}: {bad[0].reason}")
    return Given(source, seed, forms["train"], examples)


def labelled_rows(given: Given) -> list[tuple[str, str]]:
    """(text, label) of the rows for training. Raises DataError."""
    source, form, examples = given.source, given.form, given.parts["train"]
    if form.name != "labelled" or not examples or infer(examples) != "class":
        raise DataError(
            f"{source}: further rows are written for texts with one label each, and for requests with answers; this is "
            f"in the layout '{form.name}'. Name the columns: --column text=... --column label=..., or "
            "--column prompt=... --column completion=..."
        )
    rows = [(str(example.text), name_of(example.label)) for example in examples]
    if len({label for _, label in rows}) < 2:
        raise DataError(f"{source}: all rows have the same label; there is nothing to tell apart")
    return rows
