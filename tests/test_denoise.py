"""The vector of what is left of a text must suffice to rebuild it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tuneful
from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Example, Layout, Place, Row, Step
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.evaluation.alone import examine_denoise
from tuneful.models.heads import REBUILDS
from tuneful.models.load import load
from tuneful.models.rebuilding import TextDecoder, sines
from tuneful.objectives import Denoise
from tuneful.objectives.noise import chances, shortened
from tuneful.run.api import check
from tuneful.testing import tiny_policy, tiny_reader, tiny_rows
from work import losses_of, moods, whole_and_parts, write_rows

SMALL: dict[str, Any] = {"evaluate": {"forgetting": False}}


def texts(folder: Path, count: int = 80) -> Path:
    return write_rows(folder / "texts.jsonl", [{"text": row["text"]} for row in moods(count)])


def ready(reader_folder: Path, adapter: Any = None) -> tuple[Policy, list[Row], Batch]:
    torch.manual_seed(0)
    policy, loaded = tiny_policy(reader_folder, adapter, layout=Layout.REBUILT)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.REBUILT)
    return policy, rows, Collator(Layout.REBUILT)(rows)


def test_the_decoder_is_one_layer_over_vector_place_and_shown_token() -> None:
    """Row by row, with nothing padded."""
    torch.manual_seed(0)
    decoder = TextDecoder(8, 2).eval()
    vectors, embedded = F.normalize(torch.randn(4, 8), dim=1), torch.randn(12, 8)
    rows = torch.tensor([0] * 3 + [1] + [2] * 6 + [3] * 2)
    shown = torch.rand(12) < 0.5
    found = decoder(vectors, embedded, rows, shown)
    for number in range(4):
        own = rows == number
        places = torch.arange(int(own.sum()))
        told = torch.stack([(token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt() if seen else token * 0
                            for token, seen in zip(embedded[own], shown[own], strict=True)])  # fmt: skip
        read = told + vectors[number] * math.sqrt(8) + sines(places, 8)
        torch.testing.assert_close(found[own], decoder.layer(read[None])[0], atol=1e-5, rtol=1e-5)
    angles = [5 * 10_000 ** (-n / 4) for n in range(4)]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert sines(torch.tensor([5]), 8)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_worked_out_by_hand(reader_folder: Path) -> None:
    """With all tokens kept, all named and a layer that gives back twice the vector, one table of products tells it: the
    embedding as it was before tuning."""
    policy, rows, batch = ready(reader_folder)
    table = policy.module.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        policy.module.get_input_embeddings().weight.add_(torch.randn(table.shape) * 0.1)

    def as_read(vectors: Tensor, embedded: Tensor, rows: Tensor, shown: Tensor) -> Tensor:
        assert not bool(shown.any())
        return vectors[rows] * 2

    policy.module.text_decoder.forward = as_read
    losses = Denoise(deleted=0, hidden=1)(policy, batch).losses.detach()
    vectors = policy(batch).embeddings().detach()
    for number, row in enumerate(rows):
        logits = [2 * float(vectors[number] @ other) for other in table]
        total = math.log(sum(map(math.exp, logits)))
        own = [total - logits[token] for token in row.ids[row.learn > 0]]
        assert float(losses[number]) == pytest.approx(sum(own) / len(own), abs=1e-4)


def test_the_encoder_reads_what_is_left_and_the_decoder_names_what_it_is_not_shown(reader_folder: Path) -> None:
    policy, _, batch = ready(reader_folder)
    asked: list[tuple[Tensor, ...]] = []
    policy.module.text_decoder.register_forward_pre_hook(lambda _, given: asked.append(given))
    objective = Denoise(deleted=0.5, hidden=0.4)
    losses = objective(policy, batch).losses.detach()
    vectors, embedded, rows, shown = asked[0]
    gone = torch.zeros(batch.inputs["input_ids"].shape[1], dtype=torch.bool)
    gone[batch.targets["where"]] = chances(policy, batch) < 0.5
    assert 0 < int(gone.sum()) < len(rows)
    rest = policy.read(shortened(batch.inputs, gone)).embeddings()
    torch.testing.assert_close(vectors, rest)
    table = policy.module.get_input_embeddings().weight.detach()
    torch.testing.assert_close(embedded, table[batch.targets["tokens"]])
    hidden = objective.named(policy, batch)
    assert torch.equal(shown, ~hidden)
    assert bool(torch.bincount(rows[hidden], minlength=len(losses)).all()), "every row has something to name"
    drawn = chances(policy, batch, draw=1)
    assert not torch.equal(drawn, chances(policy, batch)), "what is hidden from one is not what the other lacks"
    lowest = torch.stack([drawn[rows == row].min() for row in rows])
    assert torch.equal(hidden, (drawn < 0.4) | (drawn == lowest))
    states = policy.module.text_decoder(vectors, embedded, rows, shown)
    each = F.cross_entropy(states @ table.T, batch.targets["tokens"], reduction="none").detach()
    for number, loss in enumerate(losses):
        torch.testing.assert_close(loss, each[hidden & (rows == number)].mean(), atol=1e-4, rtol=1e-4)


def test_how_an_update_is_cut_changes_nothing(reader_folder: Path) -> None:
    policy, rows, batch = ready(reader_folder)
    collate, objective = Collator(Layout.REBUILT), Denoise()
    whole = objective(policy, batch).losses
    whole.sum().backward()
    slopes = {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}
    assert any("text_decoder" in name for name in slopes)
    assert any("body" in name for name in slopes)
    for parameter in policy.trainable().values():
        parameter.grad = None
    apart = [objective(policy, collate([row])).losses for row in rows]
    torch.testing.assert_close(torch.cat(apart), whole, atol=1e-5, rtol=1e-5)
    torch.cat(apart).sum().backward()
    for name, slope in slopes.items():
        torch.testing.assert_close(policy.trainable()[name].grad, slope, atol=1e-4, rtol=1e-4)


def held_out_loss(reader: Path, seed: int, *, told: bool) -> tuple[float, float]:
    """Of texts of two letters, a pair that was not learned, before and after; `told` False: vectors are zeros."""
    torch.manual_seed(seed)
    policy, loaded = tiny_policy(reader, layout=Layout.REBUILT)
    if not told:
        policy.module.text_decoder.register_forward_pre_hook(lambda _, given: (given[0] * 0, *given[1:]))
    rng, pairs = np.random.default_rng(seed), list(itertools.combinations("abcdefghijkl", 2))
    rng.shuffle(pairs)

    def rows_of(*chosen: tuple[str, str]) -> list[Row]:
        found = [loaded.processor.pieces("".join(rng.permutation([*pair] * 4)), limit=64)[0] for pair in chosen]
        return [Row(Example(Place("pairs", n)), row.ids, row.learn) for n, row in enumerate(found)]

    collate, objective = Collator(Layout.REBUILT), Denoise(deleted=0.3, hidden=1)
    learned, asked = pairs[:50], collate(rows_of(*pairs[50:]))

    class Steps:
        def steps(self, policy: object, start: int = 0) -> Iterator[Step]:
            for _ in range(100):
                yield Step([collate(rows_of(*(learned[n] for n in rng.integers(50, size=16))))])

    def measured() -> float:
        policy.module.eval()
        with torch.no_grad():
            return float(objective(policy, asked).losses.mean())

    before, settings = measured(), AdamW(learning_rate=1e-3, head_rate=5.0)
    updater = Updater(settings, policy.trainable(), steps=100, heads=["text_decoder"])
    for _ in fit(policy, {"main": objective}, Steps(), updater):
        pass
    return before, measured()


@pytest.mark.parametrize("seed", [0, 1])
def test_texts_that_were_not_learned_are_rebuilt_from_their_vectors(seed: int, tmp_path: Path) -> None:
    """Who knows nothing of a text has a loss of log 12; who knows the pair, of log 2."""
    reader = tiny_reader(tmp_path / "reader", hidden_size=96, intermediate_size=96)
    before, after = held_out_loss(reader, seed, told=True)
    _, silent = held_out_loss(reader, seed, told=False)
    assert after < math.log(12) - 0.2 < before
    assert silent > math.log(12) - 0.05, "the vector carries it"


def test_what_is_reported(reader_folder: Path, tmp_path: Path) -> None:
    """A text is found by a part of it; the perplexity is that of the named tokens, beside how common they are."""
    policy, rows, batch = ready(reader_folder)
    objective, collate = Denoise(), Collator(Layout.REBUILT)
    accuracy, perplexity = examine_denoise(policy, objective, collate, rows, rows).scores
    assert accuracy.metric == "accuracy"
    losses, hidden = objective(policy, batch).losses.detach(), objective.named(policy, batch)
    counts = torch.bincount(batch.targets["rows"][hidden])
    assert perplexity.values["tuned"] == pytest.approx(float(((losses * counts).sum() / counts.sum()).exp()), rel=1e-4)
    tokens = batch.targets["tokens"]
    common = [-math.log((int((tokens == token).sum()) + 1) / (len(tokens) + len(tokens.unique()) + 1))
              for token in tokens[hidden]]  # fmt: skip
    assert perplexity.values["trivial"] == pytest.approx(math.exp(sum(common) / len(common)), rel=1e-4)


def test_the_decoder_is_trained_and_no_part_of_the_model(reader_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer

    recipe = {"data": str(texts(tmp_path)), "model": str(reader_folder), "objective": "denoise", **SMALL}
    made = tuneful.fit({**recipe, "schedule": {"steps": 4}, "precision": "bf16", "evaluate": {}}, out=tmp_path / "run")
    assert made.report["forgetting"]
    checkpoint = max((made.path / "checkpoints").iterdir())
    learned = load_file(checkpoint / "weights.safetensors")
    torch.manual_seed(0)
    new = load(str(reader_folder), labels=REBUILDS).module.state_dict()
    decoder = [name for name in new if name.startswith("text_decoder")]
    assert decoder
    assert set(decoder) <= set(learned)
    saved = load_file(made.path / "model" / "model.safetensors")
    assert not [name for name in saved if "decoder" in name]
    assert made.report["quality"].keys() == {"accuracy", "perplexity"}
    asked = ["warm sunny", "grey cold dark"]
    vectors = SentenceTransformer(str(made.path / "model"), device="cpu").encode(asked)
    policy, loaded = tiny_policy(made.path, layout=Layout.TEXTS)
    policy.module.eval()
    rows = [loaded.processor.pieces(text, limit=64)[0] for text in asked]
    ours = [policy.read(Collator(Layout.TEXTS)([Row(None, row.ids, row.learn)]).inputs).embeddings()[0] for row in rows]  # type: ignore[arg-type]
    np.testing.assert_allclose(vectors, torch.stack(ours).numpy(), atol=1e-5)
    with pytest.raises(RunFolderError, match="learned from texts alone"):
        tuneful.load(made.path)
    labelled = write_rows(tmp_path / "moods.jsonl", moods(60))
    assert check({"data": str(labelled), "model": str(made.path)}).folder == made.path / "model"


@pytest.mark.parametrize("adapter", ["full", "top_layers"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(adapter: str, reader_folder: Path, tmp_path: Path) -> None:
    told = {"data": str(texts(tmp_path)), "model": str(reader_folder), "objective": "denoise", "adapter": adapter,
            "schedule": {"steps": 8}, "evaluate": {"forgetting": False, "every": 3}}  # fmt: skip
    whole, parts = whole_and_parts(check(told).recipe, tmp_path, after=4)
    told_by = [losses_of(folder, "train", "validation") for folder in (whole, parts)]
    assert told_by[0] == told_by[1]
    assert len(told_by[0]) == 11
    assert whole.read_json(whole.report)["quality"] == parts.read_json(parts.report)["quality"]


def test_the_new_layer_learns_at_a_rate_of_its_own(reader_folder: Path, tmp_path: Path) -> None:
    recipe = {"data": str(texts(tmp_path)), "model": str(reader_folder), "objective": "denoise"}
    usual = check(recipe).recipe.optimiser
    assert usual.learning_rate == pytest.approx(0.02 * 0.072)
    assert usual.learning_rate * usual.head_rate == pytest.approx(1e-3)
    given = check({**recipe, "optimiser": {"learning_rate": 1e-4, "head_rate": 3.0}}).recipe.optimiser
    assert (given.learning_rate, given.head_rate) == (1e-4, 3.0)
    assert check({**recipe, "objective": "contrast"}).recipe.optimiser.head_rate == 1


def test_a_rate_of_its_own_moves_the_new_layer_alone(reader_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    recipe = {"data": str(texts(tmp_path)), "model": str(reader_folder), "objective": "denoise", "evaluate": "none",
              "schedule": {"steps": 1}}  # fmt: skip
    runs = [tuneful.fit({**recipe, "optimiser": {"learning_rate": 1e-3, "head_rate": rate, "warmup": 0}},
                        out=tmp_path / f"run{rate}") for rate in (1.0, 10.0)]  # fmt: skip
    slow, fast = (load_file(max((r.path / "checkpoints").iterdir()) / "weights.safetensors") for r in runs)
    moved = {name for name in slow if not torch.equal(slow[name], fast[name])}
    assert moved
    assert all(name.startswith("text_decoder") for name in moved)


def test_refusals(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    recipe = {"data": str(texts(tmp_path)), "model": str(reader_folder), "objective": "denoise"}
    for change, words in [
        ({"model": str(generator_folder)}, "this is for encoders"),
        ({"adapter": "lora"}, "use full or top_layers"),
        ({"adapter": "head"}, "there is no head here"),
        ({"quantise": "int8"}, "use full or top_layers"),
        ({"regularisers": ["reference_kl"]}, "an encoder by itself gives none"),
        ({"evaluate": {"primary": "perplexity"}}, "perplexity is not measured"),
        ({"objective": {"kind": "denoise", "deleted": 1}}, "less than 1"),
        ({"objective": {"kind": "denoise", "hidden": 0}}, "greater than 0"),
    ]:
        with pytest.raises(RecipeError, match=words):
            check({**recipe, **change})
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": "a b", "completion": "c"}] * 9)
    with pytest.raises(RecipeError, match="learns from plain texts"):
        check({**recipe, "data": str(asked)})


def test_odd_texts(reader_folder: Path, tmp_path: Path) -> None:
    """One character, many, two scripts, nothing, the same twice; one row alone."""
    rows = ["a", "ab" * 300, "早安 good morning", "", " ", "same text", "same text", *[f"text {n}" for n in range(20)]]
    odd = write_rows(tmp_path / "odd.jsonl", [{"text": text} for text in rows])
    recipe = {"model": str(reader_folder), "objective": "denoise", "schedule": {"steps": 2}, **SMALL}
    made = tuneful.fit({**recipe, "data": {"source": str(odd), "drop": True}}, out=tmp_path / "odd")
    assert math.isfinite(made.report["generalisation"]["train"])
    one = write_rows(tmp_path / "one.jsonl", [{"text": "alone"}])
    alone = tuneful.fit({**recipe, "data": {"source": str(one), "validation": 0, "test": 0}}, out=tmp_path / "one")
    assert math.isfinite(alone.report["generalisation"]["train"])
