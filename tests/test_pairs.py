"""Tables of queries and documents: which columns are understood, and which rows are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tuneful.core.errors import DataError
from tuneful.core.types import Dropped, Example, Place
from tuneful.data.formats import detect, understand
from tuneful.data.sources import Raw
from tuneful.run.api import check
from work import write_rows


def told(rows: Sequence[dict[str, Any]], **named: str) -> tuple[str, list[Example], list[Dropped]]:
    table = [Raw(Place("data.jsonl", number, "line"), fields) for number, fields in enumerate(rows, 1)]
    form, columns = detect(table, named)
    return form.name, *understand(table, form, columns)


@pytest.mark.parametrize(
    ("query", "positive"),
    [("query", "document"), ("anchor", "positive"), ("question", "passage"), ("Question", "answer_passage"),
     ("query", "pos"), ("query", "positive_passage")],
)  # fmt: skip
def test_columns_by_the_names_people_give_them(query: str, positive: str) -> None:
    name, (example,), _ = told([{query: "why", positive: "so"}])
    assert name == "pairs"
    assert (example.text, example.positive, example.negatives) == ("why", "so", ())


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"question": "why", "answer": "so"}, "prompt_completion"),
        ({"question": "why", "passage": "long", "answer": "so"}, "prompt_completion"),
        ({"prompt": "why", "response": "so"}, "prompt_completion"),
        ({"instruction": "why", "input": "", "output": "so"}, "alpaca"),
        ({"prompt": "why", "chosen": "so", "rejected": "no"}, "preference"),
        ({"text": "why", "label": "so"}, "labelled"),
        ({"sentence1": "why", "sentence2": "so", "score": 0.5}, "labelled_pair"),
        ({"text": "why", "label": "so", "query": "who", "document": "long"}, "labelled"),
        ({"query": "who", "document": "long", "text": "why"}, "pairs"),
    ],
)
def test_other_layouts_are_what_they_were(row: dict[str, Any], layout: str) -> None:
    assert told([row])[0] == layout


def test_what_a_person_names_says_which_layout_it_is() -> None:
    row = {"question": "why", "passage": "so", "label": 0, "gold": 1}
    assert told([row], text="question", second="passage", label="label")[0] == "labelled_pair"
    assert told([row], text="question", label="gold")[0] == "labelled"
    assert told([row], query="question")[0] == "pairs"
    assert told([{"query": "why", "document": "so"}], text="document")[0] == "text"
    named = {"query": "question", "positive": "passage", "label": "gold"}
    assert told([row], **named)[1][0].positive == "so"  # `gold` judges, and nothing else
    assert told([{**row, "gold": 0, "label": 1}], **named)[1] == []


@pytest.mark.parametrize(
    ("named", "layout", "reason"),
    [
        ({"query": "question"}, None, "does not fit the layout 'pairs'"),
        ({"query": "question", "text": "answer"}, None, "leave one of the two out"),
        ({"query": "question"}, "labelled", "data.layout is 'labelled'"),
    ],
)
def test_columns_that_would_be_passed_over_are_refused(named: dict[str, str], layout: str | None, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        detect([Raw(Place("data.jsonl", 1, "line"), {"question": "why", "answer": "so"})], named, layout)


def test_negatives_in_every_form() -> None:
    rows = [
        {"anchor": "q", "positive": "p", "negative": "n"},
        {"anchor": "q", "positive": "p", "negative": ["n", "m", "n", ""]},
        {"anchor": "q", "positive": "p", "negative": '["n", "m"]'},
        {"anchor": "q", "positive": "p", "negative": "[n] is no list"},
        {"anchor": "q", "positive": "p", "negative": None},
        {"anchor": "q", "positive": "p", "negative": float("nan")},
        {"anchor": "q", "positive": "p", "negative_1": "n", "negative_2": "m"},
        {"anchor": "q", "positive": "p", "negative": "n", "hard_negatives": ["m"]},
    ]
    found = told(rows)[1]
    assert [example.negatives for example in found] == [
        ("n",), ("n", "m"), ("n", "m"), ("[n] is no list",), (), (), ("n", "m"), ("n", "m"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": " ", "document": "d"}, "'query' is empty"),
        ({"query": "q", "document": None}, "'document' is empty"),
        ({"query": "q", "document": ["d", "e"]}, "give each document a row of its own"),
        ({"query": "q", "document": "d", "negative": ["d"]}, "is the positive document itself"),
        ({"query": "q", "document": "d", "negative": [{"text": "n"}]}, "holds a dict; expected a text"),
        ({"query": "q", "document": "d", "label": 0}, "does not belong to the query"),
        ({"query": "q", "document": "d", "score": 0.7}, "expected 1 or 0"),
        ({"query": "q", "document": "d", "score": "0.7"}, "expected 1 or 0"),
        ({"query": "q", "document": "d", "score": "0.00"}, "does not belong to the query"),
        ({"query": "q", "document": "d", "relevance": "irrelevant"}, "does not belong to the query"),
        ({"query": "q", "document": "d", "label": "bills"}, "name it with --set data.label=COLUMN"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], reason: str) -> None:
    _, kept, (dropped,) = told([row])
    assert not kept
    assert reason in dropped.reason


def test_what_says_that_a_pair_is_right_is_no_hindrance() -> None:
    rows = [
        {"query": "q", "document": "d", "label": value, "category": "bills"}
        for value in (1, 1.0, "yes", True, "1.00", "", None, "Relevant")
    ]
    assert len(told(rows)[1]) == 8


def test_columns_a_person_names_come_first() -> None:
    row = {"question": "why", "answer": "so", "bad": "no"}
    name, (example,), _ = told([row], query="question", positive="answer", negative="bad")
    assert (name, example.positive, example.negatives) == ("pairs", "so", ("no",))


@pytest.mark.real
def test_what_is_not_english_is_found_by_the_multilingual_encoder(e5: Path, tmp_path: Path) -> None:
    rows = [{"query": f"如何重設第{n}個密碼？", "document": f"請到設定頁第{n * 3}項更改密碼。"} for n in range(30)]
    found = check(str(write_rows(tmp_path / "rows.jsonl", rows)))
    assert found.recipe.model == "e5-small"
    shown = "".join(text for text, _ in found.xray.shown[0].pieces)
    assert shown.startswith("query: 如何")
    assert "passage: 請到" in shown
    english = [{"query": f"how to reset password {n}", "document": f"see page {n * 3}"} for n in range(30)]
    assert check(str(write_rows(tmp_path / "english.jsonl", english))).recipe.model == "minilm-l6"
