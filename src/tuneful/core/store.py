"""Tensors of rows, kept in files over epochs, runs and processes, and read without being loaded.

A store is a folder of parts, one for each process that wrote: `.bin` holds the numbers one row behind another, `.idx`
a line for each row. The line is written after the numbers, so a process that dies leaves no row half written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LINE = re.compile(r"[0-9a-f]{32} \d+ \d+\n")
BYTES = {torch.bfloat16: 2, torch.float16: 2, torch.float32: 4}
MOST = 4 << 30  # bytes of one store; rows beyond are computed again
SPARE = 1 << 30  # bytes of the disk that are left to others


class RowStore:
    """Key -> (T, D) of one dtype. Raises nothing when it or the disk is full: what is not kept is computed again."""

    def __init__(self, folder: Path, width: int, dtype: torch.dtype) -> None:
        self.folder, self._width, self._dtype = folder, width, dtype
        self._row_bytes = width * BYTES[dtype]
        self._places: dict[bytes, tuple[Path, int, int]] = {}
        self._maps: dict[Path, np.ndarray] = {}
        self._part, self._written = _new_part(folder), 0
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)  # used now: the stores used longest ago are removed first
        for index in sorted(folder.glob("*.idx")):
            with contextlib.suppress(OSError):
                self._read_index(index)
        self._held = sum(tokens for _, _, tokens in self._places.values()) * self._row_bytes

    def __len__(self) -> int:
        return len(self._places)

    def get(self, ids: np.ndarray) -> Tensor | None:
        """(T, D) of the row with these token ids."""
        place = self._places.get(_key(ids))
        if place is None or place[2] != len(ids):
            return None
        file, start, tokens = place
        end = start + tokens * self._row_bytes
        try:
            raw = self._mapped(file, end)[start:end]
        except (OSError, ValueError):  # another process has removed the store
            self._let_go(file)
            return None
        return torch.frombuffer(bytearray(raw), dtype=self._dtype).view(tokens, self._width)

    def put(self, ids: np.ndarray, states_TD: Tensor) -> bool:
        """False where there is no room."""
        key = _key(ids)
        if key in self._places:
            return True
        raw = states_TD.detach().to("cpu", self._dtype).contiguous().view(torch.uint8).numpy().tobytes()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._held + len(raw) > MOST or shutil.disk_usage(self.folder).free < SPARE + len(raw):
                return False
            if self._written and not self._part.exists():  # another process has removed the store
                self._let_go(self._part)
                self._part, self._written = _new_part(self.folder), 0
            with self._part.open("ab") as stream:
                start = stream.tell()
                stream.write(raw)
            with self._part.with_suffix(".idx").open("a", encoding="ascii") as stream:
                stream.write(f"{key.hex()} {start} {len(states_TD)}\n")
        except OSError:
            return False
        self._places[key] = self._part, start, len(states_TD)
        self._held += len(raw)
        self._written += len(raw)
        return True

    def _let_go(self, file: Path) -> None:
        self._maps.pop(file, None)
        self._places = {key: place for key, place in self._places.items() if place[0] != file}

    def _read_index(self, index: Path) -> None:
        data = index.with_suffix(".bin")
        size = data.stat().st_size if data.exists() else 0
        for line in index.read_text(encoding="ascii", errors="replace").splitlines(keepends=True):
            if not LINE.fullmatch(line):
                continue
            parts = line.split()
            start, tokens = int(parts[1]), int(parts[2])
            if start + tokens * self._row_bytes <= size:
                self._places[bytes.fromhex(parts[0])] = data, start, tokens

    def _mapped(self, file: Path, least: int) -> np.ndarray:
        """The file as it is now; it grows while it is written."""
        known = self._maps.get(file)
        if known is None or len(known) < least:
            self._maps[file] = known = np.memmap(file, dtype=np.uint8, mode="r")
        return known


def _new_part(folder: Path) -> Path:
    return folder / f"{os.getpid()}-{os.urandom(4).hex()}.bin"


def _key(ids: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
