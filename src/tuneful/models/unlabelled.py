"""Texts without labels, beside rows that have one: what they seem to be, and a head that learns from that.

Two views say what a text is: a head, and the text's neighbours. What they make of it together is a guess, right more
often than either; of every class the surest guesses are learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tuneful.models.probe import Probe, fit_probe
from tuneful.models.propagation import propagated

SURE = 0.9  # of the texts of each class those that are learned: the others are where two classes meet
GUESSED = 1.0  # C where most labels are guesses
GIVEN = 2  # how often a row with a label of its own is learned where a text is learned once
PARTS = 4  # in which texts are dealt, so that no head says again what it was told
MOST = 20_000  # texts; neighbours are looked for among all pairs of them


def with_texts(head: Probe, known_ND: Tensor, targets: Tensor, texts_MD: Tensor) -> Probe:
    """A head solved over N rows with labels, `targets` (N,), and M texts without, of which `head` is the first to say
    what they are; all vectors of unit length.

    Each text is judged by a head that learned from other parts of the texts (cross-fitting: what was told a guess is no
    second opinion about it), then the surest of all are learned."""
    classes, places = head.weight.shape[0], torch.arange(len(texts_MD))
    passed = propagated(known_ND, targets, texts_MD, classes)

    def learned(logits_MC: Tensor, among: Tensor) -> Probe:
        kept, guesses = guessed(logits_MC[among], passed[among], SURE)
        rows = torch.cat([*[known_ND] * GIVEN, texts_MD[among[kept]]])
        return fit_probe(rows, torch.cat([*[targets] * GIVEN, guesses]), GUESSED, classes=classes)

    first = head.logits(texts_MD)
    second = torch.empty_like(first)
    for part in range(PARTS):
        mine = places % PARTS == part
        second[mine] = learned(first, places[~mine]).logits(texts_MD[mine])
    return learned(second, places)


def guessed(logits_MC: Tensor, passed_MC: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """Of each class the `part` of the texts that are surest, by both views: their places and classes."""
    return surest((logits_MC.log_softmax(1) + passed_MC.log()).softmax(1), part)


def surest(shares_MC: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """Of the texts that would be of each class the `part` that is surest: their places and classes."""
    sure, classes = shares_MC.max(1)
    kept = []
    for name in range(shares_MC.shape[1]):
        members = torch.nonzero(classes == name)[:, 0]
        order = sure[members].argsort(descending=True)
        kept.append(members[order[: math.ceil(part * len(members))]])
    places = torch.cat(kept).sort().values
    return places, classes[places]
