"""How a classifier treats groups: against fairlearn and scikit-learn, numbers worked out by hand, and simulations in
which the truth is known."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2_contingency, fisher_exact
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from tuneful.core.errors import DataError
from tuneful.evaluation.calibration import calibration
from tuneful.evaluation.fairness import Findings, Measure, compared, examine_groups, flips, measures
from tuneful.evaluation.fairness.answers import Rate, answers
from tuneful.evaluation.fairness.areas import areas
from tuneful.evaluation.fairness.cells import cells
from tuneful.evaluation.fairness.chance import chance, dealt, dealt_bpsn, dealt_rates
from tuneful.evaluation.fairness.extremes import Drawn, higher, lowest, wider, widest
from tuneful.evaluation.fairness.gaps import GAUGES
from tuneful.evaluation.fairness.gaps import gaps as gaps_of
from tuneful.evaluation.fairness.intervals import differs, holm, padded, percentile, wilson
from tuneful.evaluation.fairness.measures import case, times
from tuneful.evaluation.fairness.members import memberships
from tuneful.evaluation.fairness.ranking import KINDS, power_mean, ranked, redrawn


def both(score: np.ndarray) -> np.ndarray:
    """Probabilities of two classes, of the second one's."""
    return np.stack([1 - score, score], 1)


def drawn_rows(seed: int, rows: int = 1200, groups: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores with many ties, and names of groups."""
    rng = np.random.default_rng(seed)
    truth, group = rng.integers(2, size=rows), rng.integers(groups, size=rows)
    score = np.clip(rng.normal(0.4 + 0.2 * truth + 0.03 * group, 0.2), 0, 1).round(2)
    return truth, score, np.array([f"g{n}" for n in group])


def counted(truth: list[tuple[str, int, int, int]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows of (group, truth, answer, how many)."""
    rows = [(group, is_true, said) for group, is_true, said, times in truth for _ in range(times)]
    return np.array([row[1] for row in rows]), np.array([0.9 * row[2] + 0.05 for row in rows]), [row[0] for row in rows]


def known(value: float | None) -> float:
    assert value is not None
    return value


def quick(truth: np.ndarray, score: np.ndarray, group: np.ndarray) -> dict[str, Measure]:
    """The gaps without the table of groups."""
    columns, _ = memberships({"who": group.astype(str)}, len(truth))
    part, rng = case(answers(truth, both(score), positive=1), columns[0]), np.random.default_rng(0)
    return gaps_of(part, areas(part, rng), rng)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as of very many rows."""
    monkeypatch.setattr(measures, "DRAWS", measures.FEWEST_DRAWS)


# 100 rows each: of a 50 true and 30 of them found, 10 of the others as well; of b 40 true, all of them and 30 others.
HAND = [("a", 1, 1, 30), ("a", 1, 0, 20), ("a", 0, 1, 10), ("a", 0, 0, 40),
        ("b", 1, 1, 40), ("b", 0, 1, 30), ("b", 0, 0, 30)]  # fmt: skip


def by_hand(rows: list[tuple[str, int, int, int]] = HAND) -> Findings:
    truth, score, group = counted(rows)
    return examine_groups(truth, both(score), {"who": group}, positive=1)


@pytest.mark.usefixtures("few_draws")
class TestAgainstFairlearn:
    @pytest.mark.parametrize("seed", range(4))
    def test_rates_of_groups(self, seed: int) -> None:
        from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

        truth, score, group = drawn_rows(seed)
        said = (score >= 0.5).astype(int)
        metrics = {"selection_rate": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate,
                   "accuracy": accuracy_score}  # fmt: skip
        frame = MetricFrame(metrics=metrics, y_true=truth, y_pred=said, sensitive_features=group)
        found = examine_groups(truth, both(score), {"who": group}, positive=1)["who"].groups
        assert set(found) == set(frame.by_group.index)
        for name, told in found.items():
            for kind in metrics:
                assert told[kind].value == pytest.approx(frame.by_group.loc[name, kind])
            assert told["mean_score"].value == pytest.approx(score[group == name].mean())
            own = group == name
            assert told["macro_f1"].value == pytest.approx(f1_score(truth[own], said[own], average="macro"))

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("threshold", [0.3, 0.5])
    def test_differences(self, seed: int, threshold: float) -> None:
        from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

        truth, score, group = drawn_rows(seed, groups=3)
        said = (score >= threshold).astype(int)
        gaps = examine_groups(truth, both(score), {"who": group}, positive=1, threshold=threshold)["who"].gaps
        wanted = demographic_parity_difference(truth, said, sensitive_features=group)
        assert gaps["demographic_parity_difference"].value == pytest.approx(wanted)
        wanted = equalized_odds_difference(truth, said, sensitive_features=group)
        assert gaps["equalised_odds_difference"].value == pytest.approx(wanted)
        shares = [float((said == truth)[group == name].mean()) for name in np.unique(group)]
        assert gaps["worst_group_accuracy"].value == pytest.approx(min(shares))
        assert gaps["accuracy_gap"].value == pytest.approx(max(shares) - min(shares))

    def test_rates_of_groups_that_overlap(self) -> None:
        truth, score, _ = drawn_rows(7)
        rng = np.random.default_rng(7)
        mentions = {"one": rng.random(1200) < 0.3, "two": rng.random(1200) < 0.4}
        found = examine_groups(truth, both(score), mentions, positive=1)["mentions"]
        assert found.part.members.overlap
        for name, own in mentions.items():
            assert found.groups[name]["tpr"].value == pytest.approx((score[own & (truth == 1)] >= 0.5).mean())
            assert found.groups[name]["fpr"].value == pytest.approx((score[own & (truth == 0)] >= 0.5).mean())


@pytest.mark.usefixtures("few_draws")
class TestAreas:
    @pytest.mark.parametrize("seed", range(4))
    def test_against_scikit_learn(self, seed: int) -> None:
        truth, score, _ = drawn_rows(seed)
        rng = np.random.default_rng(seed)
        mentions = {"one": rng.random(1200) < 0.3, "two": rng.random(1200) < 0.5}
        found = examine_groups(truth, both(score), mentions, positive=1)["mentions"].groups
        for name, own in mentions.items():
            rows = {
                "subgroup": own,
                "bpsn": (~own & (truth == 1)) | (own & (truth == 0)),
                "bnsp": (~own & (truth == 0)) | (own & (truth == 1)),
            }
            for kind, chosen in rows.items():
                assert found[name][kind].value == pytest.approx(roc_auc_score(truth[chosen], score[chosen]))

    def test_weights_are_rows_drawn_so_often(self) -> None:
        truth, score, group = drawn_rows(1, rows=300, groups=2)
        mask = np.stack([group == "g0", group == "g1"], 1)
        weights = np.concatenate(list(redrawn(300, 3, np.random.default_rng(0))))
        assert (weights.sum(1) == 300).all()
        areas = ranked(score, truth == 1, mask).areas(weights)
        for b, drawn in enumerate(weights.astype(int)):
            again = np.repeat(np.arange(300), drawn)
            own, true = mask[again, 0], truth[again] == 1
            chosen = (~own & true) | (own & ~true)
            assert areas[1, b, 0] == pytest.approx(roc_auc_score(true[chosen], score[again][chosen]))

    def test_blocks_of_draws_are_all_there(self) -> None:
        blocks = list(redrawn(900_000, 5, np.random.default_rng(0)))
        assert [len(block) for block in blocks] == [2, 2, 1]
        assert all((block.sum(1) == 900_000).all() for block in blocks)

    def test_by_hand(self) -> None:
        # In the group 3 of 4 pairs stand right; its negatives 0.2 and 0.6 against positives 0.5 of the background: 1/2.
        score = np.array([0.2, 0.6, 0.4, 0.9, 0.5, 0.3])
        positive = np.array([0, 0, 1, 1, 1, 0])
        mask = np.array([[1], [1], [1], [1], [0], [0]], dtype=bool)
        areas = ranked(score, positive, mask).areas(np.ones((1, 6)))
        assert areas[:, 0, 0].tolist() == [0.75, 0.5, 1.0]

    def test_nothing_to_rank(self) -> None:
        areas = ranked(np.array([0.1, 0.2]), np.array([0, 1]), np.ones((2, 1), dtype=bool)).areas(np.ones((1, 2)))
        assert areas[0, 0, 0] == 1
        assert np.isnan(areas[1:, 0, 0]).all()

    def test_power_mean(self) -> None:
        assert power_mean(np.array([0.5, 1.0])) == pytest.approx(((32 + 1) / 2) ** -0.2)
        assert power_mean(np.array([[0.8, 0.8]])).tolist() == pytest.approx([0.8])
        truth, score, group = drawn_rows(2)
        found = examine_groups(truth, both(score), {"who": group}, positive=1)["who"]
        wanted = power_mean(np.array([told["bpsn"].value for told in found.groups.values()]))
        assert found.gaps["power_mean_bpsn"].value == pytest.approx(float(wanted))
        assert found.gaps["worst_bpsn"].value == min(told["bpsn"].value for told in found.groups.values())  # type: ignore[type-var]

    def test_an_area_without_fault_is_not_sure(self) -> None:
        truth = np.tile([0, 1], 80)
        found = examine_groups(truth, both(0.1 + 0.8 * truth), {"who": ["a", "a", "b", "b"] * 40}, positive=1)["who"]
        area = found.groups["a"]["subgroup"]
        assert (area.value, area.n) == (1.0, 40)
        assert area.ci95 == wilson(40, 40)
        worst = found.gaps["worst_bpsn"]
        assert worst.ci95 is not None
        assert worst.ci95[0] < 0.95


class TestByHand:
    def test_rates(self) -> None:
        groups = by_hand()["who"].groups
        values = {
            name: [groups[name][kind].value for kind in ("selection_rate", "tpr", "fpr", "accuracy")] for name in "ab"
        }
        assert values["a"] == pytest.approx([0.4, 0.6, 0.2, 0.7])
        assert values["b"] == pytest.approx([0.7, 1.0, 0.5, 0.7])
        assert [groups["b"][kind].n for kind in ("selection_rate", "tpr", "fpr", "accuracy")] == [100, 40, 60, 100]
        assert groups["a"]["tpr"].ci95 == wilson(30, 50)

    def test_gaps(self) -> None:
        gaps = by_hand()["who"].gaps
        parity, odds = gaps["demographic_parity_difference"], gaps["equalised_odds_difference"]
        assert (parity.value, parity.groups, parity.n) == (pytest.approx(0.3), ("b", "a"), 2)
        assert (odds.value, odds.groups, odds.rate) == (pytest.approx(0.4), ("b", "a"), "tpr")
        assert gaps["accuracy_gap"].value == pytest.approx(0.0)
        assert gaps["worst_group_accuracy"].value == pytest.approx(0.7)
        # Two groups of 100: the interval of a difference of shares, 1.96 * sqrt(0.4 * 0.6 / 100 + 0.7 * 0.3 / 100) wide.
        assert parity.ci95 == pytest.approx((0.3 - 0.131, 0.3 + 0.131), abs=0.015)

    def test_gap_that_is_widest_in_false_positives(self) -> None:
        rows = [("a", 1, 1, 40), ("a", 0, 0, 40), ("b", 1, 1, 40), ("b", 0, 1, 20), ("b", 0, 0, 20)]
        odds = by_hand(rows)["who"].gaps["equalised_odds_difference"]
        assert (odds.value, odds.rate, odds.groups) == (0.5, "fpr", ("b", "a"))

    def test_what_differs_from_the_rest(self) -> None:
        groups = by_hand()["who"].groups
        table = [[30, 20], [40, 0]]
        assert groups["a"]["tpr"].p == pytest.approx(chi2_contingency(table, correction=False)[1])
        assert groups["a"]["tpr"].p_adjusted == pytest.approx(
            min(1.0, 2 * chi2_contingency(table, correction=False)[1])
        )
        assert groups["a"]["accuracy"].p == pytest.approx(1.0)

    def test_calibration_of_a_group(self) -> None:
        truth, score, group = drawn_rows(3)
        found = examine_groups(truth, both(score), {"who": group}, positive=1, seed=5)["who"].groups["g1"]["ece"]
        own = group == "g1"
        wanted = calibration(np.log(np.maximum(both(score[own]), 1e-12)), truth[own], seed=5)
        assert (found.value, found.by_chance, found.n) == (wanted["ece"], wanted["by_chance"], own.sum())

    def test_a_class_that_matters_among_three(self) -> None:
        shares = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]] * 60)
        found = answers(np.array([1, 2] * 60), shares, positive=1, threshold=0.4)
        assert found.truth[:2].tolist() == [1, 0]
        assert found.said[:2].tolist() == [1, 0]
        assert answers(np.array([1, 2]), shares[:2], positive=1, threshold=0.5).said.tolist() == [1, 0]

    def test_several_classes_against_the_rest(self) -> None:
        # Recall of class 2 is 1 in a and 0.5 in b, where half of it is taken for class 1; that is the widest of all.
        truth, said, group = [], [], []
        for name, kept in (("a", 40), ("b", 20)):
            truth += [0] * 40 + [1] * 40 + [2] * 40
            said += [0] * 40 + [1] * 40 + [2] * kept + [1] * (40 - kept)
            group += [name] * 120
        found = examine_groups(np.array(truth), np.eye(3)[said] * 0.7 + 0.1, {"who": group})["who"]
        odds = found.gaps["equalised_odds_difference"]
        assert (odds.value, odds.rate, odds.label, odds.groups) == (0.5, "tpr", 2, ("a", "b"))
        parity = found.gaps["demographic_parity_difference"]  # class 1: 40 of 120 and 60 of 120; class 2: 40 and 20
        assert parity.value == pytest.approx(20 / 120)
        assert found.gaps["worst_group_accuracy"].value == pytest.approx(100 / 120)
        assert set(found.groups["a"]) == {"accuracy", "macro_f1", "ece"}
        assert "worst_bpsn" not in found.gaps
        assert found.groups["b"]["macro_f1"].value == pytest.approx((1 + 2 * 40 / (40 + 60) + 2 * 20 / (40 + 20)) / 3)


class TestIntervals:
    def test_wilson(self) -> None:
        assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
        assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)

    def test_holm(self) -> None:
        assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
        assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
        assert holm(np.array([])).tolist() == []

    def test_few_rows_are_tested_exactly(self) -> None:
        found = differs(np.array([3, 40]), np.array([10, 100]), 43, 110)
        assert found[0] == pytest.approx(fisher_exact([[3, 7], [40, 60]])[1])
        found = differs(np.array([30]), np.array([100]), 90, 200)
        assert found[0] == pytest.approx(chi2_contingency([[30, 70], [60, 40]], correction=False)[1])
        assert np.isnan(differs(np.array([5]), np.array([10]), 5, 10)).all()

    def test_rows_that_all_agree_still_vary(self) -> None:
        draws, noise = np.ones((4000, 1)), np.random.default_rng(0).standard_normal((4000, 1))
        moved = 32 / 34
        wide = padded(np.array([1.0]), np.array([30.0]), draws, noise)
        assert wide.std() == pytest.approx((moved * (1 - moved) / 34) ** 0.5, rel=0.05)
        varied = np.random.default_rng(1).normal(0.5, 0.2, (4000, 1))
        assert (padded(np.array([0.5]), np.array([30.0]), varied, noise) == varied).all()

    def test_cells_are_drawn_as_rows_are(self) -> None:
        truth, score, group = drawn_rows(4, rows=200, groups=3)
        said = (score >= 0.5).astype(int)
        mask = np.stack([group == name for name in ("g0", "g1", "g2")], 1)
        kinds, rng = cells(mask, truth, [said]), np.random.default_rng(0)
        assert kinds.counts.sum() == 200
        assert len(kinds.counts) <= 12
        ours = kinds.rates(Rate("tpr", 1), kinds.draws(4000, rng))
        places = rng.integers(200, size=(4000, 200))
        for g in range(3):
            among = mask[places, g] & (truth[places] == 1)
            theirs = (among & (said[places] == 1)).sum(1) / among.sum(1)
            assert ours[:, g].mean() == pytest.approx(theirs.mean(), abs=0.01)
            assert ours[:, g].std() == pytest.approx(theirs.std(), rel=0.08)

    def test_many_rows_are_drawn_less_often(self) -> None:
        assert [times(rows) for rows in (1, 20_000, 40_000, 10**7)] == [1000, 1000, 500, 200]


def redraw(rng: np.random.Generator, sizes: list[int], *chances: np.ndarray, draws: int = 300) -> list[Drawn]:
    """For each system its rates of right rows and a bootstrap of them; half of the luck of a row is the same for all."""
    parts: list[list[tuple[float, np.ndarray]]] = [[] for _ in chances]
    for g, size in enumerate(sizes):
        shared, places = rng.random(size), rng.integers(size, size=(draws, size))
        for part, chance_of in zip(parts, chances, strict=True):
            luck = np.where(rng.random(size) < 0.5, shared, rng.random(size))
            right = (luck < chance_of[g]).astype(float)
            part.append((right.mean(), right[places].mean(1)))
    return [Drawn(np.array([found for found, _ in part]), np.stack([drawn for _, drawn in part], 1)) for part in parts]


WORLDS = [
    # true rates before, after, rows of each group
    ([0.5] * 10, [0.5] * 10, [60] * 10),
    ([0.5] * 10, [0.1] * 10, [60] * 10),
    ([0.9] + [0.5] * 9, [0.5] * 10, [60] * 10),
    ([0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7], [0.5] * 9, [60] * 9),
    ([0.8, 0.5], [0.6, 0.5], [200, 200]),
    ([0.9, 0.1, *[0.5] * 8], [0.5] * 10, [60] * 10),
    ([0.5] * 10, [0.9, 0.1, *[0.5] * 8], [60] * 10),
    ([0.3, 0.5, 0.5, 0.5, 0.5], [0.4, 0.5, 0.5, 0.5, 0.5], [40, 100, 100, 100, 900]),
]


class TestExtremes:
    @pytest.mark.parametrize("world", range(len(WORLDS)))
    def test_intervals_hold_the_truth(self, world: int) -> None:
        """In 95 of 100 samples at least; of 80 samples fewer than 70 would be three standard errors off."""
        before, after, sizes = (np.array(part) for part in WORLDS[world])
        held = np.zeros(4)
        for seed in range(80):
            one, other = redraw(np.random.default_rng([world, seed]), sizes.tolist(), before, after)
            intervals = [widest([one])[1], lowest([one])[1], wider([one], [other]), higher([one], [other])]
            truths = [np.ptp(before), before.min(), np.ptp(after) - np.ptp(before), after.min() - before.min()]
            held += [low - 1e-9 <= truth <= high + 1e-9 for (low, high), truth in zip(intervals, truths, strict=True)]
        assert (held >= 70).all(), held

    def test_percentiles_of_a_maximum_would_not(self) -> None:
        """Why these intervals are not the percentiles of the redrawn maximum."""
        before, after, sizes = (np.array(part) for part in WORLDS[1])
        held = 0
        for seed in range(60):
            one, other = redraw(np.random.default_rng(seed), sizes.tolist(), before, after)
            low, high = percentile(np.ptp(other.draws, axis=1) - np.ptp(one.draws, axis=1))
            held += low <= 0 <= high
        assert held < 54

    def test_two_groups_get_the_interval_of_a_difference(self) -> None:
        rng = np.random.default_rng(0)
        draws = np.array([0.8, 0.3]) + rng.normal(0, 0.03, (20_000, 2))
        value, interval = widest([Drawn(np.array([0.8, 0.3]), draws)])
        half = 1.96 * 0.03 * 2**0.5
        assert value == pytest.approx(0.5)
        assert interval == pytest.approx((0.5 - half, 0.5 + half), abs=0.003)

    def test_lowest_of_groups_far_apart(self) -> None:
        rng = np.random.default_rng(0)
        draws = np.array([0.8, 0.3]) + rng.normal(0, 0.03, (20_000, 2))
        value, interval = lowest([Drawn(np.array([0.8, 0.3]), draws)])
        assert value == pytest.approx(0.3)
        assert interval == pytest.approx((0.3 - 1.96 * 0.03, 0.3 + 1.96 * 0.03), abs=0.003)

    def test_what_is_sure_is_seen(self) -> None:
        rng = np.random.default_rng(0)
        one, other = redraw(rng, [400] * 4, np.array([0.9, 0.6, 0.6, 0.6]), np.array([0.62, 0.6, 0.6, 0.6]))
        assert widest([one])[1][0] > 0.15
        assert wider([one], [other])[1] < 0
        assert wider([other], [one])[0] > 0
        low, high = higher([one], [other])
        assert low < 0 < high

    def test_what_may_be_the_largest_bounds_the_rise(self) -> None:
        """Systems that err alike. Before, d is 0.3 above all others; after, b is 0.3 above a and d is hardly less, so that
        either may be the largest: b has risen by 0.3 and d fallen by 0.05, and the largest itself has not moved."""
        errors = np.random.default_rng(0).normal(0, 0.03, (2000, 4))
        before, after = np.array([0.5, 0.5, 0.5, 0.8]), np.array([0.5, 0.8, 0.5, 0.75])
        low, high = wider([Drawn(before, before + errors)], [Drawn(after, after + errors)])
        assert -0.3 < low < -0.01
        assert 0.01 < high <= 0.3 + 1e-4

    def test_systems_that_are_alike_do_not_differ(self) -> None:
        one, _ = redraw(np.random.default_rng(0), [50] * 5, np.full(5, 0.5), np.full(5, 0.5))
        assert wider([one], [one]) == pytest.approx((0.0, 0.0), abs=1e-4)
        assert higher([one], [one]) == pytest.approx((0.0, 0.0), abs=1e-4)


@pytest.mark.usefixtures("few_draws")
class TestChance:
    def test_p(self) -> None:
        dealt_values = np.array([0.1, 0.2, 0.3, 0.4])
        assert chance(0.3, dealt_values, high=True).p == pytest.approx((1 + 2) / 5)
        assert chance(0.1, dealt_values, high=False).p == pytest.approx((1 + 1) / 5)
        assert chance(0.3, dealt_values, high=True).mean == pytest.approx(0.25)

    def test_rows_stay_in_their_stratum(self) -> None:
        strata = np.array([0, 1, 0, 1, 1, 0] * 5)
        orders = np.concatenate(list(dealt(strata, 50, np.random.default_rng(0))))
        assert orders.shape == (50, 30)
        assert (np.sort(orders, 1) == np.arange(30)).all()
        assert (strata[orders] == strata).all()
        assert any((one != other).any() for one, other in pairwise(orders))

    def test_groups_dealt_as_they_are(self) -> None:
        truth, score, group = drawn_rows(6, groups=3)
        said = (score >= 0.5).astype(int)
        mask = np.stack([group == name for name in ("g0", "g1", "g2")], 1)
        identity = np.arange(len(truth), dtype=np.int32)[None]
        rates = [(Rate("tpr", 1), np.arange(3)), (Rate("fpr", 1), np.arange(3))]
        gaps = examine_groups(truth, both(score), {"who": group}, positive=1)["who"].gaps
        found = dealt_rates(rates, truth, said, mask, identity, GAUGES["equalised_odds_difference"])
        assert found[0] == pytest.approx(gaps["equalised_odds_difference"].value)
        ranks = ranked(score, truth == 1, mask)
        areas = dealt_bpsn(ranks, np.arange(3), np.arange((truth == 0).sum(), dtype=np.int32)[None])
        assert areas[0].tolist() == pytest.approx(
            ranks.areas(np.ones((1, len(truth))))[KINDS.index("bpsn"), 0].tolist()
        )

    def test_dealt_by_exchanging_groups(self) -> None:
        """The same as giving the names of groups to other rows and measuring anew."""
        truth, score, group = drawn_rows(8, rows=400, groups=2)
        mask = np.stack([group == "g0", group == "g1"], 1)
        said, order = (score >= 0.5).astype(int), next(dealt(np.zeros(400), 1, np.random.default_rng(1)))
        found = dealt_rates([(Rate("selection_rate", 1), np.arange(2))], truth, said, mask, order,
                            GAUGES["demographic_parity_difference"])  # fmt: skip
        moved = np.empty(400, dtype=group.dtype)
        moved[order[0]] = group
        assert found[0] == pytest.approx(abs(said[moved == "g0"].mean() - said[moved == "g1"].mean()))

    def test_p_is_even_where_groups_do_not_matter(self) -> None:
        """Of 60 samples; groups of unlike size, and classes that are unlike in groups, as base rates are."""
        p: dict[str, list[float]] = {name: [] for name in ("equalised_odds_difference", "accuracy_gap", "worst_bpsn")}
        for seed in range(60):
            rng = np.random.default_rng(seed)
            group = rng.choice(5, size=600, p=[0.4, 0.15, 0.15, 0.15, 0.15])
            truth = (rng.random(600) < np.array([0.4, 0.5, 0.6, 0.5, 0.5])[group]).astype(int)
            score = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
            gaps = quick(truth, score, group)
            for name, values in p.items():
                values.append(known(gaps[name].p))
        for name, values in p.items():
            assert 0.37 < np.mean(values) < 0.63, name  # 0.5 within 3.5 standard errors
            assert np.mean(np.array(values) <= 0.1) < 0.24, name
            assert np.mean(np.array(values) >= 0.5) > 0.28, name

    def test_base_rates_alone_are_no_unequal_odds(self) -> None:
        """Groups in which the class is unlike common, and answers that only follow the class."""
        p = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            group = np.repeat([0, 1], 300)
            truth = (rng.random(600) < np.array([0.2, 0.8])[group]).astype(int)
            score = np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1)
            gaps = quick(truth, score, group)
            assert known(gaps["demographic_parity_difference"].p) < 0.01
            p.append(known(gaps["equalised_odds_difference"].p))
        assert np.mean(p) > 0.25  # of 0.5, three standard errors

    def test_a_group_that_is_answered_wrongly(self) -> None:
        rows = [("a", 1, 1, 45), ("a", 0, 0, 45), ("b", 1, 1, 45), ("b", 0, 0, 45), ("c", 1, 0, 30), ("c", 0, 0, 30)]
        worst = by_hand(rows)["who"].gaps["worst_group_accuracy"]
        assert (worst.value, worst.groups, worst.p) == (0.5, ("c",), pytest.approx(1 / 201))
        assert known(worst.by_chance) == pytest.approx(210 / 240, abs=0.05)
        assert known(worst.by_chance) < 210 / 240

    def test_the_largest_of_many_is_not_zero_by_chance(self) -> None:
        rng = np.random.default_rng(3)
        truth, group = rng.integers(2, size=2000), rng.integers(20, size=2000)
        score = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
        gap = examine_groups(truth, both(score), {"who": group}, positive=1)["who"].gaps[
            "demographic_parity_difference"
        ]
        # The range of 20 normal means of 100 rows is about 3.73 standard errors of 0.05.
        assert gap.by_chance == pytest.approx(3.73 * 0.05, rel=0.1)
        assert gap.ci95 is not None
        assert gap.ci95[0] == 0

    def test_what_is_planted_is_found(self) -> None:
        truth, score, group = drawn_rows(0, groups=6)
        score = np.clip(score + 0.3 * (group == "g2"), 0, 1)
        found = examine_groups(truth, both(score), {"who": group}, positive=1)["who"]
        for name in ("demographic_parity_difference", "equalised_odds_difference", "worst_bpsn"):
            assert found.gaps[name].p == pytest.approx(1 / 201)
            assert "g2" in found.gaps[name].groups
        assert found.groups["g2"]["fpr"].p_adjusted < 0.001  # type: ignore[operator]
        assert found.gaps["demographic_parity_difference"].ci95[0] > 0.1  # type: ignore[index]


@pytest.mark.usefixtures("few_draws")
class TestWhatIsNotMeasured:
    def test_groups_that_are_small(self) -> None:
        rows = [*HAND, ("c", 1, 1, 29), ("c", 0, 0, 31), ("d", 1, 1, 5), ("d", 0, 0, 20)]
        findings = by_hand(rows)
        found = findings["who"]
        assert (found.groups["c"]["tpr"].value, found.groups["c"]["tpr"].reason, found.groups["c"]["tpr"].n) == (
            None,
            "few_positives",
            29,
        )
        assert found.groups["c"]["fpr"].value == 0.0
        assert found.groups["c"]["selection_rate"].value == pytest.approx(29 / 60)
        reasons = {name: measure.reason for name, measure in found.groups["d"].items()}
        assert reasons == {"accuracy": "few_rows", "selection_rate": "few_rows", "tpr": "few_positives", "fpr": "few_negatives",
                           "mean_score": "few_rows", "macro_f1": "few_rows", "ece": "few_rows", "subgroup": "few_positives",
                           "bpsn": "few_negatives", "bnsp": "few_positives"}  # fmt: skip
        assert {"group": "d", "measure": "fpr", "reason": "few_negatives", "n": 20} in found.not_measured
        note = next(note for note in findings.notes if note.key == "fairness_small_groups")
        assert note.facts == {"feature": "who", "count": 2, "groups": "c, d", "least": 30}
        # d, whose rate is 0.2, is in no gap; c has no TPR and is in those of its other rates.
        assert (found.gaps["demographic_parity_difference"].value, found.gaps["demographic_parity_difference"].n) == (
            pytest.approx(0.3),
            3,
        )
        assert found.gaps["equalised_odds_difference"].value == pytest.approx(0.5)
        assert found.gaps["equalised_odds_difference"].rate == "fpr"

    def test_one_row_more_is_enough(self) -> None:
        findings = by_hand([*HAND, ("c", 1, 1, 30), ("c", 0, 0, 30)])
        assert not findings["who"].not_measured
        assert not findings.notes

    def test_small_groups_of_several_classes(self) -> None:
        said = np.arange(120) % 3
        findings = examine_groups(said, np.eye(3)[said], {"who": ["a"] * 50 + ["b"] * 41 + ["c"] * 29})
        assert [dict(note.facts)["groups"] for note in findings.notes] == ["c"]

    def test_a_background_that_is_small(self) -> None:
        rows = [("a", 1, 1, 40), ("a", 0, 0, 40), ("b", 1, 1, 10), ("b", 0, 0, 40)]
        groups = by_hand(rows)["who"].groups
        assert (groups["a"]["bpsn"].reason, groups["a"]["bpsn"].n) == ("few_background_positives", 10)
        assert groups["a"]["bnsp"].value == 1.0
        assert groups["b"]["bnsp"].reason == "few_positives"

    def test_nothing_to_compare(self) -> None:
        gaps = by_hand([("a", 1, 1, 40), ("a", 0, 0, 40), ("b", 1, 1, 10), ("b", 0, 0, 10)])["who"].gaps
        assert {measure.reason for measure in gaps.values()} == {"few_groups"}
        assert {measure.value for measure in gaps.values()} == {None}

    def test_a_group_of_one_class(self) -> None:
        groups = by_hand([*HAND, ("c", 0, 0, 40), ("c", 0, 1, 10)])["who"].groups
        assert groups["c"]["macro_f1"].reason == "one_class"
        assert groups["c"]["accuracy"].value == pytest.approx(0.8)

    def test_the_group_is_the_label(self) -> None:
        findings = by_hand([("a", 1, 1, 40), ("a", 1, 0, 10), ("b", 0, 0, 50)])
        gaps = findings["who"].gaps
        assert gaps["demographic_parity_difference"].value == pytest.approx(0.8)
        assert gaps["equalised_odds_difference"].reason == "group_is_label"
        assert gaps["worst_bpsn"].reason == "group_is_label"
        assert findings["who"].groups["a"]["tpr"].p is None  # nobody else has a row of the class
        json.dumps(findings.as_json(), allow_nan=False)
        assert "fairness_group_is_label" in {note.key for note in findings.notes}
        assert "fairness_group_is_label" not in {note.key for note in by_hand().notes}


@pytest.mark.usefixtures("few_draws")
class TestColumns:
    def test_unknown_groups_are_counted_and_left_out(self) -> None:
        truth, score, group = drawn_rows(0, rows=600, groups=2)
        column = [
            None if n % 5 == 0 else float("nan") if n % 5 == 1 else " " if n % 5 == 2 else name
            for n, name in enumerate(group)
        ]
        findings = examine_groups(truth, both(score), {"who": column}, positive=1)
        kept = np.arange(600) % 5 > 2
        alone = examine_groups(truth[kept], both(score[kept]), {"who": group[kept]}, positive=1)
        assert findings["who"].gaps == alone["who"].gaps
        assert findings["who"].groups == alone["who"].groups
        assert [(note.key, dict(note.facts)) for note in findings.notes] == [
            ("fairness_unknown", {"feature": "who", "n": 360, "rows": 600})
        ]
        assert findings.as_json()["features"]["who"]["unknown"] == 360

    def test_a_column_of_one_value_or_of_none(self) -> None:
        truth, score, group = drawn_rows(0, rows=300)
        findings = examine_groups(
            truth, both(score), {"one": ["x"] * 299 + [None], "none": [None] * 300, "who": group}, positive=1
        )
        assert [feature.name for feature in findings.features] == ["who"]
        told = {note.key: dict(note.facts) for note in findings.notes if note.key != "fairness_small_groups"}
        assert told == {
            "fairness_one_group": {"feature": "one", "group": "x", "unknown": 1},
            "fairness_none_known": {"feature": "none", "rows": 300},
        }

    def test_too_many_groups(self) -> None:
        names = [f"g{n:03}" for n in range(300) for _ in range(3 if n < 49 else 1)] + ["other", "other"]
        parts, notes = memberships({"who": names}, len(names))
        part = parts[0]
        assert (len(part.names), part.compared, part.pooled, part.names[-1]) == (51, 50, 251, "other")
        assert part.names[:2] == ("g000", "g001")
        assert part.names[49] == "g049"  # of those of one row the first by name; "other" itself is pooled
        assert part.mask.sum(0).tolist() == [3] * 49 + [1, 252]
        assert (part.mask.sum(1) == 1).all()
        assert dict(notes[0].facts) == {"feature": "who", "found": 301, "kept": 50, "pooled": 251, "rows": 252}
        assert notes[0].key == "fairness_many_groups"

    def test_fifty_groups_are_not_too_many(self) -> None:
        part = memberships({"who": [str(n) for n in range(50)]}, 50)[0][0]
        assert (part.pooled, part.compared) == (0, 50)

    def test_what_is_pooled_is_shown_and_not_compared(self) -> None:
        truth = np.tile([0, 1], 31 * 52)
        group = np.repeat([f"g{n:02}" for n in range(52)], 62)
        score = np.where(np.isin(group, ["g50", "g51"]), 0.9, 0.2 + 0.6 * truth)
        findings = examine_groups(truth, both(score), {"who": group}, positive=1)
        found = findings["who"]
        assert (len(found.groups), found.groups["other"]["selection_rate"].value) == (51, 1.0)
        assert found.groups["other"]["selection_rate"].p is None
        assert found.gaps["demographic_parity_difference"].value == 0.0
        assert found.gaps["demographic_parity_difference"].n == 50
        assert found.as_json()["pooled"] == 2

    def test_mentions_that_are_unknown(self) -> None:
        columns = {"one": [True, None, False, True], "two": [False, True, True, True]}
        part = memberships(columns, 4)[0][0]
        assert part.known.tolist() == [True, False, True, True]
        assert part.names == ("one", "two")
        assert part.mask.tolist() == [[True, False], [False, True], [True, True]]

    def test_one_mention_is_compared_with_the_rest(self) -> None:
        truth, score, group = drawn_rows(2, rows=600, groups=2)
        own = group == "g1"
        found = examine_groups(truth, both(score), {"them": own}, positive=1)["mentions"]
        named = examine_groups(truth, both(score), {"who": np.where(own, "them", "rest")}, positive=1)["who"]
        assert found.gaps == named.gaps
        assert found.groups == named.groups

    def test_numbers_are_names_too(self) -> None:
        assert memberships({"age": np.array([1, 0, 1])}, 3)[0][0].names == ("1", "0")

    @pytest.mark.parametrize(("change", "message"), [
        ({"groups": {"who": ["a"]}}, "'who' has 1 values, and there are 80 rows"),
        ({"groups": {"mentions": ["a"] * 80, "one": [True] * 80}}, "call it otherwise"),
        ({"probabilities": np.ones((80, 2))}, "add up to 1"),
        ({"probabilities": np.full((80, 2), np.nan)}, "add up to 1"),
        ({"probabilities": np.ones(80)}, "at least two classes"),
        ({"truth": np.full(80, 2)}, "from 0 to 1"),
        ({"truth": np.full(80, 0.5)}, "from 0 to 1"),
        ({"positive": 2}, "positive class is 2"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"truth": np.zeros(0, dtype=int), "probabilities": np.zeros((0, 2)), "groups": {}}, "there are no rows"),
    ])  # fmt: skip
    def test_what_cannot_be_measured_is_refused(self, change: dict[str, object], message: str) -> None:
        given: dict[str, object] = {"truth": np.tile([0, 1], 40), "probabilities": both(np.full(80, 0.3)),
                                    "groups": {"who": ["a", "b"] * 40}, "positive": 1, "threshold": 0.5}  # fmt: skip
        given |= change
        truth, probabilities, groups = (given.pop(name) for name in ("truth", "probabilities", "groups"))
        with pytest.raises(DataError, match=message):
            examine_groups(truth, probabilities, groups, **given)  # type: ignore[arg-type]

    def test_what_the_report_keeps(self) -> None:
        truth, score, group = drawn_rows(0, rows=300)
        findings = examine_groups(truth, both(score), {"who": group, "one": [True, False] * 150}, positive=1)
        kept = json.loads(json.dumps(findings.as_json(), allow_nan=False))
        assert set(kept["features"]) == {"who", "mentions"}
        first = kept["features"]["who"]["groups"]["g0"]
        assert first["n"] == (group == "g0").sum()
        assert first["positives"] == truth[group == "g0"].sum()
        assert kept["features"]["who"]["gaps"]["accuracy_gap"]["value"] == round(
            known(findings["who"].gaps["accuracy_gap"].value), 5
        )
        assert all(set(note) > {"key"} for note in kept["notes"])
        again = examine_groups(truth, both(score), {"who": group, "one": [True, False] * 150}, positive=1)
        assert again.as_json() == findings.as_json()


@pytest.mark.usefixtures("few_draws")
class TestCompared:
    def test_the_same_system_twice(self) -> None:
        one = by_hand()
        for change in compared(one, by_hand())["who"].values():
            assert change.delta == 0
            assert change.ci95 == pytest.approx((0, 0), abs=1e-4)

    def test_deltas_by_hand(self) -> None:
        mended = [("a", 1, 1, 45), ("a", 1, 0, 5), ("a", 0, 1, 10), ("a", 0, 0, 40),
                  ("b", 1, 1, 40), ("b", 0, 1, 18), ("b", 0, 0, 42)]  # fmt: skip
        before, after = by_hand(), by_hand(mended)
        changes = compared(before, after)["who"]
        parity, odds = changes["demographic_parity_difference"], changes["equalised_odds_difference"]
        assert (parity.before, parity.after, parity.delta) == (
            pytest.approx(0.3),
            pytest.approx(0.03),
            pytest.approx(-0.27),
        )
        assert odds.delta == pytest.approx(0.1 - 0.4)
        assert parity.ci95 is not None
        assert parity.ci95[1] < 0
        assert changes["worst_group_accuracy"].delta == pytest.approx(0.82 - 0.7)
        assert changes["worst_group_accuracy"].ci95[0] > 0  # type: ignore[index]
        assert [name for name, change in changes.items() if change.gap] == [
            "demographic_parity_difference",
            "equalised_odds_difference",
            "accuracy_gap",
        ]
        back = compared(after, before)["who"]["demographic_parity_difference"]
        assert back.delta == pytest.approx(0.27)
        chances = [known(found["who"].gaps["demographic_parity_difference"].by_chance) for found in (before, after)]
        assert known(parity.by_chance) == pytest.approx(chances[1] - chances[0])
        assert known(back.by_chance) == pytest.approx(chances[0] - chances[1])
        kept = parity.as_json()
        assert (kept["measurable"], kept["gap"], kept["n"], kept["delta"]) == (True, True, 200, -0.27)

    def test_areas(self) -> None:
        truth, score, group = drawn_rows(0, groups=3)
        skewed = np.clip(score + 0.25 * (group == "g1"), 0, 1)
        one, other = (examine_groups(truth, both(own), {"who": group}, positive=1) for own in (skewed, score))
        changes = compared(one, other)["who"]
        for name in ("worst_bpsn", "power_mean_bpsn"):
            change = changes[name]
            assert change.delta == pytest.approx(
                known(other["who"].gaps[name].value) - known(one["who"].gaps[name].value)
            )
            assert change.ci95 is not None
            assert 0 < change.ci95[0] < known(change.delta) < change.ci95[1]

    def test_what_is_not_measured_does_not_change(self) -> None:
        rows = [("a", 1, 1, 40), ("a", 0, 0, 40), ("b", 1, 1, 10), ("b", 0, 0, 30)]
        change = compared(by_hand(rows), by_hand(rows))["who"]["equalised_odds_difference"]
        assert change.as_json() == {"reason": "few_groups", "n": 120, "gap": True, "ideal": 0.0, "measurable": False}

    def test_several_classes(self) -> None:
        rng = np.random.default_rng(0)
        truth, group = rng.integers(3, size=900), rng.choice(["a", "b"], size=900)
        shares = rng.dirichlet(np.ones(3), size=900)
        better = np.where((rng.random(900) < 0.6)[:, None], np.eye(3)[truth], shares)
        one, other = (examine_groups(truth, own, {"who": group}) for own in (shares, better))
        change = compared(one, other)["who"]["worst_group_accuracy"]
        assert change.ci95 is not None
        assert change.ci95[0] > 0.2
        assert change.ci95[0] < known(change.delta) < change.ci95[1]

    def test_other_rows_are_refused(self) -> None:
        truth, score, group = drawn_rows(0, rows=300, groups=2)
        one = examine_groups(truth, both(score), {"who": group}, positive=1)
        with pytest.raises(DataError, match="the same rows"):
            compared(one, examine_groups(1 - truth, both(score), {"who": group}, positive=1))
        with pytest.raises(DataError, match="the same rows"):
            compared(one, examine_groups(truth, both(score), {"who": group}))
        with pytest.raises(DataError, match="the same columns"):
            compared(one, examine_groups(truth, both(score), {"whom": group}, positive=1))


class TestFlips:
    def test_by_hand(self) -> None:
        """Of 40 rows "he" to "she", 10 fall from 0.6 to 0.4 and 30 stay; of 30 rows back, 6 rise from 0.3 to 0.9."""
        score = np.array([0.6] * 10 + [0.8] * 30 + [0.3] * 6 + [0.2] * 24 + [0.5] * 5)
        other = np.array([0.4] * 10 + [0.8] * 30 + [0.9] * 6 + [0.2] * 24 + [1.0] * 5)
        pairs = [("he", "she")] * 40 + [("she", "he")] * 30 + [None] * 5
        found = flips(both(score), both(other), pairs, positive=1)
        assert found.n == 70
        assert found.rate.value == pytest.approx(16 / 70)
        assert found.rate.ci95 == wilson(16, 70)
        assert found.moved.value == pytest.approx((10 * 0.2 + 6 * 0.6) / 70)
        there, back = found.by_direction["he", "she"], found.by_direction["she", "he"]
        assert list(found.by_direction) == [("he", "she"), ("she", "he")]
        assert (there.n, there.rate.value) == (40, 0.25)
        assert there.shift is not None
        assert there.shift.value == pytest.approx(-10 * 0.2 / 40)
        assert there.shift.ci95[1] < 0  # type: ignore[index]
        assert back.rate.value == pytest.approx(6 / 30)
        assert back.shift is not None
        assert back.shift.value == pytest.approx(6 * 0.6 / 30)
        json.dumps(found.as_json(), allow_nan=False)
        assert found.as_json()["by_direction"][1]["from"] == "she"

    def test_few_rows_and_none(self) -> None:
        shares = both(np.full(29, 0.3))
        found = flips(shares, shares, [("a", "b")] * 29, positive=1)
        assert (found.n, found.rate.value, found.rate.reason, found.shift) == (29, None, "few_rows", None)
        assert flips(shares, shares, [None] * 29).n == 0
        more = both(np.full(30, 0.3))
        assert flips(more, more, [("a", "b")] * 30).rate.value == 0.0

    def test_rows_without_a_counterfactual_are_not_read(self) -> None:
        shares = both(np.full(60, 0.3))
        other = shares.copy()
        other[30:] = np.nan
        assert flips(shares, other, [("a", "b")] * 30 + [None] * 30).n == 30

    def test_several_classes(self) -> None:
        one, other = np.tile([0.5, 0.3, 0.2], (30, 1)), np.tile([0.3, 0.3, 0.4], (30, 1))
        found = flips(one, other, [("a", "b")] * 30)
        assert (found.rate.value, found.moved.value) == (1.0, pytest.approx(0.2))
        assert found.shift is None

    def test_threshold(self) -> None:
        one, other = both(np.full(30, 0.6)), both(np.full(30, 0.75))
        assert flips(one, other, [("a", "b")] * 30, positive=1).rate.value == 0.0
        assert flips(one, other, [("a", "b")] * 30, positive=1, threshold=0.7).rate.value == 1.0

    def test_the_interval_of_a_mean_holds_it(self) -> None:
        held = 0
        for seed in range(40):
            moved = np.random.default_rng(seed).uniform(0, 0.4, 60)
            found = flips(both(np.full(60, 0.5)), both(0.5 + moved), [("a", "b")] * 60, positive=1)
            assert found.moved.ci95 is not None
            held += found.moved.ci95[0] <= 0.2 <= found.moved.ci95[1]
        assert 33 <= held <= 40

    def test_other_shapes_are_refused(self) -> None:
        with pytest.raises(DataError, match="expected as many of each"):
            flips(np.ones((3, 2)) / 2, np.ones((3, 2)) / 2, [None])
