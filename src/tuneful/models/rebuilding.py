"""The decoder that rebuilds texts from their vectors while an encoder learns; weak, so that the vector must tell most.

Shapes: R rows, M tokens of all rows, one row behind the other, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


class TextDecoder(nn.Module):
    """One transformer layer (Xiao et al. 2022, arXiv:2205.12035, section 3.2). It reads, at each place, the vector of
    the row, where in the row that is (sines, Vaswani et al. 2017, arXiv:1706.03762, section 3.5) and, where it is
    shown, the token, each of about the same length."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width, math.gcd(width, heads), 4 * width, dropout=0.0, activation="gelu", batch_first=True
        )

    def forward(self, vectors_RD: Tensor, embedded_MD: Tensor, rows_M: Tensor, shown_M: Tensor) -> Tensor:
        """(M, D); vectors are of unit length, `embedded` the tokens, `rows` (M,) the row of each, in order."""
        width = vectors_RD.shape[1]
        counts_R = torch.bincount(rows_M, minlength=len(vectors_RD))
        places_M = torch.arange(len(rows_M), device=rows_M.device) - (counts_R.cumsum(0) - counts_R)[rows_M]
        told_MD = F.layer_norm(embedded_MD.float(), (width,)) * shown_M[:, None]
        read_MD = vectors_RD[rows_M] * width**0.5 + sines(places_M, width) + told_MD
        return self._by_length(read_MD, counts_R[rows_M], counts_R)

    def _by_length(self, read_MD: Tensor, lengths_M: Tensor, counts_R: Tensor) -> Tensor:
        """Rows of about the same length are padded together: none to twice its own."""
        scales_M, scales_R = lengths_M.float().log2().floor(), counts_R.float().log2().floor()
        parts, order = [], []
        for scale in scales_M.unique():
            own = scales_M == scale
            lengths = counts_R[scales_R == scale]
            padded = pad_sequence(list(read_MD[own].split(lengths.tolist())), batch_first=True)
            real = torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]
            parts.append(self.layer(padded, src_key_padding_mask=~real)[real])
            order.append(own.nonzero()[:, 0])
        return torch.cat(parts)[torch.cat(order).argsort()]


def sines(places_M: Tensor, width: int) -> Tensor:
    """(M, D) float32: sines of the place in the first half, cosines in the second."""
    half = -(-width // 2)
    speeds = 10_000 ** (-torch.arange(half, device=places_M.device) / half)
    angles = places_M[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width]
