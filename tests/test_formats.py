"""Every layout people use is found from its columns and understood."""

from __future__ import annotations

from typing import Any

import pytest

from tuneful.core.errors import DataError
from tuneful.core.types import Example, Message, Place
from tuneful.data.formats import detect, understand
from tuneful.data.sources import Raw
from tuneful.data.turns import conversation


def one(*rows: dict[str, Any], named: dict[str, str] | None = None, layout: str | None = None) -> tuple[str, Example]:
    raws = [Raw(Place("f", number, "line"), row) for number, row in enumerate(rows, 1)]
    form, columns = detect(raws, named or {}, layout)
    examples, dropped = understand(raws, form, columns)
    assert not dropped, dropped
    return form.name, examples[0]


def turns(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in pairs)


ASKED = turns(("user", "q"), ("assistant", "a"))
CONVERSATIONS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "messages as JSON text": {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "parts": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": [{"type": "text", "value": "a"}]},
    ]},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "prompt and completion": {"prompt": "q", "completion": "a"},
    "query and response": {"query": "q", "response": "a"},
    "question and answer": {"Question": "q", "Answer": "a"},
    "prompt of turns": {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
    "self-instruct": {"instruction": "q", "instances": [{"input": "", "output": "a"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations(name: str) -> None:
    assert one(CONVERSATIONS[name])[1].messages == ASKED


def test_alpaca_with_everything() -> None:
    row = {"instruction": "q", "input": "x", "output": "a", "system": "s", "history": [["h", "i"]]}
    expected = turns(("system", "s"), ("user", "h"), ("assistant", "i"), ("user", "q\nx"), ("assistant", "a"))
    assert one(row)[1].messages == expected


def test_sharegpt_with_system_and_tools() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "a"},
        ],
        "system": "s",
        "tools": '[{"name": "f"}]',
    }
    _, example = one(row)
    assert [message.role for message in example.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert example.messages[2].tool_calls[0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert example.tools == ({"name": "f"},)


@pytest.mark.parametrize("flag", [{"train": False}, {"loss": 0}, {"loss_weight": 0.0}, {"weight": "0"}])
def test_flags_of_a_turn(flag: dict[str, Any]) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **flag}]}
    assert one(row)[1].messages[1].train is False


def test_an_opening_nobody_asked_for_is_context() -> None:
    found = conversation(
        [
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ]
    )
    assert [message.learned for message in found] == [False, False, True]


PREFERENCES = {
    "strings": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "instruction": {"instruction": "q", "input": "", "output": "a", "chosen": "a", "rejected": "b"},
    "turns": {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
    "whole conversations": {
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
    },
    "whole dialogues": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
}  # fmt: skip


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences(name: str) -> None:
    form, example = one(PREFERENCES[name])
    assert form == "preference"
    assert example.messages == turns(("user", "q"))
    assert (example.chosen, example.rejected) == (turns(("assistant", "a")), turns(("assistant", "b")))


Q, A, B = ({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b")))
BOTH = {"chosen": [Q, A], "rejected": [Q, B]}
ASKED_BESIDE = {
    "prompt": ({"prompt": " q\n", **BOTH}, [("user", "q")]),
    "prompt and messages": ({"prompt": "q", **BOTH, "messages": [Q, A]}, [("user", "q")]),
    "messages": ({**BOTH, "messages": [Q, A]}, [("user", "q")]),
    "instruction": ({"instruction": "q", "output": "a", **BOTH}, [("user", "q")]),
    "turns": ({"prompt": [Q], **BOTH}, [("user", "q")]),
    "system": ({"system": "s", "prompt": "q", **BOTH}, [("system", "s"), ("user", "q")]),
    "empty": ({"prompt": "", **BOTH}, [("user", "q")]),
    "what came before": ({"prompt": "first", **BOTH}, [("user", "first"), ("user", "q")]),
}


@pytest.mark.parametrize("name", ASKED_BESIDE)
def test_a_prompt_is_asked_once_and_holds_no_answer(name: str) -> None:
    """Whole conversations beside a column of what they begin with (as in ultrafeedback_binarized)."""
    row, asked = ASKED_BESIDE[name]
    form, example = one(row)
    assert form == "preference"
    assert [(message.role, message.content) for message in example.messages] == asked
    assert (example.chosen, example.rejected) == (turns(("assistant", "a")), turns(("assistant", "b")))


@pytest.mark.parametrize("label", [True, "true", 1, "1", "False"])
def test_unpaired_preferences(label: Any) -> None:
    form, example = one({"prompt": "q", "completion": "a", "label": label})
    assert (form, example.messages) == ("kto", ASKED)
    assert example.label is (str(label).lower() in ("true", "1"))


def test_rewards() -> None:
    form, example = one({"prompt": "q", "reward_length": 0.5, "reward_style": 1})
    assert (form, dict(example.rewards)) == ("rewards", {"reward_length": 0.5, "reward_style": 1.0})


def test_labels() -> None:
    assert one({"text": "t", "category": "c"})[1].label == "c"
    form, example = one({"sentence1": "t", "sentence2": "u", "score": 0.4})
    assert (form, example.text, example.second, example.label) == ("labelled_pair", "t", "u", 0.4)
    assert one({"text": "t"})[0] == "text"


def test_columns_with_unknown_names() -> None:
    """Of two columns the one with few values is the label; a text with one such column beside it as well."""
    rows = [
        {"Kommentar": f"a rather long text number {n}", "Stimmung": "gut" if n % 2 else "schlecht"} for n in range(10)
    ]
    assert one(*rows)[1].label == "schlecht"
    rows = [{"id": n, "text": f"words {n}", "emotion": "joy" if n % 2 else "fear"} for n in range(10)]
    form, example = one(*rows)
    assert (form, example.label) == ("labelled", "fear")


def test_names_the_person_gave_win() -> None:
    row = {"a": "q", "b": "a", "text": "no"}
    form, example = one(row, named={"prompt": "a", "completion": "b"})
    assert (form, example.messages) == ("prompt_completion", ASKED)
    form, example = one({"text": "q", "label": "x", "mood": "y"}, named={"label": "mood"})
    assert example.label == "y"


def test_a_missing_column_is_named_with_its_neighbour() -> None:
    with pytest.raises(DataError, match=r"no column 'lable'.*Did you mean 'label'"):
        one({"text": "t", "label": "x"}, named={"label": "lable"})


def test_groups_and_clusters_travel_along() -> None:
    _, example = one({"text": "t", "label": "x", "who": "w", "doc": 7}, named={"group": "who", "cluster": "doc"})
    assert (example.group, example.cluster) == ("w", "7")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "wizard", "content": "q"}]}, "the role 'wizard' is unknown"),
        ({"messages": [{"content": "q"}]}, "a turn has no 'role'"),
        ({"messages": []}, "the conversation has no turns"),
        ({"messages": ["hello"]}, "a turn is a str"),
        ({"messages": "[not json"}, "expected JSON"),
        ({"messages": 7}, "the conversation is a int"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]}, "says nothing"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"arguments": {}}]}]}, "a tool call has no name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "part of type 'image_url'"),
        ({"messages": [{"role": "user", "content": 5}]}, "the content of a turn is a int"),
        ({"prompt": "q", "completion": " "}, "'completion' is empty"),
        ({"prompt": None, "completion": "a"}, "'prompt' is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "'rejected' is empty"),
        ({"prompt": "q", "completion": "a", "label": "none"}, "expected true or false"),
        ({"text": "t", "label": None}, "'label' is empty"),
        ({"text": "t", "label": float("nan")}, "'label' is empty"),
        ({"text": "t", "label": "NaN"}, "'label' is empty"),
        ({"text": "  ", "label": "x"}, "'text' is empty"),
        ({"instruction": "q", "instances": []}, "'instances' is empty"),
        ({"instruction": "q", "output": None}, "'output' is empty"),
        ({"conversations": [{"from": "human", "value": "q"}], "tools": "{"}, "'tools' is not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], reason: str) -> None:
    raws = [Raw(Place("f.jsonl", 41, "line"), row)]
    form, columns = detect(raws, {})
    examples, dropped = understand(raws, form, columns)
    assert not examples
    assert str(dropped[0].place) == "f.jsonl line 41"
    assert reason in dropped[0].reason


def test_one_side_of_a_preference_says_what_is_missing() -> None:
    rows = [Raw(Place("f", 1, "line"), {"prompt": "q", "chosen": "a"})]
    with pytest.raises(
        DataError, match="answers that are chosen need such that are rejected, in a column called rejected"
    ):
        detect(rows, {})


def test_a_table_of_no_known_layout_says_what_to_name() -> None:
    raws = [Raw(Place("f", n), {"x": str(n), "y": str(n), "z": str(n)}) for n in range(9)]
    with pytest.raises(DataError, match=r"(?s)Columns: x, y, z.*--set data.text=COLUMN"):
        detect(raws, {})
