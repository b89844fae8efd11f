"""Which variants of a text still say what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.types import Example
from tuneful.data.folds import folds, usual
from tuneful.data.splits import units_of
from tuneful.models.probe import STRENGTH, fit_probe

Pool = Mapping[str, tuple[str, ...]]  # variants by text
Read = Callable[[Sequence[str]], Tensor]  # (N, D) of unit length


@dataclass(frozen=True, slots=True)
class Judged:
    """What is kept, and how many were left out because they are far from their text, or of another class."""

    pool: Pool
    far: int = 0
    other: int = 0

    @property
    def kept(self) -> int:
        return sum(map(len, self.pool.values()))


@dataclass(frozen=True, slots=True)
class Known:
    """Rows with one label each, and their folds."""

    texts: Sequence[str]
    classes: Tensor  # (N,)
    folds: np.ndarray  # (N,)
    count: int  # classes there are

    @staticmethod
    def of(examples: Sequence[Example], classes: Sequence[int], count: int, seed: int) -> Known:
        """Near-duplicates are in one fold, as each would tell the other's label."""
        dealt = folds(classes, usual(len(classes)), seed, units_of(examples))
        return Known([str(example.text) for example in examples], torch.tensor(classes), dealt, count)


def near(pool: Pool, similar: float, read: Read) -> Judged:
    """Those whose vectors have at least this cosine with that of their text."""
    texts, variants, owners = _flat(pool)
    if not variants:
        return Judged(pool)
    cosines = (read(variants) * read(texts)[owners]).sum(1)
    keep = (cosines >= similar).tolist()
    return Judged(_kept(pool, keep), far=keep.count(False))


def of_its_class(judged: Judged, known: Known, read: Read) -> Judged:
    """Those to which a head that has not seen the row gives the row's label; where it is wrong about the text itself,
    the one that it gives the text."""
    place = {text: number for number, text in enumerate(known.texts)}
    texts, variants, owners = _flat(judged.pool)
    if not variants:
        return judged
    rows, found = read(known.texts), read(variants)
    own = torch.tensor([place[texts[owner]] for owner in owners.tolist()])
    keep = torch.zeros(len(variants), dtype=torch.bool)
    for fold in np.unique(known.folds):
        held = torch.from_numpy(known.folds == fold)
        head = fit_probe(rows[~held], known.classes[~held], STRENGTH, classes=known.count)
        asked = held[own]
        said, before = head.logits(found[asked]).argmax(1), head.logits(rows[own[asked]]).argmax(1)
        keep[asked] = (said == known.classes[own[asked]]) | (said == before)
    return replace(judged, pool=_kept(judged.pool, keep.tolist()), other=int((~keep).sum()))


def _flat(pool: Pool) -> tuple[list[str], list[str], Tensor]:
    """Texts, all variants, and (M,) whose variant each is."""
    texts = list(pool)
    owners = [number for number, text in enumerate(texts) for _ in pool[text]]
    return texts, [variant for text in texts for variant in pool[text]], torch.tensor(owners, dtype=torch.int64)


def _kept(pool: Pool, keep: Sequence[bool]) -> Pool:
    found, marks = {}, iter(keep)
    for text, variants in pool.items():
        found[text] = tuple([variant for variant in variants if next(marks)])
    return found
