"""Packed attention equals attention over separate rows, gradients included, whatever the rows are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tuneful.models import cut
from tuneful.models.packed import NotPackable, packed_attention, plan

HEADS, KEY_HEADS, WIDTH = 6, 2, 8

FOREST = {
    "rows of like length": [(0, 7, -1), (7, 13, -1), (13, 20, -1)],
    "rows of unlike length": [(0, 1, -1), (1, 5, -1), (5, 60, -1), (60, 62, -1)],
    "one prefix": [(0, 9, -1), (9, 12, 0), (12, 20, 0), (20, 21, 0)],
    "a prefix of a prefix": [(0, 5, -1), (5, 9, 0), (9, 20, 0), (20, 22, 2), (22, 30, 2), (30, 33, 0), (33, 40, -1)],
    "a long row": [(0, 700, -1), (700, 710, -1)],
    "a long prefix": [(0, 600, -1), (600, 610, 0), (610, 1200, 0)],
}


class Layer(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.is_causal = causal


def separate_rows(q: Tensor, k: Tensor, v: Tensor, segments: list[tuple[int, int, int]], causal: bool) -> Tensor:
    """Every segment behind its own copy of its ancestors, by the formula of the paper."""
    k, v = (t.repeat_interleave(HEADS // KEY_HEADS, 0) for t in (k, v))
    out = torch.zeros_like(q)
    for start, end, parent in segments:
        path = list(range(start, end))
        while parent >= 0:
            first, last, parent = segments[parent]
            path = [*range(first, last), *path]
        scores = q[:, path] @ k[:, path].transpose(1, 2) / WIDTH**0.5
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf).triu(1)
        mixed = scores.softmax(-1) @ v[:, path]
        out = out.index_copy(1, torch.arange(start, end), mixed[:, -(end - start) :])
    return out


def inputs(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(heads, tokens, WIDTH).requires_grad_() for heads in (HEADS, KEY_HEADS, KEY_HEADS))


def attend(
    q: Tensor, k: Tensor, v: Tensor, segments: list[tuple[int, int, int]], causal: bool, **more: object
) -> Tensor:
    made = plan(torch.tensor(segments), causal=causal)
    mixed, _ = packed_attention(Layer(causal), q[None], k[None], v[None], None, plan=made, **more)
    return mixed[0].transpose(0, 1)


@pytest.mark.parametrize("name", FOREST)
def test_equals_separate_rows(name: str) -> None:
    segments = FOREST[name]
    given = inputs(segments[-1][1])
    expected, found = separate_rows(*given, segments, True), attend(*given, segments, True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(expected)
    for wanted, got in zip(
        torch.autograd.grad(expected, given, slope), torch.autograd.grad(found, given, slope), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["rows of like length", "rows of unlike length", "a long row"])
def test_both_directions(name: str) -> None:
    segments = FOREST[name]
    given = inputs(segments[-1][1])
    expected, found = separate_rows(*given, segments, False), attend(*given, segments, False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(expected)
    for wanted, got in zip(
        torch.autograd.grad(expected, given, slope), torch.autograd.grad(found, given, slope), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


def test_a_long_row_may_be_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices do instead of the CPU's flash kernel."""
    segments = [(0, 300, -1), (300, 640, 0)]
    given = inputs(640)
    monkeypatch.setattr(cut, "LONG", 100)
    pieces = list(cut._pieces(segments, causal=True, chained=True))
    assert [(piece.start, piece.end) for piece in pieces] == [
        (0, 100), (100, 200), (200, 300), (300, 400), (400, 500), (500, 600), (600, 640),
    ]  # fmt: skip
    assert [len(piece.before) for piece in pieces] == [0, 100, 200, 300, 400, 500, 600]
    torch.testing.assert_close(attend(*given, segments, True), separate_rows(*given, segments, True))


def test_a_row_does_not_see_its_neighbour() -> None:
    segments = FOREST["rows of like length"]
    q, k, v = inputs(20)
    before = attend(q, k, v, segments, True)[:, 7:13]
    with torch.no_grad():
        k[:, :7] += 1.0
        v[:, 13:] += 1.0
    torch.testing.assert_close(attend(q, k, v, segments, True)[:, 7:13], before)


def test_blocks_stay_within_the_area() -> None:
    """4,000 rows of 40 tokens are cut in groups, so memory does not grow with the rows of a batch."""
    segments = torch.tensor([[40 * n, 40 * n + 40, -1] for n in range(4000)])
    groups = plan(segments, causal=True).groups
    assert len(groups) > 1
    assert all(group.rows * group.length * group.span <= cut.AREA for group in groups)


@pytest.mark.parametrize("segments", [[(0, 8000, -1), (8000, 8512, 0)], [(0, 16000, -1)]])
def test_a_few_tokens_behind_many_stay_within_the_area(segments: list[tuple[int, int, int]]) -> None:
    groups, _ = cut.cut(segments, causal=True, chained=True)
    assert all(group.rows * group.length * group.span <= cut.AREA for group in groups)


@pytest.mark.parametrize("segments", [[(0, 400, -1)], [(0, 300, -1), (300, 350, 0), (350, 400, 0)]])
def test_dropout_keeps_the_mean_and_its_gradient(segments: list[tuple[int, int, int]]) -> None:
    q, k, v = inputs(400)
    torch.manual_seed(1)
    kept = attend(q, k, v, segments, False)
    torch.manual_seed(1)
    dropped = attend(q, k, v, segments, False, dropout=0.5)
    assert not torch.allclose(kept, dropped)
    assert abs(float((dropped - kept).detach().mean())) < 0.02
    torch.manual_seed(1)
    again = attend(q, k, v, segments, False, dropout=0.5)
    assert torch.equal(dropped, again)
    slopes = torch.autograd.grad(again.sum(), (q, k, v))
    for number in range(3):
        for place in (3, 320, 390):
            ahead = _numeric_slope([q, k, v], number, segments, place)
            torch.testing.assert_close(slopes[number][0, place, 2], ahead, rtol=0.05, atol=1e-3)


def _numeric_slope(given: list[Tensor], number: int, segments: list[tuple[int, int, int]], place: int) -> Tensor:
    """Of one value of q, k or v."""
    values = []
    for shift in (1e-2, -1e-2):
        moved = [tensor.detach().clone() for tensor in given]
        moved[number][0, place, 2] += shift
        torch.manual_seed(1)
        values.append(attend(*moved, segments, False, dropout=0.5).double().sum())
    return ((values[0] - values[1]) / 2e-2).float()


@pytest.mark.parametrize("more", [{"softcap": 30.0}, {"s_aux": torch.ones(1)}, {"position_bias": torch.ones(1)}])
def test_what_it_does_not_know_it_refuses(more: dict[str, object]) -> None:
    given = inputs(10)
    with pytest.raises(NotPackable):
        attend(*given, [(0, 10, -1)], True, **more)
