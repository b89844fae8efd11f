"""Probe data from a file, a folder or the hub, as rows with the place each came from. Faults name file, row, remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneful.core.errors import DataError
from tuneful.core.types import Place
from tuneful.data.sources import Raw, read_file

CONVERTED = "refs/convert/parquet"  # the hub's own copy of sets whose loading script nobody runs any more


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set of the hub: the configurations that are read, one after the other."""

    name: str
    split: str
    configurations: tuple[str | None, ...] = (None,)
    revision: str | None = None

    def rows(self) -> list[Raw]:
        """Class labels as their names; the configuration is part of a row's place. Raises DataError."""
        import datasets

        found = []
        for configuration in self.configurations:
            name = self.name if configuration is None else f"{self.name}/{configuration}"
            try:
                loaded = datasets.load_dataset(self.name, configuration, split=self.split, revision=self.revision)
            except Exception as error:  # noqa: BLE001 - the library raises dozens of kinds, all meaning: not to be had
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise DataError(
                    f"the data set '{name}' cannot be had: {reason}. Fetch its files once and give their folder: "
                    "source: folder"
                ) from None
            found += [Raw(Place(name, number, "row"), row) for number, row in enumerate(named(loaded), 1)]
        return found


def named(loaded: Any) -> list[dict[str, Any]]:
    """The rows of a `datasets` table, with names where a column holds the numbers of classes."""
    classes = {name: kind for name, kind in loaded.features.items() if hasattr(kind, "int2str")}
    return [
        {name: classes[name].int2str(value) if name in classes and isinstance(value, int) else value
         for name, value in row.items()}
        for row in loaded
    ]  # fmt: skip


def rows_of(source: str | None, hub: Hub, suffix: str) -> list[Raw]:
    """The rows of a file, of all files of a folder that end so, or of the hub: `source` None is the known set, another
    id its only configuration. Raises DataError."""
    if source is None:
        return hub.rows()
    path = Path(source).expanduser()
    if path.is_file():
        return list(read_file(path, "utf-8"))
    if path.is_dir():
        return [row for file in files_in(path, f"*{suffix}") for row in read_file(file, "utf-8")]
    if source == hub.name:
        return hub.rows()
    if source.count("/") == 1 and not source.startswith((".", "/", "~")) and not source.endswith(suffix):
        return Hub(source, hub.split).rows()
    raise DataError(f"there is no file or folder '{source}'; expected one with {suffix} files, or a hub id: owner/name")


def files_in(folder: Path, pattern: str) -> list[Path]:
    """In the order of their names; at least one. Raises DataError."""
    found = sorted(file for file in folder.glob(pattern) if file.is_file())
    if not found:
        raise DataError(f"{folder} holds no {pattern} file; give the folder that the benchmark's files lie in")
    return found


def text(fields: Mapping[str, Any], name: str, place: Place) -> str:
    """A field that must be there and say something. Raises DataError."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        found = "is not there" if name not in fields else f"is {value!r}"
        raise DataError(f"{place}: '{name}' {found}; expected text")
    return value.strip()


def one_of(fields: Mapping[str, Any], name: str, known: tuple[str, ...], place: Place) -> str:
    """A field with one of a few values. Raises DataError."""
    value = text(fields, name, place)
    if value not in known:
        raise DataError(f"{place}: '{name}' is '{value}'; expected {' or '.join(known)}")
    return value


def part(fields: Mapping[str, Any], name: str, place: Place) -> Mapping[str, Any]:
    """A field that holds fields. Raises DataError."""
    return checked(fields.get(name), Mapping, f"{place}: '{name}'", "an object in braces")


def checked(value: Any, kind: type, subject: str, expected: str) -> Any:
    """`value` if it is of this kind. Raises DataError."""
    if not isinstance(value, kind):
        raise DataError(f"{subject} is {'not there' if value is None else type(value).__name__}; expected {expected}")
    return value
