"""A run that was stopped and goes on equals one that was not, bit for bit; what is damaged is passed over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from tuneful.adapters import Full, Lora
from tuneful.core.errors import CheckpointError, RunFolderError
from tuneful.core.files import new_folder, write_text
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.engine import checkpoint
from tuneful.engine.checkpoint import load_newest, newest_step, save_checkpoint
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_reader, tiny_rows

STEPS = 8


class Holder:
    """A small run: policy, schedule and optimiser."""

    def __init__(self, folder: Path, layout: Layout, adapter: object) -> None:
        torch.manual_seed(0)
        self.policy, loaded = tiny_policy(folder, adapter, layout=layout)
        rows = tiny_rows(loaded, layout, 7)
        self.schedule = EpochSteps(rows, Collator(layout, share=layout is Layout.TOKENS), Cut(3, 200), STEPS, seed=1)
        self.optimiser = Updater(AdamW(learning_rate=1e-2), self.policy.trainable(), steps=STEPS)
        self.objective = NextToken() if layout is Layout.TOKENS else Classify()

    def records(self, start: int = 0) -> Iterator[object]:
        return fit(self.policy, {"main": self.objective}, self.schedule, self.optimiser, start=start)

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.policy.attached.state().items()}

    def save(self, folder: Path, step: int, **more: object) -> Path:
        return save_checkpoint(folder, step, self.policy, self.optimiser, notes={"mine": step}, **more)


def holder(name: str, generator_folder: Path, folder: Path) -> Holder:
    if name == "lora with dropout":
        return Holder(generator_folder, Layout.TOKENS, Lora(rank=4, dropout=0.3))
    if name == "all weights of a generator":
        return Holder(generator_folder, Layout.TOKENS, Full())
    reader = folder / "reader"
    if not reader.exists():
        tiny_reader(reader, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    return Holder(reader, Layout.LABELS, Full())


def test_saving_takes_no_second_copy(generator_folder: Path, tmp_path: Path) -> None:
    """Weights are written from where they lie: a copy of Adam's moments would be two more models."""
    held, large = Holder(generator_folder, Layout.TOKENS, Full()), torch.zeros(1 << 23)
    tracemalloc.start()
    try:
        held.save(tmp_path, 1, best={"large": large})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < large.nbytes / 4


@pytest.mark.parametrize("name", ["lora with dropout", "all weights of a generator", "a reader with dropout"])
@pytest.mark.parametrize("at", [1, 4])
def test_going_on_equals_never_having_stopped(name: str, at: int, generator_folder: Path, tmp_path: Path) -> None:
    whole = holder(name, generator_folder, tmp_path)
    torch.manual_seed(9)
    losses = [record.metrics["loss"] for record in whole.records()]

    first = holder(name, generator_folder, tmp_path)
    torch.manual_seed(9)
    records = first.records()
    for _ in range(at):
        next(records)
    first.save(tmp_path / "checkpoints", at)

    second = holder(name, generator_folder, tmp_path)
    torch.manual_seed(123)
    saved, passed = load_newest(tmp_path / "checkpoints", second.policy, second.optimiser)
    assert (saved.step, passed) == (at, [])
    assert [record.metrics["loss"] for record in second.records(start=at)] == losses[at:]
    for parameter, tensor in whole.weights().items():
        assert torch.equal(second.weights()[parameter], tensor), parameter


def trained(generator_folder: Path, folder: Path) -> Holder:
    """Checkpoints after steps 2, 4 and 6."""
    one = Holder(generator_folder, Layout.TOKENS, Lora(rank=4))
    for number, _ in enumerate(one.records(), 1):
        if number in (2, 4, 6):
            one.save(folder, number, keep=5)
    return one


@pytest.mark.parametrize("file", ["weights.safetensors", "optimiser.safetensors", "random.safetensors", "notes.json"])
@pytest.mark.parametrize("harm", ["truncated", "one bit", "missing"])
def test_a_damaged_checkpoint_is_passed_over(file: str, harm: str, generator_folder: Path, tmp_path: Path) -> None:
    one = trained(generator_folder, tmp_path)
    target = tmp_path / "step-6" / file
    data = bytearray(target.read_bytes())
    if harm == "missing":
        target.unlink()
    elif harm == "truncated":
        target.write_bytes(data[: len(data) // 2])
    else:
        data[-1] ^= 1
        target.write_bytes(data)
    saved, passed = load_newest(tmp_path, one.policy, one.optimiser)
    assert saved.step == 4
    assert passed[0].startswith("step-6 is damaged")
    assert file in passed[0]


def test_a_missing_manifest_is_damage(generator_folder: Path, tmp_path: Path) -> None:
    one = trained(generator_folder, tmp_path)
    (tmp_path / "step-6" / "manifest.json").unlink()
    assert load_newest(tmp_path, one.policy, one.optimiser)[0].step == 4


def test_nothing_whole_is_left(generator_folder: Path, tmp_path: Path) -> None:
    one = trained(generator_folder, tmp_path)
    for step in (2, 4, 6):
        (tmp_path / f"step-{step}" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-6 is damaged.*step-2 is damaged"):
        load_newest(tmp_path, one.policy, one.optimiser)


def test_another_adapters_checkpoint_is_refused(generator_folder: Path, tmp_path: Path) -> None:
    trained(generator_folder, tmp_path)
    wider = Holder(generator_folder, Layout.TOKENS, Lora(rank=8))
    with pytest.raises(CheckpointError, match="do not belong to this adapter"):
        load_newest(tmp_path, wider.policy, wider.optimiser)


def test_only_the_newest_stay(generator_folder: Path, tmp_path: Path) -> None:
    one = Holder(generator_folder, Layout.TOKENS, Lora(rank=4))
    for step in (2, 4, 10, 12):
        one.save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-12"]
    assert newest_step(tmp_path) == 12


def test_the_best_weights_travel_along(generator_folder: Path, tmp_path: Path) -> None:
    one = Holder(generator_folder, Layout.TOKENS, Lora(rank=4))
    best = one.weights()
    next(one.records())
    one.save(tmp_path, 1, best=best)
    saved, _ = load_newest(tmp_path, one.policy, one.optimiser)
    assert saved.best is not None
    assert all(torch.equal(saved.best[name], tensor) for name, tensor in best.items())
    assert saved.notes["mine"] == 1


def test_a_full_disk_keeps_the_checkpoint_before(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trained(generator_folder, tmp_path)
    write = checkpoint.save_file

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if "optimiser" in path.name:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunFolderError, match="no room to write"):
        one.save(tmp_path, 8, keep=5)
    assert newest_step(tmp_path) == 6
    assert not list(tmp_path.glob(".*"))
    assert load_newest(tmp_path, one.policy, one.optimiser)[0].step == 6


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    def half() -> None:
        with new_folder(tmp_path / "made") as scratch:
            (scratch / "half").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "made") as scratch:
        (scratch / "whole").write_text("x")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "whole").read_text() == "x"


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.json"
    write_text(target, json.dumps({"old": 1}))

    def cut_off(self: Path, other: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", cut_off)
    with pytest.raises(RunFolderError):
        write_text(target, "{")
    assert json.loads(target.read_text()) == {"old": 1}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, at_work = tmp_path / f".a.{dead.pid}.tmp", tmp_path / f".a.{os.getppid()}.tmp"
    for folder in (left, at_work):
        folder.mkdir()
    with new_folder(tmp_path / "a") as scratch:
        (scratch / "file").write_text("x")
    assert (tmp_path / "a" / "file").read_text() == "x"
    assert not left.exists()
    assert at_work.exists(), "another process may be writing it"
