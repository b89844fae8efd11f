"""A file of rows, one a line, that is not held: an index of every STRIDE-th row, and each row read when it is asked
for."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuneful.core.errors import DataError

STRIDE = 16  # rows; half as many are read in vain for each that is wanted
BLOCK = 1 << 21  # bytes read at once when the index is made
LONGEST = 1 << 28  # bytes of a row: a quote that is never closed would take in the rest of the file
NEWLINE, QUOTE, SPACE = 10, 34, 32
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One row as bytes, and the number of the line it begins in, as an editor counts."""

    text: bytes
    number: int


class Lines:
    """The rows of a file of lines. `quoted`: a row goes on behind a newline that stands in double quotes (CSV).

    Holds one number in 8 bytes and one line number for every STRIDE rows. Blank lines are no rows. Raises DataError."""

    def __init__(self, path: Path, *, quoted: bool = False, block: int = BLOCK) -> None:
        self.path, self._quoted, self._block = path, quoted, block
        self._offsets, self._numbers, self._count, self.size = _index(path, quoted, block)
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._handle)

    def __len__(self) -> int:
        return self._count

    @property
    def index_bytes(self) -> int:
        return self._offsets.nbytes + self._numbers.nbytes

    def __getitem__(self, row: int) -> Line:
        block = row // STRIDE
        start = int(self._offsets[block])
        end = int(self._offsets[block + 1]) if block + 1 < len(self._offsets) else self.size
        data = self._read(start, end)
        starts, ends, numbers = rows_in(data, self._quoted)
        place = row % STRIDE
        return Line(data[starts[place] : ends[place]], int(self._numbers[block] + numbers[place]))

    def blocks(self) -> Iterator[bytes]:
        """The file in parts of whole rows."""
        yield from whole_rows(self.path, self._quoted, self._block)

    def _read(self, start: int, end: int) -> bytes:
        """Rows are read by the thread that encodes ahead and by the one that looks at samples."""
        parts = []
        with self._lock:
            os.lseek(self._handle, start, os.SEEK_SET)
            while start < end and (part := os.read(self._handle, end - start)):
                parts.append(part)
                start += len(part)
        return b"".join(parts)


def rows_in(data: bytes, quoted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row of `data`, which begins with one, starts and ends, and how many newlines come before it."""
    newlines = _places(data, NEWLINE)
    ends = newlines[_outside_quotes(data, newlines)] if quoted else newlines
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1))
    numbers = np.searchsorted(newlines, starts)
    real = starts < len(data)
    first = np.frombuffer(data, dtype=np.uint8)[np.minimum(starts, max(0, len(data) - 1))] if data else starts
    for place in np.flatnonzero(real & (first <= SPACE)):  # rare, so each may be looked at
        real[place] = bool(data[starts[place] : ends[place]].strip())
    return starts[real], ends[real], numbers[real]


def whole_rows(path: Path, quoted: bool, size: int) -> Iterator[bytes]:
    """A file in parts of about `size` bytes, each of whole rows. The mark of UTF-8 at its start is left out."""
    rest = b""
    with path.open("rb") as stream:
        if stream.read(len(BOM)) != BOM:
            stream.seek(0)
        while part := stream.read(max(size, len(rest))):
            data = rest + part
            end = _last_end(data, quoted)
            if end:
                yield data[:end]
            rest = data[end:]
            if len(rest) > LONGEST:
                raise DataError(
                    f"{path} has a row of more than {LONGEST >> 20} MB"
                    + (". Check its double quotes: one that is opened must be closed" if quoted else "")
                )
    if rest:
        yield rest


def _index(path: Path, quoted: bool, block: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Offset and line number of every STRIDE-th row, how many rows there are, and where the file ends."""
    offsets, numbers, count, line = [], [], 0, 1
    with path.open("rb") as stream:
        at = len(BOM) if stream.read(len(BOM)) == BOM else 0
    for data in whole_rows(path, quoted, block):
        starts, _, before = rows_in(data, quoted)
        chosen = slice(-count % STRIDE, None, STRIDE)
        offsets.append(starts[chosen] + at)
        numbers.append(before[chosen] + line)
        count += len(starts)
        line += data.count(b"\n")
        at += len(data)
    if not count:
        raise DataError(f"{path} is empty")
    return np.concatenate(offsets), np.concatenate(numbers), count, at


def _last_end(data: bytes, quoted: bool) -> int:
    """Behind the last newline that ends a row; 0 if none does."""
    if not quoted:
        return data.rfind(b"\n") + 1
    newlines = _places(data, NEWLINE)
    ends = newlines[_outside_quotes(data, newlines)]
    return int(ends[-1]) + 1 if len(ends) else 0


def _outside_quotes(data: bytes, places: np.ndarray) -> np.ndarray:
    """An even number of double quotes before them; a quote inside a quoted field is written twice."""
    return np.searchsorted(_places(data, QUOTE), places) % 2 == 0


def _places(data: bytes, byte: int) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == byte)
