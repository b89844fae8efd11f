"""An encoder that learns from texts nobody labelled: naming hidden tokens, telling texts apart."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tuneful
from tuneful.core.errors import ModelError, RecipeError, RunFolderError
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.evaluation.alone import examine_masked
from tuneful.models.load import load
from tuneful.objectives import Contrast, Masked
from tuneful.objectives.noise import chances, shortened
from tuneful.run.api import check
from tuneful.testing import tiny_generator, tiny_policy, tiny_rows
from work import moods, write_rows

SMALL = {"evaluate": {"forgetting": False}}


def texts(folder: Path, count: int = 80) -> Path:
    return write_rows(folder / "texts.jsonl", [{"text": row["text"]} for row in moods(count)])


def test_losses_of_hidden_tokens_are_those_of_the_models_own_forward_pass(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    policy.module.eval()
    mask = loaded.processor.mask_id
    rows = tiny_rows(loaded, Layout.MASKED)
    batch = Collator(Layout.MASKED)(rows)
    losses = Masked(rate=0.3, token=mask)(policy, batch).losses.detach()
    told = losses > 0
    assert 0 < int(told.sum()) < len(losses)
    assert not bool(losses[~told].any())
    drawn = chances(policy, batch)
    assert torch.equal(told, (drawn < 0.3) | (drawn == drawn.min()))
    hidden_of_row = [told[batch.targets["rows"] == number] for number in range(len(rows))]
    found = []
    for row, hidden in zip(rows, hidden_of_row, strict=True):
        ids = torch.tensor(row.ids.astype(np.int64))
        places = torch.tensor(np.flatnonzero(row.learn))[hidden]
        covered = ids.clone()
        covered[places] = mask
        with loaded.network.natively(policy.module):
            logits = policy.module(input_ids=covered[None], attention_mask=torch.ones_like(covered)[None]).logits[0]
        found.append(F.cross_entropy(logits[places].float(), ids[places], reduction="none").detach() / 0.3)
    torch.testing.assert_close(losses[told], torch.cat(found), atol=1e-4, rtol=1e-4)


def test_what_is_hidden_while_measuring_does_not_depend_on_the_batch(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.MASKED)
    collate = Collator(Layout.MASKED)
    apart = torch.cat([chances(policy, collate([row])) for row in rows])
    assert torch.equal(apart, chances(policy, collate(rows)))
    policy.module.train()
    assert not torch.equal(apart, chances(policy, collate(rows)))


def test_the_perplexity_is_that_of_the_hidden_tokens(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    rows, collate = tiny_rows(loaded, Layout.MASKED), Collator(Layout.MASKED)
    objective = Masked(rate=0.4, token=loaded.processor.mask_id)
    found = examine_masked(policy, objective, collate, rows, rows, base=False).scores[0].values
    policy.module.eval()
    told = objective(policy, collate(rows)).losses.detach() * 0.4
    assert found["tuned"] == pytest.approx(float(told[told > 0].mean().exp()), rel=1e-4)
    tokens = collate(rows).targets["tokens"]
    common = [-math.log((int((tokens == token).sum()) + 1) / (len(tokens) + len(tokens.unique()) + 1))
              for token in tokens[told > 0]]  # fmt: skip
    assert found["base"] == pytest.approx(math.exp(sum(common) / len(common)), rel=1e-4)


def test_special_tokens_are_never_hidden_nor_left_out(reader_folder: Path) -> None:
    _, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    rows = tiny_rows(loaded, Layout.MASKED)
    special = set(loaded.processor.tokenizer.all_special_ids)
    for layout in (Layout.MASKED, Layout.TEXTS):
        batch = Collator(layout)(rows)
        assert not special & set(batch.inputs["input_ids"][0, batch.targets["where"]].tolist())
    assert torch.equal(batch.weights, torch.ones(len(rows)))


def test_the_contrast_is_worked_out_by_hand(reader_folder: Path) -> None:
    """Dropout off and nothing deleted: both views are the same, so the loss follows from one matrix of cosines."""
    policy, loaded = tiny_policy(reader_folder, layout=Layout.TEXTS)
    policy.module.eval()
    batch = Collator(Layout.TEXTS)(tiny_rows(loaded, Layout.TEXTS))
    terms = Contrast(temperature=0.5, deleted=0)(policy, batch)
    vectors = policy(batch).embeddings().detach().numpy()
    for number, loss in enumerate(terms.losses.tolist()):
        scores = [float(vectors[number] @ other) / 0.5 for other in vectors]
        assert loss == pytest.approx(math.log(sum(map(math.exp, scores))) - scores[number], abs=1e-4)
    assert terms.metrics["found"] == 1


def test_a_shortened_batch_is_the_batch_of_shortened_rows(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.TEXTS)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.TEXTS)
    batch = Collator(Layout.TEXTS)(rows)
    gone = torch.zeros(batch.inputs["input_ids"].shape[1], dtype=torch.bool)
    gone[batch.targets["where"][::3]] = True
    kept = [~gone[start:end].numpy() for start, end, _ in batch.inputs["segments"].tolist()]
    short = [replace(row, ids=row.ids[k], learn=row.learn[k]) for row, k in zip(rows, kept, strict=True)]
    made, expected = shortened(batch.inputs, gone), Collator(Layout.TEXTS)(short).inputs
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in made)
    nothing = shortened(batch.inputs, torch.ones_like(gone))  # a row never vanishes
    assert nothing["segments"].tolist() == [[n, n + 1, -1] for n in range(len(rows))]


def test_a_long_text_is_learned_whole_in_pieces(reader_folder: Path, tmp_path: Path) -> None:
    _, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    pieces = loaded.processor.pieces("abcdefghij" * 5, limit=20)
    learned = "".join(loaded.processor.decode(piece.ids[piece.learn > 0].tolist()) for piece in pieces)
    assert learned == "abcdefghij" * 5
    assert all(len(piece.ids) <= 20 for piece in pieces)
    source = write_rows(tmp_path / "long.jsonl", [{"text": f"{n} " + "word " * 20} for n in range(40)])
    data = {"source": str(source), "max_tokens": 30}
    whole = check({"data": data, "model": str(reader_folder), "objective": "contrast"})
    cut = check({"data": data, "model": str(reader_folder), "objective": "masked"})
    assert len(whole.rows("train")) < len(cut.rows("train"))
    assert whole.xray.truncated
    assert not cut.xray.truncated


@pytest.mark.parametrize(("objective", "metric"), [("masked", "perplexity"), ("contrast", "accuracy")])
def test_an_encoder_learns_from_texts_and_is_tuned_further(
    objective: str, metric: str, reader_folder: Path, tmp_path: Path
) -> None:
    recipe = {"data": str(texts(tmp_path, 300)), "model": str(reader_folder), "objective": objective, **SMALL}
    recipe |= {"schedule": {"epochs": 8}, "optimiser": {"learning_rate": 3e-3}}
    run = tuneful.fit(recipe, out=tmp_path / "run")
    found = run.report["quality"][metric]
    assert found["tuned"] < 0.8 * found["base"] if metric == "perplexity" else found["tuned"] > found["base"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert ("whatever stands around it" in page) is (objective == "masked")
    with pytest.raises(RunFolderError, match="learned from texts alone"):
        tuneful.load(run.path)
    labelled = write_rows(tmp_path / "moods.jsonl", moods(60))
    further = check({"data": str(labelled), "model": str(run.path)})
    before, after = load(str(reader_folder), labels=None, fills=True), load(str(run.path), fills=True)
    moved = [float((a - b).detach().abs().max()) for a, b in
             zip(before.module.base_model.parameters(), after.module.base_model.parameters(), strict=True)]  # fmt: skip
    assert max(moved) > 1e-3
    assert further.folder == run.path / "model"


def test_what_comes_out_is_read_by_other_tools(reader_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModelForMaskedLM

    source = texts(tmp_path)
    recipe = {"data": str(source), "model": str(reader_folder), "schedule": {"steps": 2}, **SMALL}
    masked = tuneful.fit(recipe, out=tmp_path / "masked")
    report = json.loads((masked.path / "report.json").read_text(encoding="utf-8"))
    assert report["provenance"]["recipe"]["tasks"][0]["objective"]["kind"] == "masked"  # nobody said so
    AutoModelForMaskedLM.from_pretrained(masked.path / "model")
    vectors = tuneful.fit({**recipe, "objective": "contrast"}, out=tmp_path / "vectors")
    told = SentenceTransformer(str(vectors.path / "model"), device="cpu").encode(["sunny warm"])
    assert told.shape == (1, 32)
    assert np.linalg.norm(told[0]) == pytest.approx(1, abs=1e-5)


def test_refusals(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    source = str(texts(tmp_path))
    with pytest.raises(RecipeError, match="this is for encoders"):
        check({"data": source, "model": str(generator_folder), "objective": "masked"})
    with pytest.raises(RecipeError, match="use full or top_layers"):
        check({"data": source, "model": str(reader_folder), "objective": "contrast", "adapter": "lora"})
    with pytest.raises(RecipeError, match="an encoder by itself gives none"):
        check({"data": source, "model": str(reader_folder), "objective": "contrast", "regularisers": ["reference_kl"]})
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": "a b", "completion": "c"}] * 9)
    with pytest.raises(RecipeError, match="learns from plain texts"):
        check({"data": str(asked), "model": str(reader_folder), "objective": "masked"})
    unmasked = tmp_path / "unmasked"
    loaded = load(str(reader_folder), fills=True)
    loaded.module.save_pretrained(unmasked)
    loaded.processor.tokenizer.mask_token = None
    loaded.processor.tokenizer.save_pretrained(unmasked)
    with pytest.raises(RecipeError, match="has no mask token"):
        check({"data": source, "model": str(unmasked), "objective": "masked"})
    run = tuneful.fit({"data": source, "model": str(tiny_generator(tmp_path / "writer")), "schedule": {"steps": 1},
                       "evaluate": "none"}, out=tmp_path / "run")  # fmt: skip
    with pytest.raises(ModelError, match="an adapter, no model of its own"):
        check({"data": source, "model": str(run.path)})
