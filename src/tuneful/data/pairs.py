"""Queries and the documents they are to find: columns -> Example parts."""

from __future__ import annotations

import json
import re
from typing import Any

from tuneful.data.columns import NAMES, Columns, Fields, is_nan, is_there
from tuneful.data.turns import RowProblem

NUMBERED = re.compile(r"negative_?\d+")  # sentence-transformers' columns for several negatives
JUDGED = ("label", "labels", "score", "relevance", "relevant")  # columns that say how well a pair belongs together
JUDGE = "judge"  # the part of the one column that judges, where the person names it
RIGHT, WRONG = ("true", "yes", "relevant"), ("false", "no", "irrelevant", "not relevant", "non-relevant")


def pair(fields: Fields, columns: Columns) -> dict[str, Any]:
    """`text` the query, `positive` a document it is to find, `negatives` documents it is not to find."""
    query, positive = columns.text(fields, "query"), _document(fields, columns)
    judge = columns.by_part.get(JUDGE)
    for name in fields:
        if name == judge or (judge is None and name.lower() in JUDGED):
            _refuse_unwanted(name, fields[name])
    others = _texts(columns.get(fields, "negative"), columns.by_part.get("negative", "negative"))
    for name in fields:
        holds = name.lower() in NAMES["negative"] or NUMBERED.fullmatch(name.lower())
        if holds and name not in columns.by_part.values():
            others += _texts(fields[name], name)
    negatives = tuple(dict.fromkeys(others))
    if positive in negatives:
        raise RowProblem("a negative is the positive document itself")
    return {"text": query, "positive": positive, "negatives": negatives}


def _document(fields: Fields, columns: Columns) -> str:
    column = columns.by_part["positive"]
    if isinstance(fields.get(column), list):
        raise RowProblem(f"'{column}' is a list; give each document a row of its own, with the query in each")
    return columns.text(fields, "positive")


def _texts(value: Any, column: str) -> list[str]:
    """No text, one, or a list of them, which a cell of a table holds as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = [value]  # a text that begins with a bracket
    listed = value if isinstance(value, list | tuple) else [value]
    odd = next((item for item in listed if isinstance(item, dict | list)), None)
    if odd is not None:
        raise RowProblem(f"'{column}' holds a {type(odd).__name__}; expected a text, or a list of texts")
    return [str(item) for item in listed if item is not None and not is_nan(item) and str(item).strip()]


def _refuse_unwanted(name: str, value: Any) -> None:
    """A pair that is judged must be judged right: there is no learning from half a pair. Numbers may be texts."""
    if not is_there(value) or (word := str(value).strip().lower()) in RIGHT:
        return
    number = _number(word)
    if word in WRONG or number in (0, -1):
        raise RowProblem(
            f"'{name}' is {value}: this document does not belong to the query. "
            "Give it in the column 'negative' of a row that has the query with a right document"
        )
    if number is not None and number != 1:
        raise RowProblem(f"'{name}' is {value}; a pair belongs together or it does not: expected 1 or 0")
    if number is None:
        raise RowProblem(
            f"'{name}' is {value!r}; expected 1 or 0: do query and document belong together? If another column says "
            "that, name it with --set data.label=COLUMN beside data.query; if none does, rename this one"
        )


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
