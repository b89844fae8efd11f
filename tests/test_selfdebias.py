"""Tokens that a model finds likelier when it is told that a text is unwanted become less likely."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from test_network import GENERATORS, build
from tuneful.adapters import Full
from tuneful.core.errors import InputError
from tuneful.core.policy import Policy
from tuneful.models import selfdebias
from tuneful.models.examine import examine
from tuneful.models.sampling import Generator
from tuneful.models.selfdebias import ATTRIBUTES, SAYING, DebiasedGenerator, debiased, told


def logs(*shares: float) -> Tensor:
    return torch.tensor(shares).log()


def test_by_hand() -> None:
    """p = (.5, .3, .2) and (.48, .32, .2) told: delta = (.02, -.02, 0), alpha = (1, e^-1, 1); .3 / e = .11036, and the
    sum is .81036."""
    found = debiased(logs(0.5, 0.3, 0.2), logs(0.48, 0.32, 0.2)[None]).exp()
    torch.testing.assert_close(found, torch.tensor([0.5, 0.110364, 0.2]) / 0.810364, atol=1e-5, rtol=0)
    found = debiased(logs(0.5, 0.3, 0.2), logs(0.48, 0.32, 0.2)[None], decay=100.0).exp()
    torch.testing.assert_close(found, torch.tensor([0.5, 0.0406006, 0.2]) / 0.7406006, atol=1e-5, rtol=0)


def test_the_floor_by_hand() -> None:
    """delta = -.6 asks for e^-30; a hundredth is kept: .2 * .01 beside .8."""
    found = debiased(logs(0.2, 0.8), logs(0.8, 0.2)[None]).exp()
    torch.testing.assert_close(found, torch.tensor([0.002, 0.8]) / 0.802, atol=1e-6, rtol=0)
    found = debiased(logs(0.2, 0.8), logs(0.8, 0.2)[None], floor=0.1).exp()
    torch.testing.assert_close(found, torch.tensor([0.02, 0.8]) / 0.82, atol=1e-6, rtol=0)


def test_of_several_attributes_the_worst_counts_for_each_token() -> None:
    plain, one, other = logs(0.5, 0.3, 0.2), logs(0.5, 0.34, 0.16), logs(0.46, 0.28, 0.26)
    kept = torch.tensor([1.0, np.exp(-50 * 0.04), np.exp(-50 * 0.06)]) * plain.exp()
    found = debiased(plain, torch.stack([one, other])).exp()
    torch.testing.assert_close(found, (kept / kept.sum()).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, debiased(plain, torch.stack([other, one])).exp())


def test_against_numpy_in_any_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, biased = 3 * torch.randn(2, 4, 9, generator=generator), 3 * torch.randn(3, 2, 4, 9, generator=generator)
    found = debiased(logits, biased).exp().numpy()
    for row in np.ndindex(2, 4):
        p = np.exp(logits[row].double().numpy())
        p /= p.sum()
        told_of = [np.exp(biased[(k, *row)].double().numpy()) for k in range(3)]
        worst = np.min([p - other / other.sum() for other in told_of], axis=0)
        wanted = p * np.array([1.0 if d >= 0 else max(0.01, np.exp(50 * d)) for d in worst])
        np.testing.assert_allclose(found[row], wanted / wanted.sum(), atol=1e-6)


def test_what_nothing_speaks_against_stays() -> None:
    logits = torch.randn(3, 7)
    torch.testing.assert_close(debiased(logits, logits[None] + 5.0), logits.log_softmax(-1))
    torch.testing.assert_close(debiased(logits, logits.new_zeros(0, 3, 7)), logits.log_softmax(-1))
    found = debiased(torch.tensor([0.0, -torch.inf, 1.0]), torch.tensor([[0.0, -torch.inf, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([0.0, -torch.inf, 1.0]).log_softmax(-1))
    assert debiased(logits.bfloat16(), logits[None].bfloat16()).dtype == torch.float32


def test_what_is_said_of_a_text() -> None:
    assert told("Hello", attributes=["threat"]) == ["Below is a text that contains threats to do somebody harm:\nHello"]
    assert told("你好", "zh-TW", ["insult"]) == ["以下這段文字含有貶低他人的侮辱：\n你好"]
    assert len(set(told("x"))) == len(ATTRIBUTES["en"])
    assert told("x", attributes=[]) == []
    assert ATTRIBUTES.keys() == SAYING.keys()
    assert ATTRIBUTES["en"].keys() == ATTRIBUTES["zh-TW"].keys()
    with pytest.raises(InputError, match=r"knows no attribute 'rude'\. Known: toxicity"):
        told("x", attributes=["threat", "rude"])
    with pytest.raises(InputError, match="no words in 'de'; known: en, zh-TW"):
        told("x", "de")


PROMPTS = [[5, 9, 11], [8, 3], [6, 6, 4, 9, 14, 12, 30]]
BESIDE = [[[21, 22, *prompt], [40, 41, 42, *prompt]] for prompt in PROMPTS]


def policy_of(model: Any) -> Policy:
    model = copy.deepcopy(model)  # examine() leaves packed attention in place
    return Policy(examine(model), Full().attach(model, labels=False))


def processor_of(stops: set[int]) -> Any:
    return SimpleNamespace(pad_id=0, stop_ids=frozenset(stops), decode=lambda ids: " ".join(map(str, ids)))


def sample(
    model: Any, prompts: list[list[int]], beside: list[list[list[int]]], *, stops: set[int], decay: float, **more: Any
) -> list[Any]:
    arrays = [np.array(prompt, dtype=np.int32) for prompt in prompts]
    biased = [[np.array(other, dtype=np.int32) for other in others] for others in beside]
    return DebiasedGenerator(processor_of(stops), decay=decay).sample(policy_of(model), arrays, biased, **more)


def reread(model: Any, prompt: list[int], beside: list[list[int]], *, decay: float, limit: int) -> list[int]:
    """Greedy, each token from the whole of each text."""
    produced: list[int] = []
    for _ in range(limit):
        with torch.no_grad():
            logits = [model(torch.tensor([[*text, *produced]])).logits[0, -1] for text in (prompt, *beside)]
        produced.append(int(debiased(logits[0], torch.stack(logits[1:]), decay=decay).argmax()))
    return produced


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Mamba"])  # decoded packed, padded, and anew
def test_answers_are_those_of_whole_texts_read_anew(name: str) -> None:
    """A tiny model is sure of nothing, so a large decay stands for a large difference."""
    model = build(name, GENERATORS[name][0], labels=False)
    wanted = [reread(model, *pair, decay=1e5, limit=5) for pair in zip(PROMPTS, BESIDE, strict=True)]
    found = sample(model, PROMPTS, BESIDE, stops=set(), decay=1e5, limit=5)
    assert [list(answer.ids) for answer in found] == wanted
    assert not any(answer.stopped for answer in found)
    plain = [reread(model, prompt, beside, decay=0.0, limit=5) for prompt, beside in zip(PROMPTS, BESIDE, strict=True)]
    assert wanted != plain


def test_without_attributes_it_is_the_plain_generator() -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    arrays = [np.array(prompt, dtype=np.int32) for prompt in PROMPTS]
    plain = Generator(processor_of(set())).sample(policy_of(model), arrays, limit=6)
    nothing: list[list[list[int]]] = [[], [], []]
    for beside, decay in ((nothing, 50.0), (BESIDE, 0.0)):
        found = sample(model, PROMPTS, beside, stops=set(), decay=decay, limit=6)
        assert [answer.ids for answer in found] == [answer.ids for answer in plain]


def test_batches_of_any_size_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    together = sample(model, PROMPTS, BESIDE, stops=set(), decay=1e5, limit=5)
    for size in (1, 6):
        monkeypatch.setattr(selfdebias, "TOGETHER", size)
        assert sample(model, PROMPTS, BESIDE, stops=set(), decay=1e5, limit=5) == together


def test_an_answer_ends_at_its_own_stop() -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    whole = [list(a.ids) for a in sample(model, PROMPTS, BESIDE, stops=set(), decay=1e5, limit=8)]
    stops = {whole[0][2]}
    found = sample(model, PROMPTS, BESIDE, stops=stops, decay=1e5, limit=8)
    for answer, ids in zip(found, whole, strict=True):
        end = next((place for place, token in enumerate(ids) if token in stops), None)
        assert list(answer.ids) == ids[:end]
        assert answer.stopped == (end is not None)
        assert answer.text == " ".join(map(str, ids[:end]))
    assert len({len(answer.ids) for answer in found}) > 1


@pytest.mark.timeout(60)
def test_nothing_is_read_once_all_have_ended() -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    found = sample(model, PROMPTS, BESIDE, stops=set(range(120)), decay=50.0, limit=1_000_000)
    assert [(answer.ids, answer.stopped) for answer in found] == [((), True)] * 3


def test_draws_follow_the_debiased_shares() -> None:
    """2,000 draws of one token at temperature 2; the seed decides them."""
    model = build("Llama", {**GENERATORS["Llama"][0], "vocab_size": 50}, labels=False)
    with torch.no_grad():
        logits = [model(torch.tensor([text])).logits[0, -1] for text in (PROMPTS[0], *BESIDE[0])]
    shares = torch.softmax(debiased(logits[0], torch.stack(logits[1:]), decay=300.0) / 2, -1).numpy()
    given: Any = {"stops": set(), "decay": 300.0, "limit": 1, "temperature": 2.0}
    drawn = [a.ids[0] for a in sample(model, PROMPTS[:1] * 2000, BESIDE[:1] * 2000, seed=1, **given)]
    assert np.abs(np.bincount(drawn, minlength=50) / 2000 - shares).sum() < 0.15
    undone = torch.softmax(logits[0] / 2, -1).numpy()
    assert np.abs(np.bincount(drawn, minlength=50) / 2000 - undone).sum() > 0.2
    again, other = (
        [a.ids[0] for a in sample(model, PROMPTS[:1] * 50, BESIDE[:1] * 50, seed=seed, **given)] for seed in (1, 2)
    )
    assert again == drawn[:50] != other


def test_nothing_to_write() -> None:
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    assert sample(model, [], [], stops=set(), decay=50.0, limit=3) == []
    assert [a.ids for a in sample(model, PROMPTS, BESIDE, stops=set(), decay=50.0, limit=0)] == [(), (), ()]
    with pytest.raises(InputError, match=r"found 3 prompts and 2 lists .* of \[2\] each"):
        sample(model, PROMPTS, BESIDE[:2], stops=set(), decay=50.0, limit=3)
    with pytest.raises(InputError, match=r"of \[1, 2\] each"):
        sample(model, PROMPTS, [BESIDE[0][:1], *BESIDE[1:]], stops=set(), decay=50.0, limit=3)
