"""Hidden states kept at the cut: the same numbers, read instead of computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from test_network import GENERATORS, READERS, build
from tuneful.adapters import Full, Head, Lora, TopLayers
from tuneful.core.layers import blocks, frozen_depth
from tuneful.core.store import RowStore
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.models.below import NetworkAbove, above
from tuneful.models.examine import examine


def rows(*lengths: int, common: int = 0) -> list[Row]:
    rng = np.random.default_rng(0)
    shared = rng.integers(5, 100, common)
    ids = [np.concatenate([shared, rng.integers(5, 100, length)]).astype(np.int32) for length in lengths]
    return [
        Row(Example(Place("x", n)), row, np.ones(len(row), dtype=np.float32), target=0) for n, row in enumerate(ids)
    ]


def store(folder: Path) -> RowStore:
    return RowStore(folder / "states", 32, torch.float32)


def counted(layer: nn.Module) -> list[int]:
    calls: list[int] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


def packed_models() -> list[tuple[str, dict[str, Any], bool]]:
    found = [(name, settings, False) for name, (settings, packed) in GENERATORS.items() if packed]
    return found + [(name, settings, True) for name, (settings, packed) in READERS.items() if packed]


@pytest.mark.parametrize(("name", "settings", "labels"), packed_models())
def test_the_second_reading_computes_nothing_below(
    name: str, settings: dict[str, Any], labels: bool, tmp_path: Path
) -> None:
    model = build(name, settings, labels=labels)
    network = examine(model)
    kept = above(network, model, 1, store(tmp_path))
    if name == "Albert":  # one layer, read over and over: there is no stack
        assert kept is network
        return
    assert isinstance(kept, NetworkAbove)
    batch = Collator(Layout.LABELS, share=network.shares)(rows(9, 4, 12, common=10))
    truth = network.hidden(model, batch.inputs)
    module_calls = counted(blocks(model)[0].get_submodule(next(iter(dict(blocks(model)[0].named_children())))))
    torch.testing.assert_close(kept.hidden(model, batch.inputs), truth, rtol=1e-4, atol=1e-4)
    first = len(module_calls)
    torch.testing.assert_close(kept.hidden(model, batch.inputs), truth, rtol=1e-4, atol=1e-4)
    other = Collator(Layout.LABELS, share=network.shares)(rows(9, 4, 12, common=10)[1:])
    torch.testing.assert_close(
        kept.hidden(model, other.inputs), network.hidden(model, other.inputs), rtol=1e-4, atol=1e-4
    )
    assert len(module_calls) - first <= 1, "only the comparison may have asked the lowest layer"


@pytest.mark.parametrize(
    ("adapter", "depth"),
    [
        (Full(), 0),
        (TopLayers(layers=1), 1),
        (TopLayers(layers=2), 0),
        (Head(), 2),
        (Lora(rank=2), 0),
        (Lora(rank=2, top_layers=1), 1),
    ],
)
def test_the_cut_is_below_what_learns(adapter: Any, depth: int) -> None:
    model = build("Llama", {**GENERATORS["Llama"][0], "tie_word_embeddings": False}, labels=False)
    adapter.attach(model, labels=False)
    assert frozen_depth(model) == depth


def test_a_head_that_is_the_embedding_leaves_nothing_frozen() -> None:
    model = build("Llama", {**GENERATORS["Llama"][0], "tie_word_embeddings": True}, labels=False)
    Head().attach(model, labels=False)
    assert frozen_depth(model) == 0


def test_gradients_are_the_same(tmp_path: Path) -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    network = examine(model)
    TopLayers(layers=1).attach(model, labels=False)
    kept = above(network, model, 1, store(tmp_path))
    batch = Collator(Layout.TOKENS, share=True)(rows(9, 4, 12, common=10))
    found = []
    for reader in (network, kept, kept):
        model.zero_grad()
        reader.hidden(model, batch.inputs).square().sum().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key in other:
            torch.testing.assert_close(other[key], found[0][key], rtol=1e-4, atol=1e-4)


def test_dropout_below_the_cut_is_off(tmp_path: Path) -> None:
    model = build("Bert", {**READERS["Bert"][0], "hidden_dropout_prob": 0.5}, labels=True)
    network = examine(model)
    kept = above(network, model, 2, store(tmp_path))
    batch = Collator(Layout.LABELS)(rows(9, 4))
    expected = network.hidden(model.eval(), batch.inputs)
    torch.testing.assert_close(kept.hidden(model.train(), batch.inputs), expected, rtol=1e-4, atol=1e-4)
    assert model.training


class TestStore:
    def test_what_was_written_is_read_by_the_next_process(self, tmp_path: Path) -> None:
        first = RowStore(tmp_path, 4, torch.bfloat16)
        states = {n: torch.randn(n, 4).bfloat16() for n in (1, 5, 300)}
        for n, value in states.items():
            assert first.put(np.arange(n), value)
            torch.testing.assert_close(first.get(np.arange(n)), value, rtol=0, atol=0)
        second = RowStore(tmp_path, 4, torch.bfloat16)
        assert len(second) == 3
        for n, value in states.items():
            torch.testing.assert_close(second.get(np.arange(n, dtype=np.int32)), value, rtol=0, atol=0)
        assert second.get(np.arange(2)) is None

    def test_a_torn_file_loses_only_what_was_torn(self, tmp_path: Path) -> None:
        first = RowStore(tmp_path, 4, torch.float32)
        first.put(np.arange(3), torch.ones(3, 4))
        first.put(np.arange(7), torch.ones(7, 4))
        (data,) = tmp_path.glob("*.bin")
        data.write_bytes(data.read_bytes()[:-5])
        with next(tmp_path.glob("*.idx")).open("a") as stream:
            stream.write("half a li")
        second = RowStore(tmp_path, 4, torch.float32)
        assert second.get(np.arange(7)) is None
        torch.testing.assert_close(second.get(np.arange(3)), torch.ones(3, 4))

    def test_it_grows_to_its_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tuneful.core.store.MOST", 100)
        first = RowStore(tmp_path, 4, torch.float32)
        assert first.put(np.arange(6), torch.ones(6, 4))
        assert not first.put(np.arange(1), torch.ones(1, 4)), "96 bytes are there, 16 more would be 112"
        assert not RowStore(tmp_path, 4, torch.float32).put(np.arange(1), torch.ones(1, 4))

    def test_a_full_disk_costs_only_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tuneful.core.store.SPARE", 1 << 62)
        first = RowStore(tmp_path, 4, torch.float32)
        assert not first.put(np.arange(3), torch.ones(3, 4))
        assert first.get(np.arange(3)) is None

    def test_a_store_that_another_process_removes_is_begun_anew(self, tmp_path: Path) -> None:
        first = RowStore(tmp_path / "s", 4, torch.float32)
        first.put(np.arange(3), torch.ones(3, 4))
        assert first.get(np.arange(3)) is not None
        shutil.rmtree(tmp_path / "s")
        assert first.put(np.arange(5), torch.full((5, 4), 3.0))
        torch.testing.assert_close(first.get(np.arange(5)), torch.full((5, 4), 3.0))
        other = RowStore(tmp_path / "s", 4, torch.float32)
        shutil.rmtree(tmp_path / "s")
        assert other.get(np.arange(5)) is None

    def test_a_line_cut_short_is_not_believed(self, tmp_path: Path) -> None:
        first = RowStore(tmp_path, 4, torch.float32)
        first.put(np.arange(12), torch.ones(12, 4))
        (index,) = tmp_path.glob("*.idx")
        index.write_text(index.read_text()[:-2])
        assert RowStore(tmp_path, 4, torch.float32).get(np.arange(12)) is None
