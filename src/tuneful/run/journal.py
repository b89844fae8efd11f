"""What a model that writes has answered, kept as it comes, so that nothing is asked or paid for twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneful.core.errors import EndpointError, InputError
from tuneful.core.files import write_text
from tuneful.data.names import Name
from tuneful.data.sources import folder_splits
from tuneful.data.synthesise import Question, texts_in
from tuneful.run.writers import Writer

Say = Callable[[str], None]


@dataclass(slots=True)
class Journal:
    """Every answer, written down as soon as it is there, one JSON object a line."""

    file: Path
    model: str
    temperature: float
    source: str = ""  # of the rows that are shown, as the person named it
    seed: int = 0
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by key of the request
    lock: threading.Lock = field(default_factory=threading.Lock)

    def has(self, request: Question) -> bool:
        return request.key(self.model, self.temperature) in self.answers

    def keep(self, request: Question, answer: str, cut: bool) -> None:
        key = request.key(self.model, self.temperature)
        whole = answer.encode("utf-8", "replace").decode("utf-8")  # half a character cannot be written down
        line = {"request": key, "about": request.about, "model": self.model, "answer": whole, "cut": cut,
                "source": self.source, "seed": self.seed}  # fmt: skip
        with self.lock:
            with self.file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.answers[key] = line

    def answer(self, request: Question) -> tuple[str, bool] | None:
        """What was answered, and whether the limit cut it; None where nothing was."""
        line = self.answers.get(request.key(self.model, self.temperature))
        return None if line is None else (str(line["answer"]), bool(line.get("cut")))

    def texts(self, request: Question) -> list[str]:
        said, cut = self.answer(request) or ("", False)
        return texts_in(said, cut=cut)

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
            other = str(told.get("source", self.source))
            if other != self.source and _file(other) != _file(self.source):
                raise InputError(
                    f"{self.file} holds answers for {other}; choose another file with --out for {self.source}"
                )


def open_journal(out: Path, writer: Writer, source: str, seed: int) -> Journal:
    """The answers beside `out`. Raises InputError where `out` is somebody's own file, or what came of another
    source."""
    journal = Journal(out.with_suffix(".answers.jsonl"), writer.name, writer.temperature, source, seed)
    read = _file(source)
    taken = list(folder_splits(read).values()) if read.is_dir() else [read]
    if {out.resolve(), journal.file.resolve()} & {file.resolve() for file in taken}:
        raise InputError(f"--out {out}: this would write over the rows of {source}; choose another file with --out")
    if out.exists() and not journal.file.exists():
        raise InputError(f"{out} exists, and was not written by this command; choose another file with --out")
    journal.open()
    return journal


def _file(source: str) -> Path:
    """Without the number of rows that are drawn from it."""
    return Path(Name.of(source).path).expanduser().resolve()


def ask(requests: Sequence[Question], writer: Writer, journal: Journal, limit: int, say: Say) -> None:
    """Those that have no answer yet. Raises EndpointError, with what is kept, when no more is answered."""
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
