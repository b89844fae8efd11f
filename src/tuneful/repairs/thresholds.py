"""Where each group's scores are cut, so that a classifier that is trained already treats groups alike by one measure.

Hardt, Price and Srebro 2016, "Equality of opportunity in supervised learning" (arXiv:1610.02413, section 3), solved by
fairlearn's ThresholdOptimizer on held-out scores. What it finds is kept as a `Rule` that is plain numbers, and applied
here without fairlearn. Alike to within a thousandth on the rows it was fitted on, by chance on others; a rule that
flips coins answers some people otherwise than their scores say, which is the price of the method and not an error.

A rule needs the group of everyone it decides about, and treats people by it: whether that is allowed is not a question
of statistics. Shapes: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from tuneful.core.errors import DataError

Constraint = Literal["demographic_parity", "equalised_odds", "equal_opportunity"]
Objective = Literal["accuracy", "balanced_accuracy"]

THEIRS = {  # fairlearn's names
    "demographic_parity": "demographic_parity",  # P(yes) is the same in every group
    "equalised_odds": "equalized_odds",  # P(yes | true) and P(yes | false) are
    "equal_opportunity": "true_positive_rate_parity",  # P(yes | true) is
    "accuracy": "accuracy_score",
    "balanced_accuracy": "balanced_accuracy_score",
}
LEAST = 30  # positives, and negatives, of a group: rates of fewer are noise
NOBODY, EVERYBODY = 2.0, -1.0  # cuts that no score is above, and that all are; infinity is no JSON
STEPS = 1000  # fairlearn's grid of rates


@dataclass(frozen=True, slots=True)
class Cut:
    """Yes for scores above `at`, or below it where a reading of scores was turned round."""

    at: float
    above: bool = True

    def __call__(self, scores_N: np.ndarray) -> np.ndarray:
        return scores_N > self.at if self.above else scores_N < self.at


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two cuts, taken with chances `p0` and `p1` = 1 - `p0`; and with chance `ignored` the score is not looked at, and
    the answer is yes with chance `constant`."""

    p0: float
    cut0: Cut
    p1: float
    cut1: Cut
    ignored: float = 0.0
    constant: float = 0.0

    def chances(self, scores_N: np.ndarray) -> np.ndarray:
        """(N,) of a yes."""
        looked = self.p0 * self.cut0(scores_N) + self.p1 * self.cut1(scores_N)
        return self.ignored * self.constant + (1 - self.ignored) * looked


@dataclass(frozen=True, slots=True)
class Rule:
    """How scores become answers, by group. A group that was not there when it was fitted, or is not known (None), gets
    the `fallback`: the one cut that is best for the objective over all rows, which promises nothing about groups."""

    constraint: str
    objective: str
    groups: Mapping[str, Mixture]
    fallback: Cut

    def chances(self, scores_N: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
        """(N,) of a yes. Raises DataError for scores that are no probabilities."""
        scores = np.asarray(scores_N, dtype=np.float64)
        _refuse([*_sizes(len(scores), len(groups)), *_beyond(scores)])
        found = self.fallback(scores).astype(np.float64)
        names = np.array(groups, dtype=object)
        for name, mixture in self.groups.items():
            found[names == name] = mixture.chances(scores[names == name])
        return found

    def decide(
        self, scores_N: np.ndarray, groups: Sequence[str | None], keys: Sequence[str], *, seed: int = 0
    ) -> np.ndarray:
        """(N,) bool. `keys` name the rows (an id, or the text): where a coin is flipped, it falls the same way for the
        same key and seed, in whatever order and company rows come, so nobody gains by asking twice."""
        _refuse(_sizes(len(scores_N), len(keys)))
        return coins(keys, seed) < self.chances(scores_N, groups)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Rule:
        """Raises DataError where it is not what `as_json` gives."""
        try:
            groups = {name: _mixture(given) for name, given in found["groups"].items()}
            return Rule(found["constraint"], found["objective"], groups, Cut(**found["fallback"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"a rule of thresholds cannot be read: {error!r}; expected what `Rule.as_json` gives; "
                            "fit the rule again") from error  # fmt: skip


def _mixture(found: Mapping[str, Any]) -> Mixture:
    return Mixture(**{**found, "cut0": Cut(**found["cut0"]), "cut1": Cut(**found["cut1"])})


def coins(keys: Sequence[str], seed: int = 0) -> np.ndarray:
    """(N,) evenly spread in [0, 1), each from its key and the seed alone."""
    salt = seed.to_bytes(8, "big", signed=True)
    found = [hashlib.blake2b(key.encode(), digest_size=8, salt=salt).digest() for key in keys]
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in found], dtype=np.float64) * 2.0**-53


def fit_thresholds(
    scores_N: np.ndarray,
    truth_N: np.ndarray,
    groups: Sequence[str | None],
    constraint: Constraint = "equalised_odds",
    objective: Objective = "balanced_accuracy",
    *,
    flip: bool = False,
) -> Rule:
    """The rule that is best for the objective among those that hold to the constraint.

    Scores are probabilities of the positive class of rows that were not learned, the truth is 0 or 1. Rows of unknown
    group (None) only help to place the fallback. `flip` lets a group's low scores mean yes, where they tell more so.
    Raises DataError with all that is wrong: sizes, scores beyond [0, 1], other truths, fewer than two groups, or a
    group with fewer than `LEAST` positives or negatives."""
    scores, truth = np.asarray(scores_N, dtype=np.float64), np.asarray(truth_N)
    _refuse(_sizes(len(scores), len(truth), len(groups)))
    _refuse([*_beyond(scores), *_other_truths(truth), *_few(truth, groups)])
    truth, known = truth.astype(np.int64), np.array([group is not None for group in groups])
    names = np.array([group for group in groups if group is not None], dtype=object)
    found = _solved(scores[known], truth[known], names, constraint, objective, flip)
    mixtures = {str(name): _of_theirs(given) for name, given in sorted(found.items())}
    return Rule(constraint, objective, mixtures, best_cut(scores, truth, objective))


def _solved(
    scores: np.ndarray, truth: np.ndarray, names: np.ndarray, constraint: str, objective: str, flip: bool
) -> Mapping[str, Any]:
    from fairlearn.postprocessing import ThresholdOptimizer  # type: ignore[import-untyped]
    from sklearn.base import BaseEstimator  # type: ignore[import-untyped]

    class Given(BaseEstimator):  # type: ignore[misc]
        """Answers the scores it is given."""

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def fit(self, _scores: np.ndarray, _truth: np.ndarray) -> Given:
            return self

        def predict(self, scores_N1: np.ndarray) -> np.ndarray:
            return scores_N1[:, 0]

    optimiser = ThresholdOptimizer(
        estimator=Given(), constraints=THEIRS[constraint], objective=THEIRS[objective], grid_size=STEPS, flip=flip,
        prefit=True, predict_method="predict",
    )  # fmt: skip
    optimiser.fit(scores[:, None], truth, sensitive_features=names)
    return optimiser.interpolated_thresholder_.interpolation_dict


def _of_theirs(found: Any) -> Mixture:
    cuts = [Cut(float(np.clip(operation.threshold, EVERYBODY, NOBODY)), operation.operator == ">")
            for operation in (found.operation0, found.operation1)]  # fmt: skip
    ignored, constant = float(found.get("p_ignore", 0.0)), float(found.get("prediction_constant", 0.0))
    return Mixture(float(found.p0), cuts[0], float(found.p1), cuts[1], ignored, constant)


def best_cut(scores_N: np.ndarray, truth_N: np.ndarray, objective: Objective) -> Cut:
    """The one cut for everybody, half way between two scores; of several the highest."""
    values = np.unique(scores_N)[::-1]
    cuts = np.concatenate([[NOBODY], (values[:-1] + values[1:]) / 2, [EVERYBODY]])
    positives, negatives = np.sort(scores_N[truth_N == 1]), np.sort(scores_N[truth_N == 0])
    caught = len(positives) - np.searchsorted(positives, cuts, side="right")
    spared = np.searchsorted(negatives, cuts, side="right")
    if objective == "accuracy":
        return Cut(float(cuts[np.argmax(caught + spared)]))
    return Cut(float(cuts[np.argmax(caught / len(positives) + spared / len(negatives))]))


def _sizes(scores: int, *others: int) -> list[str]:
    return [f"found {scores} scores and {other} values beside them, expected as many" for other in others
            if other != scores]  # fmt: skip


def _beyond(scores: np.ndarray) -> list[str]:
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    return [f"found {len(wrong)} scores that are no probabilities, such as {wrong[0]}; expected 0 to 1: take the "
            "softmax or sigmoid of logits"] if len(wrong) else []  # fmt: skip


def _other_truths(truth: np.ndarray) -> list[str]:
    wrong = truth[~np.isin(truth, (0, 1))]
    return [f"found the truth {wrong[0]!r}; expected 0 or 1: thresholds are for two classes"] if len(wrong) else []


def _few(truth: np.ndarray, groups: Sequence[str | None]) -> list[str]:
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        return [f"found {len(names)} groups, expected two or more: there is nobody to treat alike"]
    of = np.array([group if group is not None else "" for group in groups], dtype=object)
    known = np.array([group is not None for group in groups])
    problems = []
    for name in names:
        inside = truth[known & (of == name)]
        counts = {"positive": int((inside == 1).sum()), "negative": int((inside == 0).sum())}
        problems += [f"found {count} {kind} rows in group '{name}', expected at least {LEAST}: give more rows, or "
                     "leave that group out" for kind, count in counts.items() if count < LEAST]  # fmt: skip
    return problems


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise DataError("thresholds by group: " + "; ".join(problems))
