"""A page that asks for labels, one text at a time, for `tuneful label --page`."""

from __future__ import annotations

import hmac
import json
import secrets
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tuneful.core.errors import InputError, TunefulError
from tuneful.core.spec import did_you_mean
from tuneful.run.labelling import Labelling

HERE = "127.0.0.1"
AGAIN = 5  # labels after which the choice is made anew
LARGEST = 1 << 16  # bytes of what a page may send
PATIENCE = 30  # seconds that a connection may say nothing
SAFE = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}  # fmt: skip
POLICY = "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; " \
         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # fmt: skip


class Refused(Exception):
    """What a page asked for cannot be done; `status` is HTTP's."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass(slots=True)
class Desk:
    """Who is asked about which text. Pages may be several, and each is asked about a text of its own."""

    work: Labelling
    goal: int
    before: int = 0
    waiting: list[int] = field(default_factory=list)
    shown: dict[str, int] = field(default_factory=dict)  # text by page
    passed: set[int] = field(default_factory=set)
    given: list[tuple[str | None, int]] = field(default_factory=list)  # which page labelled which text, in order
    again: set[tuple[str, int]] = field(default_factory=set)  # what a page took back, and may label over an older label
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.before = len(self.work.given)
        self.given = [(None, place) for place in self.work.given]

    def ask(self, page: str) -> dict[str, Any]:
        """What the page shows: the text it was asked about already, or the next."""
        with self.lock:
            return self._asked(page)

    def label(self, page: str, place: int, name: str) -> dict[str, Any]:
        """Raises Refused."""
        with self.lock:
            self._known(place)
            if place in self.work.given and (page, place) not in self.again:
                self.shown.pop(page, None)
                raise Refused(409, f"this text has the label '{self.work.given[place]}' already, from another page")
            self._write(place, name.strip())
            self.again.discard((page, place))
            self.given.append((page, place))
            self._leave(place)
            return self._asked(page)

    def pass_over(self, page: str, place: int) -> dict[str, Any]:
        with self.lock:
            self._known(place)
            self.passed.add(place)
            self._leave(place)
            return self._asked(page)

    def take_back(self, page: str) -> dict[str, Any]:
        """The last label that this page gave; while no page has given any, the last of an earlier sitting. Never
        another page's. Raises Refused, and InputError where the file is gone."""
        with self.lock:
            number = self._last_of(page)
            place = self.given[number][1]
            self.work.take_back(place)
            del self.given[number]
            if place in self.work.given:  # an older label stands again
                self.again.add((page, place))
                if (None, place) not in self.given:
                    self.given.insert(0, (None, place))
            if self.shown.get(page, place) != place:
                self.waiting.insert(0, self.shown[page])
            self.shown[page] = place
            return self._asked(page)

    def _last_of(self, page: str) -> int:
        """Which of `given` it may take back."""
        whose = [other for other, _ in self.given]
        wanted = page if any(other is not None for other in whose) else None
        if wanted not in whose:
            raise Refused(409, "there is no label of this page to take back")
        return len(whose) - 1 - whose[::-1].index(wanted)

    def _known(self, place: int) -> None:
        if not 0 <= place < len(self.work.texts):
            raise Refused(400, "there is no such text")

    def _write(self, place: int, name: str) -> None:
        try:
            self.work.label(place, name)
        except InputError as error:
            raise Refused(400, f"{error}.{did_you_mean(name, self.work.names)}") from None

    def _leave(self, place: int) -> None:
        """No page shows it any more."""
        self.shown = {page: other for page, other in self.shown.items() if other != place}
        self.waiting = [other for other in self.waiting if other != place]

    def _asked(self, page: str) -> dict[str, Any]:
        if (place := self.shown.get(page)) is None and (place := self._next()) is not None:
            self.shown[page] = place
        return {
            "place": place,
            "text": None if place is None else self.work.texts[place],
            "names": list(self.work.names),
            "open": not self.work.wanted,
            "done": len(self.work.given) - self.before,
            "goal": self.goal,
            "labelled": len(self.work.given),
            "texts": len(self.work.texts),
        }

    def _next(self) -> int | None:
        """One that no page shows; where there is none, one that another page has left lying."""
        if not self.waiting:
            taken = self.passed | set(self.shown.values())
            self.waiting = [place for place in self.work.next(AGAIN + len(taken)) if place not in taken][:AGAIN]
        if self.waiting:
            return self.waiting.pop(0)
        return next((place for place in self.shown.values() if place not in self.work.given), None)


class LabellingServer(ThreadingHTTPServer):
    """Serves this computer alone, and of its programs those that were told the address with its token."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, work: Labelling, goal: int, port: int = 0) -> None:
        """Raises InputError where the port is taken."""
        self.desk, self.token = Desk(work, goal), secrets.token_urlsafe(24)
        try:
            super().__init__((HERE, port), _Handler)
        except OSError as error:
            said = error.strerror or str(error)
            raise InputError(f"--port {port}: {said}; choose another, or leave it out for any that is free") from None

    def server_bind(self) -> None:
        """Without looking the computer's name up."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HERE, int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nobody's fault."""


class _Handler(BaseHTTPRequestHandler):
    server: LabellingServer
    server_version, sys_version = "tuneful", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._reply(self._page if urlsplit(self.path).path == "/" else None)

    def do_POST(self) -> None:
        desk = self.server.desk
        doing: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
            "/next": lambda page, _: desk.ask(page),
            "/label": lambda page, told: desk.label(page, _number(told), _word(told, "label")),
            "/pass": lambda page, told: desk.pass_over(page, _number(told)),
            "/undo": lambda page, _: desk.take_back(page),
        }
        action = doing.get(urlsplit(self.path).path)
        self._reply(None if action is None else lambda: self._done(action))

    def _reply(self, make: Callable[[], None] | None) -> None:
        try:
            self._check()
            if make is None:
                raise Refused(404, "there is no such page")
            make()
        except Refused as problem:
            self._send(problem.status, {"error": str(problem)})
        except TunefulError as problem:
            self._send(500, {"error": str(problem)})

    def _check(self) -> None:
        """A page of another site may reach this port, by a name of its own that leads here (DNS rebinding) or by a
        form; it knows neither the address nor the token. Raises Refused."""
        port = self.server.server_port
        known = {f"{HERE}:{port}", f"localhost:{port}"}
        if self.headers.get("Host") not in known:
            raise Refused(403, "this page is for this computer alone")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in known}:
            raise Refused(403, "this page is for this computer alone")
        said = parse_qs(urlsplit(self.path).query).get("token", [""])[0] if self.command == "GET" else None
        given = self.headers.get("X-Token", "") if said is None else said
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode()):
            raise Refused(403, "open the address as it was printed, with its token")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        text = files("tuneful.ship.studio").joinpath("assets", "label.html").read_text(encoding="utf-8")
        whole = text.replace("{nonce}", nonce).encode()
        self._write(200, whole, "text/html; charset=utf-8", {"Content-Security-Policy": POLICY.format(nonce=nonce)})

    def _done(self, action: Callable[[str, Mapping[str, Any]], dict[str, Any]]) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > LARGEST:
            raise Refused(413, f"expected at most {LARGEST:,} bytes of JSON")
        try:
            told = json.loads(self.rfile.read(int(size)))
        except ValueError:
            raise Refused(400, "expected JSON") from None
        if not isinstance(told, dict):
            raise Refused(400, "expected a JSON object")
        self._send(200, action(_word(told, "page"), told))

    def _send(self, status: int, told: Mapping[str, Any]) -> None:
        self._write(status, json.dumps(told, ensure_ascii=False).encode(), "application/json; charset=utf-8", {})

    def _write(self, status: int, whole: bytes, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**SAFE, **more, "Content-Type": kind, "Content-Length": str(len(whole))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_: object) -> None:
        """The terminal is for people."""


def _word(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str):
        raise Refused(400, f"'{name}' is missing; expected text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # half a character, which no file holds
        raise Refused(400, f"'{name}' is no text that can be written down")
    return value


def _number(told: Mapping[str, Any]) -> int:
    value = told.get("place")
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(400, "'place' is missing; expected the number of a text")
    return value
