"""Frozen layers kept in a byte or half a byte a weight: the numbers, the memory, and what is tuned over them."""

from __future__ import annotations

import copy
import gc
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tuneful
from test_block import inputs, learned, model, with_updates
from test_cost import WORK
from tuneful.core import quantised
from tuneful.core.errors import ModelError, RecipeError
from tuneful.core.layers import blocks
from tuneful.core.linear import QuantisedLinear, count, make_plain, quantise_layers
from tuneful.core.products import Part, Product
from tuneful.core.quantised import FEW, NF4, Int8, check
from tuneful.engine.memory import memory_mb
from tuneful.models import block, kept
from tuneful.models.examine import examine
from tuneful.models.load import load
from tuneful.recipe.reading import from_mapping
from tuneful.run import build
from tuneful.run.tuned import open_model
from work import greetings, moods, write_rows

CPU = torch.device("cpu")
FAST: dict[str, Any] = {
    "schedule.steps": 30,
    "optimiser.learning_rate": 0.01,
    "evaluate.generate": 2,
    "precision": "fp32",
}
NF4_VALUES = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
              0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]  # fmt: skip


def needs_bitsandbytes() -> None:
    pytest.importorskip("bitsandbytes", reason="nf4 needs bitsandbytes: pip install 'tuneful[nf4]'")


@pytest.fixture(params=["int8", "nf4"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "nf4":
        needs_bitsandbytes()
    return str(request.param)


def test_int8_by_hand() -> None:
    """Scales 1.27 / 127 = 0.01 and 2.54 / 127 = 0.02; 0.025 is 1.25 steps, so 1."""
    kept = Int8(torch.tensor([[1.27, -0.5, 0.25], [0.0, 0.0, 0.0], [2.54, 0.025, -2.54]]))
    assert kept.raw.tolist() == [[127, -50, 25], [0, 0, 0], [127, 1, -127]]
    torch.testing.assert_close(kept.whole(), torch.tensor([[1.27, -0.5, 0.25], [0, 0, 0], [2.54, 0.02, -2.54]]))


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(50, 70)
    off = (Int8(weight).whole() - weight).abs().amax(1)
    assert bool((off <= weight.abs().amax(1) / 127 * 0.5001).all())


def test_nf4_keeps_the_sixteen_values_of_the_paper() -> None:
    """Appendix E of the paper; every group reaches its scale, 0.5, so the scales cost nothing either."""
    needs_bitsandbytes()
    weight = 0.5 * torch.tensor(NF4_VALUES).repeat(16, 8)
    kept = NF4(weight)
    assert kept.raw.numel() * kept.raw.element_size() == weight.numel() // 2
    torch.testing.assert_close(kept.whole(), weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("updates", [False, True])
def test_products_and_slopes_are_those_of_the_whole_weights(kind: Any, updates: bool, bias: bool) -> None:
    """Three layers side by side, of unlike height."""
    found = []
    kept = [quantised.quantised(kind, torch.randn(rows, 64)) for rows in (16, 48, 32)]
    more = [
        {"bias": torch.randn(len(weight)) if bias else None}
        | (
            {"down": nn.Parameter(torch.randn(4, 64)), "up": nn.Parameter(torch.randn(len(weight), 4)), "scale": 0.5}
            if updates
            else {}
        )
        for weight in kept
    ]
    x, grad = torch.randn(FEW + 9, 64), torch.randn(FEW + 9, 96)
    for weights in (kept, [weight.whole() for weight in kept]):
        product = Product([Part(weight, **other) for weight, other in zip(weights, more, strict=True)])
        y, low = product.forward(x)
        slope, grads = product.backward(grad, x, low)
        found.append([y, slope, *grads])
    assert len(found[0]) == (8 if updates else 2)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, FEW, FEW + 1])
def test_few_rows_are_multiplied_with_the_bytes(rows: int) -> None:
    kept = [Int8(torch.randn(size, 64).bfloat16()) for size in (16, 48)]
    x = torch.randn(rows, 64).bfloat16()
    direct = kept[0].times(x)
    assert (direct is None) == (rows > FEW or not quantised._multiplies_bytes())
    bias, down, up = (
        torch.full((64,), 3.0).bfloat16(),
        nn.Parameter(torch.randn(4, 64)),
        nn.Parameter(torch.randn(48, 4)),
    )
    parts = [Part(kept[0], bias[:16]), Part(kept[1], bias[16:], down, up)]
    y, _ = Product(parts).forward(x)
    exact = x.double() @ torch.cat([weight.whole() for weight in kept]).double().T + 3
    exact[:, 16:] += x.double() @ (up @ down).detach().double().T
    torch.testing.assert_close(y.double(), exact, rtol=2**-6, atol=0.25)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi3"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_model_answers_and_learns_as_over_the_same_weights_whole(kind: Any, name: str, dropout: float) -> None:
    """Joined layers and layers of their own; with dropout, through PEFT's form."""
    module = model(name, hidden_size=64, intermediate_size=128, num_attention_heads=8, head_dim=8)
    network = examine(module)
    assert quantise_layers(module, kind, "cpu") == {"Llama": 21, "Qwen3": 21, "Phi3": 12}[name]
    block.forget(module)
    plain = copy.deepcopy(module)
    make_plain(plain)
    assert not any(isinstance(layer, QuantisedLinear) for layer in plain.modules())
    found = []
    for one in (module, plain):
        torch.manual_seed(1)
        with_updates(one, dropout=dropout)
        one.train()
        found.append(learned(one, network))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    for place, slope in found[1][1].items():
        torch.testing.assert_close(found[0][1][place], slope, rtol=1e-4, atol=1e-4 * float(slope.abs().max()))


def test_a_layer_without_an_update_passes_the_slope_on(kind: Any) -> None:
    layer = nn.Linear(64, 48)
    ours, x = QuantisedLinear(layer, kind, "cpu"), torch.randn(2, FEW, 64)
    found = []
    for one in (ours, ours.plain()):
        given = x.clone().requires_grad_()
        y = one(given)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        found.append((y.detach(), given.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def bytes_of(module: nn.Module) -> int:
    """Of everything the layers of the stack keep, scales included."""
    seen: dict[int, int] = {}
    for layer in blocks(module).modules():
        tensors = list(layer.parameters(recurse=False))
        if isinstance(layer, QuantisedLinear):
            tensors += [value for value in vars(layer.kept).values() if isinstance(value, Tensor)]
            if isinstance(layer.kept, NF4):
                state = layer.kept._state
                tensors += [state.absmax, state.offset, state.state2.absmax]
        seen |= {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}
    return sum(seen.values())


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
def test_nothing_whole_is_kept(kind: Any, name: str) -> None:
    """Not as a copy in another order, and not for the backward pass either, whose graph is alive here."""
    odd = {"hidden_size": 96, "intermediate_size": 448, "head_dim": 16}
    module = model(name, **odd).bfloat16()
    network = examine(module.float())
    module.bfloat16()
    before = bytes_of(module)
    quantise_layers(module, kind, "cpu")
    block.forget(module)
    assert bytes_of(module) <= {"int8": 0.55, "nf4": 0.30}[kind] * before
    with_updates(module, targets=["q_proj", "down_proj"])  # the others go bare through Qwen3's own modules
    block.prepare_training(module)
    hidden = network.hidden(module, inputs())
    gc.collect()
    sizes = (96 * 448, 2 * 96 * 448)  # of up, gate and down, and of up and gate together
    tensors = [found for found in gc.get_objects() if type(found) in (Tensor, nn.Parameter)]
    alive = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel() in sizes]
    assert hidden.requires_grad
    assert not [(tensor.shape, tensor.dtype) for tensor in alive]


def test_count_is_of_weights_not_of_bytes(kind: Any) -> None:
    module = model(hidden_size=64, head_dim=8, num_attention_heads=8)
    before = count(module)
    quantise_layers(module, kind, "cpu")
    assert count(module) == before


def test_weights_of_another_library_are_left_to_their_own_layer() -> None:
    class Odd(Tensor):
        pass

    module = model()
    network = examine(module)
    before = network.hidden(module, inputs()).detach()
    layer = module.get_submodule("model.layers.0.mlp.up_proj")
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Odd), requires_grad=False)
    assert block._part(layer) is None
    torch.testing.assert_close(network.hidden(module, inputs()).detach().as_subclass(Tensor), before)


def test_it_is_quantised_from_the_kept_copy_too(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(kept, "LEAST", 0)
    first, again = (load(str(generator_folder), dtype=torch.bfloat16, quantise="int8") for _ in range(2))
    monkeypatch.setattr(kept, "worth", lambda _: False)
    anew = load(str(generator_folder), dtype=torch.bfloat16, quantise="int8")
    expected = dict(anew.module.named_parameters())
    for found in (first, again):
        assert found.quantise == "int8"
        for name, parameter in found.module.named_parameters():
            assert torch.equal(parameter, expected[name])
    whole = load(str(generator_folder), dtype=torch.bfloat16)
    assert not any(isinstance(layer, QuantisedLinear) for layer in whole.module.modules())


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from tuneful.testing import tiny_tokenizer

    GPT2LMHeadModel(GPT2Config(vocab_size=272, n_embd=32, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="nothing to quantise"):
        load(str(tmp_path), quantise="int8")


@pytest.fixture(scope="module")
def runs(generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuneful.Run]:
    """The same rows in as many updates over whole weights and over each kind that can be had here."""
    place = tmp_path_factory.mktemp("quantised")
    data = write_rows(place / "greetings.jsonl", greetings(60))
    made = {}
    for name in ("none", "int8", "nf4") if find_spec("bitsandbytes") else ("none", "int8"):
        settings = {**FAST, "quantise": name, "save.merged": True}
        made[name] = tuneful.fit(data, model=str(generator_folder), out=place / name, settings=settings)
    return made


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.01), ("nf4", 0.15)])
def test_heldout_loss_is_near_that_over_whole_weights(runs: dict[str, tuneful.Run], name: str, bound: float) -> None:
    if name not in runs:
        needs_bitsandbytes()
    whole, ours = (runs[which].report for which in ("none", name))
    assert ours["quality"]["perplexity"]["tuned"] < 0.5 * ours["quality"]["perplexity"]["base"]
    assert ours["generalisation"]["test"] == pytest.approx(whole["generalisation"]["test"], rel=bound)
    assert ours["generalisation"]["test"] != whole["generalisation"]["test"]
    assert ours["cost"]["parameters"] == whole["cost"]["parameters"]


def test_the_base_does_not_move(generator_folder: Path) -> None:
    loaded = load(str(generator_folder), quantise="int8")
    before = {name: p.detach().clone() for name, p in loaded.module.named_parameters()}
    attached = with_updates(loaded.module)
    optimiser = torch.optim.AdamW(attached.trainable().values(), lr=0.1)
    for _ in range(3):
        learned(loaded.module, loaded.network)
        optimiser.step()
    after = {name.replace(".base_layer", ""): p for name, p in loaded.module.named_parameters()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_reads_the_adapter_over_the_models_own_weights(
    runs: dict[str, tuneful.Run], generator_folder: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(generator_folder)
    theirs = PeftModel.from_pretrained(base, str(runs["int8"].path / "adapter"))
    assert theirs.peft_config["default"].base_model_name_or_path == str(generator_folder)
    ids = torch.arange(5, 45)[None]
    expected = theirs(ids).logits
    said: list[str] = []
    opened = open_model(str(runs["int8"].path), said.append)
    assert any("tuned over int8" in line for line in said)
    torch.testing.assert_close(opened.policy.attached.merged()(ids).logits, expected, rtol=1e-4, atol=1e-4)
    merged = AutoModelForCausalLM.from_pretrained(runs["int8"].path / "model")
    torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_what_is_merged_in_memory_is_what_was_tuned(runs: dict[str, tuneful.Run]) -> None:
    opened = runs["int8"].load(quantise="int8")
    assert sum(isinstance(layer, QuantisedLinear) for layer in opened.policy.module.modules()) == 14
    merged = opened.policy.attached.merged()
    ids = torch.arange(5, 45)
    given = {
        "input_ids": ids[None],
        "position_ids": torch.arange(40)[None],
        "segments": torch.tensor([[0, 40, -1]]),
        "rows": torch.tensor([0]),
    }
    hidden = opened.policy.read(given).hidden
    found = merged(ids[None], output_hidden_states=True).hidden_states[-1][0]
    torch.testing.assert_close(hidden, found, rtol=1e-4, atol=1e-4)
    own = runs["int8"].load().policy.attached.merged()(ids[None], output_hidden_states=True).hidden_states[-1][0]
    assert not torch.allclose(own, found, atol=1e-4)


def test_a_plain_model_opened_so_is_saved_whole(generator_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    opened = open_model(str(generator_folder), quantise="int8")
    opened.save_merged(tmp_path / "whole")
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    for name, weight in AutoModelForCausalLM.from_pretrained(generator_folder).state_dict().items():
        torch.testing.assert_close(weights[name].float(), weight, rtol=0, atol=float(weight.abs().max()) / 100)


def test_labels_are_learned_over_quantised_layers(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods())
    settings = {**FAST, "schedule.steps": 60, "quantise": "int8"}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    assert run.report["provenance"]["recipe"]["adapter"]["kind"] == "lora"
    assert run.report["quality"]["accuracy"]["tuned"] > 0.9
    assert (run.path / "adapter").exists()


def test_hidden_states_below_a_cut_are_kept_apart(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of whole weights are not those of quantised ones, and neither are whole numbers."""
    data = write_rows(tmp_path / "greetings.jsonl", greetings(20))

    def first_loss(name: str, quantise: str) -> float:
        settings = {**FAST, "schedule.steps": 2, "adapter.top_layers": 1, "evaluate": "none", "quantise": quantise}
        settings["precision"] = "bf16"  # whose tolerance would take one for the other
        run = tuneful.fit(data, model=str(generator_folder), out=tmp_path / name, settings=settings)
        return float((run.path / "records.jsonl").read_text().split('"loss": ')[1].split(",")[0].rstrip("}"))

    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "shared")
    whole, ours = first_loss("one", "none"), first_loss("two", "int8")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "fresh")
    assert first_loss("three", "int8") == ours != whole


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised._bitsandbytes.cache_clear()
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(RecipeError, match=r"pip install 'tuneful\[nf4\]'"):
        check("nf4", CPU)
    check("int8", CPU)
    quantised._bitsandbytes.cache_clear()


def test_a_machine_that_cannot_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError("no kernel for this device\nat some length")

    monkeypatch.setattr(quantised, "quantised", fails)
    with pytest.raises(RecipeError, match=r"int8 does not work on this machine's cpu \(no kernel for this device\)"):
        check("int8", CPU)


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        ("full", "'full' tunes the weights themselves"),
        ({"kind": "top_layers", "layers": 1}, "'top_layers' tunes"),
        ("head", "'head' tunes"),
        ({"kind": "lora", "dora": True}, "dora measures whole weights"),
    ],
)
def test_adapters_that_need_the_weights_are_refused(adapter: Any, why: str) -> None:
    with pytest.raises(RecipeError, match=f"adapter.*{why}"):
        from_mapping({"data": "rows.jsonl", "quantise": "int8", "adapter": adapter})
    from_mapping({"data": "rows.jsonl", "adapter": adapter})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"quantise": "none"}, None),
        ({"quantization_bit": 8}, "int8"),
        ({"quantization_bit": 4, "quantization_method": "bnb", "double_quantization": True}, "nf4"),
        ({"load_in_8bit": True}, "int8"),
        ({"load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"load_in_8bit": False, "load_in_4bit": True}, "nf4"),
        ({"load_in_8bit": False}, None),
        ({"load_in_4bit": True, "quantise": "int8"}, "int8"),
        ({"quantize": "nf4"}, "nf4"),
    ],
)
def test_words_of_other_tools(given: dict[str, Any], expected: str | None) -> None:
    recipe, notes = from_mapping({"data": "rows.jsonl", **given})
    assert recipe.quantise == expected
    assert len(notes) == len(given) - ("quantise" in given)


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(RecipeError, match="quantise"):
        from_mapping({"data": "rows.jsonl", "quantization_bit": 3})


def test_memory_is_predicted_by_hand() -> None:
    """A byte instead of two, twice over (the orders of both products), for each of 2^28 weights."""
    plain = replace(WORK, total=2**29, body=2**28)
    spared = memory_mb(plain) - memory_mb(replace(plain, frozen_bytes=1.0))
    assert spared == pytest.approx(2**28 * (2 * 2 - 1) / 2**20, abs=1)
