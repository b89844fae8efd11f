"""Raw rows by number, whether they are held or lie on disk: what stands behind a data set larger than memory."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.files import sha256
from tuneful.core.types import Dropped, Place
from tuneful.data.batches import Batches
from tuneful.data.lines import Lines
from tuneful.data.names import Name
from tuneful.data.sources import Raw, check_header, folder_splits, kind_of, of_json

LINED = (".jsonl", ".ndjson", ".csv", ".tsv")
COLUMNED = (".parquet", ".arrow", ".feather")


class Table(Protocol):
    """Rows of one file. `read` never raises for a row that is bad: it says why."""

    name: str  # of the source, as messages call it
    sha256: str  # of its content

    def __len__(self) -> int: ...
    def read(self, row: int) -> Raw | Dropped: ...


class Listed:
    """Rows that are held."""

    def __init__(self, rows: Sequence[Raw]) -> None:
        self._rows = rows
        self.name = rows[0].place.source if rows else ""
        digest = hashlib.sha256()
        for raw in rows:
            digest.update(repr(sorted(raw.fields.items(), key=lambda item: item[0])).encode())
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> Raw | Dropped:
        raw = self._rows[row]
        return replace(raw, place=replace(raw.place, source=self.name))


class LinedFile:
    """JSONL, CSV or TSV on disk. Raises DataError when its header cannot be used."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.name, self.encoding = path.name, encoding
        kind = kind_of(path)
        self.delimiter = {".csv": ",", ".tsv": "\t"}.get(kind)
        with ThreadPoolExecutor(1) as beside:
            digest = beside.submit(sha256, path)
            self.lines = Lines(path, quoted=self.delimiter is not None)
            self.sha256 = digest.result()
        self.header = self._header(path) if self.delimiter else []

    def __len__(self) -> int:
        return len(self.lines) - bool(self.delimiter)

    def read(self, row: int) -> Raw | Dropped:
        line = self.lines[row + bool(self.delimiter)]
        place = Place(self.name, line.number, "line")
        try:
            text = line.text.decode(self.encoding)
            return of_json(text, place) if self.delimiter is None else self._cells(text, place)
        except UnicodeDecodeError as error:
            return Dropped(place, f"the byte 0x{line.text[error.start]:02x} is not {self.encoding}")
        except json.JSONDecodeError as error:
            return Dropped(place, f"not JSON ({error.msg} at column {error.colno})")
        except RecursionError:
            return Dropped(place, "JSON in JSON in JSON, too deep to be read")
        except (DataError, csv.Error) as problem:
            return Dropped(place, str(problem).removeprefix(f"{place} "))

    def _cells(self, text: str, place: Place) -> Raw:
        values = self._split(text)
        if len(values) != len(self.header):
            raise DataError(f"has {len(values)} fields, the header has {len(self.header)}")
        return Raw(place, dict(zip(self.header, values, strict=True)))

    def _split(self, text: str) -> list[str]:
        return next(csv.reader([text.rstrip("\r")], delimiter=self.delimiter or ",", strict=True))

    def _header(self, path: Path) -> list[str]:
        try:
            header = [name.strip() for name in self._split(self.lines[0].text.decode(self.encoding))]
        except (UnicodeDecodeError, csv.Error, LookupError) as error:
            raise DataError(f"{path} line 1: {error}") from None
        check_header(path, header)
        if not len(self):
            raise DataError(f"{path} has no rows")
        return header


class ColumnedFile:
    """Parquet, Arrow or Feather, through a copy on disk whose rows can be asked for one by one."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.sha256 = sha256(path)
        self.batches = Batches(path, kind_of(path), self.sha256)

    def __len__(self) -> int:
        return len(self.batches)

    def read(self, row: int) -> Raw | Dropped:
        return Raw(Place(self.name, row + 1, "row"), self.batches[row])


class Chosen:
    """A seeded sample of a table: `name#500`, the same rows as when the file is held."""

    def __init__(self, table: Table, limit: int, seed: int) -> None:
        self._table = table
        self._rows = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
        self.sha256 = hashlib.sha256(f"{table.sha256} {limit} {seed}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def name(self) -> str:
        return self._table.name

    @name.setter
    def name(self, name: str) -> None:
        self._table.name = name

    def read(self, row: int) -> Raw | Dropped:
        return self._table.read(int(self._rows[row]))


def files_of(source: str) -> dict[str, Path]:
    """The files of a source by split; none for a hub id or what is not there."""
    path = Path(Name.of(source).path).expanduser()
    if path.is_dir():
        return folder_splits(path)
    return {"train": path} if path.exists() else {}


def addressable(path: Path, encoding: str) -> bool:
    """Rows of this file can be read one by one."""
    if path.suffix == ".gz":
        return False
    if kind_of(path) in COLUMNED:
        return True
    with path.open("rb") as stream:
        marked = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    return kind_of(path) in LINED and not marked and not wide


def open_table(path: Path, *, encoding: str, limit: int | None, seed: int) -> Table:
    """`limit` rows at most. Raises DataError."""
    table: Table = ColumnedFile(path) if kind_of(path) in COLUMNED else LinedFile(path, encoding)
    return Chosen(table, limit, seed) if limit is not None and limit < len(table) else table


def rows_of(table: Table) -> Iterator[Raw | Dropped]:
    for row in range(len(table)):
        yield table.read(row)
