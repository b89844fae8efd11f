"""Suggestions about rows that are learned, one JSON object a line, which a person accepts or not.

A patch changes training rows alone. Who looked for errors knew the labels, so held-out rows that follow its opinion
would say that a model which shares that opinion is right; and without the rows it doubts a test is an easier one."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tuneful.core.errors import DataError
from tuneful.core.files import write_text
from tuneful.core.spec import Spec, did_you_mean
from tuneful.core.types import Example
from tuneful.data.labels import infer, list_in, name_of

Kind = Literal["label", "contradiction", "duplicate", "leak", "outlier", "answer"]
LISTED = 5  # faults of a patch that are told at once
AGAIN = "write the patch anew with check --coach --patch, or set accept to false"
SHOWN = 300  # characters of a row that a line repeats


class Line(Spec):
    """One suggestion about one row."""

    source: str
    row: int
    """As the person's editor counts it."""
    unit: str = "row"
    mark: str
    """Of what the row said when it was looked at."""
    kind: Kind
    text: str
    """The beginning of the row."""
    label: Any = None
    """What the row says now."""
    suggest: Literal["relabel", "drop"]
    to: Any = None
    """The label it should have."""
    sure: Annotated[float, Field(ge=0, le=1)]
    why: str
    accept: bool
    """Whether it is done when the patch is applied."""

    @property
    def place(self) -> str:
        return f"{self.source} {self.unit} {self.row}"


@dataclass(frozen=True, slots=True)
class Applied:
    """Training rows under a patch; how many lines changed a label, took a row out, or came too late or not at all."""

    train: list[Example]
    changed: int
    dropped: int
    held_out: int  # lines about rows that are held out, which stay as they are
    used: tuple[Line, ...]


def mark_of(example: Example) -> str:
    """Stands for everything a row says, its answer included."""
    label = example.label
    said = (
        example.text, example.second, None if label is None else _as_words(label), example.messages, example.chosen,
        example.rejected, example.positive, example.negatives,
    )  # fmt: skip
    return hashlib.blake2b(repr(said).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def write_patch(path: Path, lines: Sequence[Line]) -> None:
    write_text(path, "".join(json.dumps(line.model_dump(), ensure_ascii=False) + "\n" for line in lines))


def read_patch(path: Path) -> list[Line]:
    """The lines that are accepted. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"data.patch: there is no file '{path}'; `tuneful check DATA --coach --patch {path}` writes "
                        "one") from None  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.patch: {path} cannot be read: {error}") from None
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not numbered:
        raise DataError(f"data.patch: {path} is empty; leave data.patch out, or write it with check --coach --patch")
    lines = [_line(path, number, line) for number, line in numbered]
    return [line for line in lines if line.accept]


def _line(path: Path, number: int, text: str) -> Line:
    try:
        found = Line.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {number} is not JSON ({error.msg} at column {error.colno})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise DataError(
            f"{path} line {number}: {where}: {first['msg']}; expected a suggestion as `tuneful check --coach` writes it"
        ) from None
    if found.accept and found.suggest == "relabel" and (found.to is None or _as_words(found.to) in ("", "[]")):
        raise DataError(f"{path} line {number}: relabels to nothing; name a label in 'to', or set accept to false")
    return found


def apply(
    lines: Sequence[Line],
    train: Sequence[Example],
    held_out: Sequence[Example],
    gone: Sequence[str],
    known: Sequence[str] = (),
) -> Applied:
    """`gone` are places of rows that are not learned anyway; `known` labels that may have no row. Raises DataError
    with the first faults, before anything is done."""
    by_place = {str(example.place): example for example in train}
    outside = {str(example.place) for example in held_out}
    lines = [line for line in lines if line.place not in gone]
    own = [line for line in lines if line.place not in outside]
    _check(own, by_place, _names(train, known))
    dropped = {line.place for line in own if line.suggest == "drop"}
    labels = {line.place: line.to for line in own if line.suggest == "relabel"}
    kept = [example for place, example in by_place.items() if place not in dropped]
    if not kept:
        raise DataError("data.patch: the accepted lines drop every training row; accept fewer")
    kept = [replace(one, label=labels[place]) if (place := str(one.place)) in labels else one for one in kept]
    return Applied(kept, len(labels), len(dropped), len(lines) - len(own), tuple(own))


def _names(train: Sequence[Example], known: Sequence[str]) -> set[str] | None:
    """Labels there are; None where they are numbers, or there are none."""
    labelled = [example for example in train if example.label is not None]
    if not labelled or infer(labelled) == "number":
        return None
    return {*known, *(name for example in labelled for name in _named(example.label))}


def _check(lines: Sequence[Line], rows: Mapping[str, Example], names: set[str] | None) -> None:
    _check_made_for(lines, rows)
    faults = [f"{line.place}: {fault}" for line in lines if (fault := _fault(line, rows.get(line.place), names))]
    faults += _contradictions(lines)
    if faults:
        more = f"\n  ... and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise DataError("data.patch does not fit the data:\n  " + "\n  ".join(faults[:LISTED]) + more)


def _check_made_for(lines: Sequence[Line], rows: Mapping[str, Example]) -> None:
    """Raises DataError, in one sentence, where of several lines none is about a row as it stands here."""
    if len(lines) < 2 or any(_is_about(line, rows.get(line.place)) for line in lines):
        return
    of = sorted({line.source for line in lines})
    here = sorted({example.place.source for example in rows.values()})
    raise DataError(
        f"data.patch: none of its {len(lines):,} accepted lines, about rows of {', '.join(of[:LISTED])}, is about a "
        f"row of {', '.join(here[:LISTED])} as it stands; it was made for other data, or these have changed since. "
        f"{AGAIN.capitalize()}"
    )


def _is_about(line: Line, example: Example | None) -> bool:
    return example is not None and mark_of(example) == line.mark


def _contradictions(lines: Sequence[Line]) -> Iterator[str]:
    wanted: dict[str, set[str]] = defaultdict(set)
    dropped = {line.place for line in lines if line.suggest == "drop"}
    for line in lines:
        if line.suggest == "relabel":
            wanted[line.place].add(_as_words(line.to))
    for place, to in wanted.items():
        if len(to) > 1:
            yield f"{place}: is relabelled to {' and to '.join(sorted(to))}; accept one of the lines"
        if place in dropped:
            yield f"{place}: one line drops it and another relabels it; accept one of the lines"


def _fault(line: Line, example: Example | None, names: set[str] | None) -> str | None:
    if example is None:
        return f"there is no such row; {AGAIN}"
    if mark_of(example) != line.mark:
        return f"the row has changed since it was looked at (it was: {line.text[:60]!r}); {AGAIN}"
    if line.suggest == "relabel" and example.label is None:
        return "has no label to change; drop it, or set accept to false"
    strange = [name for name in _named(line.to) if names is not None and name not in names]
    if line.suggest == "relabel" and strange:
        return f"no row has the label '{strange[0]}'.{did_you_mean(strange[0], names or ())} Name one there is in 'to'"
    return None


def _named(label: Any) -> list[str]:
    found = list_in(label)
    return [name_of(label)] if found is None else [name_of(one) for one in found]


def _as_words(label: Any) -> str:
    found = list_in(label)
    return name_of(label) if found is None else json.dumps([name_of(one) for one in found], ensure_ascii=False)
