"""Which texts are worth a label next: those the model is unsure of, that stand for many others, and differ from one
another."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 20  # neighbours by which a text stands for others


def next_to_label(texts_ND: Tensor, unsure_N: Tensor, known_MD: Tensor, count: int) -> list[int]:
    """Places of `count` texts, the best first. Each is the one with the largest product of uncertainty (0 to 1), of
    density, and of the distance to the nearest text that has a label or was taken before it: greedy k-centre (Sener and
    Savarese 2018, arXiv:1708.00489, algorithm 1) weighted by density and uncertainty, as information density is
    (Settles and Craven 2008, equation 13). Vectors are of unit length; `known_MD` may be empty."""
    worth = unsure_N.clamp(min=1e-6) * density(texts_ND)
    distance = torch.ones(len(texts_ND))
    if len(known_MD):
        distance = 1 - (texts_ND @ known_MD.T).max(1).values
    chosen: list[int] = []
    for _ in range(min(count, len(texts_ND))):
        gain = worth * distance.clamp(min=0.0)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        distance = torch.minimum(distance, 1 - texts_ND @ texts_ND[best])
    return chosen


def density(texts_ND: Tensor, block: int = 2048) -> Tensor:
    """(N,) mean cosine to the nearest texts, itself left out: an odd one stands for nobody."""
    near = min(NEAR, len(texts_ND) - 1)
    if near < 1:
        return torch.ones(len(texts_ND))
    found = []
    for start in range(0, len(texts_ND), block):
        best = (texts_ND[start : start + block] @ texts_ND.T).topk(near + 1, dim=1).values
        found.append(best[:, 1:].mean(1))
    return torch.cat(found).clamp(min=1e-3)


def unsure(logits_NC: Tensor) -> Tensor:
    """(N,) how near the second class comes to the first: 1 = as likely, 0 = no doubt (margin sampling, Scheffer et al.
    2001)."""
    best = logits_NC.softmax(1).topk(2, dim=1).values
    return 1 - (best[:, 0] - best[:, 1])
