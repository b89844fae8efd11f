"""What a run says of its groups before it learns, and what the report's sentences say of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tuneful.core.types import Example, Place, Row
from tuneful.data.labels import LabelSet
from tuneful.evaluation import fairer, sections
from tuneful.evaluation.repaired import repaired
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import Recipe
from tuneful.run.comparable import comparable


def rows_of(cells: dict[tuple[str | None, int], int]) -> Any:
    """Rows of each group and class, as many as are said."""
    found = []
    for (group, target), count in cells.items():
        for n in range(count):
            example = Example(place=Place("rows.csv", n + 1), text="a text", label=str(target), group=group)
            found.append(Row(example, np.array([1, 2]), np.zeros(2), target=target))
    return SimpleNamespace(rows=found)


def said(
    test: dict[tuple[str | None, int], int], train: dict[tuple[str | None, int], int], *,
    names: tuple[str, ...] = ("no", "yes"), streams: bool = False, **changed: Any,
) -> list[Any]:  # fmt: skip
    data = {"source": "rows.csv", "group": "city", **changed.pop("data", {})}
    recipe = Recipe.model_validate({"data": data, **changed})
    built = {"train": rows_of(train), "validation": rows_of({}), "test": rows_of(test)}
    return [
        (note.key, dict(note.facts)) for note in comparable(recipe, LabelSet("class", names), built, streams=streams)
    ]


def cells(**counts: tuple[int, int]) -> dict[tuple[str | None, int], int]:
    """Of each group so many rows of the first class and of the second."""
    return {(group, target): own[target] for group, own in counts.items() for target in (0, 1)}


def test_nothing_is_said_where_groups_can_be_compared() -> None:
    assert said(cells(a=(30, 30), b=(30, 30)), {}) == []


def test_how_many_test_rows_would_do_by_hand() -> None:
    """Of 400 rows the scarcest cell of the two groups has 50, an eighth: 30 of it need 240 rows."""
    ((key, facts),) = said(cells(a=(20, 10), b=(10, 10)), cells(a=(130, 90), b=(90, 40)))
    assert (key, facts["enough"], facts["target"], facts["wanted"]) == ("groups_some_rows", 0, 2, 240)


def test_the_next_group_is_told_of_and_not_the_smallest() -> None:
    """Of 1,108 rows c has 410 of a class, a and b 70, d 4: three groups with 30 need 475 rows, and no rate is of d."""
    test = cells(a=(30, 30), b=(30, 30), c=(10, 10), d=(2, 2))
    ((key, facts),) = said(test, cells(a=(40, 40), b=(40, 40), c=(400, 400), d=(2, 2)))
    assert (key, facts["enough"], facts["target"], facts["wanted"]) == ("groups_some_rows", 2, 3, 475)


def test_each_rate_has_groups_of_its_own() -> None:
    """True positive rates of a and c, false ones of a and b: two groups for both kinds."""
    ((_, facts),) = said(cells(a=(30, 30), b=(30, 0), c=(0, 30)), cells(a=(90, 90), b=(90, 90), c=(90, 90)))
    assert (facts["enough"], facts["target"]) == (2, 3)


@pytest.mark.parametrize(("rare", "key"), [(44, "groups_too_few"), (45, "groups_some_rows")])
def test_too_few_rows_in_all(rare: int, key: str) -> None:
    """With 45 there would be 15 left to learn from."""
    test, train = cells(a=(30, 30), b=(30, 2)), cells(a=(30, 30), b=(30, rare - 2))
    assert [note for note, _ in said(test, train)] == [key]
    assert [note for note, _ in said(test, train, streams=True)] == ["groups_some_rows"], "a sample is not all there is"
    assert said(cells(a=(30, 30), b=(30, 0)), {}, streams=True) == []


def test_of_several_classes_the_rows_of_a_group_count() -> None:
    test = {(group, target): 10 for group in "ab" for target in range(3)}
    assert said(test, {}, names=("x", "y", "z")) == []
    assert said({**test, ("b", 0): 9}, test, names=("x", "y", "z"))[0][1]["enough"] == 1


def test_a_group_called_none_is_not_the_unknown_one() -> None:
    unknown = {(None, 0): 90, (None, 1): 90}
    ((_, facts), *_) = [
        one for one in said({**cells(None_=(5, 5), a=(30, 30)), **unknown}, unknown) if "enough" in one[1]
    ]
    assert facts["enough"] == 1
    test = {("None", 0): 5, ("None", 1): 5, ("a", 0): 30, ("a", 1): 30, **unknown}
    assert next(facts for _, facts in said(test, {}) if "enough" in facts)["enough"] == 1


def test_groups_that_are_pooled_are_not_counted() -> None:
    test = {(f"g{n:02}", target): 30 for n in range(50) for target in (0, 1)} | cells(rare=(1, 1))
    assert [note for note, _ in said(test, {})] == ["fairness_many_groups"]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({("a", 0): 60, ("a", 1): 60}, "fairness_one_group"),
        ({("a", 0): 60, ("b", 1): 60}, "fairness_group_is_label"),
        ({(None, 0): 60, (None, 1): 60}, "fairness_none_known"),
        ({(f"g{n:03}", n % 2): 1 for n in range(300)}, "fairness_many_groups"),
    ],
)
def test_a_column_that_compares_nothing(given: dict[tuple[str | None, int], int], key: str) -> None:
    assert key in [note for note, _ in said(given, given)]


def test_nothing_is_said_where_nobody_asked() -> None:
    one = {("a", 0): 60, ("a", 1): 60}
    assert said(one, one, data={"group": None}) == []
    assert said(one, one, evaluate={"by_group": False}) == []
    assert said(one, one, evaluate="none") == []
    assert said(one, one, data={"group": None, "mentions": "all"}) != []
    assert said({}, one) == []


GAP = {"measurable": True, "gap": True, "before": 0.1, "after": 0.4, "ci95": [0.1, 0.5], "chance": 0.05, "p": 0.001,
       "groups": ["north", "south"]}  # fmt: skip


def report(bias: dict[str, Any]) -> dict[str, Any]:
    return {"bias": bias, "groups": {"class": "rude", "features": {"region": {}}}}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, ["0.4 between ‘north’ and ‘south’", "more than chance gives, 0.05", "surely grown: 0.1"]),
        ({"p": 0.4}, ["Chance alone gives 0.05"]),
        ({"before": 0.9, "ci95": [-0.6, -0.4]}, ["surely become smaller: 0.9"]),
        ({"ci95": [-0.1, 0.5]}, ["cannot be told from these rows"]),
        ({"rate": "fpr"}, ["‘south’ (False positive rate)."]),
        ({"rate": "tpr", "label": "late"}, ["‘south’ (‘late’, True positive rate)."]),
        ({"chance": 0.0}, ["more than chance gives, 0 in the mean"]),
        ({"after": 0.0, "groups": [], "p": 1.0}, ["difference: 0. It has"]),
    ],
)
def test_a_gap_in_a_sentence(changed: dict[str, Any], wanted: list[str]) -> None:
    meant, sentence = fairer.sentences(report({"equalised_odds_difference": {**GAP, **changed}}), words("en"))
    assert meant == "‘The class’ is ‘rude’."
    assert all(part in sentence for part in wanted), sentence


def test_the_first_gap_that_could_be_measured_is_told() -> None:
    bias = {"equalised_odds_difference (region)": {"measurable": False, "reason": "few_groups"},
            "demographic_parity_difference (region)": GAP}  # fmt: skip
    _, sentence = fairer.sentences(report(bias), words("en"))
    assert "Demographic parity difference" in sentence
    assert fairer.sentences(report({"worst_bpsn": GAP}), words("en")) == []


def test_every_column_has_its_sentence() -> None:
    bias = {"accuracy_gap (region)": GAP, "equalised_odds_difference (x (y))": {**GAP, "groups": ["p", "q"]}}
    told = {"bias": bias, "groups": {"features": {"region": {}, "x (y)": {}, "z": {}}}}
    first, second = fairer.sentences(told, words("en"))
    assert first.startswith("‘region’, Accuracy, best group less worst: 0.4 between ‘north’ and ‘south’.")
    assert second.startswith("‘x (y)’, Equalised odds difference: 0.4 between ‘p’ and ‘q’.")


@pytest.mark.parametrize(("bias", "shown"), [({}, True), ({"accuracy_gap": GAP}, False)])
def test_why_nothing_was_compared_is_told_once(bias: dict[str, Any], shown: bool) -> None:
    """Beside the table of gaps, or with the data where there is none."""
    note = {"key": "fairness_one_group", "feature": "city", "group": "a"}
    told = {"bias": bias, "groups": {"notes": [note]}, "data": {"notes": [note]}}
    assert bool(sections.notes(told, words("en"))) is shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_repair_that_made_something_worse_says_so(language: str) -> None:
    changed = {"accuracy": {"before": 0.88, "after": 0.87}, "worst_group_accuracy": {"before": 0.7, "after": 0.6},
               "demographic_parity_difference": {"before": 0.1, "after": 0.3},
               "equalised_odds_difference": {"before": 0.3, "after": 0.1}}  # fmt: skip
    part = {"kind": "erase", "rows": 9, "directions": 1, "part": "train", "changed": changed}
    say = words(language)
    told = repaired({"repair": {"n": 9, "parts": [part]}}, say)["sentences"][1]
    assert say["probe_demographic_parity_difference"] in told
    assert say["probe_worst_group_accuracy"] in told
    assert say["probe_equalised_odds_difference"] not in told
    assert "0.87" not in told, "a point is not more than a point"
    part["changed"] = {"accuracy": {"before": 0.9, "after": 0.95}}
    assert len(repaired({"repair": {"n": 9, "parts": [part]}}, say)["sentences"]) == 1
