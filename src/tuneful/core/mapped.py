"""Weights that stay on disk: tensors over a mapped file, whose memory the system gives and takes back page by page."""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def header(file: Path) -> dict[str, Any]:
    """Name -> dtype, shape and place of each tensor of a .safetensors file."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        entries: dict[str, Any] = json.loads(stream.read(length))
    entries.pop("__metadata__", None)
    return {name: entry | {"start": 8 + length + entry["data_offsets"][0]} for name, entry in entries.items()}


class Mapped:
    """One .safetensors file. What is written to its tensors stays in this process."""

    def __init__(self, file: Path) -> None:
        self._entries = header(file)
        with file.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

    def __contains__(self, name: str) -> bool:
        return name in self._entries and self._entries[name]["dtype"] in DTYPES

    def tensor(self, name: str) -> Tensor:
        entry = self._entries[name]
        shape = entry["shape"]
        count = int(torch.Size(shape).numel())
        flat = torch.frombuffer(self._map, dtype=DTYPES[entry["dtype"]], count=count, offset=entry["start"])
        return flat.view(shape)

    def release(self, name: str) -> None:
        """The memory of a tensor that nothing has written to goes back to the system; the next reader has it read
        from the file again."""
        entry = self._entries[name]
        first = -(-entry["start"] // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (entry["start"] + entry["data_offsets"][1] - entry["data_offsets"][0]) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)
