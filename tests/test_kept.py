"""A model kept in the dtype it is computed in: the same answers from the file, and only for the same files."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tuneful.core.mapped import Mapped
from tuneful.models import kept, load


@pytest.fixture
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(kept, "LEAST", 0)
    return tmp_path / "kept"


def answers(loaded: Any) -> torch.Tensor:
    batch = {
        "input_ids": torch.arange(5, 16)[None], "position_ids": torch.arange(11)[None],
        "segments": torch.tensor([[0, 11, -1]]), "rows": torch.tensor([0]),
    }  # fmt: skip
    with torch.no_grad():
        return loaded.network.hidden(loaded.module, batch)


def test_the_second_time_nothing_is_examined_and_the_answers_are_the_same(
    generator_folder: Path, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load.load(str(generator_folder), dtype=torch.bfloat16)
    monkeypatch.setattr(load, "examine", lambda module: pytest.fail("examined again"))
    second = load.load(str(generator_folder), dtype=torch.bfloat16)
    assert second.network == first.network
    torch.testing.assert_close(answers(second), answers(first), rtol=0, atol=0)
    monkeypatch.undo()
    plain = answers(load.load(str(generator_folder), dtype=torch.float32))
    torch.testing.assert_close(answers(first).float(), plain, rtol=0.1, atol=0.1)


def test_other_weights_in_the_same_place_are_another_model(
    generator_folder: Path, tmp_path: Path, own_place: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(generator_folder, folder)
    before = answers(load.load(str(folder), dtype=torch.bfloat16))
    changed = load.load(str(folder)).module
    with torch.no_grad():
        changed.get_submodule("model.layers.1.mlp.down_proj").weight.mul_(-3.0)
    changed.save_pretrained(folder)
    assert not torch.allclose(answers(load.load(str(folder), dtype=torch.bfloat16)), before, atol=1e-2)


def test_a_damaged_note_is_written_again(generator_folder: Path, own_place: Path) -> None:
    load.load(str(generator_folder), dtype=torch.bfloat16)
    (home,) = own_place.iterdir()
    (home / kept.FACTS).write_text("{")
    load.load(str(generator_folder), dtype=torch.bfloat16)
    assert kept.facts(home) is not None


def test_a_disk_that_refuses_costs_only_the_copy(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "file" / "kept")
    monkeypatch.setattr(kept, "LEAST", 0)
    said: list[str] = []
    loaded = load.load(str(generator_folder), dtype=torch.bfloat16, say=said.append)
    assert answers(loaded).isfinite().all()
    assert "not kept" in " ".join(said)


def test_a_small_model_is_not_kept(generator_folder: Path, own_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(kept, "folder", lambda: own_place)
    load.load(str(generator_folder), dtype=torch.bfloat16)
    assert not own_place.exists()


def test_the_oldest_goes(generator_folder: Path, own_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MODELS", 2)
    for age in range(3):
        (own_place / f"old-{age}").mkdir(parents=True)
        os.utime(own_place / f"old-{age}", (age, age))
    load.load(str(generator_folder), dtype=torch.bfloat16)
    assert len(list(own_place.iterdir())) == 2
    assert (own_place / "old-2").exists()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory is held")
def test_memory_is_given_back(tmp_path: Path) -> None:
    """64 MB are held once they have been read, and no longer when they are released."""
    save_file({"a": torch.ones(16 << 20)}, tmp_path / "x.safetensors")
    mapped = Mapped(tmp_path / "x.safetensors")
    before = held()
    assert float(mapped.tensor("a").sum()) == 16 << 20
    read = held()
    mapped.release("a")
    assert read - before > 48 << 20
    assert read - held() > 48 << 20


def held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_what_was_written_is_not_given_back(tmp_path: Path) -> None:
    module = torch.nn.Linear(512, 512, bias=False)
    save_file({"weight": module.weight.detach()}, tmp_path / "x.safetensors")
    kept.map_weights(module, tmp_path)
    module.weight.release()
    with torch.no_grad():
        module.weight.fill_(3.0)
    module.weight.release()
    assert bool((module.weight == 3.0).all())


def test_memory_given_back_is_read_again(tmp_path: Path) -> None:
    weights = {"a": torch.randn(300, 70), "b": torch.randn(7).bfloat16()}
    save_file(weights, tmp_path / "x.safetensors")
    mapped = Mapped(tmp_path / "x.safetensors")
    for name, weight in weights.items():
        found = mapped.tensor(name)
        torch.testing.assert_close(found, weight, rtol=0, atol=0)
        mapped.release(name)
        torch.testing.assert_close(found, weight, rtol=0, atol=0)
    assert "c" not in mapped


def test_a_copy_that_cannot_be_read_is_made_again(generator_folder: Path, own_place: Path) -> None:
    expected = answers(load.load(str(generator_folder), dtype=torch.bfloat16))
    (home,) = own_place.iterdir()
    (home / "model.safetensors").write_bytes(b"half")
    said: list[str] = []
    found = answers(load.load(str(generator_folder), dtype=torch.bfloat16, say=said.append))
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-2)
    assert "read anew" in " ".join(said)
    assert not home.exists()


def test_whatever_goes_wrong_with_the_copy_the_model_is_there(
    generator_folder: Path, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("GenerationConfig is invalid")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    said: list[str] = []
    assert answers(load.load(str(generator_folder), dtype=torch.bfloat16, say=said.append)).isfinite().all()
    assert "GenerationConfig" in " ".join(said)
