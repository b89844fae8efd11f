"""A model writes further rows for labelled data: asked, kept as answered, sifted, and each says where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from tuneful.core.errors import DataError, EndpointError, InputError
from tuneful.core.files import write_text
from tuneful.data.formats import detect, understand
from tuneful.data.labels import infer, name_of, spoken
from tuneful.data.sources import read
from tuneful.data.synthesise import Request, requests_for, texts_in
from tuneful.models.endpoint import Endpoint
from tuneful.run.embedded import reader_for
from tuneful.run.sift import Written, sift
from tuneful.run.tuned import Tuned, open_encoder

Say = Callable[[str], None]
AT_ONCE = 4  # requests an endpoint has before it
TOGETHER = 16  # requests a model on this computer answers at once
FAILED = 3  # requests without an answer after which no more are sent
LIMIT = 256  # tokens of an answer


class Writer(Protocol):
    """Who writes."""

    @property
    def name(self) -> str: ...
    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[Request, str]]: ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind an address, a few requests at a time."""

    endpoint: Endpoint
    temperature: float

    @property
    def name(self) -> str:
        return self.endpoint.model

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[Request, str]]:
        """Raises EndpointError when it answers no more; what was answered until then has been yielded."""
        ask = partial(self.endpoint.write, limit=LIMIT, temperature=self.temperature)
        failed = 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for part in _parts(requests, AT_ONCE):
                waiting = [(request, threads.submit(ask, request.messages, seed=request.turn)) for request in part]
                problem = None
                for request, answer in waiting:
                    try:
                        yield request, answer.result()
                        failed = 0
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

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[Request, str]]:
        for number, part in enumerate(_parts(requests, TOGETHER)):
            asked = [request.messages for request in part]
            yield from zip(
                part, self.tuned.answer(asked, limit=LIMIT, temperature=self.temperature, seed=number), strict=True
            )


@dataclass(slots=True)
class Synthesised:
    """What came of it."""

    requests: int
    texts: int
    kept: list[Written]
    refused: Counter[str] = field(default_factory=Counter)  # by reason


def synthesise(
    source: str, out: Path, writer: Writer, *, count: int, seed: int, encoder: str | None, say: Say
) -> Synthesised:
    """`count` texts a class are asked for. Every answer is written down before the next is asked for, beside `out`; the
    same command goes on there. Raises InputError, and EndpointError when a part stays unanswered."""
    rows = labelled_rows(source, say)
    said = {label: spoken(label) or label for _, label in rows}
    requests = requests_for(rows, said, count=count, seed=seed)
    journal = out.with_suffix(".answers.jsonl")
    answers = _answered(journal)
    open_ = [request for request in requests if request.key not in answers]
    if len(open_) < len(requests):
        say(f"{len(requests) - len(open_)} of {len(requests)} requests are answered in {journal} already")
    try:
        for number, (request, answer) in enumerate(writer.answers(open_), 1):
            _note(journal, request, answer, writer.name)
            answers[request.key] = answer
            if number % 10 == 0 or number == len(open_):
                say(f"{number} of {len(open_)} requests answered")
    except EndpointError as error:
        done = sum(request.key in answers for request in requests)
        raise EndpointError(
            f"{error}\n  {done} of {len(requests)} requests are answered and kept in {journal}; "
            "the same command goes on there"
        ) from None
    written = [Written(text, request.label, request) for request in requests for text in texts_in(answers[request.key])]
    kept, refused = sift(
        written, rows, open_encoder(encoder or reader_for(text for text, _ in rows), None, say).vectors
    )
    origin = {"model": writer.name, "source": source}
    lines = [json.dumps(row.as_json(rows, origin), ensure_ascii=False) for row in kept]
    write_text(out, "".join(f"{line}\n" for line in lines))
    return Synthesised(len(requests), len(written), kept, refused)


def labelled_rows(source: str, say: Say) -> list[tuple[str, str]]:
    """(text, label), those that are held out left alone. Raises DataError."""
    tables = read(source, say=say)
    table = tables.get("train") or next(iter(tables.values()), [])
    if not table:
        raise DataError(f"{source} holds no row")
    form, columns = detect(table, {})
    examples, bad = understand(table, form, columns)
    if form.name != "labelled" or infer(examples) != "class":
        raise DataError(
            f"{source}: further rows are written for texts with one label each; this is in the layout '{form.name}'"
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


def _answered(journal: Path) -> dict[str, str]:
    """By request. A last line that was cut off, as the computer was, is no answer, and taken out of the file."""
    if not journal.exists():
        return {}
    found, whole = {}, journal.read_text(encoding="utf-8")
    lines = whole.splitlines()
    if whole and not whole.endswith("\n"):
        lines = lines[:-1]
        write_text(journal, "".join(f"{line}\n" for line in lines))
    for number, line in enumerate(lines, 1):
        try:
            told = json.loads(line)
            found[str(told["request"])] = str(told["answer"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{journal} line {number} is no answer that was kept; move the file away, or choose another --out"
            ) from None
    return found


def _note(journal: Path, request: Request, answer: str, model: str) -> None:
    line = {"request": request.key, "label": request.label, "model": model, "answer": answer}
    with journal.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
