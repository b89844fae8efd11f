"""A reward that a person wrote."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tuneful.core.types import Example
from tuneful.environments.rewards.reference import Weighted

WRITTEN = "write it as package.module:function or folder/file.py:function"


class Python(Weighted):
    """What a function of your own says: it is given the reply and the example, and returns a number.

    It runs in this process, in a thread beside others, with all that this process may do."""

    kind: Literal["python"] = "python"
    path: str = ""
    """Where the function is: `package.module:function` or `folder/file.py:function`."""

    def lacking(self) -> list[str]:
        try:
            function(self.path)
        except Exception as error:  # noqa: BLE001 - it is a person's file that is read here, which may raise anything
            return [f"python: {error}"]
        return []

    def __call__(self, reply: str, example: Example) -> float:
        return function(self.path)(reply, example)


@cache
def function(path: str) -> Callable[[str, Example], Any]:
    """What stands at `package.module:name` or `file.py:name`; the file is read once."""
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise ValueError(f"path '{path}' names no function; {WRITTEN}")
    module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"path '{path}': there is no function '{name}' in {place}; {WRITTEN}")
    return found


def _from_file(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"path '{file}': there is no such file; {WRITTEN}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
