"""A model writes further rows for labelled data: asked, kept as answered, sifted, and each says where it comes from."""

from __future__ import annotations

import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tuneful.core.errors import DataError, EndpointError, InputError
from tuneful.core.files import write_text
from tuneful.data.formats import detect, understand
from tuneful.data.labels import infer, name_of, spoken
from tuneful.data.sources import read
from tuneful.data.synthesise import EACH, Request, groups, requests_for, texts_in
from tuneful.models.endpoint import Endpoint
from tuneful.models.sampling import Generator
from tuneful.run.embedded import reader_for
from tuneful.run.sift import Written, sift
from tuneful.run.tuned import Tuned, open_encoder

Say = Callable[[str], None]
Keep = Callable[[Request, str, bool], None]  # an answer, and whether its limit cut it
AT_ONCE = 4  # requests an endpoint has before it
TOGETHER = 16  # requests a model on this computer answers at once
FAILED = 3  # requests in a row without an answer after which no more are sent
LEAST, CHARACTERS = 256, 2  # tokens of an answer: at least, and else one for so many characters of the longest rows


class Writer(Protocol):
    """Who writes. `keep` is called once for each answer, as soon as it is there, from any thread."""

    @property
    def name(self) -> str: ...
    @property
    def temperature(self) -> float: ...
    def write(self, requests: Sequence[Request], limit: int, keep: Keep) -> Iterator[None]: ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind an address, a few requests at a time."""

    endpoint: Endpoint
    temperature: float

    @property
    def name(self) -> str:
        return self.endpoint.model

    def write(self, requests: Sequence[Request], limit: int, keep: Keep) -> Iterator[None]:
        """Yields after every answer. Raises EndpointError where it will answer no more; a request that stays unanswered
        among others is passed over."""

        def ask(request: Request) -> None:
            keep(request, *self.endpoint.write(
                request.messages, limit=limit, temperature=self.temperature, seed=request.turn
            ))  # fmt: skip

        failed = 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for part in _parts(requests, AT_ONCE):
                problem = None
                for done in as_completed([threads.submit(ask, request) for request in part]):
                    try:
                        done.result()
                        failed = 0
                        yield
                    except EndpointError as error:
                        failed, problem = failed + 1, error
                if problem is not None and (failed >= FAILED or not problem.passing):
                    raise problem


@dataclass(frozen=True, slots=True)
class Local:
    """A model on this computer."""

    name: str
    tuned: Tuned
    temperature: float

    def write(self, requests: Sequence[Request], limit: int, keep: Keep) -> Iterator[None]:
        processor = self.tuned.processor
        for part in _parts(requests, TOGETHER):
            prompts = [processor.prompt(request.messages).ids for request in part]
            seed = zlib.crc32(part[0].key(self.name, self.temperature).encode())
            found = Generator(processor).sample(
                self.tuned.policy, prompts, limit=limit, temperature=self.temperature, seed=seed
            )
            for request, answer in zip(part, found, strict=True):
                keep(request, answer.text, not answer.stopped)
                yield


@dataclass(slots=True)
class Synthesised:
    """What came of it."""

    requests: int
    texts: int
    kept: list[Written]
    refused: Counter[str] = field(default_factory=Counter)  # by reason


@dataclass(slots=True)
class Journal:
    """Every answer, written down as soon as it is there, one JSON object a line."""

    file: Path
    model: str
    temperature: float
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by key of the request
    lock: threading.Lock = field(default_factory=threading.Lock)

    def has(self, request: Request) -> bool:
        return request.key(self.model, self.temperature) in self.answers

    def keep(self, request: Request, answer: str, cut: bool) -> None:
        key = request.key(self.model, self.temperature)
        line = {"request": key, "label": request.label, "model": self.model, "answer": answer, "cut": cut}
        with self.lock:
            with self.file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.answers[key] = line

    def texts(self, request: Request) -> list[str]:
        line = self.answers.get(request.key(self.model, self.temperature), {"answer": ""})
        return texts_in(str(line["answer"]), cut=bool(line.get("cut")))

    def open(self) -> None:
        """Goes on where the file stands. A last line that was cut off, as the computer was, is no answer, and is taken
        out. Raises InputError."""
        if not self.file.exists():
            return
        whole = self.file.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:
            write_text(self.file, kept.decode("utf-8"))
        for number, line in enumerate(kept.split(b"\n")[:-1], 1):
            try:
                told = json.loads(line)
                self.answers[str(told["request"])] = {**told, "answer": str(told["answer"])}
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{self.file} line {number} is no answer that was kept; move it away, or choose another --out"
                ) from None


def synthesise(
    source: str,
    out: Path,
    writer: Writer,
    *,
    count: int,
    seed: int,
    encoder: str | None,
    columns: Mapping[str, str],
    say: Say,
) -> Synthesised:
    """`count` texts a class are asked for. Every answer is written down beside `out` as soon as it is there; the same
    command goes on. Raises InputError, and EndpointError when no more is answered."""
    journal = Journal(out.with_suffix(".answers.jsonl"), writer.name, writer.temperature)
    if out.exists() and not journal.file.exists():
        raise InputError(f"{out} exists, and was not written by this command; choose another file with --out")
    rows = labelled_rows(source, columns, say)
    said = {label: spoken(label) or label for _, label in rows}
    requests = requests_for(rows, said, count=count, seed=seed)
    journal.open()
    _ask(requests, writer, journal, max(LEAST, EACH * max(len(text) for text, _ in rows) // CHARACTERS), say)
    written = [Written(text, request.label, request) for request in requests for text in journal.texts(request)]
    reader = open_encoder(encoder or reader_for(text for text, _ in rows), None, say)
    kept, refused = sift(written, rows, groups(rows, seed), reader.vectors)
    lines = []
    for one in kept:
        key = one.request.key(writer.name, writer.temperature)
        origin = {"model": writer.name, "source": source, "request": key}
        lines.append(json.dumps(one.as_json(rows, origin), ensure_ascii=False))
    write_text(out, "".join(f"{line}\n" for line in lines))
    return Synthesised(len(requests), len(written), kept, refused)


def _ask(requests: Sequence[Request], writer: Writer, journal: Journal, limit: int, say: Say) -> None:
    waiting = [request for request in requests if not journal.has(request)]
    if len(waiting) < len(requests):
        say(f"{len(requests) - len(waiting)} of {len(requests)} requests are answered in {journal.file} already")
    try:
        for number, _ in enumerate(writer.write(waiting, limit, journal.keep), 1):
            if number % 10 == 0 or number == len(waiting):
                say(f"{number} of {len(waiting)} requests answered")
    except EndpointError as error:
        done = sum(map(journal.has, requests))
        kept = f"{done} of {len(requests)} requests are answered and kept in {journal.file}; "
        kept += "the same command goes on there"
        raise EndpointError(f"{error}\n  {kept if done else 'nothing was answered'}") from None
    if missing := sum(not journal.has(request) for request in requests):
        say(f"{missing} requests stay without an answer; the same command asks them again")


def labelled_rows(source: str, named: Mapping[str, str], say: Say) -> list[tuple[str, str]]:
    """(text, label) of the rows for training; `named` are columns the person named. Raises DataError."""
    tables = read(source, say=say)
    table = tables.get("train") or next(iter(tables.values()), [])
    if not table:
        raise DataError(f"{source} holds no row")
    form, columns = detect(table, named)
    examples, bad = understand(table, form, columns)
    if form.name != "labelled" or infer(examples) != "class":
        raise DataError(
            f"{source}: further rows are written for texts with one label each; this is in the layout '{form.name}'. "
            "Name the columns: --column text=... --column label=..."
        )
    if bad:
        say(f"{len(bad)} rows are left out; the first: {bad[0].place}: {bad[0].reason}")
    rows = [(str(example.text), name_of(example.label)) for example in examples]
    if len({label for _, label in rows}) < 2:
        raise DataError(f"{source}: all rows have the same label; there is nothing to tell apart")
    return rows


def _parts(requests: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
