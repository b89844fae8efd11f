"""Rows to be answered: the columns training would read, without the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneful.core.errors import DataError
from tuneful.core.types import Example, Message
from tuneful.data.columns import Columns, name_or_none
from tuneful.data.formats import parts_of, question, tools_of
from tuneful.data.sources import Raw
from tuneful.data.turns import RowProblem, conversation

ASKED = ("messages", "instruction", "prompt", "text")  # the parts that may hold a request, most telling first


def inputs(
    rows: Sequence[Raw], named: Mapping[str, str], *, labelled: bool, column: str | None, option: str = "--column"
) -> list[Example]:
    """One example a row: `text` and `second` for a model that gives labels, `messages` for one that writes. `named`
    is what training was told of the columns, `column` what the person says now, by an `option`. Raises DataError."""
    columns = Columns(_parts(rows, named, "text" if labelled else None, column, option))
    found = []
    for raw in rows:
        try:
            found.append(_labelled(raw, columns) if labelled else _asked(raw, columns, column))
        except RowProblem as problem:
            raise DataError(f"{raw.place}: {problem}") from None
    return found


def _parts(
    rows: Sequence[Raw], named: Mapping[str, str], part: str | None, column: str | None, option: str
) -> dict[str, str]:
    present = list(dict.fromkeys(name for raw in rows[:1000] for name in raw.fields))
    if column is not None and column not in present:
        column = column.partition("=")[2] or column  # text=body, as eval has it
    if column is not None and column not in present:
        raise DataError(f"{rows[0].place} has no column '{column}'. Columns: {', '.join(present)}")
    by_part = parts_of(rows, present, {part: name for part, name in named.items() if name in present})
    if column is not None:
        by_part = {**by_part, part or "prompt": column}
    elif len(present) == 1:
        by_part = {**by_part, part or _only_part(by_part): present[0]}
    wanted = ("text",) if part else ASKED
    if not any(name in by_part for name in wanted):
        raise DataError(
            f"{rows[0].place}: say which column holds the text with {option}. Columns: {', '.join(present)}"
        )
    return by_part


def _only_part(by_part: Mapping[str, str]) -> str:
    return next((part for part in ASKED if part in by_part), "prompt")


def _labelled(raw: Raw, columns: Columns) -> Example:
    second = columns.text(raw.fields, "second") if "second" in columns.by_part else None
    group = name_or_none(columns.get(raw.fields, "group"))
    return Example(raw.place, text=columns.text(raw.fields, "text"), second=second, group=group)


def _asked(raw: Raw, columns: Columns, column: str | None) -> Example:
    """A conversation up to its last answer, which is the model's to give."""
    tools = tools_of(columns.get(raw.fields, "tools"))
    if column is None and columns.get(raw.fields, "messages"):
        system = columns.get(raw.fields, "system")
        turns = list(conversation(columns.get(raw.fields, "messages"), system=system))
        while turns and turns[-1].role == "assistant":
            turns.pop()
        return Example(raw.place, messages=tuple(turns), tools=tools)
    if column is None and not any(part in columns.by_part for part in ("instruction", "prompt")):
        return Example(raw.place, messages=(Message("user", columns.text(raw.fields, "text")),), tools=tools)
    if column is not None:
        columns = Columns(
            {part: name for part, name in columns.by_part.items() if part not in ("instruction", "messages")}
        )
    return Example(raw.place, messages=question(raw.fields, columns), tools=tools)
