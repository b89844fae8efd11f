"""A reward for the right number."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import NonNegativeFloat

from tuneful.core.types import Example
from tuneful.environments.rewards.reference import Weighted, reference

WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
# A minus behind a letter, digit or bracket stands between two things ("3-5"); a number in a word is a name ("B2").
NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>(?<![\w)\]])[-−]\s?)?[$€£¥]?(?P<sign2>[-−])?"
    rf"(?:(?:(?P<units>{WHOLE})\s)?(?<!/)(?P<over>{WHOLE})\s?/\s?(?P<under>{WHOLE})(?![\w/])"
    rf"|(?P<decimal>{WHOLE}(?:\.\d+)?|\.\d+)(?P<power>[eE][-+]?\d+)?)"
)


class Numeric(Weighted):
    """1 if the last number of the reply is the last one of the reference.

    Understood: `-3`, `1,234.5`, `.5`, `2e3`, `3/4`, `1 1/2`, `$5`, `50%` (which is 50). Decimals are parted by a point
    and thousands by commas; `1,23` is two numbers."""

    kind: Literal["numeric"] = "numeric"
    which: Literal["last", "first"] = "last"
    """Which number of the reply, and of the reference, counts."""
    tolerance: NonNegativeFloat = 1e-6
    """How far it may be off: so much, and of numbers above 1 so large a share of the right one."""

    def __call__(self, reply: str, example: Example) -> float:
        place = -1 if self.which == "last" else 0
        right = numbers(reference(example))
        if not right:
            raise ValueError(f"{example.place}: the reference {reference(example)[:80]!r} holds no number")
        found = numbers(reply)
        return float(bool(found) and abs(found[place] - right[place]) <= self.tolerance * max(1.0, abs(right[place])))


def numbers(text: str) -> list[float]:
    """All finite numbers of a text, in order."""
    found = (_value(match) for match in NUMBER.finditer(text))
    return [value for value in found if value is not None and math.isfinite(value)]


def _value(match: re.Match[str]) -> float | None:
    told = match.groupdict()
    sign = -1.0 if told["sign"] or told["sign2"] else 1.0
    if told["decimal"]:
        return sign * float(told["decimal"].replace(",", "") + (told["power"] or ""))
    units, over, under = (float((told[name] or "0").replace(",", "")) for name in ("units", "over", "under"))
    return sign * (units + over / under) if under else None
