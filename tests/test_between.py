"""What a check and a run say of tasks that are learned together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from test_kinds import given as two_kinds
from test_tasks import tasks_of
from tuneful.core.types import Example, Message, Place
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import from_mapping
from tuneful.run.between import between, languages
from tuneful.run.folder import RunFolder
from tuneful.run.inherited import inherited
from tuneful.run.joined import checked_kinds
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from tuneful.run.teach import next_recipe
from work import greetings, moods, typed, write_rows

CHINESE = ["今天天氣很好，我們去公園散步", "這家餐廳的菜很難吃", "明天會下雨，記得帶傘", "火車又誤點了，真是糟糕"]


def labelled(task: str, text: str, label: str) -> Example:
    return Example(Place(f"{task}.csv", 1), text=text, label=label, task=task)


def asked(task: str, text: str, answer: str) -> Example:
    return Example(Place(f"{task}.csv", 1), messages=(Message("user", text), Message("assistant", answer)), task=task)


def of(*names: str, **more: Any) -> Any:
    return from_mapping({"tasks": [{"name": name, "data": f"{name}.csv"} for name in names], **more})[0]


def test_the_same_text_with_another_label() -> None:
    """Of three common texts one is answered alike, in one a task says both, and one differs whatever its case."""
    rows = [
        labelled("a", "It broke.", "bad"), labelled("a", "Fine", "good"), labelled("a", "Late again", "late"),
        labelled("a", "Late again", "bad"), labelled("b", "it BROKE", "refund"), labelled("b", "Fine", "good"),
        labelled("b", "Late again", "bad"),
    ]  # fmt: skip
    (note,) = between(of("a", "b"), rows)
    assert note.key == "tasks_disagree"
    assert note.facts == {"n": 1, "one": "a", "other": "b", "text": "It broke.", "label": "bad", "others": "refund"}
    each = {"adapter": {"kind": "lora", "each_task": True}}
    assert between(of("a", "b", **each), rows) == []
    assert between(of("a"), rows) == []


def test_the_same_request_with_another_answer() -> None:
    rows = [asked("a", "Say hi", "hi"), asked("b", "Say hi", "good day"), asked("b", "Say bye", "bye")]
    (note,) = between(of("a", "b"), rows)
    assert (note.facts["label"], note.facts["others"]) == ("hi", "good day")


def test_tasks_in_another_language() -> None:
    english = ["the weather is good and we go for a walk in the park", "this is what they have on the menu"] * 20
    (note,) = languages({"talk": english, "chat": CHINESE, "mail": english})
    assert note.facts == {"others": "chat", "english": "talk, mail"}
    assert languages({"chat": CHINESE, "more": CHINESE}) == languages({"talk": english}) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_in_words(language: str) -> None:
    say = words(language)
    facts = {"n": 3, "one": "a", "other": "b", "text": "it broke", "label": "bad", "others": "refund"}
    assert "refund" in say["said_tasks_disagree"].format(**facts)
    assert "chat" in say["said_tasks_languages"].format(others="chat", english="talk")


def test_check_says_it(tmp_path: Path, reader_folder: Path) -> None:
    what = tasks_of(tmp_path, model=str(reader_folder))
    extra = [{"text": text, "label": "weather"} for text in CHINESE * 3]
    both = [{"text": "please cancel what I bought yesterday", "label": "shopping"}] * 2
    write_rows(tmp_path / "zh.jsonl", [*extra, *({"text": f"{text}！", "label": "food"} for text in CHINESE)])
    write_rows(tmp_path / "shop.jsonl", [*both, *({"text": f"buy {n} of it for me", "label": "buy"} for n in range(9))])
    what["tasks"] = [what["tasks"][0], *({"name": name, "data": {"source": str(tmp_path / f"{name}.jsonl"), "validation": 0,
                                          "test": 0}} for name in ("zh", "shop"))]  # fmt: skip
    what["tasks"][0]["data"]["test"] = 0
    (tmp_path / "recipe.yaml").write_text(json.dumps(what), encoding="utf-8")
    done = typed("check", "recipe.yaml", cwd=tmp_path)
    told = " ".join(done.output.split())
    assert "‘t0’ and ‘shop’ answer 1 of the same texts differently" in told
    assert "zh is not in English, t0, shop is" in told


def test_kinds_of_task_in_another_language(tmp_path: Path, generator_folder: Path) -> None:
    write_rows(tmp_path / "talk.jsonl", greetings(30))
    rows = [{"text": f"{text}{number}", "label": str(number % 2)} for number in range(8) for text in CHINESE]
    write_rows(tmp_path / "tone.jsonl", rows)
    kinds = checked_kinds(from_mapping(two_kinds(tmp_path, generator_folder))[0], print)
    found = {name: [note.key for note in kind.xray.notes] for name, kind in kinds.items()}
    assert "tasks_languages" in found["tone"]
    assert "tasks_languages" not in found["talk"]
    write_rows(tmp_path / "tone.jsonl", moods(30))
    assert "tasks_languages" not in [note.key for note in prepare(of_one(tmp_path, generator_folder)).xray.notes]


def of_one(folder: Path, model: Path) -> Any:
    return from_mapping({"data": str(folder / "talk.jsonl"), "model": str(model)})[0]


def test_a_task_that_is_taught_later_is_not_learned_together(tmp_path: Path, reader_folder: Path) -> None:
    """What a run measured of tasks learned together does not stand against teaching it one more."""
    what = tasks_of(tmp_path, model=str(reader_folder), schedule={"kind": "mixture", "steps": 2}, save={"memory": 0.1},
                    evaluate={"affinity": True, "affinity_every": 1, "robustness": False})  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    list(run(from_mapping(what)[0], folder.path))
    assert inherited(folder)["evaluate"] == {"robustness": False}
    more = write_rows(tmp_path / "more.jsonl", moods(20))
    assert next_recipe(folder, str(more), "more", [], print).schedule.kind == "lifelong"
