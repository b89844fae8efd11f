"""A model writes further rows for labelled data: asked, kept as answered, sifted, and each says where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
LEAST, CHARACTERS = 256, 2  # tokens of an answer: at least, and else one for so many characters of the longest rows


@dataclass(slots=True)
class Synthesised:
    """What came of it."""

    requests: int
    texts: int
    kept: int
    refused: Counter[str] = field(default_factory=Counter)  # by reason


def synthesise(
    source: str,
    out: Path,
    writer: Writer,
    *,
    count: int,
    seed: int,
    encoder: str | None,
    columns: Mapping[str, str],
    say: Say,
) -> Synthesised:
    """`count` texts a class are asked for. Every answer is written down beside `out` as soon as it is there; the same
    command goes on. Raises InputError, and EndpointError when no more is answered."""
    journal = open_journal(out, writer)
    rows = labelled_rows(source, columns, say)
    said = {label: spoken(label) or label for _, label in rows}
    requests = requests_for(rows, said, count=count, seed=seed)
    ask(requests, writer, journal, max(LEAST, EACH * max(len(text) for text, _ in rows) // CHARACTERS), say)
    written = [Written(text, request.label, request) for request in requests for text in journal.texts(request)]
    reader = open_encoder(encoder or reader_for(text for text, _ in rows), None, say)
    kept, refused = sift(written, rows, groups(rows, seed), reader.vectors)
    lines = []
    for one in kept:
        key = one.request.key(writer.name, writer.temperature)
        origin = {"model": writer.name, "source": source, "request": key}
        lines.append(json.dumps(one.as_json(rows, origin), ensure_ascii=False))
    write_text(out, "".join(f"{line}\n" for line in lines))
    return Synthesised(len(requests), len(written), len(kept), refused)


def seed_examples(source: str, named: Mapping[str, str], say: Say) -> tuple[Format, list[Example], set[str]]:
    """The layout of the rows for training, those that can be used, and the parts that the source has; `named` are
    columns the person named. Raises DataError."""
    tables = {part: table for part, table in read(source, say=say).items() if table}
    if not tables:
        raise DataError(f"{source} holds no row")
    table = tables.get("train") or next(iter(tables.values()))
    form, columns = detect(table, named)
    examples, bad = understand(table, form, columns)
    if bad:
        say(f"{len(bad)} rows are left out; the first: {bad[0].place}: {bad[0].reason}")
    return form, examples, set(tables)


def layout_of(source: str, named: Mapping[str, str]) -> str:
    """The name of the layout of the rows for training. Raises DataError."""
    return seed_examples(source, named, lambda _: None)[0].name


def labelled_rows(source: str, named: Mapping[str, str], say: Say) -> list[tuple[str, str]]:
    """(text, label) of the rows for training; `named` are columns the person named. Raises DataError."""
    form, examples, _ = seed_examples(source, named, say)
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
