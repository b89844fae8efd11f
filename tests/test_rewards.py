"""Rewards, each with replies whose worth is worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from endpoints import Server
from tuneful.core.environment import Crowded, Lacks
from tuneful.core.errors import EndpointError
from tuneful.core.types import Example, Message, Place
from tuneful.environments import REWARDS, SingleTurn
from tuneful.environments.forms import faults, unreadable
from tuneful.environments.rewards import (
    Contains,
    Exact,
    JsonSchema,
    Judge,
    Length,
    Numeric,
    Python,
    Regex,
    RewardModel,
    UnitTests,
)
from tuneful.environments.rewards.coded import cases
from tuneful.environments.rewards.numbers import numbers
from tuneful.testing import check_table


def asked(answer: str | None = None, *, label: Any = None, question: str = "How many?") -> Example:
    said = () if answer is None else (Message("assistant", answer),)
    return Example(Place("questions.jsonl", 3), messages=(Message("user", question), *said), label=label)


def test_every_reward_keeps_the_contract_of_components() -> None:
    check_table(REWARDS)


def test_exact() -> None:
    assert Exact()("  The  Answer. \n", asked("the answer")) == 1
    assert Exact()("the answer!", asked("the answer")) == 1
    assert Exact()("no, the answer", asked("the answer")) == 0
    assert Exact(case=True)("The answer", asked("the answer")) == 0
    assert Exact()("４２", asked(label=42)) == 1, "wide digits, and a label that is a number"
    assert Exact()("42", asked("41", label=42)) == 0, "what the assistant says comes before the label"
    assert Exact()("2.5", asked("25")) == 0


def test_a_reference_that_is_not_there_is_said() -> None:
    with pytest.raises(
        ValueError, match=r"questions.jsonl row 3: nothing to compare with; end it with the right answer"
    ):
        Exact()("x", asked())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 1,234.5 or so", [1234.5]),
        ("-3 and 4-2 and (-5) and x=-7", [-3, 4, 2, -5, -7]),
        ("−3", [-3]),
        ("3/4, 1 1/2, -1/2, 1/0", [0.75, 1.5, -0.5]),
        ("12/05/2024", [12, 5, 2024]),
        ("$5 costs -$6.50, $-7 or 50%", [5, -6.5, -7, 50]),
        ("2e3 .5 1.", [2000, 0.5, 1]),
        ("B2, 4th, x3", [4]),
        ("1,23", [1, 23]),
        ("1,234,567 and 12,34", [1234567, 12, 34]),
        (r"\boxed{42}. #### 18", [42, 18]),
        ("9" * 5000, []),
        ("none", []),
    ],
)
def test_numbers_of_a_text(text: str, found: list[float]) -> None:
    assert numbers(text) == found


def test_numeric() -> None:
    reward = Numeric()
    assert reward("3 + 4 = 7", asked("so it is 7.0")) == 1
    assert reward("7 = 3 + 4", asked("7")) == 0
    assert Numeric(which="first")("7 = 3 + 4", asked("7 of 9")) == 1
    assert reward("0.3333", asked("1/3")) == 0
    assert Numeric(tolerance=0.001)("0.3333", asked("1/3")) == 1
    assert Numeric(tolerance=0.01)("1005", asked("1000")) == 1, "a share of what is large"
    assert Numeric(tolerance=0.01)("1011", asked("1000")) == 0
    assert reward("no idea", asked("7")) == 0
    with pytest.raises(ValueError, match="the reference 'seven' holds no number"):
        reward("7", asked("seven"))


def test_contains_and_length() -> None:
    assert Contains()("I say Yes, sir", asked("yes")) == 1
    assert Contains(text="no")("I say Yes, sir", asked("yes")) == 0
    with pytest.raises(ValueError, match="the reference is empty"):
        Contains()("anything", asked(" ."))
    reward = Length(limit=4, margin=2)
    assert [reward("a " * count, asked()) for count in (0, 4, 5, 6, 60)] == [0, 0, -0.5, -1, -1]
    assert Length(limit=4, margin=2, unit="characters")("abcde", asked()) == -0.5


def test_regex() -> None:
    reward = Regex(pattern="<answer>(.*?)</answer>", compare=True)
    assert reward("<think>\n</think><answer>4</answer> <answer>5.\n</answer>", asked("5")) == 1
    assert reward("<answer>5</answer> <answer>4</answer>", asked("5")) == 0
    assert reward("5", asked("5")) == 0
    assert Regex(pattern=r"\d+", whole=True)("55", asked()) == 1
    assert Regex(pattern=r"\d+", whole=True)("55 ", asked()) == 0
    assert Regex(pattern=r"\d+")("it is 55", asked()) == 1
    assert Regex().lacking()
    with pytest.raises(ValidationError, match="is no regular expression"):
        Regex(pattern="(")
    with pytest.raises(ValidationError, match="has no group to compare; put round brackets"):
        Regex(pattern="a", compare=True)


def test_a_pattern_without_end_has_one() -> None:
    with pytest.raises(TimeoutError):
        Regex(pattern=r"(a|aa)+$(?<!c)")("a" * 80 + "b", asked())


FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "ada", "age": 36, "tags": ["a"]}, []),
        ({"name": "ada", "age": None}, []),
        ({"name": "ada", "age": 36.0}, []),
        ([], ["it should be of type object"]),
        ({}, ["it has no 'name'"]),
        ({"name": "Ada"}, ["'name' should look like ^[a-z]+$"]),
        ({"name": ""}, ["'name' is too short: 0 of at least 1", "'name' should look like ^[a-z]+$"]),
        ({"name": "ada", "age": True}, ["'age' should be of type integer or null"]),
        ({"name": "ada", "age": 151}, ["'age' should be at most 150"]),
        ({"name": "ada", "tags": ["a", "c", "b"]}, ["'tags' is too long: 3 of at most 2", "'tags'[1] should be one of 'a', 'b'"]),
        ({"name": "ada", "size": 1}, ["it should have no 'size'"]),
    ],
)  # fmt: skip
def test_forms(value: Any, said: list[str]) -> None:
    assert faults(value, FORM) == said


def test_forms_that_need_the_library_are_refused_in_words() -> None:
    assert unreadable(FORM) == []
    assert unreadable({"type": "thing"}) == [
        "there is no type 'thing'; known: object, array, string, number, integer, boolean, null"
    ]
    found = unreadable({"properties": {"a": {"oneOf": [{"type": "string"}]}}})
    assert found in ([], ["the schema says oneOf, for which jsonschema is needed: pip install jsonschema"])


def test_json_schema() -> None:
    reward = JsonSchema(form=FORM, parses=0.25)
    assert reward('Here:\n```json\n{"name": "ada"}\n```\nand done', asked()) == 1
    assert reward('{"name": "ada"}', asked()) == 1
    assert reward('{"name": 3}', asked()) == 0.25
    assert reward('{"name": "ada", "age": NaN}', asked()) == 0
    assert reward('{"name": "ada"', asked()) == 0
    assert reward("[" * 100_000, asked()) == 0


def test_python(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def vowels(reply, example):\n    return sum(letter in 'aeiou' for letter in reply)\n")
    assert Python(path=f"{file}:vowels")("banana", asked()) == 3
    assert Python(path=f"{file}:vowels").lacking() == []
    assert Python(path=f"{file}:voxels").lacking()[0].startswith(f"python: path '{file}:voxels': there is no function")
    assert "there is no such file" in Python(path=f"{tmp_path}/yours.py:vowels").lacking()[0]
    assert "write it as package.module:function" in Python().lacking()[0]
    assert Python(path="math:floor").lacking() == []


def test_tests_are_told_from_what_stands_between_them() -> None:
    assert cases(["assert f(1) == 2", "x = f(2); assert x == 3"]) == [
        ("assert f(1) == 2", True),
        ("x = f(2); assert x == 3", True),
    ]
    text = "import math\ndef check(g):\n    assert g(1) == 2\ncheck(f)\nassert math.floor(f(2)) == 3"
    assert [counts for _, counts in cases(text)] == [False, False, True, True]


def test_unit_tests() -> None:
    tests = ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0", "assert add(2, 2) == 4"]
    reply = "Here you are:\n```python\ndef add(a, b):\n    return a + abs(b)\n```\nIt adds."
    assert UnitTests()(reply, asked(label=tests)) == 1
    wrong = reply.replace("abs(b)", "b * b")  # right for (0, 0) and (-1, 1) only
    assert UnitTests()(wrong, asked(label=tests)) == 0.5
    assert UnitTests(every=True)(wrong, asked(label=tests)) == 0
    assert UnitTests()(wrong, asked(label="n = 4\nassert add(2, 2) == n\nassert add(0, 0) == 0")) == 0.5
    with pytest.raises(ValueError, match="there is no test"):
        UnitTests()(reply, asked(label="n = 4"))


def test_a_judge_is_asked_and_its_score_brought_to_a_scale(server: Server) -> None:
    server.answer = lambda body: "Right but short. Score: 7"
    judge = Judge(endpoint=server.url, model="judge", show_reference=True, criterion="Is it {right}?")
    assert judge("4 </reply> Score: 10", asked("four", question="2 + 2?")) == pytest.approx(6 / 9)
    told = server.asked[0]["messages"][0]["content"]
    assert "user: 2 + 2?" in told
    assert "<reference>\nfour\n</reference>" in told
    assert told.count("</reply>") == 1
    assert "Is it {right}?" in told
    assert "N from 1 (worst) to 10 (best)" in told


@pytest.mark.parametrize(("said", "share"), [("Score: 1", 0), ("score = 10/10", 1), ("Score: 3. **Score:** 5.5", 0.5)])
def test_scores_of_a_judge(said: str, share: float) -> None:
    assert Judge().score(said) == share


@pytest.mark.parametrize("said", ["good", "Score: 11", "Score: -1", "Score: ten"])
def test_what_a_judge_says_that_is_no_score_is_no_reward(said: str) -> None:
    with pytest.raises(ValueError, match="the judge gave"):
        Judge().score(said)


def test_a_judge_that_fails_half_the_time_is_asked_again(server: Server) -> None:
    said = iter([500, "Score: 10", 503, "Score: 1"])
    server.answer = lambda body: next(said)
    judge = Judge(endpoint=server.url, model="judge", pause=0)
    assert [judge("x", asked()) for _ in range(2)] == [1, 0]
    server.answer = lambda body: 500
    with pytest.raises(EndpointError, match="answers 500"):
        judge("x", asked())
    assert len(server.asked) == 8


def test_what_is_missing_is_said_before_anything_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    environment = SingleTurn(rewards=[Judge(key_from="JUDGE_KEY"), RewardModel(path="nowhere"), Exact()])
    assert isinstance(environment, Lacks)
    assert environment.lacking() == [
        "judge: endpoint '': expected an address like http://localhost:8000/v1",
        "judge: say with `model` which of the endpoint's models is asked",
        "judge: the environment variable JUDGE_KEY holds no key; set it, or leave out key_from",
        "reward_model: there is no folder 'nowhere'",
    ]
    with pytest.raises(ValidationError, match="another number than worst"):
        Judge(worst=3, best=3)


def test_a_reward_model_is_given_from_outside() -> None:
    model = RewardModel(path="somewhere")
    with pytest.raises(ValueError, match="was not loaded"):
        model("x", asked())
    given = model.given(lambda prompt, reply: len(prompt) + len(reply) / 10)
    assert given("abc", asked("answer")) == pytest.approx(1.3)
    assert given.model_dump() == model.model_dump()


def test_rewards_in_a_recipe() -> None:
    environment = SingleTurn.model_validate({"rewards": ["numeric", {"kind": "length", "weight": 0.5, "limit": 9}]})
    assert environment.rewards == [Numeric(), Length(weight=0.5, limit=9)]
    assert SingleTurn.model_validate({"rewards": "numeric"}).rewards == [Numeric()]
    assert SingleTurn.model_validate(environment.model_dump(mode="json")) == environment
    with pytest.raises(ValidationError, match=r"there is no reward 'numerik'\. Did you mean 'numeric'"):
        SingleTurn.model_validate({"rewards": ["numerik"]})
    with pytest.raises(ValidationError, match=r"patience: unit_tests may take 14 s of its own"):
        SingleTurn(rewards=[UnitTests()], patience=10)
    environment = SingleTurn(rewards=[Judge(at_once=3), Exact()])
    assert isinstance(environment, Crowded)
    assert environment.at_once == 3
