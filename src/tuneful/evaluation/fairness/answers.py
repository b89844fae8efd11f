"""What a classifier said of rows, seen as right or wrong answers and, where one class matters, as scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tuneful.core.errors import DataError

TOLERANCE = 1e-3  # by which the shares of a row may miss 1, as those of a model in half precision do


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one class that matters (`score` is there), truth and answer are 1 or 0; of several, their classes."""

    truth: np.ndarray  # (R,) int64
    said: np.ndarray  # (R,) int64
    shares: np.ndarray  # (R, C) probabilities
    classes: tuple[int, ...]  # whose rates are taken, each against the rest
    score: np.ndarray | None = None  # (R,) probability of the class that matters

    def __len__(self) -> int:
        return len(self.truth)

    def of(self, rows: np.ndarray) -> Answers:
        """Of rows that a mask or places choose."""
        return replace(
            self,
            truth=self.truth[rows],
            said=self.said[rows],
            shares=self.shares[rows],
            score=None if self.score is None else self.score[rows],
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of some rows of a group that answer in some way: selection rate, TPR and FPR of a class against the
    rest, or accuracy."""

    kind: str
    label: int

    def among(self, truth: np.ndarray) -> np.ndarray:
        """(R,) the rows that count."""
        match self.kind:
            case "tpr":
                return truth == self.label
            case "fpr":
                return truth != self.label
        return np.ones(len(truth), dtype=bool)

    def hits(self, truth: np.ndarray, said: np.ndarray) -> np.ndarray:
        """(R,) the rows that count and answer so."""
        answered = said == (truth if self.kind == "accuracy" else self.label)
        return answered & self.among(truth)


def answers(
    truth: np.ndarray, probabilities: np.ndarray, *,
    positive: int | None = None, threshold: float = 0.5, said: np.ndarray | None = None,
) -> Answers:  # fmt: skip
    """`truth` (R,) class ids, `probabilities` (R, C). With `positive`, a row answers 1 where that class has at least
    `threshold`; without, the likeliest class; or what is `said` (R,), class ids, where something else than the
    probabilities decides. Raises DataError."""
    truth, shares = np.asarray(truth), np.asarray(probabilities, dtype=np.float64)
    _check(truth, shares, positive, threshold)
    if positive is None:
        answered = shares.argmax(1) if said is None else said
        return Answers(truth.astype(np.int64), answered, shares, tuple(range(shares.shape[1])))
    score = shares[:, positive]
    return Answers(
        (truth == positive).astype(np.int64),
        (score >= threshold if said is None else said == positive).astype(np.int64),
        np.stack([1 - score, score], 1),
        (1,),
        score,
    )


def _check(truth: np.ndarray, shares: np.ndarray, positive: int | None, threshold: float) -> None:
    if shares.ndim != 2 or shares.shape[1] < 2 or truth.shape != shares.shape[:1]:
        raise DataError(f"groups: truth has the shape {truth.shape} and probabilities {shares.shape}; expected (rows,) "
                        "and (rows, classes) of at least two classes")  # fmt: skip
    if not len(truth):
        raise DataError("groups: there are no rows; groups are compared on rows that have a label")
    if not np.isfinite(shares).all() or shares.min() < 0 or (np.abs(shares.sum(1) - 1) > TOLERANCE).any():
        raise DataError("groups: probabilities of a row must lie from 0 to 1 and add up to 1; give those of the "
                        "softmax, not the logits")  # fmt: skip
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= shares.shape[1]:
        raise DataError(f"groups: truth must hold class ids from 0 to {shares.shape[1] - 1}, and holds {truth.dtype} "
                        f"from {truth.min()} to {truth.max()}")  # fmt: skip
    if positive is not None and not 0 <= positive < shares.shape[1]:
        raise DataError(f"groups: the positive class is {positive}; expected 0 to {shares.shape[1] - 1}")
    if not 0 < threshold < 1:
        raise DataError(f"groups: the threshold is {threshold}; expected a probability between 0 and 1")
