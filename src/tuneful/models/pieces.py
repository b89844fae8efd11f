"""The small parts of a decoder layer, forward and backward, each in as few passes over memory as torch has operators
for. Shapes: N packed tokens, D width, F inner width of the MLP, E head width."""

from __future__ import annotations

import torch
from torch import Tensor


def root_mean_square(x_ND: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon), (N, 1) float32 (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4)."""
    norm = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True, dtype=torch.float32)
    return norm.square_().div_(x_ND.shape[-1]).add_(epsilon).rsqrt_()


def normed(x_ND: Tensor, inverse_N1: Tensor, weight_D: Tensor) -> Tensor:
    """RMSNorm, given `root_mean_square`: the normed value is rounded before it is weighed, as everywhere."""
    return (x_ND.float() * inverse_N1).to(x_ND.dtype) * weight_D


def normed_slope(grad_ND: Tensor, x_ND: Tensor, inverse_N1: Tensor, weight_D: Tensor) -> Tensor:
    """Slope of x, float32: torch's own LayerNorm kernel with a mean of 0, and back what it takes off for the mean."""
    grad, weight = grad_ND.float(), weight_D.float()
    zero = torch.zeros_like(inverse_N1)
    slope = torch.ops.aten.native_layer_norm_backward(
        grad, x_ND.float(), [x_ND.shape[-1]], zero, inverse_N1, weight, None, [True, False, False]
    )[0]
    mean = torch.mv(grad, weight).div_(len(weight)).mul_(inverse_N1[:, 0])
    return slope.add_(mean[:, None])


def rotate_(heads_NHE: Tensor, cos_NE: Tensor, sin_NE: Tensor, *, back: bool = False) -> None:
    """Rotary positions, in place: (a, b) -> (a cos - b sin, b cos + a sin) of the two halves of a head (Su et al.
    2021, arXiv:2104.09864, equation 34); `back` turns the other way, which is the slope. cos and sin (N, E / 2)."""
    first, second = heads_NHE.chunk(2, -1)
    cos, sin = cos_NE[:, None], sin_NE[:, None]
    sign = -1.0 if back else 1.0
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-sign)
    second.mul_(cos).add_(turned, alpha=sign)


def gated(both_NF: Tensor) -> Tensor:
    """silu(gate) * up of [gate | up] (N, 2 F) (Shazeer 2020, arXiv:2002.05202, equation 5)."""
    gate, up = both_NF.chunk(2, -1)
    return torch.nn.functional.silu(gate).mul_(up)


def gated_parts(both_NF: Tensor) -> tuple[Tensor, Tensor]:
    """silu(gate), and the same value again."""
    gate, up = both_NF.chunk(2, -1)
    opened_NF = torch.nn.functional.silu(gate)
    return opened_NF, opened_NF * up


def gated_slope(grad_NF: Tensor, opened_NF: Tensor, both_NF: Tensor) -> Tensor:
    """Slope of [gate | up]."""
    gate, up = both_NF.chunk(2, -1)
    slope = torch.empty_like(both_NF)
    slope_gate, slope_up = slope.chunk(2, -1)
    torch.mul(grad_NF, opened_NF, out=slope_up)
    torch.ops.aten.silu_backward.grad_input(grad_NF * up, gate, grad_input=slope_gate)
    return slope
