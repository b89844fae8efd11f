"""Attention through a kernel for sequences of different length: what it is handed is right.

The kernel itself runs on CUDA alone; a plain one of the same meaning stands in its place, and the real one is asked
where there is a device for it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tuneful.core.device import pick_device, variable_length_attention
from tuneful.models.packed import plan
from tuneful.models.scores import Settings
from tuneful.models.variable import Variable

ROWS = [[0, 5, -1], [5, 12, -1], [12, 13, -1]]
TREE = [[0, 4, -1], [4, 7, 0], [7, 12, 0], [12, 14, 2], [14, 20, -1]]


def plain_kernel(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int,
    *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """As torch documents varlen_attn, one sequence after the other."""
    parts = []
    for row in range(len(cu_q) - 1):
        own, theirs = slice(int(cu_q[row]), int(cu_q[row + 1])), slice(int(cu_k[row]), int(cu_k[row + 1]))
        assert own.stop - own.start <= max_q
        assert theirs.stop - theirs.start <= max_k
        queries, keys, values = q[own].transpose(0, 1), k[theirs].transpose(0, 1), v[theirs].transpose(0, 1)
        if enable_gqa:
            repeats = q.shape[1] // k.shape[1]
            keys, values = keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)
        scores = queries @ keys.transpose(1, 2) * scale
        if window_size[1] == 0:
            late = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + scores.shape[2] - scores.shape[1])
            scores = scores.masked_fill(late, -torch.inf)
        parts.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize(("segments", "causal"), [(ROWS, True), (ROWS, False), (TREE, True)])
def test_it_is_handed_what_the_groups_compute(segments: list[list[int]], causal: bool) -> None:
    cut = plan(torch.tensor(segments), causal=causal)
    variable = replace(cut, variable=Variable.of(segments, plain_kernel, torch.device("cpu")))
    tokens, settings = segments[-1][1], Settings(0.3, causal)
    torch.manual_seed(0)
    given = [torch.randn(tokens, heads, 8, dtype=torch.bfloat16, requires_grad=True) for heads in (6, 2, 2)]
    module, wanted = torch.nn.Identity(), torch.randn(tokens, 6, 8)
    found = []
    for reading in (cut, variable):
        mixed = reading.attend(module, *given, settings)
        found.append([mixed, *torch.autograd.grad((mixed.float() * wanted).sum(), given)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0.02, atol=0.02)


def test_where_it_is_not_used() -> None:
    """float32 and dropout go through the groups."""
    variable = Variable.of(ROWS, plain_kernel, torch.device("cpu"))
    half = torch.zeros(13, 2, 8, dtype=torch.bfloat16)
    assert variable.reads(half, Settings(1.0, True))
    assert not variable.reads(half.float(), Settings(1.0, True))
    assert not variable.reads(half, Settings(1.0, True, dropout=0.1))
    assert variable_length_attention(torch.device("cpu")) is None


@pytest.mark.skipif(variable_length_attention(pick_device()) is None, reason="no device with such a kernel here")
def test_the_real_kernel() -> None:
    device = pick_device()
    cut = plan(torch.tensor(TREE, device=device), causal=True)
    given = [torch.randn(20, heads, 64, dtype=torch.bfloat16, device=device) for heads in (6, 2, 2)]
    settings = Settings(0.125, True)
    expected = replace(cut, variable=None).attend(torch.nn.Identity(), *given, settings)
    torch.testing.assert_close(cut.attend(torch.nn.Identity(), *given, settings), expected, rtol=0.02, atol=0.02)
