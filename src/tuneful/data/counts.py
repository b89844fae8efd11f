"""Every label of a table that is not held, and how often it occurs: one pass over one column."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tuneful.core.types import Dropped
from tuneful.data.columns import is_there
from tuneful.data.labels import list_in, name_of
from tuneful.data.tables import ColumnedFile, LinedFile, Table, rows_of

MOST = 10_000  # different labels; more are numbers, or no labels
KINDS = ("string", "int64", "float64", "bool_")  # of a JSON value, tried in this order for each part of the file


@dataclass(slots=True)
class Counts:
    """Rows by name of label; the members of lists one by one."""

    rows: Counter[str] = field(default_factory=Counter)
    values: dict[str, Any] = field(default_factory=dict)  # a label of each name as it stands in the data
    lists: bool = False  # some row has a list of labels
    full: bool = False  # there are more than MOST; the rest was not looked at

    def add(self, label: Any, times: int = 1) -> None:
        inner = list_in(label)
        if inner is None and not is_there(label):
            return
        for value in [label] if inner is None else inner:
            name = name_of(value)
            self.rows[name] += times
            self.values.setdefault(name, value)
        self.lists |= inner is not None
        self.full |= len(self.rows) > MOST


def count_labels(tables: Iterable[tuple[Table, str]]) -> Counts:
    """`tables` with the name of the column each has its labels in."""
    counts = Counts()
    for table, column in tables:
        for values in _column(table, column):
            for label, times in values:
                counts.add(label, times)
            if counts.full:
                return counts
    return counts


def _column(table: Table, column: str) -> Iterator[Iterable[tuple[Any, int]]]:
    """Values and how often each occurs, part by part of the table."""
    if isinstance(table, LinedFile):
        yield from _of_lines(table, column)
    elif isinstance(table, ColumnedFile):
        yield from (_counted(values) for values in table.batches.column(column))
    else:
        yield from ([(row.fields.get(column), 1)] for row in rows_of(table) if not isinstance(row, Dropped))


def _of_lines(table: LinedFile, column: str) -> Iterator[Iterable[tuple[Any, int]]]:
    first = True
    for block in table.lines.blocks():
        if table.delimiter:
            yield _of_cells(table, block, column, first)
        else:
            found = _of_json(block, column) if _is_utf8(table.encoding) else None
            yield _one_by_one(block, column, table.encoding) if found is None else found
        first = False


def _of_json(block: bytes, column: str) -> Iterable[tuple[Any, int]] | None:
    """The fast way, ten times as fast as reading each line; None where the rows or their labels are of many kinds."""
    import pyarrow
    from pyarrow import json as reader

    for kind in KINDS:
        schema = pyarrow.schema([(column, getattr(pyarrow, kind)())])
        options = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        reading = reader.ReadOptions(block_size=max(1 << 20, len(block)), use_threads=False)
        try:
            found = reader.read_json(io.BytesIO(block), read_options=reading, parse_options=options)
        except pyarrow.ArrowException:
            continue
        return _counted(found.column(column))
    return None


def _one_by_one(block: bytes, column: str, encoding: str) -> Iterator[tuple[Any, int]]:
    for line in block.split(b"\n"):
        try:
            row = json.loads(line.decode(encoding)) if line.strip() else None
        except (ValueError, RecursionError):
            continue  # named when the row is drawn
        if isinstance(row, dict):
            yield row.get(column), 1


def _of_cells(table: LinedFile, block: bytes, column: str, first: bool) -> Iterator[tuple[Any, int]]:
    place = table.header.index(column)
    text = io.StringIO(block.decode(table.encoding, errors="replace"), newline="")
    rows = csv.reader(text, delimiter=table.delimiter or ",")
    if first:
        next(rows)
    yield from Counter(values[place] for values in rows if len(values) == len(table.header)).items()


def _counted(values: Any) -> list[tuple[Any, int]]:
    """Of a pyarrow column; lists are told apart by what they hold."""
    import pyarrow

    if pyarrow.types.is_nested(values.type):
        return [(value, 1) for value in values.to_pylist()]
    return [(item["values"], item["counts"]) for item in values.value_counts().to_pylist()]


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "") in ("utf8", "utf8sig")
