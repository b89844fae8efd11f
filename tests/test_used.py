"""Only the rows of the embedding that occur in the data learn; no number changes by that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from test_fit import Fixed, tiny_policy, tiny_rows
from test_network import GENERATORS, READERS, build
from tuneful.adapters import Full
from tuneful.adapters.used import UsedRows
from tuneful.core.types import Layout, Step
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import NextToken


@pytest.mark.parametrize("name", ["Bert", "Roberta", "ModernBert"])
def test_training_learns_the_same(name: str) -> None:
    found = []
    for narrow in (False, True):
        torch.manual_seed(0)
        model = build(name, READERS[name][0], labels=True)
        attached = Full().attach(model, labels=True)
        before = model.get_input_embeddings().weight.detach().clone()
        ids = torch.tensor([[7, 9, 30, 9]])
        if narrow:
            attached.see(torch.unique(ids))
            rows = model.get_input_embeddings().rows
            assert rows.shape[0] == 3
        optimiser = Updater(AdamW(learning_rate=1e-2), attached.trainable(), steps=5)
        for step in range(5):
            model.train()
            torch.manual_seed(step)
            model(input_ids=ids, labels=torch.tensor([1])).loss.backward()
            optimiser.step(step + 1)
        merged = attached.merged()
        after = merged.get_input_embeddings().weight
        assert type(merged.get_input_embeddings()) is torch.nn.Embedding
        found.append(after.detach())
        unseen = [token for token in range(len(after)) if token not in (7, 9, 30)]
        torch.testing.assert_close(after[unseen], before[unseen], rtol=0, atol=0)
        assert (after[[7, 9, 30]] != before[[7, 9, 30]]).any(1).all()
        model.eval()
        other = torch.tensor([[7, 40, 41, 30]])  # tokens that were not among the rows
        torch.testing.assert_close(model(input_ids=other).logits, merged(input_ids=other).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_the_model_as_it_was_stays() -> None:
    model = build("Bert", READERS["Bert"][0], labels=True)
    attached = Full().attach(model, labels=True)
    before = model.get_input_embeddings().weight.detach().clone()
    attached.see(torch.tensor([7, 9]))
    with torch.no_grad():
        model.get_input_embeddings().rows.add_(1.0)
    with attached.original() as original:
        torch.testing.assert_close(original.get_input_embeddings().weight, before, rtol=0, atol=0)


def test_an_embedding_that_is_the_output_matrix_learns_whole() -> None:
    model = build("Llama", {**GENERATORS["Llama"][0], "tie_word_embeddings": True}, labels=False)
    Full().attach(model, labels=False).see(torch.tensor([7, 9]))
    assert not isinstance(model.get_input_embeddings(), UsedRows)


def test_a_writer_with_its_own_output_matrix(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, Full())
    rows = tiny_rows(loaded, Layout.TOKENS)
    policy.attached.see(torch.from_numpy(np.unique(np.concatenate([row.ids for row in rows]))))
    batch = Collator(Layout.TOKENS)(rows)
    updater = Updater(AdamW(learning_rate=1e-2), policy.trainable(), steps=3)
    losses = [r.metrics["loss"] for r in fit(policy, {"main": NextToken()}, Fixed(*[Step([batch])] * 3), updater)]
    assert losses[-1] < losses[0]
