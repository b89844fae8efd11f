"""Further rows written by a model: what is asked, what is kept, and what happens when the model behind an address fails."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from endpoints import Server, lines
from tuneful.cli.main import main
from tuneful.core.endpoint import Endpoint
from tuneful.core.errors import DataError, EndpointError, InputError
from tuneful.core.types import Message
from tuneful.data.duplicates import mark
from tuneful.data.synthesise import EACH, fits, groups, requests_for, texts_in
from tuneful.run.journal import Journal, open_journal
from tuneful.run.sift import Written, sift
from tuneful.run.synthesise import given_in, labelled_rows, tokens_of
from tuneful.run.writers import Remote
from work import MOODS, moods, write_rows

ROWS = [(row["text"], row["label"]) for row in moods(12)]
SAID = {name: name for name in MOODS}


def synthesise(server: Server, folder: Path, *more: str, encoder: Path) -> Any:
    data = write_rows(folder / "moods.jsonl", moods(12))
    command = ["synthesise", str(data), "--endpoint", server.url, "--model", "m", "--each", "20",
               "--out", str(folder / "made.jsonl"), "--encoder", str(encoder), *more]  # fmt: skip
    return CliRunner().invoke(main, command)


def test_every_class_is_asked_for_with_rows_of_its_own() -> None:
    requests = requests_for(ROWS, SAID, count=12, seed=0)
    assert Counter(request.label for request in requests) == {"glad": 3, "sad": 3}  # 12 texts, five a request
    assert len({request.key("m", 0.9) for request in requests}) == 6
    dealt = groups(ROWS, 0)
    for request in requests:
        assert all(ROWS[place][1] == request.label for place in request.shown)
        assert {dealt[place] for place in request.shown} == {request.group}
        assert all(ROWS[place][0] in request.messages[0].content for place in request.shown)
        assert f"Write {EACH} other" in request.messages[0].content
    assert requests == requests_for(ROWS, SAID, count=12, seed=0)
    assert {request.group for request in requests if request.label == "glad"} == {0, 1, 2}


@pytest.mark.parametrize(("answer", "texts"), [
    ("1. one\n2) two\n- three\n* four", ["one", "two", "three", "four"]),
    ('Here are some texts:\n"a b"\n\n“c d”', ["a b", "c d"]),
    ('["x y", "z", 3, null]', ["x y", "z"]), ('```json\n["a b",\n "c d"]\n```', ["a b", "c d"]),
    ('["a b", "c \\"d\\"", "e', ["a b", 'c "d"']), ("**1. bold**\n'Tis the season", ["bold", "'Tis the season"]),
    ("以下是文本：\n1. 今天很好\n「明天見」", ["今天很好", "明天見"]),
    ("", []), ("42", []), ("{\"a\": 1}", []), ("...\n---\n12345", []),
    ("3 apples are here", ["3 apples are here"]), ("9.5 percent of it", ["9.5 percent of it"]),
])  # fmt: skip
def test_what_of_an_answer_is_a_text(answer: str, texts: list[str]) -> None:
    assert texts_in(answer) == texts


@pytest.mark.parametrize(("answer", "texts"), [
    ("[" * 200_000, []), ('["a b", ' + "[" * 200_000, ["a b"]), ('["a b", "c\td", "\\x"', ["a b"]),
    ("\n" * 200_000 + "one", ["one"]),
])  # fmt: skip
def test_nonsense_is_no_text(answer: str, texts: list[str]) -> None:
    assert texts_in(answer) == texts


def test_what_somebody_owns_is_not_written_over(tmp_path: Path) -> None:
    """Neither the source, by whatever name, nor what came of another source."""
    rows, other = write_rows(tmp_path / "rows.jsonl", moods(4)), write_rows(tmp_path / "b.jsonl", moods(4))
    writer, out = Remote(Endpoint("http://localhost", "m"), 0.9), tmp_path / "made.jsonl"
    write_rows(tmp_path / "rows.answers.jsonl", moods(4))
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "train.jsonl", moods(4))
    for source, file in ((rows, rows), (f"{rows}#3", tmp_path / "data" / ".." / "rows.jsonl"), (folder, folder / "train.jsonl"),
                         (tmp_path / "rows.answers.jsonl", rows)):  # fmt: skip
        with pytest.raises(InputError, match="write over the rows"):
            open_journal(file, writer, str(source), 0)
    question = requests_for(ROWS, SAID, count=1, seed=0)[0]
    open_journal(out, writer, str(rows), 0).keep(question, "1. a b", False)
    assert open_journal(out, writer, f"{rows}#3", 1).has(question)
    with pytest.raises(InputError, match=r"holds answers for .*rows\.jsonl; choose another"):
        open_journal(out, writer, str(other), 0)
    assert lines(tmp_path / "made.answers.jsonl")[0]["seed"] == 0


def test_one_long_row_does_not_set_the_limit() -> None:
    assert tokens_of(2, ["x" * 1000] * 40) == 1000
    assert tokens_of(2, ["x" * 1000] * 40 + ["x" * 60_000]) == 1000
    assert tokens_of(2, ["x" * 60_000]) == 4096
    assert tokens_of(5, ["x"]) == 256


def test_longer_answers_may_take_longer(server: Server) -> None:
    quick = Endpoint(server.url, "m", seconds=0.2, pause=0.01)
    assert [quick.patience(limit) for limit in (256, 600, 4096)] == pytest.approx([0.2, 0.2, 0.2 * 4096 / 600])
    server.answer = lambda _: (threading.Event().wait(0.5), "late")[1]
    assert quick.write([Message("user", "?")], limit=4096, temperature=0, seed=0) == ("late", False)
    with pytest.raises(EndpointError, match="timed out"):
        quick.write([Message("user", "?")], limit=256, temperature=0, seed=0)


def test_brackets_without_end_are_no_chat_completion(server: Server) -> None:
    server.answer = lambda _: b"[" * 200_000
    with pytest.raises(EndpointError, match="no chat completion"):
        Endpoint(server.url, "m", pause=0.01).write([Message("user", "?")], limit=9, temperature=0, seed=0)


def test_of_an_answer_that_was_cut_the_last_text_is_left_out() -> None:
    assert texts_in("1. one\n2. two\n3. thr", cut=True) == ["one", "two"]


def test_lengths() -> None:
    assert [fits("x" * n, ["abcd", "abcdefgh"]) for n in (1, 2, 16, 17)] == [False, True, True, False]


def test_sifting_says_why() -> None:
    """Vectors in a plane: class a lies along x, class b along y."""
    rows = [("a" * n, "a") for n in range(10, 16)] + [("b" * n, "b") for n in range(10, 16)]
    angles = {text: (0.02 * place if label == "a" else 1.5 - 0.02 * place) for place, (text, label) in enumerate(rows)}
    angles |= {"good one here": 0.05, "good and like it": 0.06, "far from it all": 0.6, "quite other kind": 1.4}
    request = replace(requests_for(rows, {"a": "a", "b": "b"}, count=5, seed=0)[0], group=0)
    texts = [
        "good one here",
        "Good, one here!",
        "good and like it",
        "far from it all",
        "quite other kind",
        "z",
        rows[0][0],
    ]

    def read(texts: Any) -> torch.Tensor:
        turned = torch.tensor([angles[text] for text in texts])
        return F.normalize(torch.stack([turned.cos(), turned.sin()], 1), dim=1)

    kept, refused = sift([Written(text, "a", request) for text in texts], rows, np.zeros(len(rows)), read)
    assert [one.text for one in kept] == ["good one here"]
    assert refused == {
        "too long or too short": 1, "the same as another text": 2, "says what another says": 1,
        "unlike its class": 1, "taken for another class": 1,
    }  # fmt: skip


def test_who_judges_knows_one_fold() -> None:
    """Two folds hold contrary labels and other lengths: what one takes for its class the other does not."""
    near, far = [f"near the first {'x' * n}" for n in range(6)], [f"far from it {'y' * n}" for n in range(6)]
    rows = [*((text, "a") for text in near), *((text, "b") for text in far),
            *((text + "long" * 9, "b") for text in near), *((text + "long" * 9, "a") for text in far)]  # fmt: skip
    dealt = np.array([0] * 12 + [1] * 12)
    first, second = (
        replace(requests_for(rows, {"a": "a", "b": "b"}, count=5, seed=0)[0], group=group) for group in (0, 1)
    )

    def read(texts: Any) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0] if text.startswith("near") else [0.0, 1.0] for text in texts])

    written = [Written(f"near {word} thing", label, request)
               for word, label, request in (("some", "a", first), ("other", "b", first))]  # fmt: skip
    written += [Written(f"near {word} thing" + "and on" * 5, label, request)
                for word, label, request in (("third", "b", second), ("fourth", "a", second))]  # fmt: skip
    kept, refused = sift(written, rows, dealt, read)
    assert [(one.label, one.request.group) for one in kept] == [("a", 0), ("b", 1)]
    assert refused["taken for another class"] == 2
    short = [Written("near it", "b", second)]  # fits the rows of the other fold
    assert sift(short, rows, dealt, read)[1] == {"too long or too short": 1}


def test_rows_say_where_they_come_from(server: Server, reader_folder: Path, tmp_path: Path) -> None:
    done = synthesise(server, tmp_path, "--json", encoder=reader_folder)
    assert done.exit_code == 0, done.output
    told, rows = json.loads(done.stdout), lines(tmp_path / "made.jsonl")
    assert told["requests"] == 8
    assert told["texts"] == 40
    assert told["kept"] == len(rows) == 40 - sum(told["refused"].values()) > 0
    for row in rows:
        assert row["origin"]["model"] == "m"
        assert row["origin"]["request"] in {line["request"] for line in lines(tmp_path / "made.answers.jsonl")}
        assert set(row["origin"]["shown"]) <= {text for text, _ in ROWS}
        judges = {place for place, (text, _) in enumerate(ROWS) if mark(text) in row["origin"]["judged"]}
        assert len({int(groups(ROWS, 0)[place]) for place in judges}) == 1  # of one fold, that of the rows it was shown
        assert {place for place, (text, _) in enumerate(ROWS) if text in row["origin"]["shown"]} <= judges
        assert row["label"] in row["text"]  # the helpful server writes it into its lines
    assert {question["path"] for question in server.asked} == {"/v1/chat/completions"}


def test_what_was_answered_is_not_asked_again(server: Server, reader_folder: Path, tmp_path: Path) -> None:
    """The address fails after three answers; the same command goes on where it stood."""
    answered: list[int] = []

    def fails(body: dict[str, Any]) -> Any:
        answered.append(1)
        return server.helpful(body) if len(answered) <= 3 else 503

    server.answer = fails
    first = synthesise(server, tmp_path, encoder=reader_folder)
    assert first.exit_code == 1
    assert "3 of 8 requests are answered and kept" in first.output
    assert "answers 503" in first.output
    assert not (tmp_path / "made.jsonl").exists()
    with (tmp_path / "made.answers.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"request": "cut o')  # as by kill -9
    with (tmp_path / "made.answers.jsonl").open("ab") as raw:
        raw.write("有".encode()[:2])  # in the middle of a character
    server.answer, before = server.helpful, len(server.asked)
    second = synthesise(server, tmp_path, encoder=reader_folder)
    assert second.exit_code == 0, second.output
    assert len(server.asked) - before == 5
    assert len({line["request"] for line in lines(tmp_path / "made.answers.jsonl")}) == 8
    third = synthesise(server, tmp_path, encoder=reader_folder)
    assert third.exit_code == 0
    assert len(server.asked) - before == 5
    assert "8 of 8 requests are answered" in third.output


def test_an_answer_is_kept_whatever_it_holds(server: Server, reader_folder: Path, tmp_path: Path) -> None:
    """Line separators of other scripts, and nothing at all."""
    server.answer = lambda body: f"1. sunny\u2028 warm\n2. sweet\x85 lovely {body['seed']}" if body["seed"] else ""
    first = synthesise(server, tmp_path, encoder=reader_folder)
    assert first.exit_code == 0, first.output
    before = len(server.asked)
    again = synthesise(server, tmp_path, encoder=reader_folder)
    assert again.exit_code == 0, again.output
    assert len(server.asked) == before == 8  # also an empty answer was paid for


def test_one_request_that_is_never_answered_keeps_no_other_back(
    server: Server, reader_folder: Path, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return 503 if body["seed"] == 2 and '"glad"' in body["messages"][0]["content"] else server.helpful(body)

    server.answer = answer
    done = synthesise(server, tmp_path, encoder=reader_folder)
    assert done.exit_code == 0, done.output
    assert "1 requests stay without an answer" in done.output
    assert len(lines(tmp_path / "made.answers.jsonl")) == 7


def test_another_model_is_asked_anew_and_named(server: Server, reader_folder: Path, tmp_path: Path) -> None:
    for model, asked in (("m", 8), ("dear", 16), ("m", 16)):
        done = synthesise(server, tmp_path, "--model", model, encoder=reader_folder)
        assert done.exit_code == 0, done.output
        assert len(server.asked) == asked
        assert {row["origin"]["model"] for row in lines(tmp_path / "made.jsonl")} == {model}


def test_who_stops_asking_keeps_what_is_on_its_way(server: Server, tmp_path: Path) -> None:
    """After the first answer of four; the other three are paid for as well."""
    journal = Journal(tmp_path / "answers.jsonl", "m", 0.9)
    requests = requests_for(ROWS, SAID, count=20, seed=0)
    answers = Remote(Endpoint(server.url, "m"), 0.9).write(requests, 50, journal.keep)
    next(answers)
    answers.close()
    assert len(lines(journal.file)) == 4 == len(server.asked)


@pytest.mark.parametrize("nonsense", [b"<html>", b'{"choices": []}', b"[1]", b"\xff"])
def test_an_address_that_answers_nonsense_is_not_paid_again(nonsense: bytes, server: Server) -> None:
    server.answer = lambda _: nonsense
    with pytest.raises(EndpointError, match="answers with"):
        Endpoint(server.url, "m").write([Message("user", "hi")], limit=5, temperature=0, seed=0)
    assert len(server.asked) == 1


def test_a_body_that_breaks_off_is_asked_for_again(server: Server) -> None:
    server.half = 2
    server.answer = lambda _: "whole"
    assert Endpoint(server.url, "m").write([Message("user", "hi")], limit=5, temperature=0, seed=0) == ("whole", False)
    assert len(server.asked) == 3


def test_an_address_that_is_slow_or_gone_or_refuses(server: Server) -> None:
    waits = threading.Event()
    server.answer = lambda _: (waits.wait(1), "late")[1]
    slow = Endpoint(server.url, "m", seconds=0.05)
    with pytest.raises(EndpointError, match="timed out"):
        slow.write([Message("user", "hi")], limit=5, temperature=0, seed=0)
    waits.set()
    server.answer, before = (lambda _: 401), len(server.asked)
    with pytest.raises(EndpointError, match="answers 401"):
        Endpoint(server.url, "m", "key").write([Message("user", "hi")], limit=5, temperature=0, seed=0)
    assert len(server.asked) == before + 1  # a wrong key stays wrong
    assert server.asked[-1]["key"] == "Bearer key"
    with pytest.raises(EndpointError, match="refused"):
        Endpoint("http://127.0.0.1:9/v1", "m").write([Message("user", "x")], limit=5, temperature=0, seed=0)


def test_a_model_on_this_computer_writes(generator_folder: Path, reader_folder: Path, tmp_path: Path) -> None:
    """What it wrote is kept beside, and not asked for again."""
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    command = ["synthesise", str(data), "--model", str(generator_folder), "--each", "5", "--out", str(tmp_path / "m.jsonl"),
               "--encoder", str(reader_folder), "--json"]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"] == 2
    first = lines(tmp_path / "m.answers.jsonl")
    assert len(first) == 2
    assert all(line["answer"] for line in first)
    assert CliRunner().invoke(main, command).exit_code == 0
    assert lines(tmp_path / "m.answers.jsonl") == first


def test_refusals(server: Server, reader_folder: Path, tmp_path: Path) -> None:
    def message(*more: str) -> str:
        done = synthesise(server, tmp_path, *more, encoder=reader_folder)
        assert done.exit_code == 2
        return done.output

    assert "name a .jsonl file" in message("--out", str(tmp_path / "a.csv"))
    assert "expected an address" in message("--endpoint", "localhost:8000")
    (tmp_path / "mine.jsonl").write_text("mine", encoding="utf-8")
    assert "was not written by this command" in message("--out", str(tmp_path / "mine.jsonl"))
    assert "no such environment variable" in message("--key-from", "TUNEFUL_NO_SUCH_KEY")
    (tmp_path / "odd.answers.jsonl").write_text("what\nis this\n", encoding="utf-8")
    assert "line 1 is no answer" in message("--out", str(tmp_path / "odd.jsonl"))
    assert not server.asked
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "one"}, {"text": "two"}])
    with pytest.raises(DataError, match="one label each"):
        labelled_rows(given_in(str(bare), {}, 0, lambda _: None))
    same = write_rows(tmp_path / "same.jsonl", [{"text": "one", "label": "a"}, {"text": "two", "label": "a"}])
    with pytest.raises(DataError, match="the same label"):
        labelled_rows(given_in(str(same), {}, 0, lambda _: None))
