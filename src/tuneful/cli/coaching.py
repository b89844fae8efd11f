"""What the coach found, in the terminal; the patch and the page it writes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from tuneful.cli.show import console, note, table
from tuneful.core.errors import InputError
from tuneful.core.files import write_text
from tuneful.data.patch import Line, write_patch
from tuneful.evaluation.coach_page import coach_page
from tuneful.run.coach import KINDS, Coached

WORST = 10  # of each kind are shown
CUT = 60  # characters of a row
TITLES = {
    "label": "Labels that are likely wrong", "contradiction": "Rows that say the same and are answered differently",
    "duplicate": "Rows that say what another says", "leak": "Rows that give a held-out row away",
    "outlier": "Rows unlike all others", "answer": "Answers that are none",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coaching:
    """What was asked of the coach."""

    patch: Path | None
    page: Path | None
    encoder: str | None
    language: str


def asked(*, coach: bool, patch: Path | None, page: Path | None, encoder: str | None, language: str) -> Coaching | None:
    """None: nothing. Raises InputError for options that only the coach has, and files that are none."""
    given = {"--patch": patch, "--page": page, "--encoder": encoder}
    if not coach:
        if stray := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{stray[0]} is the coach's: give --coach too, or leave it out")
        return None
    if patch is not None and patch.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"--patch {patch}: one JSON object a line is written; name a .jsonl file")
    if page is not None and page.suffix not in (".html", ".htm"):
        raise InputError(f"--page {page}: a web page is written; name a .html file")
    return Coaching(patch, page, encoder, language)


def write(found: Coached, wanted: Coaching, target: str) -> None:
    """The files that were asked for."""
    if wanted.patch is not None:
        write_patch(wanted.patch, found.lines)
        accepted = sum(line.accept for line in found.lines)
        note(f"{wanted.patch}: {len(found.lines)} suggestions, {accepted} of them accepted; change `accept` as you see "
             f"fit, then: tuneful fit {shlex.quote(target)} --patch {shlex.quote(str(wanted.patch))}")  # fmt: skip
    if wanted.page is not None:
        write_text(wanted.page, coach_page(found.as_json(), found.points, wanted.language))
        note(f"{wanted.page}: the same as a page, with a map")


def show(found: Coached) -> None:
    facts = found.facts
    rows, spread = facts["rows"], facts["diversity"]
    console.print(Text(f"\nCoach: {rows['looked_at']:,} of {rows['train']:,} training rows read with "
                       f"{facts['encoder']}, {rows['held_out']:,} held out", style="bold"))  # fmt: skip
    console.print(f"diversity: {spread['vendi']:.1f} different texts in effect of {spread['rows']:,} (Vendi score)")
    if (share := facts["labels"].get("wrong_share")) is not None:
        console.print(f"labels: about {share:.1%} wrong by estimate (confident learning)")
    for kind in KINDS:
        if lines := found.of(kind):
            count = facts["counts"][kind]
            _lines(f"{TITLES[kind]}: {count['found']}, {count['accepted']} accepted by default", lines)
    if found.held_out:
        _lines(f"Held-out rows whose label is likely wrong: {len(found.held_out)}; a patch never changes these",
               found.held_out, "--json holds all")  # fmt: skip
    if facts["least_like"]:
        shown = min(WORST, len(facts["least_like"]))
        table(f"\nLeast like what is asked, the first {shown} (not dropped)", ("row", "text", "likeness"),
              [[one["row"], one["text"][:CUT], one["likeness"]] for one in facts["least_like"][:WORST]])  # fmt: skip
    _groups(found)
    console.print(Text("\nWho is in the data", style="bold"))
    for words in facts["people"]["sentences"]:
        console.print(Text(words))
    for words in facts["not_applied"]:
        console.print(Text(f"note: {words}", style="yellow"))


def _lines(title: str, lines: Sequence[Line], rest: str = "--patch FILE and --json hold all") -> None:
    shown = [[line.place, line.text[:CUT], _short(line.label),
              _short(line.to) if line.suggest == "relabel" else "drop", line.sure, line.accept]
             for line in lines[:WORST]]  # fmt: skip
    table(f"\n{title}", ("row", "text", "is", "suggested", "sure", "accept"), shown)
    if len(lines) > WORST:
        console.print(Text(f"... and {len(lines) - WORST} more; {rest}", style="yellow"))


def _groups(found: Coached) -> None:
    shown = [[group.name, group.rows, group.held_out, group.suspects, group.share, group.example[:CUT]]
             for group in found.groups]  # fmt: skip
    table("\nGroups", ("group", "rows", "held out", "suspects", "of one label", "in its middle"), shown)


def _short(value: object) -> str | None:
    return None if value is None else " ".join(str(value).split())[:30]
