"""Files, folders and hub ids -> raw rows with the place each came from. Faults name file, row and remedy."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Place
from tuneful.data.names import Name

MAX_FIELD = 1 << 28  # characters; the csv module's own limit is 131,072
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".md", ".parquet", ".arrow", ".feather")


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it stands in the source."""

    place: Place
    fields: Mapping[str, Any]


def read(
    source: str,
    *,
    encoding: str = "utf-8",
    seed: int = 0,
    learns: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Raw]]:
    """Rows by split; a source without splits is all `train`. `name#500` takes a seeded sample of each split's rows.
    `learns` False: there need not be a training row. Raises DataError."""
    name = Name.of(source)
    path = Path(name.path).expanduser()
    if path.is_dir():
        found = {split: list(read_file(file, encoding)) for split, file in folder_splits(path).items()}
    elif path.exists():
        found = {"train": list(read_file(path, encoding))}
    elif _is_hub_id(name.path):
        found = _from_hub(name.path, say)
    else:
        raise DataError(f"there is no file or folder '{name.path}'.{_near(path)}")
    if not any(found.values()):
        raise DataError(f"{name.path} has no rows")
    if learns and not found.get("train"):
        others = ", ".join(f"{split} ({len(rows)})" for split, rows in found.items() if rows)
        raise DataError(f"{name.path} has no training rows, only rows of {others}; name the file to learn from itself")
    return {split: sample(rows, name.limit, seed) for split, rows in found.items()}


def folder_splits(folder: Path) -> dict[str, Path]:
    """train.*, validation.* and test.* of a folder. Raises DataError when there is no training file."""
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        files = [file for file in sorted(folder.iterdir()) if _stem(file) in names and kind_of(file) in SUFFIXES]
        if len(files) > 1:
            raise DataError(
                f"{folder} has more than one file for {split}: {files[0].name} and {files[1].name}; keep one"
            )
        if files:
            found[split] = files[0]
    if "train" not in found:
        raise DataError(f"{folder} holds no train.csv, train.jsonl, train.json, train.parquet or the like")
    return found


def read_file(path: Path, encoding: str) -> Iterator[Raw]:
    """Every row of one file. Raises DataError."""
    kind = kind_of(path)
    if kind in (".parquet", ".arrow", ".feather"):
        yield from _read_columns(path, kind)
        return
    if kind not in SUFFIXES:
        raise DataError(f"{path} is of no kind Tuneful reads; known: {', '.join(SUFFIXES)}, each also with .gz")
    text = _decode(path, encoding)
    if not text.strip():
        raise DataError(f"{path} is empty")
    if kind in (".csv", ".tsv"):
        yield from _read_table(path, text, "\t" if kind == ".tsv" else ",")
    elif kind in (".jsonl", ".ndjson"):
        yield from _read_lines(path, text)
    elif kind == ".json":
        yield from _read_json(path, text)
    else:
        yield from _read_text(path, text, lines=kind == ".txt")


def _read_text(path: Path, text: str, *, lines: bool) -> Iterator[Raw]:
    """A paragraph a row; a line a row where `lines` allows it and no blank line parts anything."""
    parts = re.split(r"\n\s*\n", text.strip())
    unit = "paragraph"
    if lines and len(parts) == 1:
        parts, unit = text.splitlines(), "line"
    for number, passage in enumerate(parts, 1):
        if passage.strip():
            yield Raw(Place(path.name, number, unit), {"text": passage.strip()})


def _decode(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} line {line}: the byte 0x{data[error.start]:02x} is not {encoding}. "
            f"Save the file as UTF-8, or say what it is, for example --set data.encoding={_guess(data)}"
        ) from None
    except LookupError:
        raise DataError(
            f"data.encoding: there is no encoding '{encoding}'; try utf-8, gb18030, big5 or cp1252"
        ) from None


def _guess(data: bytes) -> str:
    for encoding in ("gb18030", "big5"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if sum("\u4e00" <= character <= "\u9fff" for character in text) > 0.2 * len(text):
            return encoding
    return "cp1252"


def _read_table(path: Path, text: str, delimiter: str) -> Iterator[Raw]:
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        check_header(path, header)
        line = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                raise DataError(
                    f"{path} line {line} has {len(values)} fields, the header has {len(header)}. "
                    f"A field that contains '{delimiter}' must stand in double quotes"
                )
            if any(value.strip() for value in values):
                yield Raw(Place(path.name, line, "line"), dict(zip(header, values, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}. Check the double quotes around that line") from None


def check_header(path: Path, header: list[str]) -> None:
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path} line 1: the column '{twice}' is there twice; rename one")


def _read_lines(path: Path, text: str) -> Iterator[Raw]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield of_json(line, Place(path.name, number, "line"))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path} line {number} is not JSON ({error.msg} at column {error.colno}). "
                    "Each line holds one object in braces"
                ) from None


def of_json(line: str, place: Place) -> Raw:
    """One line of JSONL. Raises JSONDecodeError, and DataError when it is no object."""
    return _row(json.loads(line), place)


def _read_json(path: Path, text: str) -> Iterator[Raw]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one object a line under the wrong suffix
            yield from _read_lines(path, text)
            return
        raise DataError(f"{path} line {error.lineno} is not JSON ({error.msg} at column {error.colno})") from None
    if isinstance(value, dict):
        lists = {key: item for key, item in value.items() if isinstance(item, list) and item}
        inner = [item for item in lists.values() if isinstance(item[0], dict)]
        if len(inner) == 1:
            value = inner[0]
        elif lists and len({len(item) for item in lists.values()}) == 1 and len(lists) == len(value):
            value = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        else:
            value = [value]
    if not isinstance(value, list):
        raise DataError(f"{path} holds one {type(value).__name__}; expected a list of objects")
    for number, item in enumerate(value, 1):
        yield _row(item, Place(path.name, number, "item"))


def _read_columns(path: Path, kind: str) -> Iterator[Raw]:
    import pyarrow
    from pyarrow import feather, parquet

    try:
        table = parquet.read_table(path) if kind == ".parquet" else _read_arrow(path, feather)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as {kind[1:]}: {str(error).splitlines()[0]}") from None
    number = 0
    for batch in table.to_batches():
        for fields in batch.to_pylist():
            number += 1
            yield Raw(Place(path.name, number, "row"), fields)


def _read_arrow(path: Path, feather: Any) -> Any:
    import pyarrow

    try:
        return feather.read_table(path)
    except (pyarrow.ArrowInvalid, OSError):
        with pyarrow.memory_map(str(path)) as stream:  # what `datasets` writes
            return pyarrow.ipc.open_stream(stream).read_all()


def _from_hub(name: str, say: Callable[[str], None]) -> dict[str, list[Raw]]:
    import datasets

    say(f"reading the data set {name} (fetched from the hub if it is not on this computer)")
    try:
        loaded = datasets.load_dataset(*name.split("@"))
    except Exception as error:  # noqa: BLE001 - the library raises dozens of kinds, all meaning: not to be had
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the data set '{name}' cannot be had: {reason}. A file must exist, or be a hub id: owner/name, "
            f"or owner/name@configuration.{_near(Path(name))}"
        ) from None
    rows: dict[str, list[Raw]] = {}
    for split, names in SPLITS.items():
        for found in (found for found in loaded if found in names):
            rows[split] = [Raw(Place(f"{name}/{found}", i, "row"), row) for i, row in enumerate(loaded[found], 1)]
    return rows or {"train": [Raw(Place(name, i, "row"), r) for i, r in enumerate(next(iter(loaded.values())), 1)]}


def _row(value: Any, place: Place) -> Raw:
    if isinstance(value, str):
        return Raw(place, {"text": value})
    if not isinstance(value, dict):
        raise DataError(f"{place} holds a {type(value).__name__}; expected an object in braces")
    return Raw(place, value)


def sample(rows: list[Raw], limit: int | None, seed: int) -> list[Raw]:
    """A seeded choice, in the order of the file."""
    if limit is None or limit >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), limit, replace=False)
    return [rows[index] for index in sorted(chosen)]


def _is_hub_id(name: str) -> bool:
    """`owner/name` or `owner/name@configuration`; names may hold dots, but do not end like a file of data."""
    is_file = name.endswith(".gz") or kind_of(Path(name)) in SUFFIXES
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?", name) is not None and not is_file


def _near(path: Path) -> str:
    """` Did you mean ...?` a file beside it, or nothing."""
    from tuneful.core.spec import did_you_mean

    return did_you_mean(path.name, [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else [])


def kind_of(path: Path) -> str:
    """The suffix that says what a file holds, whether it is packed or not."""
    return Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()
