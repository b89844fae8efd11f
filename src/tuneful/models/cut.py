"""How packed segments are cut in groups for attention: similar ones together, nothing too large.

A piece is a run of tokens and the tokens before it that all of them read. A segment is a piece behind its ancestors;
a long one is a chain of pieces, each behind those before it, so the upper half of its scores is never computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tuneful.models.scores import Group

LONG = 512  # tokens of a piece; a longer segment goes through torch's flash kernel on the CPU, else becomes a chain
EVEN = 16  # lengths of a group are multiples of this: the kernels made for each new shape stay in memory
AREA = 1 << 19  # scores a head of one group: bounds its memory whatever the rows are
SLACK = 8192  # scores a head that may be computed for nothing to spare a group, which costs as much in small operators


@dataclass(frozen=True, slots=True)
class Piece:
    """Packed tokens start..end, which read themselves and `before`."""

    start: int
    end: int
    before: np.ndarray  # (A,) packed tokens, in order

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def span(self) -> int:
        return len(self.before) + len(self)


def cut(segments: Sequence[Sequence[int]], *, causal: bool, chained: bool) -> tuple[list[Group], Tensor]:
    """Groups, and for each packed token its place among their queries. `segments`: start, end, parent (-1 = none),
    parents first. `chained`: long segments are never left whole."""
    pieces = sorted(_pieces(segments, causal, chained), key=lambda piece: (piece.span, len(piece)))
    groups, places = [], []
    for members in _similar(pieces):
        group = _group(members)
        groups.append(group)
        places.append(group.queries)
    return groups, _back(torch.cat(places), max(int(end) for _, end, _ in segments))


def ancestors(segments: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Of each segment the packed tokens it reads beside its own, in order."""
    found: list[np.ndarray] = []
    for _, _, parent in segments:
        before = np.empty(0, dtype=np.int64)
        if parent >= 0:
            before = np.concatenate([found[parent], np.arange(*segments[parent][:2])])
        found.append(before)
    return found


def _pieces(segments: Sequence[Sequence[int]], causal: bool, chained: bool) -> Iterator[Piece]:
    for (start, end, _), before in zip(segments, ancestors(segments), strict=True):
        whole = not causal or (not chained and not len(before))
        while not whole and _is_large(end - start, len(before)):
            stop = start + max(EVEN, min(LONG, AREA // (len(before) + LONG) // EVEN * EVEN))
            yield Piece(start, stop, before)
            before, start = np.concatenate([before, np.arange(start, stop)]), stop
        if end > start:
            yield Piece(start, end, before)


def _is_large(tokens: int, before: int) -> bool:
    return tokens > LONG or (tokens > EVEN and tokens * (before + tokens) > AREA)


def _similar(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Pieces, shortest first, in groups that compute little for nothing and stay within AREA."""
    group: list[Piece] = []
    area = 0
    for piece in pieces:
        length = rounded(max([len(piece), *map(len, group)]))
        joined = (len(group) + 1) * length * rounded(piece.span)
        alone = rounded(len(piece)) * rounded(piece.span)
        if group and (joined > AREA or joined - area - alone > SLACK or len(piece) > LONG):
            yield group
            group, joined = [], alone
        group.append(piece)
        area = joined
    if group:
        yield group


def _group(members: list[Piece]) -> Group:
    length, span = rounded(max(map(len, members))), rounded(members[-1].span)
    ancestors = any(len(piece.before) for piece in members)
    queries = [_fill(np.arange(piece.start, piece.end), length) for piece in members]
    read = [np.concatenate([piece.before, np.arange(piece.start, piece.end)]) for piece in members]
    flat = torch.from_numpy(np.concatenate(queries))
    return Group(
        rows=len(members),
        length=length,
        span=span if ancestors else length,
        queries=flat,
        keys=torch.from_numpy(np.concatenate([_fill(path, span) for path in read])) if ancestors else flat,
        before=torch.tensor([len(piece.before) for piece in members]),
        own=torch.tensor([len(piece) for piece in members]),
        long=not ancestors and length > LONG,
        padded=sum(map(len, members)) < len(members) * length,
    )


def _fill(tokens: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([tokens, np.full(length - len(tokens), tokens[-1])])


def rounded(length: int) -> int:
    return length if length > LONG else -(-length // EVEN) * EVEN


def _back(places: Tensor, tokens: int) -> Tensor:
    back = torch.empty(tokens, dtype=torch.long)
    # Padding repeats a token that came before it, so writing backwards leaves its first, real place.
    back[places.flip(0)] = torch.arange(len(places) - 1, -1, -1)
    return back
