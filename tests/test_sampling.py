"""Whatever way an architecture is decoded, it writes what its own forward pass, asked token by token, would write."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from test_network import GENERATORS, build
from tuneful.adapters import Full
from tuneful.core.policy import Policy
from tuneful.core.types import Completion
from tuneful.models import cached, sampling
from tuneful.models.examine import examine
from tuneful.models.sampling import Generator
from tuneful.models.writing import drawn

COMMON = list(range(20, 31))
PROMPTS = {
    "one": [[5, 9, 11]],
    "nothing in common": [[5, 9, 11], [8, 3], [6, 6, 4, 9, 14, 12, 30]],
    "a common beginning": [[*COMMON, 5, 9], [*COMMON, 33], [*COMMON, 40, 41, 42, 43, 44], [*COMMON, 3]],
    "one begins the other": [COMMON, [*COMMON, 5], [*COMMON, 5, 9]],
    "the same": [COMMON, COMMON, COMMON],
}


def sample(model: Any, prompts: list[list[int]], *, stops: set[int], limit: int, **options: Any) -> list[list[int]]:
    return [list(answer.ids) for answer in completions(model, prompts, stops=stops, limit=limit, **options)]


def completions(
    model: Any, prompts: list[list[int]], *, stops: set[int], limit: int, **options: Any
) -> list[Completion]:
    processor: Any = SimpleNamespace(pad_id=0, stop_ids=frozenset(stops), decode=lambda ids: " ".join(map(str, ids)))
    model = copy.deepcopy(model)  # examine() leaves packed attention in place
    policy = Policy(examine(model), Full().attach(model, labels=False))
    arrays = [np.array(prompt, dtype=np.int32) for prompt in prompts]
    return Generator(processor).sample(policy, arrays, limit=limit, **options)


def greedy(model: Any, prompt: list[int], *, stops: set[int], limit: int) -> list[int]:
    ids, produced = list(prompt), []
    while len(produced) < limit and not (produced and produced[-1] in stops):
        with torch.no_grad():
            produced.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        ids.append(produced[-1])
    return produced


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("shared", [4, 64])
def test_greedy_answers_are_the_forward_pass_own(name: str, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shared`: from how many tokens on a common beginning is stored once."""
    monkeypatch.setattr(cached, "LEAST_SHARED", shared)
    settings, _ = GENERATORS[name]
    model = build(name, settings, labels=False)
    for prompts in PROMPTS.values():
        expected = [greedy(model, prompt, stops=set(), limit=6) for prompt in prompts]
        assert sample(model, prompts, stops=set(), limit=6) == expected


@pytest.mark.parametrize("name", GENERATORS)
def test_several_answers_to_a_prompt_are_drawn_as_their_log_probabilities_say(name: str) -> None:
    model = build(name, GENERATORS[name][0], labels=False)
    prompts, each, stops = PROMPTS["nothing in common"], 5, set(range(3, 40))
    found = completions(model, prompts, stops=stops, limit=7, temperature=1.0, count=each)
    assert len(found) == each * len(prompts)
    for number, prompt in enumerate(prompts):
        own = found[number * each : (number + 1) * each]
        assert len({(*answer.ids, *answer.end) for answer in own}) > 1, "each is drawn for itself"
        for answer in own:
            said = [*answer.ids, *answer.end]
            assert bool(answer.end) == answer.stopped
            assert not stops & set(answer.ids)
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *said]])).logits[0].float()
            expected = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(said)[:, None])
            assert answer.logprobs == pytest.approx(expected.squeeze(1).tolist(), abs=1e-4)


@pytest.mark.parametrize("room", [1, 4, 32])
def test_rows_end_at_their_stop_and_the_others_go_on(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "ROOM", room)
    model = build("Llama", GENERATORS["Llama"][0], labels=False)
    rng = np.random.default_rng(0)
    prompts = [[*COMMON, *rng.integers(3, 120, size).tolist()] for size in (1, 2, 3, 5, 8, 9, 12, 4)]
    stops = {greedy(model, prompts[row], stops=set(), limit=9)[place] for row, place in ((0, 1), (1, 4), (2, 7))}
    expected = [greedy(model, prompt, stops=stops, limit=40) for prompt in prompts]
    assert len({len(answer) for answer in expected}) > 2, "they end at different times"
    found = sample(model, prompts, stops=stops, limit=40)
    assert found == [[token for token in answer if token not in stops] for answer in expected]


def test_batches_of_any_size_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Qwen3", GENERATORS["Qwen3"][0], labels=False)
    prompts = PROMPTS["a common beginning"]
    together = sample(model, prompts, stops=set(), limit=6)
    monkeypatch.setattr(sampling, "TOGETHER", 1)
    assert sample(model, prompts, stops=set(), limit=6) == together


def test_drawn_tokens_follow_the_models_shares() -> None:
    """2,000 draws of the next token against the softmax of the forward pass; another seed draws otherwise."""
    model = build("Llama", {**GENERATORS["Llama"][0], "vocab_size": 40}, labels=False)
    prompt = [5, 9, 11]
    drawn = [a[0] for a in sample(model, [prompt] * 2000, stops=set(), limit=1, temperature=2.0, seed=1)]
    with torch.no_grad():
        shares = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 2.0, -1).numpy()
    counts = np.bincount(drawn, minlength=40) / 2000
    assert np.abs(counts - shares).sum() < 0.15
    other = [a[0] for a in sample(model, [prompt] * 2000, stops=set(), limit=1, temperature=2.0, seed=2)]
    assert drawn != other


@pytest.mark.parametrize("name", ["Llama", "Gemma2"])  # decoded packed, and padded
def test_a_text_may_end_an_answer(name: str) -> None:
    """The stand-in decodes to numbers with spaces between: rows end where the text comes up, the others go on."""
    model = build(name, GENERATORS[name][0], labels=False)
    prompts = PROMPTS["a common beginning"]
    whole = sample(model, prompts, stops=set(), limit=9)
    wanted = f"{whole[0][2]} {whole[0][3]}"  # spans two tokens
    processor: Any = SimpleNamespace(pad_id=0, stop_ids=frozenset(), decode=lambda ids: " ".join(map(str, ids)))
    copied = copy.deepcopy(model)
    policy = Policy(examine(copied), Full().attach(copied, labels=False))
    arrays = [np.array(prompt, dtype=np.int32) for prompt in prompts]
    found = Generator(processor).sample(policy, arrays, limit=9, stops=[wanted, "no such text", ""])
    for answer, ids in zip(found, whole, strict=True):
        text = " ".join(map(str, ids))
        assert answer.text == text.split(wanted)[0]
        assert answer.stopped == (wanted in text)
        assert list(answer.ids) == ids[: len(answer.ids)]
    assert 2 <= len(found[0].ids) <= 4


def test_tokens_are_drawn_as_often_as_their_shares_say() -> None:
    shares = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]).expand(20_000, 6)
    found = drawn(shares, torch.Generator().manual_seed(0)).squeeze(1)
    often = torch.bincount(found, minlength=6) / len(found)
    assert often[[0, 2, 5]].tolist() == [0, 0, 0]
    assert often[[1, 3, 4]].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.015)
