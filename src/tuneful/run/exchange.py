"""Two versions of a run in one folder: one is exchanged for the other by renames, and a kill on the way loses nothing.

`next` is a run that is to take the place of the one that is there, `before` the one that was there, `before.tmp` the
same while files are on their way to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tuneful.core.errors import RunFolderError
from tuneful.core.files import write_text
from tuneful.run.folder import RunFolder

Say = Callable[[str], None]
LOCK = "recipe.lock.json"
REPORT = "report.json"  # the first to go and the last to come: without one a folder is being changed
OWN = (
    REPORT, "recipe.yaml", "recipe.lock.json", "records.jsonl", "checkpoints", "adapter", "adapters", "model", "memory",
    "answers.jsonl", "choice.json", "compared.json", "missed.json", "decisions.json", "report.html", "README.md",
)  # fmt: skip


# What is in `next` from before it is made until it has taken its place, and decides what becomes of the one there was.
ASKED = "asked.tmp"  # rows that are to be forgotten: no version that knew them is kept
BACK = "back.tmp"  # the version that was there before comes back


def next_of(path: Path) -> Path:
    """Where the run is made that takes the place of this one."""
    return path / "next"


def settle(path: Path, say: Say = lambda _: None) -> None:
    """Puts a run that has ended in `next` in the place of the one that is there, which is kept unless rows were to be
    forgotten. Whatever else lies in the folder stays where it is. Asked again after a kill, it goes on."""
    following, passing, before = next_of(path), path / "before.tmp", path / "before"
    if (following / REPORT).exists() and (path / REPORT).exists():
        passing.mkdir(exist_ok=True)
    if passing.exists():
        _move(path, passing, OWN)
        if before.exists():
            shutil.rmtree(before)
        if unlearns(following):
            shutil.rmtree(passing)
        else:
            passing.rename(before)
    if not (following / REPORT).exists():
        marked = unlearns(following) or (following / BACK).exists()
        if (path / REPORT).exists() and marked and not (following / LOCK).exists():
            shutil.rmtree(following)  # a kill came when all had been exchanged; rows to be forgotten must not stay
        return
    said = f"{path} has learned the new task; what it was is in {before} (tuneful learn {path} --undo goes back)"
    if unlearns(following):
        shutil.rmtree(following / "checkpoints", ignore_errors=True)  # they hold what the model was before
        said = f"{path} has unlearned the rows; no version that knew them is kept"
    elif (following / BACK).exists():
        said = f"{path} is what it was before; what it had learned since is in {before}"
    _move(following, path, OWN[::-1])
    say(said)
    shutil.rmtree(following)


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
                f"a run was stopped here, and going back would lose it: go on with {command_of(next_of(path))}, or "
                f"remove {next_of(path)} first"
            )
        if not (before / REPORT).exists():
            raise RunFolderError(f"{path} holds no earlier version to go back to: it has learned nothing since")
        shutil.rmtree(next_of(path), ignore_errors=True)
        write_text(before / BACK, "")
        before.rename(next_of(path))
        settle(path)


def unlearns(following: Path) -> bool:
    """What is made in `next` is to forget rows."""
    return (following / ASKED).exists()


def command_of(following: Path) -> str:
    """What goes on with what was stopped in `next`."""
    return f"tuneful {'unlearn' if unlearns(following) else 'learn'} {following.parent} --resume"


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
