"""The vocabulary projection in chunks, only where it is asked for, and never kept.

49,152 logits a token for a few thousand tokens are what kills memory; a chunk of a few megabytes is all that lives at
once. Shapes: M asked positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tuneful.core.packing import Packed, packs

CHUNK_LOGITS = 1 << 23  # logits alive at once: 16 MB in bf16, 32 in float32
CHUNK_LOGITS_OFTEN = 1 << 20  # the same where a function makes half a dozen more of them on its way
NEAR = 16  # positions whose logits are looked at together


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A language model's output head: logits = cap(scale * (hidden @ weight.T + bias))."""

    weight: Tensor  # (V, D)
    bias: Tensor | None = None  # (V,)
    scale: float = 1.0
    cap: float | None = None  # Gemma 2: cap * tanh(logits / cap)
    packed: Packed | None = None  # the same weight, in the order that many small products like best
    own: Callable[[Tensor], Tensor] | None = None  # (M, D) -> (M, V): the architecture's own code stands for all that

    def often(self) -> Vocabulary:
        """For many calls of `logits` with a few positions each."""
        return replace(self, packed=Packed([self.weight])) if self.own is None and packs(self.weight) else self

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """(M, V) in float32; call it on a chunk."""
        if self.own is not None:
            return self.own(hidden_MD)
        bias = None if self.bias is None else self.bias.to(hidden_MD.dtype)
        if self.packed is not None and hidden_MD.dtype == self.weight.dtype:
            logits_MV = self.packed.across(hidden_MD, None, bias).float()
        else:
            logits_MV = torch.nn.functional.linear(hidden_MD, self.weight.to(hidden_MD.dtype), bias).float()
        if self.scale != 1.0:
            logits_MV = logits_MV * self.scale
        if self.cap is not None:
            logits_MV = self.cap * torch.tanh(logits_MV / self.cap)
        return logits_MV

    @property
    def plain(self) -> bool:
        """Nothing but a matrix, so the hand-written gradient below applies."""
        return self.bias is None and self.scale == 1.0 and self.cap is None and self.own is None


def token_logprobs(vocabulary: Vocabulary, hidden_MD: Tensor, targets_M: Tensor) -> Tensor:
    """log p(target) at each asked position, (M,) float32, differentiable in hidden and weight."""
    if vocabulary.plain:
        return _TokenLogprobs.apply(hidden_MD, vocabulary.weight, targets_M)

    def of_chunk(hidden: Tensor, rows: slice) -> Tensor:
        logits = vocabulary.logits(hidden)
        chosen = logits.gather(1, targets_M[rows, None]).squeeze(1)
        return chosen - logits.logsumexp(-1)

    return per_position(vocabulary, hidden_MD, of_chunk)


def token_kl(vocabulary: Vocabulary, hidden_MD: Tensor, from_vocabulary: Vocabulary, from_hidden_MD: Tensor) -> Tensor:
    """KL(from || this) over the whole vocabulary at each asked position, (M,), differentiable in this."""

    def of_chunk(hidden: Tensor, rows: slice) -> Tensor:
        ours = vocabulary.logits(hidden).log_softmax(-1)
        with torch.no_grad():
            theirs = from_vocabulary.logits(from_hidden_MD[rows]).log_softmax(-1)
        return (theirs.exp() * (theirs - ours)).sum(-1)

    return per_position(vocabulary, hidden_MD, of_chunk)


def token_apart(vocabulary: Vocabulary, hidden_MD: Tensor, other_hidden_MD: Tensor) -> Tensor:
    """KL(this || other) + KL(other || this) of two looks at the same positions, (M,), differentiable in both."""

    def of_chunk(hidden: Tensor, rows: slice) -> Tensor:
        ours = vocabulary.logits(hidden).log_softmax(-1)
        theirs = vocabulary.logits(other_hidden_MD[rows]).log_softmax(-1)
        return ((ours.exp() - theirs.exp()) * (ours - theirs)).sum(-1)

    return per_position(vocabulary, hidden_MD, of_chunk)


def token_entropy(vocabulary: Vocabulary, hidden_MD: Tensor) -> Tensor:
    """Nats of the distribution at each asked position, (M,), differentiable."""

    def of_chunk(hidden: Tensor, rows: slice) -> Tensor:
        logs = vocabulary.logits(hidden).log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    return per_position(vocabulary, hidden_MD, of_chunk)


def token_mean_logprob(vocabulary: Vocabulary, hidden_MD: Tensor) -> Tensor:
    """Mean log-probability of all tokens at each asked position, (M,), differentiable."""

    def of_chunk(hidden: Tensor, rows: slice) -> Tensor:
        logits = vocabulary.logits(hidden)
        return logits.mean(-1) - logits.logsumexp(-1)

    return per_position(vocabulary, hidden_MD, of_chunk)


def per_position(vocabulary: Vocabulary, hidden_MD: Tensor, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Any value a position computed from its logits, chunk by chunk, recomputed in the backward pass. Where the matrix
    learns, every chunk adds a gradient as large as the matrix, so chunks are few."""
    most = CHUNK_LOGITS if vocabulary.weight.requires_grad else CHUNK_LOGITS_OFTEN
    values = [
        checkpoint(function, hidden_MD[rows], rows, use_reentrant=False)
        for rows in chunks(len(hidden_MD), vocabulary.weight.shape[0], most)
    ]
    return torch.cat(values) if values else hidden_MD.new_zeros(0, dtype=torch.float32)


def chunks(positions: int, vocabulary: int, logits: int | None = None) -> Iterator[slice]:
    """Slices of positions with so many logits, CHUNK_LOGITS if nobody says otherwise."""
    size = max(16, (logits or CHUNK_LOGITS) // vocabulary)
    for start in range(0, positions, size):
        yield slice(start, min(start + size, positions))


def _to_shares(scores_MV: Tensor, targets_M: Tensor, *, wanted: bool) -> Tensor:
    """Log-probability of each target, float32; turns the scores into probabilities, in place, where they are wanted.
    A few rows at a time, so that the float32 numbers on the way stay in the processor's cache."""
    found = scores_MV.new_empty(len(scores_MV), dtype=torch.float32)
    for first in range(0, len(scores_MV), NEAR):
        rows = slice(first, first + NEAR)
        logs = scores_MV[rows].float().log_softmax(-1)
        found[rows] = logs.gather(1, targets_M[rows, None]).squeeze(1)
        if wanted:
            scores_MV[rows] = logs.exp_()
    return found


class _TokenLogprobs(torch.autograd.Function):
    """d log p(t) / d hidden = W[t] - softmax @ W does not depend on the loss above, so with a frozen head it is
    computed in the forward pass, while the logits are there, and the backward pass is one multiplication."""

    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
        weight = weight_VD.to(hidden_MD.dtype)
        ahead = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        slopes_MD = torch.empty_like(hidden_MD) if ahead else None
        logprobs_M = hidden_MD.new_empty(len(hidden_MD), dtype=torch.float32)
        for rows in chunks(len(hidden_MD), len(weight)):
            scores = hidden_MD[rows] @ weight.T
            logprobs_M[rows] = _to_shares(scores, targets_M[rows], wanted=ahead)
            if slopes_MD is not None:
                torch.sub(weight[targets_M[rows]], scores @ weight, out=slopes_MD[rows])
        ctx.save_for_backward(*([slopes_MD] if ahead else [hidden_MD, weight_VD, targets_M]))
        return logprobs_M

    @staticmethod
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if len(ctx.saved_tensors) == 1:
            (slopes_MD,) = ctx.saved_tensors
            return (slopes_MD * grad_M[:, None]).to(slopes_MD.dtype), None, None
        hidden_MD, weight_VD, targets_M = ctx.saved_tensors
        weight = weight_VD.to(hidden_MD.dtype)
        grad_hidden = torch.empty_like(hidden_MD)
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32)
        for rows in chunks(len(hidden_MD), len(weight)):
            slope = torch.softmax((hidden_MD[rows] @ weight.T).float(), -1).neg_()
            slope[torch.arange(len(slope), device=slope.device), targets_M[rows]] += 1
            slope = (slope * grad_M[rows, None]).to(weight.dtype)
            grad_hidden[rows] = slope @ weight
            grad_weight += slope.T @ hidden_MD[rows]
        return grad_hidden, grad_weight.to(weight_VD.dtype), None
