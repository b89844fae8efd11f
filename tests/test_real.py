"""The real small models: they load, read and write as they should, and a few updates on real text do what they must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tuneful.adapters import Full, Lora
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.xray import pieces
from tuneful.engine.checkpoint import load_newest, save_checkpoint
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.evaluation.reading import token_losses
from tuneful.models.load import load
from tuneful.models.sampling import Generator
from tuneful.objectives import NextToken
from tuneful.schedules.epochs import Cut, EpochSteps

pytestmark = pytest.mark.real
QUICK_BF16 = pytest.mark.skipif(
    not torch.cuda.is_available()
    and not torch.cpu._is_avx512_bf16_supported()
    and not torch.cpu._is_amx_tile_supported(),
    reason="this processor has no products in bf16: imitated, they take minutes",
)
CAPITALS = [
    ("France", "Paris"),
    ("Japan", "Tokyo"),
    ("Italy", "Rome"),
    ("Egypt", "Cairo"),
    ("Peru", "Lima"),
    ("Kenya", "Nairobi"),
]
CHINESE = [("請把燈打開。", "好的，燈已經打開了。"), ("今天幾號？", "今天是十一月二十四號。")]


@pytest.fixture(autouse=True)
def both_cores() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def writer(dtype: torch.dtype = torch.float32, adapter: Any = None) -> tuple[Policy, Any]:
    loaded = load("smollm2-135m", dtype=dtype)
    return Policy(loaded.network, (adapter or Lora()).attach(loaded.module, labels=False)), loaded


def rows_of(loaded: Any, pairs: list[tuple[str, str]]) -> list[Row]:
    rows = []
    for number, (asked, answer) in enumerate(pairs):
        encoded = loaded.processor.conversation([Message("user", asked), Message("assistant", answer)])[0]
        rows.append(Row(Example(Place("real", number)), encoded.ids, encoded.learn))
    return rows


def questions() -> list[tuple[str, str]]:
    return [(f"What is the capital of {country}?", f"{city}, of course!") for country, city in CAPITALS]


def test_smollm2_is_what_it_says(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (576, 30, 49152)
    _, loaded = writer()
    assert loaded.processor.stop_ids == {2}
    assert loaded.network.packed
    assert loaded.network.shares
    assert loaded.processor.brought_template


def test_the_xray_of_chinese_is_right(smollm2: Path) -> None:
    _, loaded = writer()
    for asked, answer in CHINESE:
        encoded = loaded.processor.conversation([Message("user", asked), Message("assistant", answer)])[0]
        learned = [text for text, is_learned in pieces(encoded) if is_learned]
        assert learned == [f"{answer}<|im_end|>"]


def test_packed_and_shared_rows_read_like_transformers(smollm2: Path) -> None:
    policy, loaded = writer()
    rows = rows_of(loaded, [*questions(), *CHINESE])
    policy.module.eval()
    found = token_losses(policy, rows, Collator(Layout.TOKENS, share=True))
    model: Any = policy.attached.merged()
    for row, (total, count) in zip(rows, found, strict=True):
        ids = torch.from_numpy(row.ids.astype("int64"))[None]
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        learned = [place for place, weight in enumerate(row.learn) if weight]
        expected = -sum(float(logprobs[place - 1, ids[0, place]]) for place in learned)
        assert count == len(learned)
        assert total == pytest.approx(expected, rel=1e-3)


def test_it_answers_and_stops(smollm2: Path) -> None:
    policy, loaded = writer(torch.bfloat16)
    prompts = [loaded.processor.prompt([Message("user", asked)]).ids for asked, _ in questions()]
    answers = Generator(loaded.processor).sample(policy, prompts, limit=60)
    assert sum(city in answer.text for answer, (_, city) in zip(answers, CAPITALS, strict=True)) >= 4
    assert sum(answer.stopped for answer in answers) >= 4


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=QUICK_BF16)])
def test_a_few_updates_teach_a_habit(smollm2: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    policy, loaded = writer(dtype)
    rows = rows_of(loaded, questions()[:4])
    collate = Collator(Layout.TOKENS, share=True)
    before = token_losses(policy, rows_of(loaded, questions()[4:]), collate).sum(0)
    schedule = EpochSteps(rows, collate, Cut(4, 2048), total=8)
    list(fit(policy, {"main": NextToken()}, schedule, Updater(AdamW(learning_rate=1e-3), policy.trainable(), steps=8)))
    after = token_losses(policy, rows_of(loaded, questions()[4:]), collate).sum(0)
    assert after[0] / after[1] < 0.6 * before[0] / before[1], "countries it was not taught"


@QUICK_BF16
def test_going_on_equals_not_stopping_in_bf16(smollm2: Path, tmp_path: Path) -> None:
    def start() -> tuple[Policy, EpochSteps, Updater]:
        torch.manual_seed(0)
        policy, loaded = writer(torch.bfloat16)
        schedule = EpochSteps(rows_of(loaded, questions()), Collator(Layout.TOKENS, share=True), Cut(3, 2048), total=4)
        return policy, schedule, Updater(AdamW(learning_rate=1e-3), policy.trainable(), steps=4)

    policy, schedule, optimiser = start()
    whole = [record.metrics["loss"] for record in fit(policy, {"main": NextToken()}, schedule, optimiser)]
    first, schedule, optimiser = start()
    records = fit(first, {"main": NextToken()}, schedule, optimiser)
    next(records)
    next(records)
    save_checkpoint(tmp_path, 2, first, optimiser, notes={})
    second, schedule, optimiser = start()
    load_newest(tmp_path, second, optimiser)
    rest = [record.metrics["loss"] for record in fit(second, {"main": NextToken()}, schedule, optimiser, start=2)]
    assert rest == whole[2:]
    assert all(torch.equal(t, second.attached.state()[n]) for n, t in policy.attached.state().items())


def test_minilm_knows_what_is_alike(minilm: Path) -> None:
    loaded = load(str(minilm))
    policy = Policy(loaded.network, Full().attach(loaded.module, labels=False)) if loaded.network.causal else None
    assert policy is None
    texts = ["How do I reset my password?", "I forgot my login code", "The soup was delicious"]
    rows = [
        Row(Example(Place("real", 0)), item.ids, item.learn)
        for item in (loaded.processor.text(t, limit=64) for t in texts)
    ]
    batch = Collator(Layout.LABELS)([Row(row.example, row.ids, row.learn, target=0) for row in rows])
    with torch.no_grad():
        hidden = loaded.network.hidden(loaded.module, batch.inputs)
    vectors = torch.nn.functional.normalize(loaded.network.embeddings(hidden, batch.inputs), dim=-1)
    alike = vectors @ vectors.T
    assert float(alike[0, 1]) > float(alike[0, 2]) + 0.2
