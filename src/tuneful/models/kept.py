"""A generator in the dtype it is computed in, kept in the cache beside what was found out about it.

The first run of a model reads it in float32, asks how its architecture can be read, and writes it down in bf16. Every
later run maps that file: nothing is converted, and a weight takes memory only while somebody reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneful.core.device import cache_folder
from tuneful.core.files import keep_newest, new_folder
from tuneful.core.mapped import Mapped
from tuneful.models.network import Network

FACTS = "network.json"
DEPENDS = ("tuneful", "torch", "transformers")  # other versions may read an architecture in another way
LEAST = 1 << 25  # bytes; a smaller model is read and examined in no time
MODELS = 8  # kept at most; the one used longest ago goes


def folder() -> Path:
    return cache_folder() / "kept"


def identity(source: Path) -> str:
    """Of the files of a model as they are now, so that a changed one is another, and of those who read them."""
    digest = hashlib.sha256()
    for file in files_of(source):
        state = file.stat()
        digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    for name in DEPENDS:
        digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()[:32]


def worth(source: Path) -> bool:
    return sum(file.stat().st_size for file in files_of(source)) >= LEAST


def files_of(source: Path) -> list[Path]:
    """The files of a model folder, or the one .gguf file."""
    found = [source] if source.is_file() else [file for file in source.iterdir() if file.is_file()]
    return sorted(file.resolve() for file in found)


def place(source: Path, dtype: torch.dtype) -> Path:
    """Where the model of this folder is kept."""
    return folder() / f"{identity(source)}-{str(dtype).removeprefix('torch.')}"


def facts(home: Path) -> Network | None:
    """What is known of the model kept there; None if none is."""
    try:
        found = Network(**json.loads((home / FACTS).read_text(encoding="utf-8")))
        os.utime(home)
        return found
    except (OSError, ValueError, TypeError):
        return None


def keep(home: Path, module: Any, network: Network, say: Callable[[str], None]) -> bool:
    """Writes it down; False where the disk will not have it."""
    try:
        with new_folder(home) as scratch:
            module.save_pretrained(scratch)
            (scratch / FACTS).write_text(json.dumps(asdict(network)), encoding="utf-8")
    except Exception as error:  # noqa: BLE001 - a cache must not keep a model from being used, whatever goes wrong
        if facts(home) is not None:
            return True  # another process was quicker
        say(f"the model is not kept for the next run: {error}")
        return False
    keep_newest(home.parent, MODELS)
    return True


def map_weights(module: nn.Module, home: Path) -> None:
    """Every parameter that is in the files as it is in the module becomes a view of them, with `release` to give its
    memory back."""
    for file in sorted(home.glob("*.safetensors")):
        mapped = Mapped(file)
        for name, parameter in module.named_parameters():
            if name in mapped and _fits(found := mapped.tensor(name), parameter):
                parameter.data = found
                parameter.release = partial(_release, mapped, name, parameter, _state(parameter))  # type: ignore[attr-defined]


def _release(mapped: Mapped, name: str, parameter: nn.Parameter, as_mapped: tuple[int, int]) -> None:
    """Only while nothing has been written to it, which would be lost, and nothing stands in its place."""
    if _state(parameter) == as_mapped:
        mapped.release(name)


def _state(parameter: nn.Parameter) -> tuple[int, int]:
    return parameter.data_ptr(), parameter._version


def _fits(found: torch.Tensor, parameter: nn.Parameter) -> bool:
    return found.dtype == parameter.dtype and found.shape == parameter.shape and parameter.device.type == "cpu"


def remove(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
