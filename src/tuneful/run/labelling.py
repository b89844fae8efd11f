"""Labelling by hand, the rows that teach most first, saved as it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuneful.core.errors import DataError, InputError
from tuneful.core.files import write_text, writing
from tuneful.data.inputs import inputs
from tuneful.data.labels import name_of, spoken
from tuneful.data.sources import read
from tuneful.models.anchors import named
from tuneful.models.choice import next_to_label, unsure
from tuneful.models.probe import STRENGTH, fit_probe
from tuneful.run.embedded import READER, reader_for
from tuneful.run.tuned import open_encoder

Say = Callable[[str], None]


@dataclass(slots=True)
class Labelling:
    """Texts, the labels they have been given so far, and where those are written, one JSON object a line."""

    file: Path
    texts: list[str]
    vectors: Tensor  # (N, D)
    names: list[str]  # of the classes known so far
    worded: Tensor | None  # (C, D) vectors of names, where the person named them beforehand
    given: dict[int, str] = field(default_factory=dict)  # label by place of the text, the newest last
    wanted: tuple[str, ...] = ()  # names that the person gave beforehand; where there are any, no other is taken
    encoder: str = READER  # that read the texts

    def next(self, count: int) -> list[int]:
        """Places of the texts to label next, the best first."""
        open_ = [place for place in range(len(self.texts)) if place not in self.given]
        if not open_:
            return []
        pool, known = self.vectors[open_], self.vectors[list(self.given)]
        return [open_[place] for place in next_to_label(pool, self._unsure(pool, known), known, count)]

    def label(self, place: int, name: str) -> None:
        """Written before it is believed. Raises InputError where the name is none of those that are wanted."""
        name = name_of(name)
        if not name:
            raise InputError("a label needs a name")
        if self.wanted and name not in self.wanted:
            raise InputError(f"'{name}' is none of the labels {', '.join(self.wanted)}")
        line = json.dumps({"text": self.texts[place], "label": name}, ensure_ascii=False)
        with writing(self.file), self.file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(line + "\n")
        self._note(place, name)

    def take_back(self, place: int) -> None:
        """The newest label of a text is taken out of the file, and then forgotten; an older one of it stands again.
        Other lines stay as they are, also those that another program added. Raises InputError where it is gone."""
        try:
            lines = self.file.read_bytes().decode("utf-8").split("\n")
        except OSError as error:
            raise InputError(
                f"{self.file} cannot be read ({error.strerror}), so no label is taken back; put it back, or begin anew"
            ) from None
        said = [_row_or_none(line) for line in lines]
        where = [number for number, row in enumerate(said) if row is not None and row[0] == self.texts[place]]
        if where:
            write_text(self.file, "\n".join(lines[: where[-1]] + lines[where[-1] + 1 :]))
        del self.given[place]
        older = said[where[-2]] if len(where) > 1 else None
        if older is not None:
            self.given = {place: older[1], **self.given}
        kept = {*self.wanted, *self.given.values()}
        self.names = [name for name in self.names if name in kept]

    def _note(self, place: int, name: str) -> None:
        self.given.pop(place, None)
        self.given[place] = name
        if name not in self.names:
            self.names.append(name)

    def _unsure(self, pool: Tensor, known: Tensor) -> Tensor:
        """By a head over what is labelled, names of classes among it; where nothing is known, equally."""
        classes = [self.names.index(name) for name in self.given.values()]
        if self.worded is not None:
            known = torch.cat([known, self.worded])
            classes += list(range(len(self.worded)))
            if not self.given:
                return unsure(named(self.worded, pool).logits(pool))
        if len(set(classes)) < 2:
            return torch.ones(len(pool))
        return unsure(fit_probe(known, torch.tensor(classes), STRENGTH, classes=len(self.names)).logits(pool))


def open_labelling(
    source: str, file: Path, *, model: str | None, labels: Sequence[str], column: str | None, say: Say
) -> Labelling:
    """Goes on where `file` stands. Raises InputError."""
    tables = read(source, learns=False, say=say)
    examples = [example for table in tables.values() if table
                for example in inputs(table, {}, labelled=True, column=column)]  # fmt: skip
    texts = list(dict.fromkeys(text for example in examples if (text := (example.text or "").strip())))
    if not texts:
        raise DataError(f"{source} holds no text to label")
    chosen = model or reader_for(texts)
    say(f"reading {len(texts):,} texts with {chosen}")
    encoder = open_encoder(chosen, None, say)
    words = [said for name in labels if (said := spoken(name)) is not None]
    worded = encoder.vectors(words) if labels and len(words) == len(labels) else None
    found = Labelling(file, texts, encoder.vectors(texts), list(labels), worded, wanted=tuple(labels), encoder=chosen)
    _go_on(found, labels, say)
    return found


def _go_on(found: Labelling, labels: Sequence[str], say: Say) -> None:
    """Takes over what is in the file already; texts that are labelled there and not in the source are left alone."""
    if not found.file.exists():
        return
    places: Mapping[str, int] = {text: place for place, text in enumerate(found.texts)}
    try:
        whole = found.file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{found.file} is no text in UTF-8; choose another file with --out") from None
    if whole and not whole.endswith("\n"):  # as an editor may leave it; the next label begins a line of its own
        write_text(found.file, whole + "\n")
    for number, line in enumerate(whole.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text, name = _row(line)
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{found.file} line {number}: expected an object with text and label, as `tuneful label` writes it; "
                "choose another file with --out"
            ) from None
        if labels and name not in labels:
            raise InputError(f"{found.file} line {number}: '{name}' is none of --labels {','.join(labels)}; "
                             "name it too, or choose another file with --out")  # fmt: skip
        if text in places:
            found._note(places[text], name)
    say(f"{len(found.given)} of them have a label in {found.file} already")


def _row(line: str) -> tuple[str, str]:
    """The text and the label of a line. Raises ValueError, KeyError or TypeError where it is something else."""
    row: Any = json.loads(line)
    return str(row["text"]).strip(), name_of(row["label"])


def _row_or_none(line: str) -> tuple[str, str] | None:
    try:
        return _row(line)
    except (ValueError, KeyError, TypeError):
        return None
