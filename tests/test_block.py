"""A decoder layer as one function: the numbers and the gradients of the layer it replaces."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tuneful.adapters import Lora
from tuneful.core.packing import Packed, packs
from tuneful.models import block, pieces
from tuneful.models.examine import examine

TREE = torch.tensor([[0, 9, -1], [9, 12, 0], [12, 20, 0], [20, 21, 0], [21, 60, -1]])
POSITIONS = torch.cat([torch.arange(9), 9 + torch.arange(3), 9 + torch.arange(8), torch.tensor([9]), torch.arange(39)])


def model(name: str = "Llama", **more: Any) -> Any:
    torch.manual_seed(0)
    settings = {
        "vocab_size": 200, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "pad_token_id": 0, **more,
    }  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**settings)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def inputs() -> dict[str, Tensor]:
    ids = torch.randint(1, 200, (1, 60), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "position_ids": POSITIONS[None], "segments": TREE, "rows": torch.tensor([1, 2, 3, 4])}


def learned(module: Any, network: Any) -> tuple[Tensor, dict[str, Tensor]]:
    module.zero_grad()
    hidden = network.hidden(module, inputs())
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return hidden.detach(), {name: p.grad for name, p in module.named_parameters() if p.requires_grad}


def with_updates(module: Any, **settings: Any) -> Any:
    attached = Lora(rank=4, **settings).attach(module, labels=False)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return attached


@pytest.mark.parametrize(
    ("name", "more", "joined"),
    [
        ("Llama", {}, 3),
        ("Llama", {"attention_bias": True, "mlp_bias": True}, 3),
        ("Mistral", {"sliding_window": None}, 3),
        ("Qwen2", {}, 3),
        ("Qwen3", {"head_dim": 8}, 0),  # norms of queries and keys
        ("Granite", {"residual_multiplier": 0.22}, 0),  # scales what is added
        ("Phi3", {}, 0),  # one product already
    ],
)
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj", "qkv_proj"]])
def test_numbers_and_gradients_are_those_of_the_layer(name: str, more: Any, joined: int, targets: Any) -> None:
    module = model(name, **more)
    network = examine(module)
    assert network.joined == bool(joined)
    assert sum(isinstance(layer, block._Joined) for layer in module.modules()) == joined
    with_updates(module, targets=targets)
    ours = learned(module, network)
    block.part(module)
    theirs = learned(module, network)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    assert ours[1].keys() == theirs[1].keys()
    for name, slope in theirs[1].items():
        torch.testing.assert_close(ours[1][name], slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


def test_the_slope_reaches_the_embedding() -> None:
    """A first layer whose input is learned as well."""
    module = model()
    network = examine(module)
    with_updates(module)
    module.get_input_embeddings().weight.requires_grad_(True)
    ours = learned(module, network)[1]
    block.part(module)
    theirs = learned(module, network)[1]
    name = next(name for name in ours if "embed" in name)
    torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5 * float(theirs[name].abs().max()))


@pytest.mark.parametrize("what", ["base weights", "dropout of the update", "a norm"])
def test_what_is_not_written_here_goes_through_the_modules(what: str) -> None:
    module = model()
    network = examine(module)
    with_updates(module, dropout=0.5 if what == "dropout of the update" else 0.0)
    layer = module.get_submodule("model.layers.1")
    if what == "base weights":
        layer.self_attn.q_proj.get_base_layer().weight.requires_grad_(True)
    if what == "a norm":
        layer.input_layernorm.weight.requires_grad_(True)
    module.train()
    torch.manual_seed(0)
    ours = learned(module, network)
    block.part(module)
    torch.manual_seed(0)
    theirs = learned(module, network)
    assert ours[1].keys() == theirs[1].keys()
    for name, slope in theirs[1].items():
        torch.testing.assert_close(ours[1][name], slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


def test_updates_switched_off_are_not_computed() -> None:
    module = model()
    network = examine(module)
    before = network.hidden(module, inputs()).detach()
    attached = with_updates(module)
    assert not torch.allclose(network.hidden(module, inputs()), before, atol=1e-3)
    with attached.original() as original, torch.no_grad():
        torch.testing.assert_close(network.hidden(original, inputs()), before, rtol=1e-4, atol=1e-4)


def test_changed_weights_are_seen() -> None:
    """Copies in another order or dtype are made again: after a change in place, a cast, and a deep copy."""
    module = model()
    network = examine(module)
    with_updates(module)
    before = network.hidden(module, inputs()).detach()
    with torch.no_grad():
        next(p for name, p in module.named_parameters() if "lora_A" in name).mul_(3.0)
    changed = network.hidden(module, inputs()).detach()
    assert not torch.allclose(changed, before, atol=1e-4)
    with torch.no_grad():
        module.get_submodule("model.layers.0.mlp.up_proj").get_base_layer().weight.data *= 2.0
    twice = network.hidden(module, inputs()).detach()
    assert not torch.allclose(twice, changed, atol=1e-3)
    other = copy.deepcopy(module)
    torch.testing.assert_close(network.hidden(other, inputs()), network.hidden(module, inputs()))
    torch.testing.assert_close(network.hidden(other.double(), inputs()).float(), twice, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not packs(torch.ones(1, dtype=torch.bfloat16)), reason="no bf16 products in block order here")
def test_bf16_in_block_order_is_as_near_to_float32_as_the_modules_are() -> None:
    module = model()
    network = examine(module)
    with_updates(module)
    truth = learned(module, network)
    errors = []
    for parameter in module.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    for _ in range(2):
        found = learned(module, network)
        errors.append(max(float((found[1][n] - g).abs().max() / g.abs().max()) for n, g in truth[1].items()))
        block.part(module)
    assert errors[0] < 1.5 * errors[1] < 0.2


@pytest.mark.skipif(not packs(torch.ones(1, dtype=torch.bfloat16)), reason="no bf16 products in block order here")
def test_a_packed_product_is_the_plain_one() -> None:
    first, second = torch.randn(24, 32).bfloat16(), torch.randn(8, 32).bfloat16()
    x, beside, bias = torch.randn(5, 32).bfloat16(), torch.randn(5, 32).bfloat16(), torch.randn(32).bfloat16()
    grad = torch.randn(5, 32).bfloat16()
    joined, packed = torch.cat([first, second]), Packed([first, second])
    expected = x.double() @ joined.double().T + beside.double() + bias.double()
    torch.testing.assert_close(packed.across(x, beside, bias).double(), expected, rtol=8e-3, atol=2e-2)
    torch.testing.assert_close(packed.back(grad, beside).double(), grad.double() @ joined.double() + beside.double(),
                               rtol=8e-3, atol=2e-2)  # fmt: skip


def test_a_norm_by_hand() -> None:
    """x = (3, 4): mean of squares 12.5; slope of w . norm(x) by the formula."""
    x, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])
    inverse = pieces.root_mean_square(x, 0.0)
    assert float(inverse) == pytest.approx(12.5**-0.5)
    torch.testing.assert_close(pieces.normed(x, inverse, weight), torch.tensor([[3.0, 8.0]]) * 12.5**-0.5)
    # d/dx_1 of (x_1 + 2 x_2) r with r = ((x_1^2 + x_2^2) / 2)^-1/2: r - (x_1 + 2 x_2) x_1 / 2 r^3
    slope = pieces.normed_slope(torch.ones(1, 2), x, inverse, weight)
    expected = [12.5**-0.5 - 11 * 3 / 2 * 12.5**-1.5, 2 * 12.5**-0.5 - 11 * 4 / 2 * 12.5**-1.5]
    torch.testing.assert_close(slope, torch.tensor([expected]))


def test_a_rotation_by_hand() -> None:
    """A quarter turn takes (1, 2 | 3, 4) to (-3, -4 | 1, 2), and back."""
    heads, cos, sin = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.zeros(1, 2), torch.ones(1, 2)
    pieces.rotate_(heads, cos, sin)
    assert heads.flatten().tolist() == [-3.0, -4.0, 1.0, 2.0]
    pieces.rotate_(heads, cos, sin, back=True)
    assert heads.flatten().tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_gate_by_hand() -> None:
    """gate 0 opens half way: silu(0) = 0, slope 1/2; gate 1: silu = 0.7311, slope 0.9277."""
    both = torch.tensor([[0.0, 1.0, 5.0, 2.0]])
    torch.testing.assert_close(pieces.gated(both), torch.tensor([[0.0, 2 * 0.731059]]))
    opened, value = pieces.gated_parts(both)
    torch.testing.assert_close(value, pieces.gated(both))
    slope = pieces.gated_slope(torch.ones(1, 2), opened, both)
    torch.testing.assert_close(slope, torch.tensor([[2.5, 2 * 0.927671, 0.0, 0.731059]]), rtol=1e-5, atol=1e-5)


def test_preparing_changes_no_number() -> None:
    module = model()
    network = examine(module)
    with_updates(module)
    for parameter in module.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    before = learned(module, network)
    block.forget(module)
    block.prepare_training(module)
    weights = [product._weight for layer in module.model.layers for product in layer._products[True]]
    assert all(isinstance(weight, Packed) == packs(torch.ones(1, dtype=torch.bfloat16)) for weight in weights)
    assert all({"_forward", "_backward"} <= vars(weight).keys() for weight in weights if isinstance(weight, Packed))
    after = learned(module, network)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    for name, slope in before[1].items():
        torch.testing.assert_close(after[1][name], slope, rtol=0, atol=0)


def test_what_was_not_joined_stays_so() -> None:
    module = model("Granite", residual_multiplier=0.22)
    network = examine(module)
    truth = network.hidden(module, inputs())
    with block.parted(module):
        pass
    torch.testing.assert_close(network.hidden(module, inputs()), truth, rtol=0, atol=0)


def test_a_layer_that_cannot_be_joined_is_packed_all_the_same() -> None:
    """OLMo's norms have no weight."""
    network = examine(model("Olmo"))
    assert (network.packed, network.shares, network.joined) == (True, True, False)


def test_a_merged_model_can_be_pickled() -> None:
    module = model()
    examine(module)
    merged = with_updates(module).merged()
    assert not any(isinstance(layer, block._Joined) for layer in merged.modules())
    assert pickle.loads(pickle.dumps(merged.model.layers[0])) is not None
    assert any(isinstance(layer, block._Joined) for layer in module.modules()), "the model itself stays as it was"


def test_biases_may_learn_where_weights_do_not() -> None:
    """As with BitFit (Ben Zaken et al. 2022, arXiv:2106.10199): a layer as one function takes its weights as they are,
    so one whose biases learn is none."""
    module = model("Qwen2")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.endswith("_proj.bias"))
    _, ours = learned(module, examine(module))
    assert len(ours) == 9
    assert all(
        slope is not None and bool(slope.abs().sum() > 0) for name, slope in ours.items() if "k_proj" not in name
    )
