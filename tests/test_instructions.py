"""Requests with answers written by a model: what is asked, what is kept and why, and that no answer is lost."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tuneful
from endpoints import Server, lines
from tuneful.cli.main import main
from tuneful.cli.synthesising import that_writes
from tuneful.core.errors import DataError, InputError
from tuneful.core.types import Example, Message, Place
from tuneful.data.answers import Form, echoes, refuses
from tuneful.data.duplicates import said_in
from tuneful.data.instructions import CUT, Instruction, Seed, asking_for_answer, asking_for_requests, half_of, seeds_in
from tuneful.evaluation.metrics import METRICS
from tuneful.run.aligned import Answered, difficulty
from tuneful.run.alike import NEAR, Alike
from tuneful.run.api import check
from tuneful.run.instruct import Sifting, seeds_of
from tuneful.run.journal import Journal
from tuneful.run.synthesise import given_in
from tuneful.run.tuned import open_model
from work import greetings, moods, write_rows

THINGS = ["harbour", "violin", "mountain", "library", "orchard", "lantern", "kitchen", "garden", "bridge", "market",
          "station", "theatre", "museum", "forest", "island", "castle", "tunnel", "meadow", "valley", "temple"]  # fmt: skip


def rows(count: int = 20) -> list[dict[str, Any]]:
    """Answers in JSON, all with the same keys."""
    return [{"prompt": f"switch on the {thing} lights number {n}", "completion": json.dumps({"on": thing, "n": n})}
            for n, thing in enumerate(THINGS[:count])]  # fmt: skip


def helpful(body: dict[str, Any]) -> str:
    """Five requests about things that no other answer names, or the answer to one."""
    asked = body["messages"][-1]["content"]
    if asked.startswith("Here are requests"):
        words = [f"{letter}{'xyz'[body['seed'] % 3]}{body['seed']}" for letter in ("um", "ov", "ek", "ip", "ar")]
        return "\n".join(f"{n}. please {w} {w}ing the {w}est {w}er" for n, w in enumerate(words, 1))
    return json.dumps({"on": asked.split()[1], "n": 7})


def seed(asked: str, answer: str = "yes", system: str | None = None) -> Seed:
    return Seed(asked, answer, system, asked)


def written(*asked: str) -> list[tuple[Instruction, str]]:
    return [(Instruction("requests", (0,), (Message("user", "?"),), 0), one) for one in asked]


def synthesise(server: Server, folder: Path, *more: str) -> Any:
    data = write_rows(folder / "rows.jsonl", rows())
    command = ["synthesise", str(data), "--endpoint", server.url, "--model", "m", "--count", "20",
               "--out", str(folder / "made.jsonl"), "--judge", "none", *more]  # fmt: skip
    return CliRunner().invoke(main, command)


def chat(*turns: str, **more: Any) -> Example:
    roles = ("user", "assistant")
    return Example(Place("f", 1), messages=tuple(Message(roles[n % 2], said) for n, said in enumerate(turns)), **more)


def test_of_a_conversation_the_first_turn_is_shown() -> None:
    calls = Message("assistant", "", tool_calls=({"function": {"name": "f"}},))
    found, told = seeds_in([
        chat("one", "two"), chat("a", "b", "c", "d"), chat("t", "u", tools=({"name": "f"},)),
        Example(Place("f", 1), messages=(Message("user", "x"), calls)),
        Example(Place("f", 1), messages=(Message("user", "x"), Message("assistant", "y", train=False))),
        Example(Place("f", 1), messages=(Message("system", "be kind"), Message("user", "s"), Message("assistant", "t"))),
    ])  # fmt: skip
    assert [(one.asked, one.answer, one.system) for one in found] == [
        ("one", "two", None), ("a", "b", None), ("s", "t", "be kind")
    ]  # fmt: skip
    assert found[1].said == "a\nc"  # what a split knows the whole row by
    assert told[CUT] == 1
    assert sorted(told.values()) == [1, 1, 2]


def test_questions_show_rows_of_one_system_message_each_leading_once() -> None:
    seeds = [seed(f"ask {n}", system="short" if n % 2 else None) for n in range(40)]
    found = asking_for_requests(seeds, count=200, seed=0)
    assert len(found) == 40
    assert {one.shown[0] for one in found} == set(range(40))
    for one in found:
        assert len(set(one.shown)) == 4
        assert len({(seeds[place].system, half_of(seeds[place].said)) for place in one.shown}) == 1
        assert all(f"- {seeds[place].asked}" in one.messages[0].content for place in one.shown)
    assert found == asking_for_requests(seeds, count=200, seed=0)
    answer = asking_for_answer(seeds, next(one for one in found if one.shown[0] == 1), "new?")
    assert [message.role for message in answer.messages] == ["system", *["user", "assistant"] * 4, "user"]
    assert answer.messages[-1].content == "new?"


@pytest.mark.parametrize("answer", [
    "I'm sorry, but I can't help with that.", "Sorry, I cannot do this", "As an AI language model, I have no opinion.",
    "As an AI, I cannot", "I cannot provide that.", "I am unable to answer", "抱歉，我無法提供協助。", "很抱歉，但我不能這樣做",
    "作為一個AI語言模型，我沒有感情", "我无法回答这个问题", "Es tut mir leid, aber das kann ich nicht.", "Je suis désolé, mais je ne peux pas",
    "Lo siento, pero no puedo ayudar", "Unfortunately, I do not have access", "I'm sorry. I can't help with that.",
    "Sorry, as an AI I don't have personal opinions",
])  # fmt: skip
def test_refusals(answer: str) -> None:
    assert refuses(answer)


@pytest.mark.parametrize("answer", [
    "As an AI researcher, I train models.", "I cannot swim.", "I can't wait to see you!", "Sorry I am late.",
    "The sign says: I cannot help you", "抱歉，我遲到了", "我不能吃花生", "Unfortunately, it rained.", "I'm sorry for your loss.", "",
    "Sorry! The train is late and the shop is closed.", "作為一個老師，我每天備課", "I can't help but smile",
    "I'm sorry to hear about your delay. I do not see a tracking number yet", "Sorry, I don't see your order here",
    "Sorry, I can't help but laugh", "抱歉久等。我的車不能開",
    "Sorry! The train was late. I can't find my seat",
])  # fmt: skip
def test_what_is_no_refusal(answer: str) -> None:
    assert not refuses(answer)


def test_an_answer_that_says_the_request_again() -> None:
    assert echoes("Turn it on!", "turn it on")
    assert echoes("Please turn the large kitchen light on", "turn the large kitchen light on")
    assert not echoes("Rewrite in the passive: the cat eats the fish", "The fish is eaten by the cat.")
    assert not echoes("Say yes", "yes")


def test_the_form_of_answers() -> None:
    """Keys that differ from row to row: one of the sets that people used."""
    keys = Form.of(['{"a": 1, "b": 2}', '{"c": 1}'])
    assert [keys.fits(answer) for answer in ('{"b": "x", "a": 0}', '{"c": 3}', '{"a": 1}', "[1]", "yes", '{"c": ')] == [
        True, True, False, False, False, False
    ]  # fmt: skip
    assert keys.plain('```json\n{"c": 1}\n```') == '{"c": 1}'
    numbers = Form.of(["4", "-1,000.5", ".5"])
    assert [numbers.fits(answer) for answer in ("12", "12 apples", "1.", "")] == [True, False, False, False]
    assert Form.of(["4", "yes"]).fits("anything")
    assert Form.of(["[1, 2]"]).fits("[]")
    assert not Form.of(["[1, 2]"]).fits("{}")
    assert Form.of(["```\nx\n```"]).plain("```\nx\n```") == "```\nx\n```"
    for bare in ('{"c": "```"}', '```json {"c": 1}\n```', '```\n{"c": 1}'):
        assert keys.plain(bare) == bare


def test_answers_without_end_are_read_in_no_time() -> None:
    keys, began = Form.of(['{"a": 1}']), time.perf_counter()
    assert keys.plain("```json" + "\n" * 20_000 + "x").endswith("x")
    assert not keys.fits("[" * 200_000)
    assert Form.of(["[" * 200_000]).kind == ""
    assert time.perf_counter() - began < 2


def kept(seeds: list[Seed], folder: Path, asked: str, answer: str, *, cut: bool = False) -> dict[str, int] | None:
    """Why an answer is refused; None where it is not."""
    journal = Journal(folder / "a.answers.jsonl", "m", 0.9)
    one = Instruction(asked, (0,), (Message("user", asked),), 0)
    journal.keep(one, answer, cut)
    sifting = Sifting(seeds)
    return None if sifting.answers([one], journal) else dict(sifting.refused)


def test_where_people_say_the_request_again_so_may_answers(tmp_path: Path) -> None:
    capitals = [seed("hello there my friend", "Hello there, my friend!"), seed("one", "One, two, three, four, five.")]
    assert kept(capitals, tmp_path, "we met them at noon", "We met them at noon.") is None
    other = [seed("say hello to my friend", "Good morning to you, dear friend")]
    refused = kept(other, tmp_path, "we met them at noon", "We met them at noon.")
    assert refused == {"the answer repeats the request": 1}


def test_an_answer_that_was_cut_is_not_read(tmp_path: Path) -> None:
    found = kept([seed("a", '{"a": 1}')], tmp_path, "b", "[" * 200_000, cut=True)
    assert found == {"cut off by the limit": 1}


def test_requests_are_new() -> None:
    seeds = [seed("how do I bake a loaf of bread"), seed("what is the capital of France")]
    sifting = Sifting(seeds)
    kept = sifting.new(written(
        "how do I bake a big loaf of bread", "What is the capital of France?", "no", "which bird sings at night",
        "which bird sings at night, please", "where does the river end", "when does the museum open",
    ), count=2)  # fmt: skip
    assert [asked for _, asked in kept] == ["which bird sings at night", "where does the river end"]
    assert sifting.refused == {
        "says what another says": 2, "the same as another text": 1, "too long or too short": 1,
        "more than were asked for": 1,
    }  # fmt: skip


@pytest.mark.parametrize("instruction", [
    "Summarise: ", "Read the customer review below and decide whether the customer is satisfied or not. Answer with one "
    "word, yes or no. Review: ",
])  # fmt: skip
def test_requests_that_share_an_instruction_are_told_apart(instruction: str) -> None:
    ours = [
        "the soup was cold and salty", "lovely staff and quick service", "my room smelled of old smoke", "best haircut in years",
        "parcel came broken in three parts", "the app crashes at every login", "great coffee near the station", "waited two hours",
    ]  # fmt: skip
    new = ["plumber fixed our sink within minutes", "shoes fell apart after one week", "tickets never arrived by mail"]
    again = "the soup was really cold and salty"
    sifting = Sifting([seed(instruction + text) for text in ours])
    found = sifting.new(written(*(instruction + text for text in [*new, again])), 10)
    assert [asked for _, asked in found] == [instruction + text for text in new]
    assert sifting.refused.total() == 1


def test_alike_is_found_as_if_all_were_compared() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 7))) for _ in range(120)]
    alike = Alike.of(texts[:7])
    for place, text in enumerate(texts[7:], 7):
        near = any(METRICS["rouge_l"]([text], [other]) >= NEAR for other in texts[:place])
        assert alike.knows(text) is near
        alike.add(text)


def named(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"{THINGS[n % 20]} {THINGS[n * 7 % 20]} {n}", "completion": "yes"}
            for n in range(start, start + count)]  # fmt: skip


def test_a_writer_sees_what_fit_learns_from(generator_folder: Path, tmp_path: Path) -> None:
    """With a test file that two training rows nearly repeat, and of a sample that is drawn with the same seed."""
    train, test = named(40), named(5, 100)
    train[7], train[9] = test[0], {**test[1], "prompt": test[1]["prompt"] + " !?"}
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", train)
    write_rows(tmp_path / "data" / "test.jsonl", test)
    many = write_rows(tmp_path / "many.jsonl", named(200))
    for source, seeded in ((tmp_path / "data", 0), (f"{many}#50", 3)):
        learned = check({"data": str(source), "model": str(generator_folder), "seed": seeded}).split.train
        shown = seeds_of(given_in(str(source), {}, seeded, lambda _: None), lambda _: None)
        assert [one.said for one in shown] == [said_in(example) for example in learned]


def test_an_encoder_is_no_writer_and_no_judge(reader_folder: Path) -> None:
    with pytest.raises(InputError, match=r"--judge .*reads texts as an encoder does"):
        that_writes(str(reader_folder), "--judge")


def test_rows_say_where_they_come_from(server: Server, tmp_path: Path) -> None:
    server.answer = helpful
    done = synthesise(server, tmp_path, "--json")
    assert done.exit_code == 0, done.output
    told, made = json.loads(done.stdout), lines(tmp_path / "made.jsonl")
    assert told["texts"] == 20
    assert told["kept"] == len(made) == 20 - sum(told["refused"].values()) > 10
    assert told["requests"] == len(server.asked)
    seeds = {row["prompt"] for row in rows()}
    asked = {line["request"]: line["about"] for line in lines(tmp_path / "made.answers.jsonl")}
    for row in made:
        assert set(json.loads(row["completion"])) == {"on", "n"}
        assert row["prompt"] not in seeds
        assert row["origin"]["model"] == "m"
        assert asked[row["origin"]["request"]] == row["prompt"]
        assert set(row["origin"]["shown"]) <= seeds
    shown = {text for row in made for text in row["origin"]["shown"]}
    assert len(shown) <= 15  # a writer sees no row that `fit` would hold out
    assert "5 of 20 rows are not shown" in done.stderr


def test_the_command_that_is_printed_reads_the_same_columns(
    server: Server, generator_folder: Path, tmp_path: Path
) -> None:
    server.answer = helpful
    named = [{"ask": row["prompt"], "json": row["completion"], "note": "-"} for row in rows()]
    data, out = write_rows(tmp_path / "named.jsonl", named), tmp_path / "made.jsonl"
    done = CliRunner().invoke(main, [
        "synthesise", str(data), "--endpoint", server.url, "--model", "m", "--count", "20", "--judge", "none",
        "--out", str(out), "--column", "prompt=ask", "--column", "completion=json",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    printed = shlex.split(done.stdout.rsplit("see whether they help: tuneful", 1)[1])
    planned = CliRunner().invoke(main, ["check", printed[1], "--model", str(generator_folder),
                                        "--set", f"data.generated={out}", *printed[4:], "--json"])  # fmt: skip
    assert planned.exit_code == 0, planned.output
    assert printed[:1] + printed[2:4] == ["fit", "--generated", str(out)]


def test_faults_of_answers_are_counted_by_reason(server: Server, tmp_path: Path) -> None:
    """Every answer has a fault of its own, one none; a fence around it is none."""
    faults = iter(["", "no json", '{"on": 1}', "I'm sorry, but I can't do that.", '```json\n{"on": "a", "n": 1}\n```',
                   '{"on": "' + "a" * 200 + '", "n": 1}'])  # fmt: skip

    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if asked.startswith("Here are requests"):
            return helpful(body)
        return asked.upper() + "!" if "umx0" in asked else next(faults, '{"on": "b", "n": 2}')

    server.answer = answer
    done = synthesise(server, tmp_path, "--count", "10", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["refused"] == {
        "no answer": 1, "the answer repeats the request": 1, "the answer refuses": 1,
        "the answer is no JSON of your rows' keys": 2, "the answer is too long or too short": 1,
    }  # fmt: skip
    assert told["kept"] == 4
    assert any(row["completion"] == '{"on": "a", "n": 1}' for row in lines(tmp_path / "made.jsonl"))


def test_an_answer_that_was_cut_is_left_out(server: Server, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:
        said = helpful(body)
        if said.startswith("{"):
            return json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "length"}]}).encode()
        return said

    server.answer = answer
    done = synthesise(server, tmp_path, "--json")
    told = json.loads(done.stdout)
    assert told["kept"] == 0
    assert told["refused"]["cut off by the limit"] > 10


def test_what_was_answered_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    """The address fails among the answers, then answers nonsense, with half a character: nothing is lost or paid twice."""
    answered: list[int] = []

    def fails(body: dict[str, Any]) -> Any:
        answered.append(1)
        return helpful(body) if len(answered) <= 8 else 503

    server.answer = fails
    first = synthesise(server, tmp_path)
    assert first.exit_code == 1
    assert "the same command goes on there" in first.output
    assert len(lines(tmp_path / "made.answers.jsonl")) == 8
    server.answer, before = (
        (lambda body: b"<html>" if len(server.asked) == before + 3 else helpful(body)),
        len(server.asked),
    )
    second = synthesise(server, tmp_path)
    assert second.exit_code == 1
    kept = len(lines(tmp_path / "made.answers.jsonl"))
    assert kept > 8
    server.answer, before = (
        (lambda body: "\ud800 {" if len(server.asked) == before + 1 else helpful(body)),
        len(server.asked),
    )
    third = synthesise(server, tmp_path)
    assert third.exit_code == 0, third.output
    journal = lines(tmp_path / "made.answers.jsonl")
    assert len(server.asked) - before == len(journal) - kept
    assert len({line["request"] for line in journal}) == len(journal)
    before = len(server.asked)
    assert synthesise(server, tmp_path).exit_code == 0
    assert len(server.asked) == before


def test_one_answer_that_never_comes_keeps_no_other_back(server: Server, tmp_path: Path) -> None:
    server.answer = lambda body: 503 if "ovx0" in body["messages"][-1]["content"] else helpful(body)
    done = synthesise(server, tmp_path, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["refused"]["not answered yet"] == 1
    assert len(lines(tmp_path / "made.jsonl")) > 10


def test_a_request_that_does_not_help_is_seen(generator_folder: Path, tmp_path: Path) -> None:
    """A model that learned to name the mood of words: the other mood is harder to tell after them than without."""
    asked = [{"prompt": row["text"], "completion": row["label"]} for row in moods(80)]
    data = write_rows(tmp_path / "rows.jsonl", asked[:60])
    settings = {"schedule.epochs": 6, "optimiser.learning_rate": 0.01, "adapter": "full", "evaluate": "none"}
    run = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    judge, other = open_model(str(run.path)), {"glad": "sad", "sad": "glad"}
    right = [Answered((), row["prompt"], row["completion"]) for row in asked[60:]]
    wrong = [Answered((), row["prompt"], other[row["completion"]]) for row in asked[60:]]
    assert (difficulty(judge, right) < 1).mean() >= 0.9
    assert (difficulty(judge, wrong) >= 1).mean() >= 0.9
    sifting = Sifting([seed("which mood", "glad")])
    rows = [(Instruction(one.asked, (0,), (Message("user", one.asked),), 0), one.answer) for one in [*right, *wrong]]
    kept = list(sifting.helped(rows, judge))
    assert sifting.refused["its request does not help to tell the answer"] == len(rows) - len(kept) >= 18


@pytest.mark.usefixtures("exact")
def test_difficulty_by_hand(generator_folder: Path) -> None:
    """The mean loss of the answer's tokens after its request, by that behind an empty one."""
    from transformers import AutoModelForCausalLM

    judge = open_model(str(generator_folder))
    module = AutoModelForCausalLM.from_pretrained(generator_folder, dtype=torch.float32)
    (found,) = difficulty(judge, [Answered((), "hello there", "hi Ada")])

    def loss(asked: str) -> float:
        messages = (Message("user", asked), Message("assistant", "hi Ada"))
        encoded = judge.processor.conversation(messages)[-1]
        ids = torch.tensor(encoded.ids, dtype=torch.long)[None]
        with torch.no_grad():
            logits = module(input_ids=ids).logits[0].log_softmax(-1)
        learned = [place for place, weight in enumerate(encoded.learn) if weight > 0]
        return -sum(float(logits[place - 1, ids[0, place]]) for place in learned) / len(learned)

    assert found == pytest.approx(loss("hello there") / loss(""), rel=1e-5)


def test_what_is_longer_than_the_judge_reads_is_counted_apart(generator_folder: Path) -> None:
    judge = open_model(str(generator_folder))
    long = "word " * judge.processor.max_tokens
    sifting = Sifting([seed("which mood", "glad")])
    rows = [(Instruction(long, (0,), (Message("user", long),), 0), "glad")]
    assert list(sifting.helped(rows, judge)) == []
    assert sifting.refused == {"longer than the judge reads": 1}


def test_a_model_on_this_computer_writes(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings(20))
    command = ["synthesise", str(data), "--model", str(generator_folder), "--count", "5", "--out", str(tmp_path / "m.jsonl"),
               "--json"]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    first = lines(tmp_path / "m.answers.jsonl")
    assert first
    assert CliRunner().invoke(main, command).exit_code == 0
    assert lines(tmp_path / "m.answers.jsonl") == first


def test_bad_input(server: Server, tmp_path: Path) -> None:
    def message(*more: str, data: list[dict[str, Any]] | None = None) -> str:
        done = synthesise(server, tmp_path, *more)
        assert done.exit_code == 2, done.output
        return re.sub(r"\s+", " ", done.output)

    assert "--each is for texts with labels" in message("--each", "3")
    assert "--encoder is for texts with labels" in message("--encoder", "minilm-l6")
    assert "expected an address" in message("--endpoint", "localhost:8000")
    assert not server.asked
    quiet = lambda _: None  # noqa: E731
    plain = write_rows(tmp_path / "plain.jsonl", [{"text": "one"}, {"text": "two"}])
    with pytest.raises(DataError, match="requests with answers"):
        seeds_of(given_in(str(plain), {}, 0, quiet), quiet)
    silent = write_rows(
        tmp_path / "silent.jsonl", [{"prompt": "a", "completion": " "}, {"prompt": "b", "completion": ""}]
    )
    with pytest.raises(DataError, match="no row begins with a request and an answer"):
        seeds_of(given_in(str(silent), {}, 0, quiet), quiet)
    one = write_rows(tmp_path / "one.jsonl", rows(1))
    assert len(seeds_of(given_in(str(one), {}, 0, quiet), quiet)) == 1
