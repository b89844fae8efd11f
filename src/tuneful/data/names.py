"""What a source is called, by the person who names it and in messages about its rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tuneful.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Name:
    """`path#500`: a source and how many of its rows are wanted."""

    path: str
    limit: int | None

    @staticmethod
    def of(text: str) -> Name:
        match = re.fullmatch(r"(.+?)#(\d+)", text)
        if match is None:
            return Name(text, None)
        if int(match[2]) == 0:
            raise DataError(f"{text} asks for 0 rows; give a positive number after '#'")
        return Name(match[1], int(match[2]))


@dataclass(slots=True)
class Names:
    """Two sources may hold files of one name: the later is then called as the person wrote it, or numbered."""

    taken: set[str] = field(default_factory=set)

    def own(self, file: str, source: str, split: str, *, alone: bool, number: int) -> str:
        """A name that no other file has. `alone`: it is the only file of its source, the `number`th of all."""
        longer = source if alone else f"{Name.of(source).path}/{split}"
        found = next(name for name in (file, longer, f"{source} {split} ({number})") if name not in self.taken)
        self.taken.add(found)
        return found
