"""`tuneful label`: texts one by one, those that teach most first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from tuneful.cli.show import console, note, print_json
from tuneful.core.errors import InputError
from tuneful.core.spec import did_you_mean
from tuneful.run.labelling import Labelling, open_labelling

AGAIN = 5  # labels after which the choice is made anew


def label_command(
    source: str,
    *,
    labels: Sequence[str],
    model: str | None,
    column: str | None,
    count: int,
    out: Path,
    as_json: bool,
) -> None:
    if out.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"--out {out}: one JSON object a line is written; name a .jsonl file")
    work = open_labelling(source, out, model=model, labels=labels, column=column, say=note)
    if as_json:
        print_json({"next": [{"text": work.texts[place]} for place in work.next(count)]})
        return
    note("type a number or a name; Enter passes the text over, q ends; every label is saved at once")
    done = _ask(work, count, closed=bool(labels))
    console.print(f"{done} labels added to {out}, which holds {len(work.given)} of these texts")
    console.print(f"learn from them with: tuneful fit {out} --unlabelled {source}", soft_wrap=True)


def _ask(work: Labelling, count: int, *, closed: bool) -> int:
    done, passed = 0, set[int]()
    while done < count:
        open_ = [place for place in work.next(count + len(passed)) if place not in passed][: min(AGAIN, count - done)]
        for place in open_:
            console.print(Text(f"\n{done + 1} of {count}", style="dim"))
            answer = _answer(work, place, closed=closed)
            if answer is None:
                return done
            if answer:
                work.label(place, answer)
                done += 1
            else:
                passed.add(place)
        if not open_:
            note("no text is left")
            return done
    return done


def _answer(work: Labelling, place: int, *, closed: bool) -> str | None:
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
        if not said or said in work.names or not closed:
            return said
        note(f"'{said}' is none of the labels.{did_you_mean(said, work.names)}")
