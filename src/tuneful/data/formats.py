"""Columns -> Example: which layout a table is in, found from its column names, and what each row means in it.

Adding a layout: one function (fields, columns) -> Example parts, and one line of FORMATS.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.core.errors import DataError
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Dropped, Example, Message
from tuneful.data.columns import NAMES, Columns, Fields, is_number, is_there, name_or_none
from tuneful.data.pairs import JUDGE, pair
from tuneful.data.sources import Raw
from tuneful.data.turns import RowProblem, conversation, dialogue, said, turns


@dataclass(frozen=True, slots=True)
class Format:
    """One layout of a table."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[Fields, Columns], dict[str, Any]]
    learns: bool = True  # something here can be learned with the objectives there are


def _chat(fields: Fields, columns: Columns) -> dict[str, Any]:
    messages = conversation(columns.get(fields, "messages") or (), system=columns.get(fields, "system"))
    return {"messages": messages, "tools": tools_of(columns.get(fields, "tools"))}


def _alpaca(fields: Fields, columns: Columns) -> dict[str, Any]:
    question = columns.text(fields, "instruction")
    extra = columns.get(fields, "input")
    if extra is not None and str(extra).strip():
        question += "\n" + str(extra)
    messages = _system(fields, columns)
    for asked, answered in columns.get(fields, "history") or ():
        messages += [Message("user", str(asked)), Message("assistant", str(answered))]
    return {"messages": (*messages, Message("user", question), *said(columns.text(fields, "completion")))}


def _self_instruct(fields: Fields, columns: Columns) -> dict[str, Any]:
    instances = columns.get(fields, "instances")
    if not isinstance(instances, Sequence) or not instances or not isinstance(instances[0], Mapping):
        raise RowProblem("'instances' is empty")
    instance = instances[0]
    extra = str(instance.get("input") or "").strip()
    question = columns.text(fields, "instruction") + (f"\n{extra}" if extra else "")
    return {"messages": (Message("user", question), *said(str(instance.get("output") or "")))}


def _answer(fields: Fields, columns: Columns) -> dict[str, Any]:
    return {"messages": (*question(fields, columns), *said(columns.present(fields, "completion")))}


def _preference(fields: Fields, columns: Columns) -> dict[str, Any]:
    chosen, rejected = (columns.present(fields, part) for part in ("chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(rejected, str) and "\n\nHuman:" in chosen:
        return _split_prompt(dialogue(chosen), dialogue(rejected))
    better, worse = said(chosen), said(rejected)
    if better[0].role != "assistant" and worse[0].role != "assistant":
        before = _unsaid(fields, columns, better)
        return _split_prompt((*before, *better), (*before, *worse))
    if len(better) > 1 and not any(part in columns.by_part for part in ASKED):
        return _split_prompt(better, worse)
    return _compared(question(fields, columns), better, worse)


def _unsaid(fields: Fields, columns: Columns, whole: Sequence[Message]) -> tuple[Message, ...]:
    """What other columns put before a conversation: its prompt, where that is not in it already, and a system text."""
    given = any(columns.get(fields, part) for part in ASKED)
    asked = question(fields, columns) if given else tuple(_system(fields, columns))
    said_there = {message.content.strip() for message in whole if message.role == "user"}
    if any(message.role == "user" and message.content.strip() in said_there for message in asked):
        asked = asked[:1] if asked[0].role == "system" else ()
    return asked[1:] if asked and asked[0].role == whole[0].role == "system" else asked


def _compared(asked: Sequence[Message], better: Sequence[Message], worse: Sequence[Message]) -> dict[str, Any]:
    """Raises RowProblem where neither answer can be preferred."""
    for part, answer in (("chosen", better), ("rejected", worse)):
        if not answer or not all(message.content.strip() or message.tool_calls for message in answer):
            raise RowProblem(f"'{part}' is empty; a preference row needs a prompt, chosen and rejected")
    if [(m.role, m.content, m.tool_calls) for m in better] == [(m.role, m.content, m.tool_calls) for m in worse]:
        raise RowProblem("'chosen' and 'rejected' are the same, so neither is better; leave the row out")
    return {"messages": tuple(asked), "chosen": tuple(better), "rejected": tuple(worse)}


def _split_prompt(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> dict[str, Any]:
    """Whole dialogues: the prompt is what they have in common, up to the last answer."""
    common = 0
    while common < min(len(chosen), len(rejected)) - 1 and chosen[common] == rejected[common]:
        common += 1
    if not chosen[common:] or not rejected[common:]:
        raise RowProblem("'chosen' and 'rejected' hold no answer")
    return _compared(chosen[:common], chosen[common:], rejected[common:])


def _judged(fields: Fields, columns: Columns) -> dict[str, Any]:
    """KTO: one answer and whether it is wanted."""
    found = columns.get(fields, "messages")
    whole = conversation(found) if found else (*question(fields, columns), *said(columns.present(fields, "completion")))
    return {"messages": whole, "label": truth(columns.get(fields, "label"), columns.by_part["label"])}


def _rewards(fields: Fields, columns: Columns) -> dict[str, Any]:
    rewards = {name: float(value) for name, value in fields.items() if is_number(value)}
    return {"messages": question(fields, columns), "rewards": rewards}


def _labelled(fields: Fields, columns: Columns) -> dict[str, Any]:
    label = columns.get(fields, "label")
    if not is_there(label):
        raise RowProblem(f"'{columns.by_part['label']}' is empty")
    second = columns.text(fields, "second") if "second" in columns.by_part else None
    return {"text": columns.text(fields, "text"), "second": second, "label": label}


def _plain(fields: Fields, columns: Columns) -> dict[str, Any]:
    return {"text": columns.text(fields, "text")}


ASKED = ("prompt", "messages", "instruction")  # parts that say what an answer answers
PAIRS = "pairs"  # the layout of queries and documents
SEARCHED = {"query", "positive", "negative"}  # parts that no other layout has

# In the order they are tried: the more columns a layout needs, the earlier.
FORMATS = [
    Format("preference", ("chosen", "rejected"), _preference),
    Format("kto", ("messages", "label"), _judged),
    Format("messages", ("messages",), _chat),
    Format("self_instruct", ("instruction", "instances"), _self_instruct),
    Format("kto", ("prompt", "completion", "label"), _judged),
    Format("alpaca", ("instruction", "completion"), _alpaca),
    Format("prompt_completion", ("prompt", "completion"), _answer),
    Format("labelled_pair", ("text", "second", "label"), _labelled),
    Format("labelled", ("text", "label"), _labelled),
    Format(PAIRS, ("query", "positive"), pair),
    Format("rewards", ("prompt", "reward"), _rewards, learns=False),
    Format("text", ("text",), _plain),
]


def detect(rows: Sequence[Raw], named: Mapping[str, str], layout: str | None = None) -> tuple[Format, Columns]:
    """The layout of a table and the part each column plays; `named` is what the person said. Raises DataError."""
    present = _present_columns(rows)
    common = _common_columns(rows)
    for part, column in named.items():
        if column not in present:
            raise DataError(
                f"{rows[0].place.source} has no column '{column}' (data.{part}).{did_you_mean(column, present)} "
                f"Columns: {', '.join(present)}"
            )
    by_part = parts_of(rows, present, named)
    if SEARCHED & named.keys():  # whatever else the columns could mean
        layout = _searched(rows[0].place.source, named, layout)
        by_part = {**by_part, **({JUDGE: named["label"]} if "label" in named else {})}
    for candidate in FORMATS:
        fits = all(by_part.get(part) in common or part in named for part in candidate.needs)
        if candidate.name == PAIRS and layout is None and {"text", "second", "label"} & named.keys():
            continue
        if (layout is None or candidate.name == layout) and fits and _means(candidate, rows, by_part):
            return candidate, Columns(by_part)
    wanted = f"the layout '{layout}'" if layout else "any layout Tuneful knows"
    if len(one := {"chosen", "rejected"} & by_part.keys()) == 1:
        (there,) = one
        (missing,) = {"chosen", "rejected"} - one
        wanted += f": answers that are {there} need such that are {missing}, in a column called {missing}"
    raise DataError(
        f"{rows[0].place.source} does not fit {wanted}. Columns: {', '.join(present)}.\n"
        "  Name them, for example --set data.text=COLUMN --set data.label=COLUMN, "
        "or data.prompt and data.completion, or data.query and data.positive, or data.messages"
    )


def _searched(source: str, named: Mapping[str, str], layout: str | None) -> str:
    """The layout that columns of queries and documents ask for. Raises DataError where something else is said too."""
    part = next(iter(SEARCHED & named.keys()))
    if layout not in (None, PAIRS):
        raise DataError(f"{source}: data.{part} goes with queries and documents, and data.layout is '{layout}'; leave "
                        "one of the two out")  # fmt: skip
    if other := next((other for other in ("text", "second") if other in named), None):
        raise DataError(f"{source}: data.{part} goes with queries and documents, and data.{other} with labels or plain "
                        "text; leave one of the two out")  # fmt: skip
    return PAIRS


def understand(rows: Sequence[Raw], form: Format, columns: Columns) -> tuple[list[Example], list[Dropped]]:
    """Every row that can be used, and every other with its reason."""
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for raw in rows:
        try:
            parts = form.read(raw.fields, columns)
            group, cluster = (columns.get(raw.fields, part) for part in ("group", "cluster"))
            examples.append(Example(raw.place, group=name_or_none(group), cluster=name_or_none(cluster), **parts))
        except RowProblem as problem:
            dropped.append(Dropped(raw.place, str(problem)))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            dropped.append(Dropped(raw.place, f"not in the layout '{form.name}' ({error})"))
    return examples, dropped


def truth(value: Any, column: str) -> bool:
    """A yes or no in any of its spellings."""
    word = str(value).strip().lower()
    if word in ("true", "1", "1.0", "yes", "good"):
        return True
    if word in ("false", "0", "0.0", "no", "bad", "-1"):
        return False
    raise RowProblem(f"'{column}' is {value!r}; expected true or false")


def parts_of(rows: Sequence[Raw], present: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Which column plays which part, by name; what the person `named` comes first."""
    lowered = {column.lower(): column for column in reversed(present)}
    parts = dict(named)
    for part, names in NAMES.items():
        column = next((lowered[name] for name in names if name in lowered), None)
        if part not in parts and column is not None:
            parts[part] = column
    reward = next(
        (column for column in present if "reward" in column.lower() and is_number(rows[0].fields.get(column))),
        None,
    )
    if reward is not None:
        parts["reward"] = reward
    if not any(all(part in parts for part in form.needs) for form in FORMATS if form.name != "text"):
        parts = _guess_labelled(rows, present, parts)
    return parts


def _guess_labelled(rows: Sequence[Raw], present: Sequence[str], parts: dict[str, str]) -> dict[str, str]:
    """Columns with unknown names: the one with few different values is the label, the wordiest the text."""
    values = {column: [str(raw.fields.get(column, "")) for raw in rows] for column in present}
    text = parts.get("text") or max(present, key=lambda column: sum(map(len, values[column])))
    few = [column for column in present if column != text and 1 < len(set(values[column])) <= max(2, len(rows) // 3)]
    if len(few) == 1 and (len(present) == 2 or "text" in parts):
        return {**parts, "text": text, "label": few[0]}
    return {**parts, "text": text} if len(present) == 1 else parts


def _means(form: Format, rows: Sequence[Raw], by_part: Mapping[str, str]) -> bool:
    """Whether the values are of the layout's kind, where names alone do not tell."""
    values = [raw.fields.get(by_part.get(form.needs[0], "")) for raw in rows[:20]]
    if form.name == "kto":
        labels = {str(raw.fields.get(by_part["label"])).strip().lower() for raw in rows[:200]}
        return labels <= {"true", "false", "0", "1", "0.0", "1.0", "yes", "no", "none", ""}
    if form.name == "messages":
        return any(
            not isinstance(value, str) or value.lstrip().startswith("[") for value in values if value is not None
        )
    return True


def present(columns: Mapping[str, str], table: Sequence[Raw]) -> dict[str, str]:
    """Of columns that were named elsewhere those that these rows have."""
    return {part: name for part, name in columns.items() if any(name in raw.fields for raw in table)}


def _present_columns(rows: Sequence[Raw]) -> list[str]:
    columns: dict[str, None] = {}
    for raw in rows[:1000]:
        columns.update(dict.fromkeys(raw.fields))
    return list(columns)


def _common_columns(rows: Sequence[Raw]) -> set[str]:
    """Columns that at least half of the rows have; one stray row does not decide what a file is."""
    having = Counter(column for raw in rows[:1000] for column in raw.fields)
    return {column for column, count in having.items() if 2 * count >= len(rows[:1000])}


def question(fields: Fields, columns: Columns) -> tuple[Message, ...]:
    """What is asked, without the answer."""
    if columns.get(fields, "messages"):
        return tuple(turns(columns.get(fields, "messages") or ()))
    if "instruction" in columns.by_part:
        extra = str(columns.get(fields, "input") or "").strip()
        question = columns.text(fields, "instruction") + (f"\n{extra}" if extra else "")
        return (*_system(fields, columns), Message("user", question))
    return (*_system(fields, columns), *said(columns.present(fields, "prompt"), "user"))


def _system(fields: Fields, columns: Columns) -> list[Message]:
    system = str(columns.get(fields, "system") or "").strip()
    return [Message("system", system)] if system else []


def tools_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """A list of tools, or the JSON of one in a text cell."""
    if not value:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise RowProblem(f"'tools' is not JSON ({error.msg})") from None
    return tuple(value)
