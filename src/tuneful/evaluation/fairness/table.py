"""How a classifier treats each group: rates, score, calibration and ranking, one group beside the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tuneful.evaluation.calibration import calibration
from tuneful.evaluation.fairness.answers import Answers, Rate
from tuneful.evaluation.fairness.areas import Areas
from tuneful.evaluation.fairness.intervals import Z, differs, holm, percentile, wilson
from tuneful.evaluation.fairness.measures import DRAWS, LEAST, Case, Measure, refused
from tuneful.evaluation.fairness.ranking import KINDS, divided
from tuneful.evaluation.metrics import METRICS

Group = Mapping[str, Measure]
SHORT = {"tpr": "few_positives", "fpr": "few_negatives"}
SAMPLE = 10_000  # rows of a group whose calibration is measured; a seeded sample of more
SURE = 1e-12  # the least probability, whose logarithm is finite


def table(part: Case, found: Areas | None, seed: int) -> dict[str, Group]:
    """By group, in the order of members: accuracy, macro_f1, ece; where one class matters also selection_rate, tpr,
    fpr, mean_score, and the areas subgroup, bpsn and bnsp.

    Intervals: Wilson's for shares, mean +- 1.96 standard errors for the score, percentile bootstrap of 1,000 draws for
    macro F1, the basic one for the calibration error (`calibration`), percentile for areas. `p` of a share: that it is
    the share of all rows that are not of the group (`differs`), Holm-adjusted for as many groups."""
    rates = _rates(part.answers)
    shares = disaggregated(part.answers, part.mask, rates)
    shared = {rate.kind: _shares(part, rate, own) for rate, own in zip(rates, shares, strict=True)}
    scores = _means(part) if part.answers.score is not None else []
    groups: dict[str, Group] = {}
    for g, name in enumerate(part.members.names):
        own = part.answers.of(part.mask[:, g])
        groups[name] = {
            **{kind: measures[g] for kind, measures in shared.items()},
            **({"mean_score": scores[g]} if scores else {}),
            "macro_f1": macro_f1(own, seed),
            "ece": ece(own, seed),
            **({kind: found.measure(kind, g) for kind in KINDS} if found else {}),
        }
    return groups


def _rates(answers: Answers) -> list[Rate]:
    kinds = ("accuracy",) if answers.score is None else ("accuracy", "selection_rate", "tpr", "fpr")
    return [Rate(kind, 1) for kind in kinds]


def disaggregated(answers: Answers, mask: np.ndarray, rates: Sequence[Rate]) -> np.ndarray:
    """(rates, G) through fairlearn's MetricFrame; NaN where no row counts. A row of several groups is given once for
    each, so that groups that overlap need no frame of their own."""
    from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]

    metrics = {rate.kind: _share(rate) for rate in rates}
    rows, groups = np.nonzero(mask)
    frame = MetricFrame(
        metrics=metrics, y_true=answers.truth[rows], y_pred=answers.said[rows], sensitive_features=groups
    )
    return frame.by_group.loc[range(mask.shape[1]), list(metrics)].to_numpy(dtype=np.float64).T


def _share(rate: Rate) -> Callable[[np.ndarray, np.ndarray], float]:
    def share(truth: np.ndarray, said: np.ndarray) -> float:
        return float(divided(rate.hits(truth, said).sum(), rate.among(truth).sum()))

    return share


def _shares(part: Case, rate: Rate, shares: np.ndarray) -> list[Measure]:
    """Of each group, with its share (G,)."""
    among = rate.among(part.answers.truth)
    n, compared = part.counts(among), part.members.compared
    hits = part.counts(rate.hits(part.answers.truth, part.answers.said))
    measures = [_measure(rate, float(share), int(count)) for share, count in zip(shares, n, strict=True)]
    tested = [g for g, measure in enumerate(measures[:compared]) if measure.value is not None and n[g] < among.sum()]
    all_hits = int(rate.hits(part.answers.truth, part.answers.said).sum())
    p = differs(hits[tested], n[tested], all_hits, int(among.sum()))
    for g, own, adjusted in zip(tested, p, holm(p), strict=True):
        measures[g] = replace(measures[g], p=float(own), p_adjusted=float(adjusted))
    return measures


def _measure(rate: Rate, share: float, n: int) -> Measure:
    if n < LEAST:
        return refused(SHORT.get(rate.kind, "few_rows"), n)
    return Measure(share, n, wilson(share * n, n))


def _means(part: Case) -> list[Measure]:
    """The mean score of each group."""
    assert part.answers.score is not None
    found = []
    for own in part.mask.T:
        score = part.answers.score[own]
        if len(score) < LEAST:
            found.append(refused("few_rows", len(score)))
            continue
        mean, half = float(score.mean()), Z * float(score.std(ddof=1)) / len(score) ** 0.5
        found.append(Measure(mean, len(score), (max(0.0, mean - half), min(1.0, mean + half))))
    return found


def macro_f1(own: Answers, seed: int) -> Measure:
    """Over the classes that occur in truth or answers; not of a group that has one class only."""
    if len(own) < LEAST:
        return refused("few_rows", len(own))
    if len(np.unique(own.truth)) == 1:
        return refused("one_class", len(own))
    kinds, counts = np.unique(np.stack([own.truth, own.said], 1), axis=0, return_counts=True)
    metric = METRICS["macro_f1"]
    sums = metric.statistics(kinds[:, 0].tolist(), kinds[:, 1].tolist())
    draws = np.random.default_rng(seed).multinomial(len(own), counts / len(own), size=DRAWS)
    return Measure(float(metric.value(counts @ sums)), len(own), percentile(metric.value(draws @ sums)))


def ece(own: Answers, seed: int) -> Measure:
    """Expected calibration error; `by_chance` is what a faultless model stays under in 95 of 100 samples as large."""
    if len(own) < LEAST:
        return refused("few_rows", len(own))
    if len(own) > SAMPLE:
        own = own.of(np.random.default_rng(seed).choice(len(own), SAMPLE, replace=False))
    found = calibration(np.log(np.maximum(own.shares, SURE)), own.truth, seed=seed)
    return Measure(found["ece"], len(own), tuple(found["ci95"]), by_chance=found["by_chance"])
