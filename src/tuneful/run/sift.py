"""Which texts that a model wrote are worth learning from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.data.duplicates import clusters, mark
from tuneful.data.synthesise import Request, fits
from tuneful.models.probe import STRENGTH, Probe, fit_probe

NEAR = 0.95  # cosine from which two texts of a class say the same
ODD = 0.1  # of the class's own rows, this share may lie farther from their centre than what is kept


@dataclass(frozen=True, slots=True)
class Written:
    """A text, the label it was asked for with, and the question."""

    text: str
    label: str
    request: Request

    def as_json(self, rows: Sequence[tuple[str, str]], dealt: np.ndarray, origin: Mapping[str, str]) -> dict[str, Any]:
        """A line of the file, with where it comes from: what its writer was shown, and by which rows it was picked."""
        shown = [rows[place][0] for place in self.request.shown]
        judged = [mark(text) for (text, _), group in zip(rows, dealt, strict=True) if group == self.request.group]
        return {"text": self.text, "label": self.label, "origin": {**origin, "shown": shown, "judged": judged}}


def sift(
    written: Sequence[Written],
    rows: Sequence[tuple[str, str]],
    dealt: np.ndarray,
    read: Callable[[Sequence[str]], Tensor],
) -> tuple[list[Written], Counter[str]]:
    """What is kept, and how many were refused for which reason; `dealt` (N,) is the fold of each row, `read` gives
    (N, D) vectors of unit length. In this order: of a length unlike the class's rows; the same as another text; taken
    for another class by a head solved over the rows (the verifier); less like its class than its rows are; near to a
    text that is kept (diversity). Whoever judges a text knows no rows but those of the fold it was written from, or
    cross-validation would be answered by rows that were picked by the very labels it asks about."""
    refused: Counter[str] = Counter()
    of_class = defaultdict(list)
    for (text, label), group in zip(rows, dealt, strict=True):
        of_class[label, int(group)].append(text)
    left = []
    for one in written:
        if fits(one.text, of_class[one.label, one.request.group]):
            left.append(one)
        else:
            refused["too long or too short"] += 1
    left = _new(left, [text for text, _ in rows], refused)
    if not left:
        return [], refused
    return _verified(left, rows, dealt, read, refused), refused


def _new(written: Sequence[Written], rows: Sequence[str], refused: Counter[str]) -> list[Written]:
    found = clusters([*rows, *(one.text for one in written)])
    seen, kept = set(found[: len(rows)]), []
    for one, cluster in zip(written, found[len(rows) :], strict=True):
        if cluster in seen:
            refused["the same as another text"] += 1
        else:
            seen.add(cluster)
            kept.append(one)
    return kept


def _verified(
    written: Sequence[Written],
    rows: Sequence[tuple[str, str]],
    dealt: np.ndarray,
    read: Callable[[Sequence[str]], Tensor],
    refused: Counter[str],
) -> list[Written]:
    names = sorted({label for _, label in rows})
    own, theirs = read([text for text, _ in rows]), read([one.text for one in written])
    truth = torch.tensor([names.index(label) for _, label in rows])
    judges = {group: _judge(own[inside], truth[inside], len(names)) for group, inside in _folds(dealt)}
    kept: list[Written] = []
    vectors: dict[str, list[Tensor]] = defaultdict(list)
    for one, vector in zip(written, theirs, strict=True):
        head, likeness = judges[one.request.group]
        centre, least = likeness[names.index(one.label)]
        if names[int(head.logits(vector[None]).argmax())] != one.label:
            refused["taken for another class"] += 1
        elif float(vector @ centre) < least:
            refused["unlike its class"] += 1
        elif any(float(vector @ other) > NEAR for other in vectors[one.label]):
            refused["says what another says"] += 1
        else:
            kept.append(one)
            vectors[one.label].append(vector)
    return kept


def _folds(dealt: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    for group in np.unique(dealt):
        yield int(group), torch.from_numpy(dealt == group)


def _judge(vectors_ND: Tensor, truth_N: Tensor, count: int) -> tuple[Probe, dict[int, tuple[Tensor, float]]]:
    """A head over the rows of a fold, and what its classes look like."""
    likeness = {place: _likeness(vectors_ND[truth_N == place]) for place in set(truth_N.tolist())}
    return fit_probe(vectors_ND, truth_N, STRENGTH, classes=count), likeness


def _likeness(vectors_ND: Tensor) -> tuple[Tensor, float]:
    """The centre (D,) of a class, and the cosine to it below which a text is unlike it: what all but a few of its rows
    reach that are measured against the centre of the others. A single row says nothing of that."""
    total = vectors_ND.sum(0)
    centre = torch.nn.functional.normalize(total, dim=0)
    if len(vectors_ND) < 2:
        return centre, -1.0
    others = torch.nn.functional.normalize(total - vectors_ND, dim=1)
    return centre, float((others * vectors_ND).sum(1).quantile(ODD))
