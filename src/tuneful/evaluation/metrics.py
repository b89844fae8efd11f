"""Metrics, each written as a function of sums over rows.

A metric says which numbers a row adds (`statistics`, (n, k)) and how the sums become the value. A bootstrap is then
one matrix product, for a mean as for macro-F1 or perplexity.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]|[^\W_]+")  # a CJK character, or a run of letters


class Summed:
    """A metric over rows. `value` takes sums (..., k) and gives (...)."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        raise NotImplementedError

    def value(self, sums: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def __call__(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> float:
        return float(self.value(self.statistics(truth, predicted, **per_row).sum(0)))


class RowMean(Summed):
    """The mean of a score of each row."""

    def score(self, truth: Any, predicted: Any) -> float:
        raise NotImplementedError

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        scores = [self.score(t, p) for t, p in zip(truth, predicted, strict=True)]
        return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], 1)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]


class ExactMatch(RowMean):
    """The answer, spaces around it aside, is the expected one to the letter."""

    name = "exact_match"

    def score(self, truth: str, predicted: str) -> float:
        return float(truth.strip() == predicted.strip())


class Accuracy(RowMean):
    """The label is the right one; for sets of labels, all of them and no other."""

    name = "accuracy"

    def score(self, truth: Any, predicted: Any) -> float:
        return float(truth == predicted)


class RougeL(RowMean):
    """F-measure of the longest common subsequence of words (Lin 2004), CJK by character."""

    name = "rouge_l"

    def score(self, truth: str, predicted: str) -> float:
        wanted, found = words(truth), words(predicted)
        return _f1(_common_subsequence(wanted, found), len(found), len(wanted))


class TokenF1(RowMean):
    """Overlap of words, order aside (Rajpurkar et al. 2016, section 6.1)."""

    name = "token_f1"

    def score(self, truth: str, predicted: str) -> float:
        wanted, found = words(truth), words(predicted)
        return _f1((Counter(wanted) & Counter(found)).total(), len(found), len(wanted))


class Perplexity(Summed):
    """exp of the mean loss a token. `predicted` holds (summed loss, tokens) of each row; `truth` is not read."""

    name = "perplexity"
    higher_is_better = False

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        return np.asarray(predicted, dtype=np.float64).reshape(-1, 2)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(sums[..., 0] / sums[..., 1], 700.0))


class _ByClass(Summed):
    """Counts a class: true, predicted, both."""

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        wanted, found = [_as_set(t) for t in truth], [_as_set(p) for p in predicted]
        # Classes that are neither asked for nor answered do not exist for the mean.
        names = sorted(set().union(*wanted, *found), key=str)
        is_true = np.array([[name in labels for name in names] for labels in wanted], dtype=np.float64)
        is_found = np.array([[name in labels for name in names] for labels in found], dtype=np.float64)
        return np.concatenate([is_true, is_found, is_true * is_found], 1)


class MacroF1(_ByClass):
    """The mean over classes of each class's F1."""

    name = "macro_f1"

    def value(self, sums: np.ndarray) -> np.ndarray:
        true, found, both = np.split(sums, 3, axis=-1)
        occurs = true + found > 0  # for this system, in this draw
        f1 = 2 * both / np.maximum(true + found, 1e-12)
        return f1.sum(-1) / np.maximum(occurs.sum(-1), 1)


class Mcc(_ByClass):
    """Matthews correlation over any number of classes (Gorodkin 2004, equation 8)."""

    name = "mcc"

    def value(self, sums: np.ndarray) -> np.ndarray:
        true, found, both = np.split(sums, 3, axis=-1)
        n, right = true.sum(-1), both.sum(-1)
        covariance = right * n - (true * found).sum(-1)
        spread = (n**2 - (found**2).sum(-1)) * (n**2 - (true**2).sum(-1))
        return np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1e-12)), 0.0)


class MeanAbsoluteError(RowMean):
    """Mean distance, in the unit of the number."""

    name = "mae"
    higher_is_better = False

    def score(self, truth: float, predicted: float) -> float:
        return abs(truth - predicted)


class RootMeanSquaredError(RowMean):
    """Root of the mean squared distance."""

    name = "rmse"
    higher_is_better = False

    def score(self, truth: float, predicted: float) -> float:
        return (truth - predicted) ** 2

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.sqrt(super().value(sums))


class Pearson(Summed):
    """Linear correlation."""

    name = "pearson"

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        x, y = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        x, y = x - x.mean(), y - y.mean()  # large means would eat the digits of the products
        return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], 1)

    def value(self, sums: np.ndarray) -> np.ndarray:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spread = (n * xx - x**2) * (n * yy - y**2)
        return np.where(spread > 1e-12, (n * xy - x * y) / np.sqrt(np.maximum(spread, 1e-12)), 0.0)


class Spearman(Pearson):
    """Correlation of ranks."""

    name = "spearman"

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        return super().statistics(_ranks(truth).tolist(), _ranks(predicted).tolist())


class Ranked(RowMean):
    """Of the documents that a query finds: `truth` holds those that are right, `predicted` lists what was found, the
    nearest first. Right is right, no document more than another."""

    depth: ClassVar[int] = 10

    def hits(self, truth: frozenset[Any], predicted: Sequence[Any]) -> list[int]:
        """At which places of the first `depth`, counted from 1, a right one stands."""
        return [place for place, found in enumerate(predicted[: self.depth], 1) if found in truth]


class AccuracyAt1(Ranked):
    """The first document is right."""

    name, depth = "accuracy_at_1", 1

    def score(self, truth: frozenset[Any], predicted: Sequence[Any]) -> float:
        return float(bool(self.hits(truth, predicted)))


class RecallAt10(Ranked):
    """Share of the right documents that are among the first ten."""

    name = "recall_at_10"

    def score(self, truth: frozenset[Any], predicted: Sequence[Any]) -> float:
        return len(self.hits(truth, predicted)) / len(truth)


class ReciprocalRankAt10(Ranked):
    """One over the place of the first right document; 0 where none is among the first ten (Voorhees 1999)."""

    name = "mrr_at_10"

    def score(self, truth: frozenset[Any], predicted: Sequence[Any]) -> float:
        hits = self.hits(truth, predicted)
        return 1 / hits[0] if hits else 0.0


class GainAt10(Ranked):
    """Discounted gain of the first ten, as a share of the most there could be (Jarvelin and Kekalainen 2002)."""

    name = "ndcg_at_10"

    def score(self, truth: frozenset[Any], predicted: Sequence[Any]) -> float:
        most = range(1, min(len(truth), self.depth) + 1)
        return _discounted(self.hits(truth, predicted)) / _discounted(most)


class PreferenceAccuracy(RowMean):
    """The chosen answer has the larger reward: `predicted` is by how much; a draw is half right."""

    name = "preference_accuracy"

    def score(self, truth: Any, predicted: float) -> float:
        return 0.5 * (1 + (predicted > 0) - (predicted < 0))


class LikelihoodAccuracy(PreferenceAccuracy):
    """The chosen answer is likelier; `predicted` is by how many nats."""

    name = "likelihood_accuracy"


class LikelihoodMargin(RowMean):
    """By how many nats the chosen answer is likelier."""

    name = "likelihood_margin"

    def score(self, truth: Any, predicted: float) -> float:
        return predicted


class ChosenLogprob(Summed):
    """Mean log-probability a token of answers that are wanted. `predicted` holds (sum, tokens) of each."""

    name = "chosen_logprob"

    def statistics(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> np.ndarray:
        return np.asarray(predicted, dtype=np.float64).reshape(-1, 2)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]


class JudgedAccuracy(Accuracy):
    """Answers that are wanted are told from others."""

    name = "judged_accuracy"


class Rewarded(RowMean):
    """What answers are worth to those who judge them; `predicted` is that."""

    name = "reward"

    def score(self, truth: Any, predicted: float) -> float:
        return predicted


class Verified(Rewarded):
    """The same of judges that nothing was learned from."""

    name = "verified"


REWARD_METRICS = (Rewarded.name, Verified.name)  # that of the verdict first
PREFERENCE = (PreferenceAccuracy, LikelihoodAccuracy, LikelihoodMargin, ChosenLogprob)
PREFERENCE_METRICS = tuple(metric.name for metric in PREFERENCE)  # that of the verdict first
JUDGED_METRICS = (JudgedAccuracy.name, ChosenLogprob.name)
SEARCH = (GainAt10, ReciprocalRankAt10, RecallAt10, AccuracyAt1)
SEARCH_METRICS = tuple(metric.name for metric in SEARCH)  # that of the verdict first
METRICS: dict[str, Summed] = {
    metric.name: metric()
    for metric in (
        ExactMatch,
        Accuracy,
        MacroF1,
        Mcc,
        RougeL,
        TokenF1,
        Perplexity,
        MeanAbsoluteError,
        RootMeanSquaredError,
        Pearson,
        Spearman,
        *SEARCH,
        *PREFERENCE,
        JudgedAccuracy,
        Rewarded,
        Verified,
    )
}


def words(text: str) -> list[str]:
    """Lower-cased words; each CJK character is one."""
    return WORD.findall(text.lower())


def _discounted(places: Sequence[int]) -> float:
    return sum(1 / math.log2(place + 1) for place in places)


def _f1(common: int, found: int, wanted: int) -> float:
    if found + wanted == 0:
        return 1.0
    return 2 * common / (found + wanted)


def _common_subsequence(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        corner = 0
        for place, candidate in enumerate(other, 1):
            corner, row[place] = (
                row[place],
                corner + 1 if word == candidate else max(row[place], row[place - 1]),
            )
    return row[-1]


def _as_set(label: Any) -> frozenset[Any]:
    return frozenset(label) if isinstance(label, set | frozenset) else frozenset([label])


def _ranks(values: Sequence[Any]) -> np.ndarray:
    """1 for the smallest; equal values share their mean rank."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
