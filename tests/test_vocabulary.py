"""The chunked projection equals the whole one: values, and gradients of hidden states and weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tuneful.core import vocabulary
from tuneful.core.packing import packs
from tuneful.core.vocabulary import Vocabulary, chunks, token_kl, token_logprobs


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK_LOGITS", 16 * 50)
    monkeypatch.setattr(vocabulary, "CHUNK_LOGITS_OFTEN", 16 * 50)


def whole(head: Vocabulary, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.cap is not None:
        logits = head.cap * torch.tanh(logits / head.cap)
    return logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


@pytest.mark.parametrize(
    "head",
    [
        Vocabulary(torch.randn(50, 8)),
        Vocabulary(torch.randn(50, 8), bias=torch.randn(50)),
        Vocabulary(torch.randn(50, 8), scale=0.25),
        Vocabulary(torch.randn(50, 8), cap=2.0),
    ],
    ids=["plain", "bias", "scale", "cap"],
)
@pytest.mark.parametrize("weight_learns", [False, True])
def test_equals_the_whole_projection(head: Vocabulary, weight_learns: bool) -> None:
    hidden, targets = torch.randn(37, 8, requires_grad=True), torch.randint(0, 50, (37,))
    head.weight.requires_grad_(weight_learns)
    wanted, found = whole(head, hidden, targets), token_logprobs(head, hidden, targets)
    torch.testing.assert_close(found, wanted)
    slope = torch.randn(37)
    asked = (hidden, head.weight) if weight_learns else (hidden,)
    for one, other in zip(
        torch.autograd.grad(wanted, asked, slope), torch.autograd.grad(found, asked, slope), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_a_number_worked_out_by_hand() -> None:
    head = Vocabulary(torch.tensor([[0.0], [1.0]]))
    found = token_logprobs(head, torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1]))
    # log 1/2, and log e^2 / (1 + e^2)
    torch.testing.assert_close(found, torch.tensor([-0.693147, -0.126928]))


def test_kl_by_hand_and_of_equals() -> None:
    ours, theirs = Vocabulary(torch.tensor([[0.0], [1.0]])), Vocabulary(torch.tensor([[0.0], [0.0]]))
    hidden = torch.tensor([[1.0]])
    # 1/2 log (1/2 / 0.268941) + 1/2 log (1/2 / 0.731059)
    torch.testing.assert_close(token_kl(ours, hidden, theirs, hidden), torch.tensor([0.120115]), rtol=1e-4, atol=1e-6)
    assert float(token_kl(ours, hidden, ours, hidden)) == pytest.approx(0.0, abs=1e-7)


def test_kl_has_the_gradient_of_the_whole() -> None:
    head, other = Vocabulary(torch.randn(50, 8)), Vocabulary(torch.randn(50, 8))
    hidden, start = torch.randn(37, 8, requires_grad=True), torch.randn(37, 8)
    before = (start @ other.weight.T).log_softmax(-1)
    wanted = (before.exp() * (before - (hidden @ head.weight.T).log_softmax(-1))).sum(-1)
    found = token_kl(head, hidden, other, start)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    (one,), (two,) = (torch.autograd.grad(value.sum(), hidden) for value in (wanted, found))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_no_chunk_is_larger_than_asked() -> None:
    slices = list(chunks(1000, 50))
    assert sum(part.stop - part.start for part in slices) == 1000
    assert max(part.stop - part.start for part in slices) == 16


def test_nothing_asked_nothing_answered() -> None:
    head, empty = Vocabulary(torch.randn(50, 8)), torch.zeros(0, 8)
    assert token_logprobs(head, empty, torch.zeros(0, dtype=torch.long)).shape == (0,)
    assert token_kl(head, empty, head, empty).shape == (0,)


@pytest.mark.skipif(not packs(torch.ones(1, dtype=torch.bfloat16)), reason="no bf16 products in block order here")
@pytest.mark.parametrize("bias", [False, True])
def test_asked_often_it_answers_the_same(bias: bool) -> None:
    plain = Vocabulary(torch.randn(96, 32).bfloat16(), torch.randn(96).bfloat16() if bias else None)
    hidden = torch.randn(5, 32).bfloat16()
    often = plain.often()
    assert often.packed is not None
    torch.testing.assert_close(often.logits(hidden), plain.logits(hidden), rtol=8e-3, atol=2e-2)
    assert Vocabulary(torch.randn(96, 32)).often().packed is None
