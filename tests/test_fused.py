"""LoRA as one product: PEFT's numbers in float32, and what PEFT's way loses in bf16."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import nn

from tuneful.adapters.fused import FusedLinear, fuse


class Two(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40, bias=bias), nn.Linear(40, 24, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def pair(**settings: object) -> tuple[nn.Module, nn.Module]:
    """The same layers with PEFT's own forward pass, and with ours."""
    bias = bool(settings.pop("bias", False))
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"], **settings)
    plain = get_peft_model(Two(bias), config)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    fused = copy.deepcopy(plain)
    assert fuse(fused) == 2
    return plain, fused


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_values_and_gradients_are_those_of_peft(bias: bool, rslora: bool) -> None:
    plain, fused = pair(bias=bias, use_rslora=rslora)
    found = []
    for model in (plain, fused):
        x = torch.linspace(-1, 1, 3 * 5 * 24).view(3, 5, 24).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for n, p in model.named_parameters() if "lora" in n)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_dropout_falls_on_the_update_alone() -> None:
    plain, fused = pair(lora_dropout=0.5)
    x = torch.randn(6, 24)
    torch.manual_seed(3)
    expected = plain.train()(x)
    torch.manual_seed(3)
    torch.testing.assert_close(fused.train()(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-4)


def test_the_base_weight_is_not_stored_twice() -> None:
    _, fused = pair()
    for layer in (layer for layer in fused.modules() if isinstance(layer, FusedLinear)):
        layer(torch.randn(2, layer.in_features))
        assert layer.get_base_layer().weight.data_ptr() == layer.product()._weight.weight_OI.data_ptr()


def test_disabled_it_is_the_base_layer() -> None:
    plain, fused = pair()
    x = torch.randn(6, 24)
    with plain.disable_adapter(), fused.disable_adapter():
        torch.testing.assert_close(fused(x), plain(x))


def test_a_copy_in_another_dtype_still_answers() -> None:
    plain, fused = pair()
    x = torch.randn(6, 24, dtype=torch.float64)
    torch.testing.assert_close(copy.deepcopy(fused).double()(x), copy.deepcopy(plain).double()(x))


def test_a_small_update_survives_bf16() -> None:
    """W x = 1 in every entry and an update of 1/1024, a quarter of bf16's unit in the last place at 1: added to the
    rounded product it is lost every time; summed before rounding it moves the mean by what it should."""
    torch.manual_seed(0)
    base = nn.Linear(64, 4096, bias=False)
    holder = nn.ModuleDict({"only": base})
    model = get_peft_model(holder, LoraConfig(r=1, lora_alpha=1, target_modules=["only"]))
    layer = next(layer for layer in model.modules() if isinstance(layer, Linear))
    with torch.no_grad():
        base_layer = layer.get_base_layer()
        base_layer.weight.copy_(torch.rand(4096, 64) / 32)
        layer.lora_A["default"].weight.fill_(1 / 64)
        layer.lora_B["default"].weight.fill_(1 / 1024)
    base_layer.to(torch.bfloat16)
    x = torch.ones(1, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        before = base_layer(x).double().mean()
        theirs = float((layer(x).double().mean() - before) * 1024)
        fuse(model)
        ours = float((layer(x).double().mean() - before) * 1024)
    assert abs(theirs) < 0.2, "PEFT no longer loses the update: is the fused layer still needed?"
    assert ours == pytest.approx(1.0, abs=0.2)


def test_other_kinds_keep_pefts_way() -> None:
    model = get_peft_model(Two(False), LoraConfig(r=4, target_modules=["first", "second"], use_dora=True))
    assert fuse(model) == 0
