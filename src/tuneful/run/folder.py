"""The run folder, which is the interface between training, pages, searches and serving."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneful.core.errors import CheckpointError, RunFolderError
from tuneful.core.files import write_text, writing
from tuneful.core.ranks import gathered
from tuneful.core.types import Record


class RunFolder:
    """Paths and records of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def lock(self) -> Path:
        return self.path / "recipe.lock.json"

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def soup(self) -> Path:
        """Runs of a soup that have ended."""
        return self.path / "checkpoints" / "soup"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def adapters(self) -> Path:
        """One for each task, and what tells whose a text is."""
        return self.path / "adapters"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def memory(self) -> Path:
        """What is kept of the tasks that were learned."""
        return self.path / "memory"

    @property
    def choice(self) -> Path:
        return self.path / "choice.json"

    @property
    def compared(self) -> Path:
        return self.path / "compared.json"

    def refuse_changed(self, saved: str, now: str) -> None:
        """Raises CheckpointError where the data of the run, by their sum, are no longer what they were."""
        if saved != now:
            raise CheckpointError(
                f"the data has changed since {self.path} was started, so going on would mix two data sets; "
                "start a new run, or restore the data"
            )

    @property
    def missed(self) -> Path:
        return self.path / "missed.json"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    @property
    def decisions(self) -> Path:
        """Thresholds by group."""
        return self.path / "decisions.json"

    @property
    def answers(self) -> Path:
        return self.path / "answers.jsonl"

    def exists(self) -> bool:
        return self.lock.exists()

    def refuse_several(self) -> None:
        """Raises RunFolderError where tasks of several kinds were learned, each of which has a model of its own."""
        kinds = sorted(self.path.glob("tasks/*/recipe.lock.json"))
        if kinds:
            names = ", ".join(str(kind.parent) for kind in kinds)
            raise RunFolderError(f"{self.path} holds a model for each kind of task it learned; name one: {names}")

    def refuse_foreign(self) -> None:
        """A folder that holds anything but a run is somebody's: nothing there is overwritten."""
        others = [path.name for path in self.path.iterdir() if path.name != ".claim"] if self.path.is_dir() else []
        if others and not self.exists() and not all(name.endswith(".tmp") for name in others):
            raise RunFolderError(
                f"{self.path} is not empty and not a run (it holds {sorted(others)[0]}); "
                "choose a new or empty folder with --out"
            )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """One process at a time; the claim ends with the process, however it ends. A folder that was made for it and
        in which nothing was written goes with it."""
        there = self.path.exists()
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".claim", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                there = True  # it is somebody else's
                raise RunFolderError(
                    f"another run is at work in {self.path}; choose another folder with --out"
                ) from None
            yield
            there = True
        finally:
            if not there:
                self._unmake()
            os.close(handle)

    def _unmake(self) -> None:
        if [path.name for path in self.path.iterdir()] == [".claim"]:
            (self.path / ".claim").unlink()
            with suppress(OSError):  # somebody else has come meanwhile
                self.path.rmdir()

    def append(self, record: Record) -> None:
        line = json.dumps(asdict(record), ensure_ascii=False)
        with writing(self.records), self.records.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def read_records(self) -> list[Record]:
        """Every whole record; a line that a kill cut short is not one."""
        if not self.records.exists():
            return []
        found = []
        for line in self.records.read_text(encoding="utf-8").splitlines():
            try:
                found.append(Record(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found

    def forget_after(self, step: int) -> None:
        """Records of updates that a resumed run makes again."""
        kept = [json.dumps(asdict(r), ensure_ascii=False) for r in self.read_records() if r.step <= step]
        write_text(self.records, "".join(line + "\n" for line in kept))

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, path: Path) -> dict[str, Any]:
        """Raises RunFolderError when the file is missing or damaged."""
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise RunFolderError(f"{path} is missing: {self.path} is not a finished run") from None
        except ValueError as error:
            raise RunFolderError(f"{path} is damaged ({error})") from None
        return value


def default_path(name: str) -> Path:
    """`runs/DATE-NAME`, not yet taken; all ranks ask together."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{safe(name)}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return gathered(path)[0]


def safe(name: str) -> str:
    """As a part of a path."""
    kept = "".join(character if character.isalnum() or character in "-_" else "-" for character in name)
    return kept.strip("-")[:40] or "run"
