"""What a run says of its groups before it learns, and what the report's sentences say of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tuneful.core.types import Example, Place, Row
from tuneful.data.labels import LabelSet
from tuneful.evaluation import fairer
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
    test: dict[tuple[str | None, int], int], train: dict[tuple[str | None, int], int], **changed: Any
) -> list[Any]:
    data = {"source": "rows.csv", "group": "city", **changed.pop("data", {})}
    recipe = Recipe.model_validate({"data": data, **changed})
    built = {"train": rows_of(train), "validation": rows_of({}), "test": rows_of(test)}
    return [(note.key, dict(note.facts)) for note in comparable(recipe, LabelSet("class", ("no", "yes")), built)]


EVEN = {(group, target): 40 for group in "ab" for target in (0, 1)}


def test_nothing_is_said_where_groups_can_be_compared() -> None:
    assert said(EVEN, EVEN) == []


def test_how_many_test_rows_would_do_by_hand() -> None:
    """Of 400 rows the scarcest cell of the two groups has 50, an eighth: 30 of it need 240 rows."""
    train = {("a", 0): 130, ("a", 1): 90, ("b", 0): 90, ("b", 1): 40}
    test = {("a", 0): 20, ("a", 1): 10, ("b", 0): 10, ("b", 1): 10}
    ((key, facts),) = said(test, train)
    assert (key, facts["enough"], facts["count"], facts["wanted"]) == ("groups_some_rows", 0, 2, 240)


def test_two_groups_are_enough_and_the_third_is_named() -> None:
    test = {**EVEN, ("c", 0): 10, ("c", 1): 10}
    train = {**EVEN, ("c", 0): 70, ("c", 1): 80}  # 490 rows in all, the scarcest cell has 80
    ((key, facts),) = said(test, train)
    assert (key, facts["enough"], facts["wanted"]) == ("groups_all_rows", 2, 184)


def test_too_few_rows_in_all() -> None:
    cells = {("a", 0): 40, ("a", 1): 40, ("b", 0): 40, ("b", 1): 2}
    ((key, facts),) = said(cells, cells)
    assert (key, facts["rows"]) == ("groups_too_few", 244)


@pytest.mark.parametrize(
    ("cells", "key"),
    [
        ({("a", 0): 60, ("a", 1): 60}, "fairness_one_group"),
        ({("a", 0): 60, ("b", 1): 60}, "fairness_group_is_label"),
        ({(None, 0): 60, (None, 1): 60}, "fairness_none_known"),
        ({(f"g{n:03}", n % 2): 1 for n in range(300)}, "fairness_many_groups"),
    ],
)
def test_a_column_that_compares_nothing(cells: dict[tuple[str | None, int], int], key: str) -> None:
    assert key in [note for note, _ in said(cells, cells)]


def test_nothing_is_said_where_nobody_asked() -> None:
    one = {("a", 0): 60, ("a", 1): 60}
    assert said(one, one, data={"group": None}) == []
    assert said(one, one, evaluate={"by_group": False}) == []
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
    ],
)
def test_a_gap_in_a_sentence(changed: dict[str, Any], wanted: list[str]) -> None:
    meant, sentence = fairer.sentences(report({"equalised_odds_difference": {**GAP, **changed}}), words("en"))
    assert meant == "‘The class’ is ‘rude’, the rarer of the two."
    assert all(part in sentence for part in wanted), sentence


def test_the_first_gap_that_could_be_measured_is_told() -> None:
    bias = {"equalised_odds_difference (region)": {"measurable": False, "reason": "few_groups"},
            "demographic_parity_difference (region)": GAP}  # fmt: skip
    _, sentence = fairer.sentences(report(bias), words("en"))
    assert "Demographic parity difference" in sentence
    assert fairer.sentences(report({"worst_bpsn": GAP}), words("en")) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_repair_that_made_something_worse_says_so(language: str) -> None:
    changed = {"accuracy": {"before": 0.9, "after": 0.895}, "worst_group_accuracy": {"before": 0.7, "after": 0.6},
               "demographic_parity_difference": {"before": 0.1, "after": 0.3},
               "equalised_odds_difference": {"before": 0.3, "after": 0.1}}  # fmt: skip
    part = {"kind": "erase", "rows": 9, "directions": 1, "part": "train", "changed": changed}
    say = words(language)
    told = repaired({"repair": {"n": 9, "parts": [part]}}, say)["sentences"][1]
    assert say["probe_demographic_parity_difference"] in told
    assert say["probe_worst_group_accuracy"] in told
    assert say["probe_equalised_odds_difference"] not in told
    assert "0.895" not in told
    part["changed"] = {"accuracy": {"before": 0.9, "after": 0.95}}
    assert len(repaired({"repair": {"n": 9, "parts": [part]}}, say)["sentences"]) == 1
