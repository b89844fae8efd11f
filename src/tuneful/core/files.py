"""Writing files so that a crash, a full disk or a kill leaves either the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tuneful.core.errors import RunFolderError


def write_text(path: Path, text: str) -> None:
    """Replaces `path` in one step."""
    scratch = path.with_name(f".{path.name}.tmp")
    with writing(path):
        with scratch.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
        _sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder that becomes `path` when the block ends well, and vanishes when it does not."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            if left == scratch or not _alive(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            yield scratch
            for file in scratch.rglob("*"):
                if file.is_file():
                    _sync(file)
            if path.exists():
                shutil.rmtree(path)
            scratch.rename(path)
            _sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def keep_newest(folder: Path, most: int) -> None:
    """Removes all but the `most` folders used last from a cache."""
    with contextlib.suppress(OSError):
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-most]:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full or closed is the input's fault, not a traceback."""
    try:
        yield
    except Exception as error:
        number = _system_number(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RunFolderError(
                f"no room to write {path} ({os.strerror(number)}); free some space and use --resume"
            ) from None
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise RunFolderError(
                f"cannot write {path} ({os.strerror(number)}); choose another folder with --out"
            ) from None
        raise


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _alive(process: str) -> bool:
    """A process of this number is at work, so what it is writing is not ours to remove."""
    return process.isdigit() and psutil.pid_exists(int(process))


def _system_number(error: Exception) -> int | None:
    """The system's error number. safetensors raises an error of its own, known here by name so that nothing heavy is
    imported, whose text ends with it."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else None


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
