"""Saving a run so that resuming it equals never having stopped, bit for bit on the CPU.

A checkpoint is a folder `step-N`: weights that learn, optimiser, random state, the holder's own notes, and a manifest
of checksums. It appears under its name only when it is complete. No pickles. All ranks save together, and the first one
writes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tuneful.core.device import random_state, rank, set_random_state
from tuneful.core.errors import CheckpointError
from tuneful.core.files import new_folder, sha256
from tuneful.core.policy import Policy
from tuneful.core.ranks import first_alone, gathered
from tuneful.engine.update import Updater


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint read back."""

    step: int
    notes: Mapping[str, Any]
    best: Mapping[str, Tensor] | None
    parts: Mapping[str, Tensor]


def save_checkpoint(
    folder: Path,
    step: int,
    policy: Policy,
    optimiser: Updater,
    *,
    notes: Mapping[str, Any],
    best: Mapping[str, Tensor] | None = None,
    parts: Mapping[str, Tensor] | None = None,
    keep: int = 2,
) -> Path:
    """Writes `folder/step-N` and removes all but the newest `keep`; `parts` are what components keep. Raises
    RunFolderError on a full disk."""
    tensors = {"weights": policy.attached.state(), "optimiser": optimiser.state(), "random": _random_states()}
    if best is not None:
        tensors["best"] = dict(best)
    if parts:
        tensors["parts"] = dict(parts)
    target = folder / f"step-{step}"
    first_alone(lambda: _write(target, tensors, {"step": step, **notes}, keep))
    return target


def _write(target: Path, tensors: Mapping[str, Mapping[str, Tensor]], notes: Mapping[str, Any], keep: int) -> None:
    with new_folder(target) as scratch:
        for name, group in tensors.items():
            save_file({k: _storable(t) for k, t in group.items()}, scratch / f"{name}.safetensors")
        (scratch / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
        checksums = {file.name: sha256(file) for file in sorted(scratch.iterdir())}
        (scratch / "manifest.json").write_text(json.dumps(checksums, indent=2), encoding="utf-8")
    for old in _all(target.parent)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(
    folder: Path,
    policy: Policy,
    optimiser: Updater,
    accept: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> tuple[Saved, list[str]]:
    """Restores the newest checkpoint that is whole; what was passed over, in words. `accept` sees its notes first and
    may raise. Raises CheckpointError."""
    passed: list[str] = []
    for path in reversed(_all(folder)):
        damage = _damage(path)
        if damage is None:
            notes = json.loads((path / "notes.json").read_text(encoding="utf-8"))
            accept(notes)
            return _restore(path, notes, policy, optimiser), passed
        passed.append(f"{path.name} is damaged ({damage}) and was passed over")
    reason = "; ".join(passed) or "there is none"
    raise CheckpointError(f"nothing to resume from in {folder}: {reason}. Start again without --resume.")


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, whole or not."""
    found = _all(folder)
    return _step(found[-1]) if found else None


def _restore(path: Path, notes: Mapping[str, Any], policy: Policy, optimiser: Updater) -> Saved:
    policy.attached.load(load_file(path / "weights.safetensors"))
    optimiser.load(load_file(path / "optimiser.safetensors"))
    _set_random_states(load_file(path / "random.safetensors"))
    best, parts = path / "best.safetensors", path / "parts.safetensors"
    return Saved(
        int(notes["step"]), notes, load_file(best) if best.exists() else None,
        load_file(parts) if parts.exists() else {},
    )  # fmt: skip


def _random_states() -> dict[str, Tensor]:
    """Every rank's, the first one's without a number."""
    return {
        f"{name}.{number}" if number else name: value
        for number, own in enumerate(gathered(random_state()))
        for name, value in own.items()
    }


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    """A rank that was not there when the states were saved goes on with its own."""
    number = f".{rank()}" if rank() else ""
    own = {name.removesuffix(number): value for name, value in states.items() if name.endswith(number)}
    if "torch" in own:
        set_random_state(own)


def _damage(path: Path) -> str | None:
    try:
        checksums = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "its manifest is missing or unreadable"
    for name, expected in checksums.items():
        if not (path / name).exists():
            return f"{name} is missing"
        if sha256(path / name) != expected:
            return f"{name} does not match its checksum"
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _storable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
