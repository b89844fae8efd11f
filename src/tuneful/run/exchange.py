"""Two versions of a run in one folder: one is exchanged for the other by renames, and a kill on the way loses nothing.

`next` is a run that is to take the place of the one that is there, `before` the one that was there, `before.tmp` the
same while files are on their way to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuneful.core.errors import RunFolderError
from tuneful.core.types import FORGOTTEN
from tuneful.run.folder import RunFolder

Say = Callable[[str], None]
REPORT = "report.json"  # the first to go and the last to come: without one a folder is being changed
OWN = (
    REPORT, "recipe.yaml", "recipe.lock.json", "records.jsonl", "checkpoints", "adapter", "model", "memory",
    "answers.jsonl", "choice.json", "compared.json", "missed.json", "decisions.json", "report.html", "README.md",
)  # fmt: skip


def next_of(path: Path) -> Path:
    """Where the run is made that takes the place of this one."""
    return path / "next"


def settle(path: Path, say: Say = lambda _: None, *, back: bool = False) -> None:
    """Puts a run that has ended in `next` in the place of the one that is there, which is kept unless rows were to be
    forgotten (`back`: it is kept in any case). Whatever else lies in the folder stays where it is. Asked again after a
    kill, it goes on."""
    following, passing, before = next_of(path), path / "before.tmp", path / "before"
    if (following / REPORT).exists() and (path / REPORT).exists():
        passing.mkdir(exist_ok=True)
    if passing.exists():
        _move(path, passing, OWN)
        if before.exists():
            shutil.rmtree(before)
        if forgets(following) and not back:
            shutil.rmtree(passing)
        else:
            passing.rename(before)
    if not (following / REPORT).exists():
        return
    if forgot := forgets(following) and not back:
        shutil.rmtree(following / "checkpoints", ignore_errors=True)  # they hold what the model was before
    _move(following, path, OWN[::-1])
    shutil.rmtree(following)
    if forgot:
        say(f"{path} has unlearned the rows; no version that knew them is kept")
        return
    say(f"{path} has learned the new task; what it was is in {before} (tuneful learn {path} --undo goes back)")


def undo(path: Path) -> None:
    """Goes back to the run before the last `learn`; once more, forward again. Raises RunFolderError where there is
    none."""
    folder, before = RunFolder(path), path / "before"
    if not path.is_dir():
        raise RunFolderError(f"{path} is not the folder of a run")
    with folder.claimed():
        settle(path)
        check_ended(folder)
        if RunFolder(next_of(path)).exists():
            raise RunFolderError(
                f"learning was stopped here, and going back would lose it: go on with tuneful learn {path} --resume, "
                f"or remove {next_of(path)} first"
            )
        if not (before / REPORT).exists():
            raise RunFolderError(f"{path} holds no earlier version to go back to: it has learned nothing since")
        shutil.rmtree(next_of(path), ignore_errors=True)
        before.rename(next_of(path))
        settle(path, back=True)


def forgets(path: Path) -> bool:
    """The run in this folder unlearns rows."""
    lock = RunFolder(path).lock
    if not lock.exists():
        return False
    tasks: list[Mapping[str, Any]] = json.loads(lock.read_text(encoding="utf-8"))["recipe"].get("tasks", [])
    return bool(tasks) and str(tasks[-1].get("name")).startswith(FORGOTTEN)


def check_ended(folder: RunFolder) -> None:
    """Raises RunFolderError for what is no run that has ended."""
    if not folder.exists():
        raise RunFolderError(f"{folder.path} is not the folder of a run, so there is nothing to teach more")
    if not folder.report.exists():
        raise RunFolderError(f"{folder.path} has not ended: go on with tuneful fit {folder.path} --resume first")


def _move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            (source / name).rename(target / name)
