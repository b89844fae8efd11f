"""A data set that is not held: what is known of it before training comes from a seeded sample and one fast pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.order import Scattered
from tuneful.core.types import Dropped, Example, Place, Row
from tuneful.data.counts import MOST as MOST_LABELS
from tuneful.data.counts import Counts, count_labels
from tuneful.data.formats import Format, detect
from tuneful.data.labels import Kind, LabelSet, infer, label_set, name_of
from tuneful.data.names import Name, Names
from tuneful.data.sources import Raw, read, read_file, sample
from tuneful.data.splits import MOST, Split
from tuneful.data.streams import Encode, HeldOut, Part, StreamedRows
from tuneful.data.tables import Listed, Table, addressable, files_of, open_table
from tuneful.recipe import Recipe
from tuneful.recipe.task import Data, Source

Say = Callable[[str], None]
LARGE = 16 << 20  # bytes of all sources from which rows are not held; looking at each row then takes minutes
SAMPLE = 2000  # training rows that are looked at before training
LEAST = 200  # of these from each source
HELD_OUT = 2000  # rows of a split that are held, at most


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sources whose rows are on disk, and what is known of them."""

    parts: Sequence[Part]
    looked: Sequence[np.ndarray]  # of each part, sorted: the rows that were looked at
    examples: Mapping[str, list[Example]]  # of "train" those looked at, of other splits all that are used
    places: Mapping[Place, tuple[int, int]]  # where those of "train" stand: part, row
    dropped: list[Dropped]
    sha256: str

    @property
    def rows(self) -> int:
        """Of all training files, those of no use among them."""
        return sum(len(part.table) for part in self.parts)

    @property
    def form(self) -> Format:
        return self.parts[0].form

    def counts(self) -> Counts:
        """Of labels, over all rows."""
        return count_labels((part.table, part.columns.by_part["label"]) for part in self.parts)

    def labels(self, train: Sequence[Example], kind: Literal["auto"] | Kind, counts: Counts) -> LabelSet:
        """Every label there is, so that none turns up in training for which the head has no place. Raises DataError."""
        known = {name_of(example.label) for example in train}
        others = [value for name, value in counts.values.items() if name not in known]
        every = [*train, *(Example(Place("", 0), label=[v] if counts.lists else v) for v in others)]
        chosen = infer(every, None if counts.full else self.rows) if kind == "auto" else kind
        if counts.full and chosen != "number":
            raise DataError(
                f"there are more than {MOST_LABELS:,} different labels, too many for a classifier of a file this "
                "large. Name another column with --set data.label=..."
            )
        return label_set(train if chosen == "number" else every, chosen)

    def stream(self, train: Sequence[Row], split: Split, encode: Encode, seed: int) -> StreamedRows:
        """Everything but what was looked at and is not among the rows of `train`."""
        usable = {row.example.place for row in train}
        kept: list[set[int]] = [set() for _ in self.parts]
        for place in usable:
            number, row = self.places[place]
            kept[number].add(row)
        parts = [
            replace(part, left_out=np.array([row for row in rows.tolist() if row not in known], dtype=np.int64))
            for part, rows, known in zip(self.parts, self.looked, kept, strict=True)
        ]
        held_out = HeldOut([("validation", split.validation), ("test", split.test)])
        return StreamedRows(parts, encode, held_out, seed)


def is_streamed(data: Data, say: Say) -> bool:
    """Raises DataError when streaming is asked for and cannot be."""
    files = [files_of(source.path).get("train") for source in data.sources]
    lined = [path is not None and addressable(path, data.encoding) for path in files]
    if data.streaming is True:
        for source, fits in zip(data.sources, lined, strict=True):
            if not fits:
                raise DataError(
                    f"data.streaming: {source.path} cannot be read row by row. Make it JSONL, CSV, TSV, Parquet, Arrow "
                    "or Feather, not compressed as a whole; or leave data.streaming out"
                )
        return True
    sizes = [path.stat().st_size if path else 0 for path in files]
    large = data.streaming == "auto" and sum(size for size, fits in zip(sizes, lined, strict=True) if fits) >= LARGE
    for path, size, fits in zip(files, sizes, lined, strict=True):
        if size >= LARGE and not (fits and (large or data.streaming is False)):
            say(f"{path} cannot be read row by row, so all of it is held in memory; as JSONL, CSV or Parquet that is "
                "not compressed as a whole it would not be")  # fmt: skip
    return large


def look(recipe: Recipe, say: Say) -> Sampled:
    """Opens the sources and looks at a seeded sample of their training rows. Raises InputError."""
    data, seed = recipe.task.data, recipe.seed
    tables = [_tables(source, data, seed, say) for source in data.sources]
    _name_apart(tables, data.sources)
    total = sum(len(found["train"]) for found in tables)
    share = min(1.0, (SAMPLE + sum(held_out(data, total).values())) / total)
    parts: list[Part] = []
    looked: list[np.ndarray] = []
    places: dict[Place, tuple[int, int]] = {}
    examples: dict[str, list[Example]] = {}
    dropped: list[Dropped] = []
    for number, (source, found) in enumerate(zip(data.sources, tables, strict=True)):
        for split, table in found.items():
            rows = np.arange(len(table))
            if split == "train":
                wanted = max(min(LEAST, len(table)), round(share * len(table)))
                rows = np.sort(Scattered(len(table), [seed, 17, number])[:wanted])
            read_rows = [table.read(row) for row in rows.tolist()]
            part = _part(table, read_rows, data, source.weight)
            good, bad = part.understood(read_rows)
            examples.setdefault(split, []).extend(good)
            dropped += bad
            if split == "train":
                parts.append(part)
                looked.append(rows)
                places |= {raw.place: (number, row) for raw, row in zip(read_rows, rows.tolist(), strict=True)}
    one_layout(part.form for part in parts)
    say(f"{total:,} training rows stay on disk; what is said of the data comes from {len(places):,} of them")
    return Sampled(parts, looked, examples, places, dropped, _sha256(tables))


def held_out(data: Data, rows: int) -> dict[str, float]:
    """How many rows each split takes from all `rows`. Raises RecipeError."""
    wanted: dict[str, float] = {}
    for part in ("validation", "test"):
        size: float = getattr(data, part)
        if size > HELD_OUT:
            raise RecipeError([
                f"data.{part}: asks for {size:g} rows; of data that is not held, at most {HELD_OUT:,} are taken. "
                "Give a file of its own, or --set data.streaming=false"
            ])  # fmt: skip
        wanted[part] = size if size >= 1 or not size else min(MOST[part], max(1, round(size * rows)))
    return wanted


def _tables(source: Source, data: Data, seed: int, say: Say) -> dict[str, Table]:
    """The tables of one source by split. Rows for validation and test are held, a seeded sample if there are many."""
    limit, files = Name.of(source.path).limit, files_of(source.path)
    if not files:  # of the hub, or missing, which `read` says best
        held = read(source.path, encoding=data.encoding, seed=seed, say=say)
        return {split: Listed(rows) for split, rows in held.items() if rows}
    found: dict[str, Table] = {}
    for split, path in files.items():
        if addressable(path, data.encoding):
            most = limit if split == "train" else min(limit or HELD_OUT, HELD_OUT)
            table = open_table(path, encoding=data.encoding, limit=most, seed=seed)
        else:
            table = Listed(sample(list(read_file(path, data.encoding)), limit, seed))
        if len(table):
            found[split] = table
    return found


def _part(table: Table, rows: Sequence[Raw | Dropped], data: Data, weight: float) -> Part:
    """A table and what its columns mean. Raises DataError."""
    good = [row for row in rows if not isinstance(row, Dropped)]
    if not good:
        first = next(row for row in rows if isinstance(row, Dropped))
        raise DataError(f"no row of {table.name} can be read; the first: {first.place}: {first.reason}")
    form, columns = detect(good, data.columns, data.layout)
    return Part(table, form, columns, weight)


def _name_apart(tables: Sequence[Mapping[str, Table]], sources: Sequence[Source]) -> None:
    names = Names()
    for number, (found, source) in enumerate(zip(tables, sources, strict=True), 1):
        for split, table in found.items():
            table.name = names.own(table.name, source.path, split, alone=len(found) == 1, number=number)


def one_layout(forms: Iterable[Format]) -> None:
    """Raises RecipeError where sources are in different layouts."""
    names = {form.name for form in forms}
    if len(names) > 1:
        raise RecipeError([f"tasks.0.data.source: the sources are in different layouts ({', '.join(sorted(names))}); "
                           "name data.layout, or give columns of one layout"])  # fmt: skip


def _sha256(tables: Sequence[Mapping[str, Table]]) -> str:
    """Of every byte of the files, so that a changed row is noticed and a moved file is not."""
    content = [[split, found[split].sha256] for found in tables for split in sorted(found)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
