"""Cells of a table as labels: one, many or a number, however they were written down."""

from __future__ import annotations

from typing import Any

import pytest

from tuneful.core.types import Example, Place
from tuneful.data.labels import alike, as_list, infer, label_set, name_of


def labelled(*labels: Any) -> list[Example]:
    return [Example(Place("d.csv", number, "line"), text="t", label=label) for number, label in enumerate(labels, 2)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["joy", "anger"]', ["joy", "anger"]),
        ("['joy', 'anger']", ["joy", "anger"]),  # how pandas writes a list
        ("['joy' 'anger']", ["joy", "anger"]),  # how pandas writes an array
        (" ['joy'] ", ["joy"]),
        ("[\"it's\", 'x']", ["it's", "x"]),
        ("[]", []),
        ("[1, 2]", [1, 2]),
        (["joy"], ["joy"]),
        ("joy", ["joy"]),
    ],
)
def test_lists_in_cells(cell: Any, expected: list[Any]) -> None:
    (example,) = labelled(cell)
    assert as_list(example) == expected
    assert cell == "joy" or infer([example]) == "labels"


@pytest.mark.parametrize("cell", ["[unclear]", "[1, 2", "[/INST]", "[a, b]", "[" * 5000 + "]", r"['\d' + x]"])
def test_brackets_that_hold_no_list_are_a_name(cell: str) -> None:
    found = label_set(labelled("clear", cell, "clear"), "auto")
    assert found.kind == "class"
    assert set(found.names) == {"clear", cell}


def test_one_label_however_a_table_spells_its_number() -> None:
    assert [name_of(label) for label in ("1", 1, 1.0, " 1 ")] == ["1"] * 4
    assert [name_of(label) for label in (0.5, True, float("nan"))] == ["0.5", "True", "nan"]


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"billing": 3, "login": 3}, None),
        ({"billing": 3, "BILLING": 1, "login": 3}, ("BILLING", "billing")),
        ({"billing": 1, "Billing ": 4}, ("billing", "Billing ")),
        ({"billing": 4, "biling": 1, "login": 4}, ("biling", "billing")),
        ({"card_arrival": 4, "card_arrivals": 4}, None),  # both are common
        ({"c": 9, "c++": 1, "c#": 1}, None),
    ],
)
def test_a_name_that_looks_misspelt(counts: dict[str, int], found: tuple[str, str] | None) -> None:
    assert alike(counts) == found
