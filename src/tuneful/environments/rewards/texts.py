"""Rewards that look at the letters of a reply."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import regex
from pydantic import Field, PositiveInt, field_validator, model_validator

from tuneful.core.types import Example
from tuneful.environments.rewards.reference import Weighted, plain, reference

SECONDS = 1.0  # a pattern may be looked for; some patterns need for ever


class Exact(Weighted):
    """1 if the reply says what the reference says, and nothing else; white space and a full stop at the end aside."""

    kind: Literal["exact"] = "exact"
    case: bool = False
    """Capitals count."""

    def __call__(self, reply: str, example: Example) -> float:
        return float(plain(reply, case=self.case) == plain(reference(example), case=self.case))


class Contains(Weighted):
    """1 if the reply has a text somewhere in it.

    Easily flattered by replies that say everything: give `length` beside it."""

    kind: Literal["contains"] = "contains"
    text: Annotated[str, Field(min_length=1)] | None = None
    """What is looked for. None: the reference of the example."""
    case: bool = False
    """Capitals count."""

    def __call__(self, reply: str, example: Example) -> float:
        text = plain(self.text or reference(example), case=self.case)
        if not text:
            raise ValueError(f"{example.place}: the reference is empty, which every reply contains")
        return float(text in plain(reply, case=self.case))


class Regex(Weighted):
    """1 if a pattern is found in the reply; with `compare`, if what its first group found is the reference, too."""

    kind: Literal["regex"] = "regex"
    pattern: str = ""
    r"""A regular expression, such as `<answer>(.*?)</answer>`. The dot stands for line ends, too."""
    whole: bool = False
    """The pattern must fit the whole reply."""
    compare: bool = False
    """The first group of the last place where the pattern is found must equal the reference, as `exact` compares."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _has_a_group(self) -> Self:
        if self.compare and not compiled(self.pattern).groups:
            raise ValueError(f"compare: '{self.pattern}' has no group to compare; put round brackets around the answer")
        return self

    def lacking(self) -> list[str]:
        return [] if self.pattern else ["regex: say with `pattern` what a reply should look like"]

    def __call__(self, reply: str, example: Example) -> float:
        found = last_found(self.pattern, reply, whole=self.whole)
        if not self.compare or found is None:
            return float(found is not None)
        return float(plain(found, case=False) == plain(reference(example), case=False))


def compiled(pattern: str) -> regex.Pattern[str]:
    """Raises ValueError if it is no pattern."""
    try:
        return regex.compile(pattern, regex.DOTALL)
    except regex.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None


def last_found(pattern: str, text: str, *, whole: bool = False) -> str | None:
    """What the first group found at the last place, the whole place where there is no group; None: it is not there."""
    read = compiled(pattern)
    places = {"timeout": SECONDS, "concurrent": True}  # other threads go on, and a pattern without end has one
    if whole:
        one = read.fullmatch(text, **places)
        found = [] if one is None else [one]
    else:
        found = list(read.finditer(text, **places))
    if not found:
        return None
    return (found[-1].group(1) if read.groups else found[-1].group()) or ""


class Length(Weighted):
    """A fine for long replies: 0 up to `limit`, then falling in a straight line to -1 at `limit + margin`.

    The soft overlong punishment of Yu et al. 2025 (DAPO, arXiv:2503.14476, equation 13), in words or characters."""

    kind: Literal["length"] = "length"
    limit: PositiveInt = 100
    """So much costs nothing."""
    margin: PositiveInt = 50
    """So much more costs 1, and what is beyond costs no more than that."""
    unit: Literal["words", "characters"] = "words"
    """What is counted."""

    def __call__(self, reply: str, example: Example) -> float:
        found = len(reply.split()) if self.unit == "words" else len(reply)
        return -min(1.0, max(0, found - self.limit) / self.margin)
