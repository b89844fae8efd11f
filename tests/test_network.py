"""Every architecture is read like its own padded forward pass reads, packed where it can be and padded where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tuneful.core.errors import ModelError
from tuneful.models.examine import examine
from tuneful.models.load import load
from tuneful.models.network import Network, paths
from tuneful.models.sentence import SentenceForSequenceClassification
from tuneful.testing import tiny_generator

SMALL = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
GROUPED = {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

GENERATORS: dict[str, tuple[dict[str, Any], bool]] = {  # settings, and whether rows are packed
    "Llama": (GROUPED, True),
    "Qwen2": (GROUPED, True),
    "Qwen3": ({**GROUPED, "head_dim": 8}, True),
    "Mistral": (GROUPED, True),
    "Phi3": (GROUPED, True),
    "SmolLM3": (GROUPED, True),
    "Gemma3Text": ({**GROUPED, "head_dim": 8}, True),
    "Granite": ({**GROUPED, "logits_scaling": 3.0}, True),
    "Cohere": (GROUPED, True),
    "GPTNeoX": ({**SMALL, "pad_token_id": 0}, True),
    "GPT2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 120, "pad_token_id": 0}, True),
    "OPT": ({**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32}, True),
    "Gemma2": ({**GROUPED, "head_dim": 8}, False),  # caps its scores
    "Bloom": ({"hidden_size": 32, "n_head": 4, "n_layer": 2, "vocab_size": 120, "pad_token_id": 0}, False),  # ALiBi
    "Lfm2": ({**GROUPED, "layer_types": ["conv", "full_attention"]}, False),  # convolutions reach across rows
    "Mamba": ({"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}, False),  # a recurrence
}
READERS: dict[str, tuple[dict[str, Any], bool]] = {
    "Bert": ({**SMALL, "pad_token_id": 0}, True),
    "Roberta": ({**SMALL, "max_position_embeddings": 64}, True),  # positions begin at 2
    "XLMRoberta": ({**SMALL, "max_position_embeddings": 64}, True),
    "DistilBert": ({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 120}, True),
    "Electra": ({**SMALL, "embedding_size": 32, "pad_token_id": 0}, True),
    "Albert": ({**SMALL, "embedding_size": 16}, True),
    "ModernBert": ({**SMALL, **SPECIAL}, True),
    "DebertaV2": ({**SMALL, "pad_token_id": 0}, False),  # relative positions
    "MPNet": ({**SMALL}, False),
    "Llama": (GROUPED, True),  # a decoder that reads: the last token answers
}


def build(name: str, settings: dict[str, Any], *, labels: bool) -> Any:
    config = getattr(transformers, f"{name}Config")(**settings, **({"num_labels": 3} if labels else {}))
    auto = transformers.AutoModelForSequenceClassification if labels else transformers.AutoModelForCausalLM
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return model


def batch(*, shared: bool = False) -> dict[str, torch.Tensor]:
    """Three rows of 9, 5 and 12 tokens; shared: the last two begin with the same 4."""
    ids = torch.arange(3, 29)
    positions = torch.cat([torch.arange(9), torch.arange(5), torch.arange(12)])
    segments = [[0, 9, -1], [9, 14, -1], [14, 26, -1]]
    rows = [0, 1, 2]
    if shared:
        segments = [[0, 9, -1], [9, 13, -1], [13, 18, 1], [18, 26, 1]]
        positions = torch.cat([torch.arange(9), torch.arange(4), torch.arange(4, 9), torch.arange(4, 12)])
        rows = [0, 2, 3]
    return {
        "input_ids": ids[None],
        "position_ids": positions[None],
        "segments": torch.tensor(segments),
        "rows": torch.tensor(rows),
    }


def truth(model: Any, network: Network, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """What transformers alone says of the padded rows."""
    index, real = paths(inputs["segments"], inputs["rows"])
    ids = inputs["input_ids"][0][index].masked_fill(~real, model.config.pad_token_id or 0)
    with network.natively(model), torch.no_grad():
        out = model(input_ids=ids, attention_mask=real.long(), output_hidden_states=True)
        states = model.base_model(input_ids=ids, attention_mask=real.long()).last_hidden_state
    return index[real], states[real], out.logits if out.logits.dim() == 2 else out.logits[real]


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("shared", [False, True])
def test_generators(name: str, shared: bool) -> None:
    settings, packed = GENERATORS[name]
    model = build(name, settings, labels=False)
    network = examine(model)
    assert network.causal
    assert network.packed is packed
    assert network.shares is packed
    inputs = batch(shared=shared)
    places, states, logits = truth(model, network, inputs)
    with torch.no_grad():
        hidden = network.hidden(model, inputs)
    torch.testing.assert_close(hidden[places], states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.vocabulary(model).logits(hidden[places]), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", READERS)
def test_readers(name: str) -> None:
    settings, packed = READERS[name]
    model = build(name, settings, labels=True)
    network = examine(model)
    assert network.packed is packed
    assert network.one_token_head, "as all of these do, so no more is computed"
    inputs = batch()
    places, states, logits = truth(model, network, inputs)
    with torch.no_grad():
        hidden = network.hidden(model, inputs)
        found = network.class_logits(model, hidden, inputs)
    torch.testing.assert_close(hidden[places], states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


def test_a_mean_near_one_token_is_still_a_mean() -> None:
    """Where all states lie close together the first token answers as the mean does, to six digits."""
    body = build("Bert", READERS["Bert"][0], labels=True).base_model
    norm = body.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight.mul_(1e-6)
        norm.bias.fill_(1.0)
    assert not examine(SentenceForSequenceClassification(body, 3)).one_token_head


def test_gradients_are_those_of_padded_rows() -> None:
    model = build("Llama", GROUPED, labels=False)
    network = examine(model)
    inputs = batch(shared=True)
    places = paths(inputs["segments"], inputs["rows"])
    index, real = places
    slope = torch.randn(int(real.sum()), 32)
    found = []
    for packed in (True, False):
        model.zero_grad()
        if packed:
            states = network.hidden(model, inputs)[index[real]]
        else:
            with network.natively(model):
                ids = inputs["input_ids"][0][index]
                states = model.base_model(input_ids=ids, attention_mask=real.long()).last_hidden_state[real]
        (states * slope).sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_rows_longer_than_the_window_are_padded() -> None:
    """A packed row attends to all of itself; an architecture that attends in windows must not."""
    model = build("Mistral", {**GROUPED, "sliding_window": 6}, labels=False)
    network = examine(model)
    assert network.longest == 6
    inputs = batch()
    places, states, _ = truth(model, network, inputs)
    with torch.no_grad():
        torch.testing.assert_close(network.hidden(model, inputs)[places], states, rtol=1e-4, atol=1e-4)


def test_logits_it_does_not_understand_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Llama", GROUPED, labels=False)
    whole = type(model).forward

    def doubled(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = whole(self, *args, **kwargs)
        out.logits = out.logits * 2
        return out

    monkeypatch.setattr(type(model), "forward", doubled)
    with pytest.raises(ModelError, match="computes its logits in a way"):
        examine(model)


def test_embeddings_are_the_mean_of_each_row() -> None:
    inputs = batch(shared=True)
    hidden = torch.arange(26.0)[:, None]
    network = Network(causal=True)
    means = [
        sum(range(9)) / 9,
        (9 + 10 + 11 + 12 + 13 + 14 + 15 + 16 + 17) / 9,
        (9 + 10 + 11 + 12 + sum(range(18, 26))) / 12,
    ]
    torch.testing.assert_close(network.embeddings(hidden, inputs).squeeze(1), torch.tensor(means))


def test_far_tokens_keep_their_places_in_bf16(tmp_path: Path) -> None:
    """Rotary frequencies stay float32: rounded to bf16 they are off by radians at 1,500 tokens."""
    folder = tiny_generator(tmp_path / "model", max_position_embeddings=2048)
    found = load(str(folder), dtype=torch.bfloat16).module
    assert {p.dtype for p in found.parameters()} == {torch.bfloat16}
    ids = torch.randint(3, 250, (1, 1500))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert torch.equal(found.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq)
    with torch.no_grad():
        position_ids = torch.arange(1500)[None]
        for ours, theirs in zip(
            found.model.rotary_emb(ids.float(), position_ids), plain.model.rotary_emb(ids.float(), position_ids),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "settings", "labels"), [("Llama", GROUPED, False), ("Bert", SMALL, True)])
def test_few_shapes_occur(name: str, settings: dict[str, Any], labels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of any length reach the layers as a multiple of 16 tokens, and come back as they went in."""
    model = build(name, {**settings, "pad_token_id": 0}, labels=labels)
    network = examine(model)
    seen: list[int] = []
    original = Network.packed_states

    def listening(self: Network, module: Any, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(ids))
        return original(self, module, ids, *rest)

    monkeypatch.setattr(Network, "packed_states", listening)
    for length in (5, 16, 23):
        ids = torch.arange(3, 3 + length)[None]
        inputs = {"input_ids": ids, "position_ids": torch.arange(length)[None]}
        inputs |= {"segments": torch.tensor([[0, length, -1]]), "rows": torch.tensor([0])}
        with torch.no_grad():
            found = network.hidden(model, inputs)
            with network.natively(model):
                truth = model.base_model(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-4)
    assert seen == [16, 16, 32]
