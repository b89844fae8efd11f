"""What ways have answered so far, in the folder of the run, so that a search that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuneful.autopilot.measuring import System
from tuneful.autopilot.mitigations import Way
from tuneful.autopilot.trial import Answered
from tuneful.core.files import write_text

DIGITS = 6  # of a probability


@dataclass(frozen=True, slots=True)
class Entry:
    """One way that was tuned; `reason` where that failed. Of two classes the probability of the second is kept, of
    several the class that was answered, which is all that is measured."""

    settings: Mapping[str, Any]
    seconds: float
    answers: tuple[float, ...] = ()
    twins: tuple[float, ...] = ()
    reason: str = ""

    @classmethod
    def of(cls, way: Way, found: Answered) -> Entry:
        return cls(way.settings, found.seconds, _kept(found.shares), _kept(found.twins))

    def system(self, classes: int) -> System:
        return System(_shares(self.answers, classes), _shares(self.twins, classes))

    def as_json(self) -> dict[str, Any]:
        return {"settings": dict(self.settings), "seconds": self.seconds, "answers": list(self.answers),
                "twins": list(self.twins), "reason": self.reason}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Journal:
    """`of` says what was asked of what; answers to anything else are of no use."""

    path: Path
    of: Mapping[str, Any]
    entries: dict[str, Entry]
    retold: Mapping[str, Any] | None = None  # of the way that was recommended

    @classmethod
    def opened(cls, path: Path, of: Mapping[str, Any]) -> Journal:
        """With what stands there, if it is about the same."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] != of:
                return cls(path, of, {})
            kept = {name: Entry(e["settings"], e["seconds"], tuple(e["answers"]), tuple(e["twins"]), e["reason"])
                    for name, e in found["journal"].items()}  # fmt: skip
            return cls(path, of, kept, found.get("retold"))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, of, {})  # none, or one that a kill or another version left

    def find(self, way: Way) -> Entry | None:
        """Where the way was tuned with the settings that it has now."""
        found = self.entries.get(way.name)
        return found if found is not None and dict(found.settings) == dict(way.settings) else None

    def add(self, way: Way, entry: Entry) -> None:
        self.entries[way.name] = entry
        self.write({})

    def write(self, report: Mapping[str, Any]) -> None:
        """The report in front, where there is one."""
        kept = {name: entry.as_json() for name, entry in self.entries.items()}
        whole = {"retold": self.retold, **report, "of": dict(self.of), "journal": kept}
        write_text(self.path, json.dumps(whole, ensure_ascii=False) + "\n")


def _kept(shares: np.ndarray) -> tuple[float, ...]:
    found = np.round(shares[:, 1], DIGITS) if shares.shape[1] == 2 else shares.argmax(1)
    return tuple(found.tolist())


def _shares(kept: tuple[float, ...], classes: int) -> np.ndarray:
    if classes == 2:
        second = np.array(kept, dtype=np.float64)
        return np.stack([1 - second, second], 1)
    return np.eye(classes)[np.array(kept, dtype=np.int64)]
