"""Tables that lie in columns, row by row.

A Parquet file is read by groups of many rows, so one row costs a whole group. It is copied once, piece by piece, to a
file of small uncompressed batches, of which one is read for a row. Copies are kept by content; the newest stay.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneful.core.device import cache_folder
from tuneful.core.errors import DataError
from tuneful.core.files import keep_newest, new_folder
from tuneful.core.ranks import in_turn

ROWS = 128  # of a batch; half as many are read in vain for each that is wanted
COPIES = 4  # kept at most


class Batches:
    """The rows of a .parquet, .arrow or .feather file. Raises DataError."""

    def __init__(self, path: Path, kind: str, sha256: str) -> None:
        import pyarrow

        copy = _copied(path, kind, cache_folder() / "rows" / f"{sha256[:32]}-{ROWS}")
        # Not mapped: mapped pages count as memory of this process.
        self._reader = pyarrow.ipc.open_file(pyarrow.OSFile(str(copy)))
        self._lock = threading.Lock()
        full = max(0, self._reader.num_record_batches - 1)
        self._count = full * ROWS + (self._reader.get_batch(full).num_rows if self._reader.num_record_batches else 0)
        if not self._count:
            raise DataError(f"{path} has no rows")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        with self._lock:
            batch = self._reader.get_batch(row // ROWS)
        fields: dict[str, Any] = batch.slice(row % ROWS, 1).to_pylist()[0]
        return fields

    def column(self, name: str) -> Iterator[Any]:
        """One column, a batch (pyarrow's) at a time."""
        for number in range(self._reader.num_record_batches):
            with self._lock:
                batch = self._reader.get_batch(number)
            if name in batch.schema.names:
                yield batch.column(name)


def _copied(path: Path, kind: str, folder: Path) -> Path:
    import pyarrow

    copy = folder / "rows.arrow"
    with in_turn():
        if copy.exists():
            os.utime(folder)
            return copy
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new_folder(folder) as scratch:
                _write(path, kind, scratch / copy.name)
        except (pyarrow.ArrowException, ValueError) as error:
            raise DataError(f"{path} cannot be read as {kind[1:]}: {str(error).splitlines()[0]}") from None
        keep_newest(folder.parent, COPIES)
        return copy


def _write(path: Path, kind: str, target: Path) -> None:
    """Every batch but the last has ROWS rows."""
    import pyarrow

    writer, rest = None, None
    with pyarrow.OSFile(str(target), "wb") as sink:
        for batch in map(_plain, _parquet(path) if kind == ".parquet" else _arrow(path)):
            writer = writer or pyarrow.ipc.new_file(sink, batch.schema)
            table = pyarrow.Table.from_batches([batch])
            rest = pyarrow.concat_tables([rest, table]) if rest is not None else table
            whole = rest.num_rows // ROWS * ROWS
            for start in range(0, whole, ROWS):
                writer.write_batch(rest.slice(start, ROWS).combine_chunks().to_batches()[0])
            rest = rest.slice(whole)
        if writer is None:
            raise DataError(f"{path} has no rows")
        if rest is not None and rest.num_rows:
            writer.write_batch(rest.combine_chunks().to_batches()[0])
        writer.close()


def _plain(batch: Any) -> Any:
    """Categories as their words: each batch has a list of its own, and a file of batches allows but one."""
    import pyarrow

    columns = [
        column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=ROWS * 64)


def _arrow(path: Path) -> Iterator[Any]:
    """Feather and Arrow files have an index of their batches; what `datasets` writes is a stream of them."""
    import pyarrow

    with pyarrow.OSFile(str(path)) as stream:
        try:
            file = pyarrow.ipc.open_file(stream)
        except pyarrow.ArrowInvalid:
            stream.seek(0)
            yield from pyarrow.ipc.open_stream(stream)
            return
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
