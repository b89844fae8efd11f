"""`tuneful label`: texts one by one, those that teach most first."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
from rich.text import Text

from tuneful.cli.show import console, note, print_json
from tuneful.core.errors import InputError
from tuneful.core.spec import did_you_mean
from tuneful.run.embedded import READER
from tuneful.run.labelling import Labelling, open_labelling
from tuneful.ship.studio.labelling import LabellingServer

AGAIN = 5  # labels after which the choice is made anew


class Back:
    """What was typed takes the last label back."""


def label_command(
    source: str,
    *,
    labels: Sequence[str],
    model: str | None,
    column: str | None,
    count: int,
    out: Path,
    as_json: bool,
    page: bool,
    port: int | None,
) -> None:
    if port is not None and not page:
        raise InputError("--port is the page's: give --page too, or leave it out")
    if page and as_json:
        raise InputError("--page shows the texts and --json prints them; choose one")
    if out.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"--out {out}: one JSON object a line is written; name a .jsonl file")
    work = open_labelling(source, out, model=model, labels=labels, column=column, say=note)
    if as_json:
        print_json({"next": [{"text": work.texts[place]} for place in work.next(count)]})
        return
    if page:
        _serve(work, source, count, port or 0)
        return
    note("type a number or a name; Enter passes the text over, u takes the last label back, q ends; "
         "every label is saved at once")  # fmt: skip
    done = _ask(work, count, closed=bool(labels))
    _tell(work, done, source)


def _tell(work: Labelling, done: int, source: str) -> None:
    did = f"labels added to {work.file}: {done}" if done >= 0 else f"labels taken out of {work.file}: {-done}"
    console.print(f"{did}; texts with a label there: {len(work.given)}", soft_wrap=True)
    if work.given:
        model = [] if work.encoder == READER else ["--model", work.encoder]
        command = shlex.join(["tuneful", "fit", str(work.file), "--unlabelled", source, *model])
        console.print(f"learn from them with: {command}", soft_wrap=True)


def _serve(work: Labelling, source: str, count: int, port: int) -> None:
    """Until Ctrl-C."""
    before = len(work.given)
    with LabellingServer(work, count, port) as server:
        console.print(server.url, soft_wrap=True)
        note("open this address in a browser here; every label is saved at once; Ctrl-C ends")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
        with server.desk.lock:  # a label on its way is written first
            _tell(work, len(work.given) - before, source)


def _ask(work: Labelling, count: int, *, closed: bool) -> int:
    """How many labels were added, less those that were taken back."""
    done, passed, waiting = 0, set[int](), list[int]()
    while done < count:
        if not waiting:
            found = [place for place in work.next(count + len(passed)) if place not in passed]
            waiting = found[: min(AGAIN, count - done)]
        if not waiting:
            note("no text is left")
            return done
        place = waiting.pop(0)
        console.print(Text(f"\n{max(done, 0) + 1} of {count}", style="dim"))
        answer = _answer(work, place, closed=closed)
        if answer is None:
            return done
        if isinstance(answer, Back):
            waiting.insert(0, place)
            if (last := _taken_back(work)) is not None:
                waiting.insert(0, last)
                done -= 1
        elif answer:
            work.label(place, answer)
            done += 1
        else:
            passed.add(place)
    return done


def _taken_back(work: Labelling) -> int | None:
    """The text whose label it was, to be asked about again; None where there is none."""
    last = next(reversed(work.given), None)
    if last is None:
        note("there is no label to take back")
        return None
    note(f"taken back: {work.given[last]}")
    work.take_back(last)
    return last


def _answer(work: Labelling, place: int, *, closed: bool) -> str | Back | None:
    """A name; "" to pass the text over; None to end."""
    console.print(Text(work.texts[place], style="bold"))
    console.print(Text("  ".join(f"{number} {name}" for number, name in enumerate(work.names, 1)), style="dim"))
    while True:
        try:
            said = click.prompt("label", default="", show_default=False).strip()
        except click.Abort:
            return None
        if said.isdecimal() and 1 <= int(said) <= len(work.names):
            return work.names[int(said) - 1]
        if said.lower() == "q":
            return None
        if said.lower() == "u" and said not in work.names:
            return Back()
        meant = next((name for name in work.names if name.lower() == said.lower()), said)
        if not said or meant in work.names or not closed:
            return meant
        note(f"'{said}' is none of the labels.{did_you_mean(said, work.names)}")
