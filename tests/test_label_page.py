"""The page that asks for labels: real requests to the real server, and what is on disk afterwards."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from tuneful.cli.main import main
from tuneful.core.errors import InputError
from tuneful.run.labelling import Labelling
from tuneful.ship.studio.labelling import LARGEST, Desk, LabellingServer, Refused
from work import moods, write_rows

TEXTS = [
    "plain words",
    "<script>alert('x')</script> & <b>bold</b>",
    "今天天氣很好，「真的」",
    "line\u2028one\x85two",
    "last one",
]


class Page:
    """A tab of a browser."""

    def __init__(self, server: LabellingServer, name: str) -> None:
        self.server, self.name = server, name

    def ask(self, what: str, *, headers: dict[str, str] | None = None, **told: Any) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"page": self.name, **told}).encode()
        given = {"X-Token": self.server.token, "Content-Type": "application/json", **(headers or {})}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.server.server_port}/{what}", body, given)
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


def read(file: Path) -> list[tuple[str, str]]:
    lines = file.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [(row["text"], row["label"]) for row in map(json.loads, lines)]


def work(folder: Path, *, wanted: tuple[str, ...] = (), texts: list[str] = TEXTS) -> Labelling:
    vectors = F.normalize(torch.randn(len(texts), 8, generator=torch.Generator().manual_seed(0)), dim=1)
    return Labelling(folder / "out.jsonl", texts, vectors, list(wanted), None, wanted=wanted)


@pytest.fixture(autouse=True)
def this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", socket.SocketType.connect)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabellingServer]:
    with LabellingServer(work(tmp_path, wanted=("glad", "sad")), 3) as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[LabellingServer]:
    """Any name may be given."""
    with LabellingServer(work(tmp_path), 3) as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        found.shutdown()


def test_a_label_is_on_disk_at_once(server: LabellingServer, tmp_path: Path) -> None:
    page = Page(server, "a")
    _, first = page.ask("next")
    assert first["names"] == ["glad", "sad"]
    assert [first["open"], first["done"], first["goal"], first["texts"]] == [False, 0, 3, 5]
    assert page.ask("next")[1]["place"] == first["place"]  # a page that is loaded again shows what it showed
    _, second = page.ask("label", place=first["place"], label="sad")
    assert read(tmp_path / "out.jsonl") == [(first["text"], "sad")]
    assert second["place"] != first["place"]
    assert second["done"] == 1


def test_every_text_comes_once_as_it_is(server: LabellingServer, tmp_path: Path) -> None:
    page = Page(server, "a")
    told = page.ask("next")[1]
    while told["place"] is not None:
        told = page.ask("label", place=told["place"], label="glad")[1]
    assert sorted(text for text, _ in read(tmp_path / "out.jsonl")) == sorted(TEXTS)
    assert told["done"] == 5


def test_passed_over_is_not_asked_again(server: LabellingServer, tmp_path: Path) -> None:
    page = Page(server, "a")
    seen, told = [], page.ask("next")[1]
    while told["place"] is not None:
        seen.append(told["place"])
        told = page.ask("pass", place=told["place"])[1]
    assert sorted(seen) == list(range(5))
    assert not (tmp_path / "out.jsonl").exists()


def test_taking_back(server: LabellingServer, tmp_path: Path) -> None:
    """Twice, then once too often; the text is asked about again, and what waited comes after it."""
    page = Page(server, "a")
    first = page.ask("next")[1]
    second = page.ask("label", place=first["place"], label="glad")[1]
    third = page.ask("label", place=second["place"], label="sad")[1]
    assert page.ask("undo")[1]["place"] == second["place"]
    assert read(tmp_path / "out.jsonl") == [(first["text"], "glad")]
    back = page.ask("undo")[1]
    assert back["place"] == first["place"]
    assert back["done"] == 0
    assert read(tmp_path / "out.jsonl") == []
    status, told = page.ask("undo")
    assert status == 409
    assert "no label of this page" in told["error"]
    assert page.ask("label", place=first["place"], label="sad")[1]["place"] == second["place"]
    assert page.ask("label", place=second["place"], label="sad")[1]["place"] == third["place"]
    assert read(tmp_path / "out.jsonl") == [(first["text"], "sad"), (second["text"], "sad")]


def test_two_pages_lose_nothing(server: LabellingServer, tmp_path: Path) -> None:
    one, two = Page(server, "a"), Page(server, "b")
    mine, yours = one.ask("next")[1], two.ask("next")[1]
    assert mine["place"] != yours["place"]
    two.ask("label", place=yours["place"], label="sad")
    one.ask("label", place=mine["place"], label="glad")
    assert two.ask("undo")[1]["place"] == yours["place"]  # its own, not the last of all
    assert read(tmp_path / "out.jsonl") == [(mine["text"], "glad")]
    status, told = two.ask("label", place=mine["place"], label="sad")
    assert status == 409
    assert "the label 'glad' already" in told["error"]
    assert read(tmp_path / "out.jsonl") == [(mine["text"], "glad")]


def test_a_page_of_another_name_takes_no_label_of_others(tmp_path: Path) -> None:
    """A page that is loaded anew by a browser that forgot its name: the label before last, of an earlier sitting, stays.
    While nobody has labelled, that one can be taken back."""
    earlier = work(tmp_path, wanted=("glad", "sad"))
    earlier.label(0, "glad")
    desk = Desk(earlier, 3)
    place = desk.ask("a")["place"]
    desk.label("a", place, "sad")
    with pytest.raises(Refused, match="no label of this page"):
        desk.take_back("loaded again")
    assert read(tmp_path / "out.jsonl") == [(TEXTS[0], "glad"), (TEXTS[place], "sad")]
    assert desk.take_back("a")["place"] == place
    assert desk.take_back("loaded again")["place"] == 0
    assert read(tmp_path / "out.jsonl") == []


def test_what_was_taken_back_may_be_labelled_over_an_older_label(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.jsonl", [{"text": TEXTS[0], "label": "glad"}, {"text": TEXTS[0], "label": "sad"}])
    both = work(tmp_path, wanted=("glad", "sad"))
    both.given = {0: "sad"}
    desk = Desk(both, 3)
    assert desk.take_back("a")["place"] == 0
    assert both.given == {0: "glad"}
    with pytest.raises(Refused, match="'glad' already"):
        desk.label("b", 0, "sad")
    desk.label("a", 0, "sad")
    assert read(tmp_path / "out.jsonl") == [(TEXTS[0], "glad"), (TEXTS[0], "sad")]
    with pytest.raises(Refused, match="'sad' already"):  # once
        desk.label("a", 0, "glad")
    for left in (1, 0):
        assert desk.take_back("a")["place"] == 0
        assert len(read(tmp_path / "out.jsonl")) == left
    with pytest.raises(Refused, match="no label of this page"):
        desk.take_back("a")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    desk = Desk(work(tmp_path), 3)
    place = desk.ask("a")["place"]
    desk.label("a", place, "glad")
    (tmp_path / "out.jsonl").rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(InputError, match="put it back"):
        desk.take_back("a")
    (tmp_path / "elsewhere.jsonl").rename(tmp_path / "out.jsonl")
    assert desk.take_back("a")["done"] == 0


def test_many_at_once(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(40)]
    with LabellingServer(work(tmp_path, wanted=("x", "y"), texts=texts), 40) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

        def label(name: str) -> None:
            page = Page(server, name)
            told = page.ask("next")[1]
            while told.get("place") is not None:
                status, told = page.ask("label", place=told["place"], label="x")
                told = told if status == 200 else page.ask("next")[1]

        threads = [threading.Thread(target=label, args=(str(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        server.shutdown()
    assert sorted(text for text, _ in read(tmp_path / "out.jsonl")) == sorted(texts)


def test_names_of_ones_own(opened: LabellingServer, tmp_path: Path) -> None:
    page = Page(opened, "a")
    first = page.ask("next")[1]
    assert first["open"]
    told = page.ask("label", place=first["place"], label="  天氣 <i> ")[1]
    assert told["names"] == ["天氣 <i>"]
    assert page.ask("label", place=told["place"], label="   ")[0] == 400
    assert page.ask("undo")[1]["names"] == []  # nobody uses it any more


def test_what_is_no_label_is_refused(server: LabellingServer, tmp_path: Path) -> None:
    page = Page(server, "a")
    place = page.ask("next")[1]["place"]
    status, told = page.ask("label", place=place, label="gald")
    assert status == 400
    assert "Did you mean 'glad'?" in told["error"]
    for bad in ({"place": 99, "label": "glad"}, {"place": "0", "label": "glad"}, {"place": place}, {"place": -1, "label": "sad"},
                {"place": True, "label": "glad"}, {"place": place, "label": ["glad"]}):  # fmt: skip
        assert page.ask("label", **bad)[0] == 400, bad
    assert page.ask("pass", place=99)[0] == 400
    assert page.ask("label", place=place, label="\ud800")[0] == 400
    assert page.ask("label", place=place, label="x" * LARGEST)[0] == 413
    assert page.ask("other")[0] == 404
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("headers", [
    {"X-Token": ""}, {"X-Token": "wrong"}, {"X-Token": "é"}, {"Host": "evil.example"}, {"Host": "127.0.0.1"},
    {"Origin": "http://evil.example"}, {"Origin": "null"},
])  # fmt: skip
def test_other_sites_get_nothing(headers: dict[str, str], server: LabellingServer, tmp_path: Path) -> None:
    page = Page(server, "a")
    for what in ("next", "label", "undo"):
        status, told = page.ask(what, headers=headers, place=0, label="glad")
        assert status == 403
        assert set(told) == {"error"}
    assert not (tmp_path / "out.jsonl").exists()


def test_the_page_lets_nothing_in(server: LabellingServer) -> None:
    with urllib.request.urlopen(server.url, timeout=20) as answer:
        text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', text))
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"""(?:src|href)=["'](?!data:,)""", text)
    assert "innerHTML" not in text
    assert 'sessionStorage.getItem("page")' in text  # or "u" after a reload would be another page's
    assert "http:" not in text and "https:" not in text  # noqa: PT018
    assert all(word in text for word in ("aria-label", "prefers-color-scheme: dark", "aria-live"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url.replace(server.token, "other"), timeout=20)
    with refused.value as error:
        assert error.code == 403
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken(server: LabellingServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose another"):
        LabellingServer(work(tmp_path), 3, server.server_port)


def test_from_the_command_line_to_ctrl_c(reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in moods(6)]
    texts = write_rows(tmp_path / "texts.jsonl", rows)
    command = [sys.executable, "-u", "-m", "tuneful", "label", str(texts), "--model", str(reader_folder), "--labels", "glad,sad",
               "--page", "--out", str(tmp_path / "out.jsonl")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(.+)", url).groups()  # type: ignore[union-attr]
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"Which label" in answer.read()
        body = json.dumps({"page": "a", "place": 2, "label": "glad"}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/label", body, {"X-Token": token})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert json.loads(answer.read())["done"] == 1
        running.send_signal(signal.SIGINT)
        told, problems = running.communicate(timeout=30)
    assert running.returncode == 0, problems
    assert "Traceback" not in problems
    assert "out.jsonl: 1;" in told
    assert read(tmp_path / "out.jsonl") == [(rows[2]["text"], "glad")]


def test_options_that_would_do_nothing(tmp_path: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "a"}, {"text": "b"}])
    for more, said in ((["--port", "8000"], "give --page too"), (["--page", "--json"], "choose one")):
        done = CliRunner().invoke(main, ["label", str(texts), *more])
        assert done.exit_code == 2
        assert said in done.output
