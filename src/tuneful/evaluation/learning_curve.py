"""What would more rows bring? Heads over an encoder's vectors, solved for ever more of the training rows.

The error falls with a power of the number of rows, error(n) = a + b n^-c (Hestness et al. 2017, arXiv:1712.00409,
section 2). The rows asked about are always those of another fold. The vectors are those of the encoder before it was
tuned: those of the tuned one were made by all the rows, so heads for a part of them would seem to need no more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.types import Said
from tuneful.data.folds import folds
from tuneful.models.probe import fit_probe, losses, right

FOLDS = 3
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the rows that a fold may learn
STRENGTHS = (10.0, 100.0)  # of the penalty, the better one at each size
LEAST_SIZES = 3  # a power law has two numbers to be found
DRAWS = 300
WORTH = 1.0  # points of accuracy, for which rows are worth collecting


@dataclass(frozen=True, slots=True)
class Curve:
    """How often heads that learned so many rows were right."""

    sizes: np.ndarray  # (S,) rows learned
    right: np.ndarray  # (S, N) of each row, by a head that had not seen it

    @property
    def errors(self) -> np.ndarray:
        return 1 - self.right.mean(1)


def measure(
    vectors_ND: Tensor, targets_N: Tensor, classes: int, *, units: Sequence[Hashable] | None = None, seed: int = 0
) -> Curve:
    """Each row is asked about at every size, by a head that learned from other folds. Sizes with less than a row for
    each class are left out."""
    parts = folds(targets_N.tolist(), FOLDS, seed, units)
    known = np.array([(parts != fold).sum() for fold in range(FOLDS)])
    shares = [share for share in SHARES if share * known.min() >= classes]
    logits = vectors_ND.new_zeros(len(shares), len(STRENGTHS), len(targets_N), classes)
    for fold in range(FOLDS):
        held = torch.from_numpy(parts == fold)
        order = spread(targets_N.numpy(), np.flatnonzero(parts != fold), seed)
        for place, share in enumerate(shares):
            rows, probe = torch.from_numpy(order[: round(share * len(order))]), None
            for number, strength in enumerate(STRENGTHS):
                probe = fit_probe(vectors_ND[rows], targets_N[rows], strength, probe, classes=classes)
                logits[place, number, held] = probe.logits(vectors_ND[held])
    best = [min(found, key=lambda by: float(losses(by, targets_N).mean())) for found in logits]
    hits = np.stack([right(found, targets_N).numpy() for found in best]) if best else np.zeros((0, len(targets_N)))
    return Curve(np.array(shares) * known.mean(), hits.astype(np.float64))


def spread(classes_N: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows in an order whose every beginning has the classes in the shares they have in all."""
    rng = np.random.default_rng([seed, 3])
    rows = rng.permutation(rows)
    place = np.zeros(len(rows))
    for name in np.unique(classes_N[rows]):
        own = np.flatnonzero(classes_N[rows] == name)
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return rows[np.argsort(place, kind="stable")]


@dataclass(frozen=True, slots=True)
class Law:
    """Which a and c a power law may have: a as shares of the smallest error."""

    floors: np.ndarray
    powers: np.ndarray

    def fit(self, sizes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """a, b and c (...,) of the law that lies nearest to errors (..., S), by least squares; b is not below zero, as
        rows do no harm."""
        least = errors.min(-1)
        falls = sizes ** -self.powers[:, None]  # (C, S)
        left = errors[..., None, None, :] - self.floors[:, None, None] * least[..., None, None, None]  # (..., A, 1, S)
        b = np.maximum((left * falls).sum(-1) / (falls**2).sum(-1), 0)  # (..., A, C)
        far = ((left - b[..., None] * falls) ** 2).sum(-1)
        best = far.reshape(*least.shape, -1).argmin(-1)
        one, other = np.unravel_index(best, far.shape[-2:])
        scale = np.take_along_axis(b.reshape(*least.shape, -1), np.asarray(best)[..., None], -1)[..., 0]
        return self.floors[one] * least, scale, self.powers[other]

    def gain(self, sizes: np.ndarray, errors: np.ndarray, rows: float) -> np.ndarray:
        """(...,) how much oftener a head would be right for twice as many rows."""
        _, b, c = self.fit(sizes, errors)
        return b * (rows**-c - (2 * rows) ** -c)


# What is told; and beside it two that as few points can hardly tell from it, for the interval.
LAW = Law(np.linspace(0.0, 0.95, 20), np.linspace(0.1, 1.5, 29))
RIVALS = (Law(np.zeros(1), LAW.powers), Law(LAW.floors, np.array([0.5])))


def forecast(curve: Curve, rows: int, *, left_out: int = 0, seed: int = 0) -> dict[str, Any]:
    """What twice as many `rows` would bring, and one sentence. The interval is the middle 95 % of drawing the asked
    rows anew under three laws; which rows would come is not in it. `left_out`: rows there are and that are not
    learned."""
    points = [[round(float(size)), round(float(1 - wrong), 5)]
              for size, wrong in zip(curve.sizes, curve.errors, strict=True)]  # fmt: skip
    if len(points) < LEAST_SIZES:
        short = Said("curve_short_left_out", {"left_out": left_out}) if left_out else Said("curve_short")
        return {"points": points, "advice": {"key": short.key, **short.facts}}
    rng, count = np.random.default_rng(seed), curve.right.shape[1]
    errors = 1 - (rng.multinomial(count, np.full(count, 1 / count), size=DRAWS) / count) @ curve.right.T
    draws = np.concatenate([law.gain(curve.sizes, errors, rows) for law in (LAW, *RIVALS)])
    low, high = (float(end) for end in np.quantile(draws, [0.025, 0.975]))
    a, b, c = (float(value) for value in LAW.fit(curve.sizes, curve.errors))
    found = float(LAW.gain(curve.sizes, curve.errors, rows))
    facts = {"gain": _points(found), "low": _points(low), "high": _points(high), "rows": 2 * rows}
    sentence = advised(facts, left_out)
    return {
        "points": points,
        "law": {"a": round(a, 5), "b": round(b, 5), "c": round(c, 3)},
        "rows": rows,
        "gain": round(found, 5),
        "ci95": [round(low, 5), round(high, 5)],
        "forecast": [[size, round(1 - a - b * size**-c, 5)] for size in (rows, 2 * rows)],
        "advice": {"key": sentence.key, **sentence.facts},
    }


def advised(facts: Mapping[str, float], left_out: int) -> Said:
    """By the interval as it is told: rows pay where all of it lies at a point or more, and do not where all of it lies
    below."""
    if facts["high"] < WORTH:
        return Said("curve_flat", facts)
    if left_out:
        return Said("curve_left_out", {**facts, "left_out": left_out})
    return Said("curve_more", facts) if facts["low"] >= WORTH else Said("curve_unsure", facts)


def _points(share: float) -> float:
    return round(100 * share, 1)
