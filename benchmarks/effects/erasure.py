"""Women or men: can a linear reader still tell whom a tweet mentions, once that was erased from its vector (LEACE,
Belrose et al. 2023, arXiv:2306.03819)? Readers learn rows that the eraser was fitted on, or others; asked are rows that
neither has seen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import tuneful
from benchmarks.effects.paired import Found, arms, compared
from benchmarks.effects.tweets import tweets
from tuneful.data.identity import mentioned
from tuneful.models.erasure import fit_eraser

FITTED, ASKED = 1000, 500  # of either; readers of other rows learn as many as the eraser was fitted on


def erasure(data: Path, seeds: int) -> None:
    texts, female = of_one(data)
    vectors = tuneful.load("minilm-l6").vectors(texts).float()
    concept = torch.tensor(female)

    def run(name: str, seed: int) -> Found:
        return {"accuracy": reader(vectors, concept, name, seed)}

    found = arms(seeds, run, ["as they are", "erased, own rows", "erased, other rows"])
    compared(found, "accuracy", "as they are")


def of_one(data: Path) -> tuple[list[str], list[int]]:
    """Texts that mention women only, or men only, and which."""
    found = [(text, genders) for text, _ in tweets(data) if len(genders := genders_of(text)) == 1]
    return [text for text, _ in found], [int(genders == {"female"}) for _, genders in found]


def genders_of(text: str) -> set[str]:
    return {group.name for group in mentioned(text) if group.axis == "gender"}


def reader(vectors_ND: Tensor, concept_N: Tensor, name: str, seed: int) -> float:
    """Accuracy on held-out rows, both genders as often, so chance is a half."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    own, other, asked = dealt(concept_N.tolist(), seed)
    shown = vectors_ND if name == "as they are" else fit_eraser(vectors_ND[own], concept_N[own])(vectors_ND)
    learned = other if name == "erased, other rows" else own
    solved = LogisticRegression(max_iter=5000).fit(shown[learned].numpy(), concept_N[learned].numpy())
    return float(solved.score(shown[asked].numpy(), concept_N[asked].numpy()))


def dealt(concept: Sequence[int], seed: int) -> Iterator[list[int]]:
    """Rows for the eraser, for another reader, and to ask about; of either gender as many."""
    places: Mapping[int, list[int]] = {one: [n for n, own in enumerate(concept) if own == one] for one in (0, 1)}
    for own in places.values():
        random.Random(seed).shuffle(own)
    for start, end in ((0, FITTED), (FITTED, 2 * FITTED), (2 * FITTED, 2 * FITTED + ASKED)):
        yield places[0][start:end] + places[1][start:end]
