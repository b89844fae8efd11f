"""Labels that spread from the rows that have them to their neighbours.

Zhou, Bousquet, Lal, Weston and Schoelkopf 2004, "Learning with local and global consistency": F <- a S F + (1 - a) Y
over the graph of nearest neighbours, S its weights divided by the roots of both rows' sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 10
SHARPNESS = 8.0  # power of a cosine as the weight of an edge: only near neighbours speak
PASSED_ON = 0.9  # of what a row says, the part it has from its neighbours
ROUNDS = 30
BLOCK = 2048  # rows whose neighbours are looked for at once: bounds memory


def propagated(known_ND: Tensor, classes_N: Tensor, texts_MD: Tensor, count: int) -> Tensor:
    """(M, C) shares of each class in what reaches a text without a label; all vectors of unit length. A text that
    nothing reaches has equal shares."""
    vectors = torch.cat([known_ND, texts_MD])
    graph = _graph(vectors)
    given = vectors.new_zeros(len(vectors), count)
    given[torch.arange(len(known_ND)), classes_N] = 1.0
    given = given / given.sum(0).clamp(min=1.0)  # a class with many rows is no louder
    found = given
    for _ in range(ROUNDS):
        found = PASSED_ON * torch.sparse.mm(graph, found) + (1 - PASSED_ON) * given
    reached = found[len(known_ND) :] + 1e-12
    return reached / reached.sum(1, keepdim=True)


def _graph(vectors_ND: Tensor) -> Tensor:
    """(N, N) sparse and symmetric."""
    rows, most = len(vectors_ND), min(NEIGHBOURS, len(vectors_ND) - 1)
    weights, places = [], []
    for start in range(0, rows, BLOCK):
        near = vectors_ND[start : start + BLOCK] @ vectors_ND.T
        near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -1.0  # no row is its own neighbour
        best, where = near.topk(most, dim=1)
        weights.append(best.clamp(min=0.0) ** SHARPNESS)
        places.append(where)
    value, column = torch.cat(weights).flatten(), torch.cat(places).flatten()
    row = torch.arange(rows).repeat_interleave(most)
    both = torch.sparse_coo_tensor(torch.stack([row, column]), value, (rows, rows), check_invariants=False)
    graph = (both + both.T).coalesce()
    sums = torch.sparse.sum(graph, 1).to_dense().clamp(min=1e-12).rsqrt()
    index = graph.indices()
    scaled = graph.values() * sums[index[0]] * sums[index[1]]
    return torch.sparse_coo_tensor(index, scaled, graph.shape, check_invariants=False).coalesce()
