"""What labels there are, and how each becomes a target."""

from __future__ import annotations

import ast
import difflib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Example

Kind = Literal["class", "labels", "number"]
PROBLEMS = {
    "class": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
}
MOST_COMPARED = 500  # names of classes
FEW = 20  # whole numbers with more different values than this may be measurements rather than classes


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of a task: names in the order of the head's outputs, or the scale of a number."""

    kind: Kind
    names: tuple[str, ...]
    mean: float = 0.0
    deviation: float = 1.0
    described: tuple[str, ...] = ()  # a sentence about each class, where the person gave one
    open: bool = False  # the person named the classes: a row without a label may be one of them

    @staticmethod
    def of_names(names: Sequence[str] | Mapping[str, str]) -> LabelSet:
        """Classes known by name, or by name and description."""
        described = tuple(names.values()) if isinstance(names, Mapping) else ()
        return LabelSet("class", tuple(str(name).strip() for name in names), described=described, open=True)

    def words(self, number: int) -> str | None:
        """What a person would say for a class; None where its name is no word."""
        return self.described[number] if self.described else spoken(self.names[number])

    @property
    def problem(self) -> str:
        """transformers' name for this kind of answer."""
        return PROBLEMS[self.kind]

    def without_mean(self) -> LabelSet:
        """For heads that cannot add a constant: the scale alone, large enough for the mean as well."""
        return replace(self, mean=0.0, deviation=float(np.hypot(self.mean, self.deviation)))

    def target(self, example: Example) -> Any:
        """int class, (C,) float32 memberships, or a number in standard deviations. Raises DataError."""
        if self.kind == "number":
            return np.float32((as_number(example) - self.mean) / self.deviation)
        wanted = [name_of(label) for label in (as_list(example) if self.kind == "labels" else [example.label])]
        for name in wanted:
            if name not in self.names and self.open:
                raise DataError(
                    f"{example.place}: the label '{name}' is none of those given.{did_you_mean(name, self.names)} "
                    f"Given: {', '.join(self.names)}"
                )
            if name not in self.names:
                raise DataError(
                    f"{example.place}: the label '{name}' is in no training row, so it cannot be learned."
                    f"{did_you_mean(name, self.names)} Add training rows with it, or remove this one"
                )
        if self.kind == "class":
            return self.names.index(wanted[0])
        return np.isin(self.names, wanted).astype(np.float32)

    def truth(self, example: Example) -> Any:
        """The label as metrics compare it: a name, a set of names, or the number itself."""
        if self.kind == "number":
            return as_number(example)
        if self.kind == "labels":
            return frozenset(name_of(label) for label in as_list(example))
        return name_of(example.label)


def label_set(examples: Sequence[Example], kind: Literal["auto"] | Kind, rows: int | None = None) -> LabelSet:
    """The labels of the training rows; `rows` is how many those are when `examples` are but some of them. Raises
    DataError when there is nothing to tell apart."""
    chosen = infer(examples, rows) if kind == "auto" else kind
    if chosen == "number":
        values = np.array([as_number(example) for example in examples])
        if float(values.std()) == 0:
            raise DataError(f"every number is {values[0]:g}: there is nothing to learn")
        return LabelSet("number", ("value",), float(values.mean()), float(values.std()))
    found = [as_list(example) if chosen == "labels" else [example.label] for example in examples]
    names = tuple(sorted({name_of(label) for labels in found for label in labels}, key=_order))
    if len(names) < 2 and chosen == "class":
        only = names[0] if names else "missing"
        raise DataError(f"every row has the label '{only}': a classifier needs at least two different labels")
    return LabelSet(chosen, names)


def alike(counts: Mapping[str, int]) -> tuple[str, str] | None:
    """A name that seems to be another one, misspelt, and that: the same but for case and blanks, or of a rare one
    nearly."""
    folded: dict[str, str] = {}
    for name in counts:
        if (other := folded.setdefault(" ".join(name.casefold().split()), name)) != name:
            return min((name, other), key=counts.__getitem__), max((other, name), key=counts.__getitem__)
    if len(counts) > MOST_COMPARED:
        return None
    for rare, count in counts.items():
        common = [name for name, rows in counts.items() if rows >= 4 * count]
        if near := difflib.get_close_matches(rare, common, n=1, cutoff=0.85):
            return rare, near[0]
    return None


def infer(examples: Sequence[Example], rows: int | None = None) -> Kind:
    """Lists are labels; fractions, or many different whole numbers, are numbers; all else is a class."""
    values = [example.label for example in examples]
    if any(isinstance(list_in(value), list) for value in values):
        return "labels"
    numbers = [_number(value) for value in values]
    if any(number is None for number in numbers):
        return "class"
    known = {number for number in numbers if number is not None}
    fractions = any(number != int(number) for number in known)
    many = len(known) > FEW and len(known) > 0.1 * (rows or len(values))
    return "number" if fractions or many else "class"


def as_number(example: Example) -> float:
    number = _number(example.label)
    if number is None:
        raise DataError(f"{example.place}: the label {example.label!r} is not a number")
    return number


def as_list(example: Example) -> list[Any]:
    found = list_in(example.label)
    return [example.label] if found is None else found


def name_of(label: Any) -> str:
    """'1', ' 1 ', 1 and 1.0 are one label."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()


def spoken(name: str) -> str | None:
    """A label as a person would say it: `card_arrival`, `CardArrival` and `card-arrival` are "card arrival"; None
    where it holds no word."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[_\-./]+", " ", name))
    text = " ".join(words.split())
    return text if any(letter.isalpha() for letter in text) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def list_in(value: Any) -> list[Any] | None:
    """A list, also where a cell of a table spells it out as JSON or as Python does; None: `[unclear]` is a name."""
    if isinstance(value, list | tuple):
        return list(value)
    text = value.strip() if isinstance(value, str) else ""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for reader in (json.loads, _python):
        try:
            found = reader(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # what the two say of text that is neither
            continue
        if isinstance(found, list):
            return found
    return None


def _python(text: str) -> Any:
    """pandas writes arrays without commas, and Python would read two texts side by side as one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return ast.literal_eval(re.sub(r"""(?<=['"])\s+(?=['"])""", ", ", text))


def _order(name: str) -> tuple[float, str]:
    """Numbers in their order, then words."""
    number = _number(name)
    return (number if number is not None else float("inf"), name)
