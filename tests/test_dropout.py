"""Quick dropout drops what dropout drops, learns what it learns, and costs less."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from tuneful.adapters import Full
from tuneful.core.dropout import QuickDropout, drop_quickly, dropout_mask
from tuneful.models import block
from tuneful.models.heads import Labels
from tuneful.models.load import load


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_dropout_mask_drops_its_share_and_keeps_the_mean(share: float) -> None:
    """400,000 draws: within five standard errors; neighbours are independent; the seed decides."""
    like = torch.empty(4, 100_000)
    torch.manual_seed(3)
    mask = dropout_mask(like, share)
    assert all(value == 0 or value == pytest.approx(1 / (1 - share)) for value in mask.unique().tolist())
    error = 5 * (share * (1 - share) / like.numel()) ** 0.5 + 1 / 65536
    assert abs(float((mask == 0).double().mean()) - share) <= error
    dropped = (mask == 0).double().flatten()
    for step in (1, 2, 3, 4):
        both = float((dropped[step:] * dropped[:-step]).mean())
        assert abs(both - share**2) <= 5 * (share**2 * (1 - share**2) / like.numel()) ** 0.5 + 2 / 65536
    torch.manual_seed(3)
    assert torch.equal(dropout_mask(like, share), mask)


def test_a_layer_drops_while_it_trains() -> None:
    """Its answer is its input times the mask, its slope the mask."""
    layer = nn.Sequential(nn.Dropout(0.4))
    drop_quickly(layer)
    x = torch.randn(50, 7, requires_grad=True)
    torch.manual_seed(5)
    answer = layer(x)
    answer.sum().backward()
    torch.manual_seed(5)
    mask = dropout_mask(x, 0.4)
    assert 0 < int((mask == 0).sum()) < x.numel()
    assert torch.equal(answer, x * mask)
    assert x.grad is not None
    assert torch.equal(x.grad, mask)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(("share", "left"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_nothing_is_exact(share: float, left: float) -> None:
    layer = nn.Sequential(nn.Dropout(share))
    drop_quickly(layer)
    assert torch.equal(layer(torch.ones(3)), torch.full((3,), left))


def test_it_costs_less() -> None:
    """The best of many turns, taken alternately: a third was measured, three quarters asked."""
    x, quick, plain = torch.randn(256, 384), nn.Sequential(nn.Dropout(0.1)), nn.Sequential(nn.Dropout(0.1))
    drop_quickly(quick)
    best = {quick: 1e9, plain: 1e9}
    for _ in range(60):
        for layer in best:
            began = time.perf_counter()
            layer(x)
            best[layer] = min(best[layer], time.perf_counter() - began)
    assert best[quick] < 0.75 * best[plain]


def test_a_model_that_is_read_has_it_and_one_that_is_saved_has_not(reader_folder: Path) -> None:
    loaded = load(str(reader_folder), labels=Labels(("a", "b"), "single_label_classification"))
    kinds = {type(part) for part in loaded.module.modules() if isinstance(part, nn.Dropout)}
    assert kinds == {QuickDropout}
    with block.parted(loaded.module):  # which takes other forms back
        assert any(type(part) is QuickDropout for part in loaded.module.modules())
    merged = Full().attach(loaded.module, labels=True).merged()
    assert {type(part) for part in merged.modules() if isinstance(part, nn.Dropout)} == {nn.Dropout}


def test_a_share_next_to_all_drops_all() -> None:
    """65,536 numbers are told apart; the one beyond is all of it, and no sixteen bits hold it."""
    assert not dropout_mask(torch.empty(1000), 1 - 1e-6).any()
    assert not dropout_mask(torch.empty(1000), 1.0).any()
