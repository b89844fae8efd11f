"""A model writes further requests with answers: asked, kept as answered, sifted, and each says where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.files import write_text
from tuneful.data.answers import Form, echoes, refuses
from tuneful.data.duplicates import clusters
from tuneful.data.instructions import Instruction, Seed, as_row, asking_for_answer, asking_for_requests, seeds_in
from tuneful.data.splits import split
from tuneful.data.synthesise import EACH, LONGEST, fits, one_line
from tuneful.recipe.task import Data
from tuneful.run.aligned import Answered, difficulty
from tuneful.run.alike import Alike
from tuneful.run.journal import Journal, ask, open_journal
from tuneful.run.synthesise import Given, Synthesised, tokens_of
from tuneful.run.tuned import Tuned
from tuneful.run.writers import Writer

Say = Callable[[str], None]
LAYOUTS = ("messages", "alpaca", "self_instruct", "prompt_completion")
HELPLESS = 1.0  # difficulty from which a request does not help


@dataclass(slots=True)
class Sifting:
    """What was written, what of it is left, and why the rest is not."""

    seeds: Sequence[Seed]
    refused: Counter[str] = field(default_factory=Counter)  # by reason

    def new(self, written: Sequence[tuple[Instruction, str]], count: int) -> list[tuple[Instruction, str]]:
        """The first `count` requests that are of the seeds' lengths and say what neither a seed nor another says, each
        with the question that it answers."""
        known = [one_line(seed.asked) for seed in self.seeds]
        near = clusters([*known, *(asked for _, asked in written)])
        alike, taken, kept = Alike.of(known), set(near[: len(known)]), list[tuple[Instruction, str]]()
        for (by, asked), cluster in zip(written, near[len(known) :], strict=True):
            if not fits(asked, known):
                self.refused["too long or too short"] += 1
            elif cluster in taken:
                self.refused["the same as another text"] += 1
            elif alike.knows(asked):
                self.refused["says what another says"] += 1
            elif len(kept) >= count:
                self.refused["more than were asked for"] += 1
            else:
                taken.add(cluster)
                alike.add(asked)
                kept.append((by, asked))
        return kept

    def answers(self, asked: Sequence[Instruction], journal: Journal) -> list[tuple[Instruction, str]]:
        """Those of which a reader without a model finds no fault, each with its request."""
        form = Form.of([seed.answer for seed in self.seeds])
        usual = [seed.answer for seed in self.seeds]
        refusing = any(map(refuses, usual))  # then it is what the rows teach
        echoing = any(echoes(seed.asked, seed.answer) for seed in self.seeds)  # likewise
        kept = []
        for one in asked:
            if (found := journal.answer(one)) is None:
                self.refused["not answered yet"] += 1
            elif found[1]:
                self.refused["cut off by the limit"] += 1
            else:
                answer = form.plain(found[0])
                reason = _fault(one.about, answer, form, usual, refusing=refusing, echoing=echoing)
                if reason is None:
                    kept.append((one, answer))
                else:
                    self.refused[reason] += 1
        return kept

    def helped(
        self, rows: Sequence[tuple[Instruction, str]], judge: Tuned | None
    ) -> Iterator[tuple[Instruction, str, float | None]]:
        """Those whose request helps to tell the answer, with how much: see `aligned.difficulty`."""
        if judge is None or not rows:
            yield from ((one, answer, None) for one, answer in rows)
            return
        read = [Answered(tuple(self.seeds[one.shown[0]].before()), one.about, answer) for one, answer in rows]
        for (one, answer), found in zip(rows, difficulty(judge, read), strict=True):
            if found < HELPLESS:
                yield one, answer, float(found)
            elif np.isfinite(found):
                self.refused["its request does not help to tell the answer"] += 1
            else:
                self.refused["longer than the judge reads"] += 1


def _fault(asked: str, answer: str, form: Form, usual: Sequence[str], *, refusing: bool, echoing: bool) -> str | None:
    if not answer:
        return "no answer"
    if not echoing and echoes(asked, answer):
        return "the answer repeats the request"
    if not refusing and refuses(answer):
        return "the answer refuses"
    if not form.fits(answer):
        return "the answer is no number" if form.kind == "number" else "the answer is no JSON of your rows' keys"
    return None if fits(answer, usual) else "the answer is too long or too short"


def instruct(given: Given, out: Path, writer: Writer, *, count: int, judge: Tuned | None, say: Say) -> Synthesised:
    """`count` requests are asked for, then an answer to each that is good. Every answer is written down beside `out` as
    soon as it is there; the same command goes on. Without a `judge` nobody asks whether requests help. Raises
    InputError, and EndpointError when no more is answered."""
    seeds = seeds_of(given, say)
    journal = open_journal(out, writer, given.source, given.seed)
    first, sifting = asking_for_requests(seeds, count=count, seed=given.seed), Sifting(seeds)
    say(f"{len(first)} questions for requests, each shown {len(first[0].shown)} of your {len(seeds)} rows")
    ask(first, writer, journal, tokens_of(EACH, [one.asked for one in seeds]), say)
    written = [(one, asked) for one in first for asked in map(one_line, journal.texts(one))]
    second = [asking_for_answer(seeds, one, asked) for one, asked in sifting.new(written, count)]
    say(f"{len(second)} of {len(written)} requests are new and are answered")
    ask(second, writer, journal, tokens_of(LONGEST, [one.answer for one in seeds]), say)
    lines = []
    for one, answer, found in sifting.helped(sifting.answers(second, journal), judge):
        origin = {"model": writer.name, "source": given.source, "request": one.key(writer.name, writer.temperature)}
        told = origin if found is None else {**origin, "difficulty": round(found, 4)}
        lines.append(json.dumps(as_row(seeds, one, answer, told), ensure_ascii=False))
    write_text(out, "".join(f"{line}\n" for line in lines))
    return Synthesised(len(first) + len(second), len(written), len(lines), sifting.refused)


def seeds_of(given: Given, say: Say) -> list[Seed]:
    """The rows that `fit` would learn from, were it to draw with the same seed what it holds out: a writer that was
    shown a held-out row must not write for those who are measured by it. Raises DataError."""
    source, form, parts = given.source, given.form, given.parts
    if form.name not in LAYOUTS:
        raise DataError(
            f"{source}: further rows are written for texts with one label each, and for requests with answers; this is "
            f"in the layout '{form.name}'. Name the columns: --column text=... --column label=..., or "
            "--column prompt=... --column completion=..."
        )
    held = {part: Data.model_fields[part].default for part in ("validation", "test")}
    every = len(parts["train"])
    rows = split(parts, seed=given.seed, labelled=False, **held).train if every else []
    if len(rows) < every:
        say(f"{every - len(rows)} of {every} rows are not shown: `tuneful fit` would hold them out")
    seeds, told = seeds_in(rows)
    for reason, number in told.items():
        say(f"{number} rows are {reason}")
    if not seeds:
        raise DataError(f"{source}: no row begins with a request and an answer, so there is nothing to show a writer")
    return seeds
