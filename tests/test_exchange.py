"""Versions of a run are exchanged in one folder, and a kill on the way loses none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tuneful.run.exchange import ASKED, settle, undo

FILES = ("report.json", "recipe.lock.json", "memory", "README.md")


def versions(path: Path) -> None:
    """A run, one that is to take its place, one that was there before, and a file of somebody's."""
    for place, version in ((path, 1), (path / "next", 2), (path / "before", 0)):
        place.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (place / name).write_text(json.dumps({"version": version}))
    (path / "notes.txt").write_text("mine")


def version_of(path: Path) -> set[int]:
    return {json.loads((path / name).read_text())["version"] for name in FILES}


def killed(after: int, asked: Callable[[], None]) -> None:
    """At so manieth rename."""
    moves, rename = iter(range(1, 100)), Path.rename

    def counted(self: Path, target: Path) -> Path:
        if next(moves) == after:
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", counted)
        asked()


def folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


@pytest.mark.parametrize("asked", [settle, undo])
@pytest.mark.parametrize("after", range(1, 11))
def test_a_kill_while_versions_are_exchanged_loses_nothing(tmp_path: Path, after: int, asked: Any) -> None:
    """Every rename at which the exchange can stop; whoever asks next finds it ended."""
    path = tmp_path / "run"
    versions(path)
    killed(after, lambda: settle(path))
    asked(path)
    now, before = (2, 1) if asked is settle else (1, 2)
    assert version_of(path) == {now}
    assert version_of(path / "before") == {before}
    assert (path / "notes.txt").read_text() == "mine"
    assert folders(path) == ["before"]


@pytest.mark.parametrize("after", range(1, 11))
def test_a_kill_while_rows_are_forgotten_leaves_no_version_that_knew_them(tmp_path: Path, after: int) -> None:
    path = tmp_path / "run"
    versions(path)
    for name in ("checkpoints", ASKED):
        (path / "next" / name).mkdir()
    said: list[str] = []
    killed(after, lambda: settle(path, said.append))
    settle(path, said.append)
    assert version_of(path) == {2}
    assert folders(path) == []
    assert len(said) == 1
    assert "no version that knew them is kept" in said[0]


def test_a_kill_when_all_has_been_exchanged_leaves_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    versions(path)
    (path / "next" / ASKED).mkdir()
    (path / "next" / ASKED / "rows.jsonl").write_text("somebody's")
    said: list[str] = []
    remove = shutil.rmtree

    def stopped(folder: Path, **given: Any) -> None:
        if folder == path / "next":
            raise KeyboardInterrupt
        remove(folder, **given)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", stopped)
        settle(path, said.append)
    assert (path / "next" / ASKED / "rows.jsonl").exists()
    settle(path, said.append)
    assert folders(path) == []
    assert len(said) == 1
    assert version_of(path) == {2}


@pytest.mark.parametrize("after", range(1, 12))
def test_a_kill_on_the_way_back_to_a_run_that_unlearned_loses_nothing(tmp_path: Path, after: int) -> None:
    """It unlearned when it was made; now it is a version like any other."""
    path, said = tmp_path / "run", []
    versions(path)
    (path / "next" / ASKED).mkdir()
    settle(path)  # version 2 has unlearned
    assert folders(path) == []
    (path / "next").mkdir()
    for name in FILES:
        (path / "next" / name).write_text(json.dumps({"version": 3}))
    settle(path)  # and learned version 3 since
    assert version_of(path / "before") == {2}
    killed(after, lambda: undo(path))
    settle(path, said.append)
    assert {version_of(path).pop(), version_of(path / "before").pop()} == {2, 3}
    assert all("is what it was before" in words for words in said)
    assert folders(path) == ["before"]
