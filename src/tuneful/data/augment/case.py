"""Capital letters, punctuation and the width of characters: how different people write the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tuneful.core.spec import Spec
from tuneful.data.augment.pieces import CJK, WHOLE
from tuneful.data.augment.settings import OneOrMore, Share

MARKS = ".,!?;:。，！？；：、…"
# Not between digits, where they belong to a number.
MARK = re.compile(rf"(?<!\d)[{re.escape(MARKS)}]|[{re.escape(MARKS)}](?!\d)")
NARROW, WIDE = "!(),.:;?", "！（），。：；？"
TO_WIDE, TO_NARROW = str.maketrans(NARROW, WIDE), str.maketrans(WIDE, NARROW)
LETTERS_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
LETTERS_NARROW = {wide: code for code, wide in LETTERS_WIDE.items()}
MORE = ("!", "?", "...", "!!", "。", "！", "……")

Style = Literal["lower", "upper", "capitals", "bare", "marked", "width"]
USUAL: tuple[Style, ...] = ("lower", "upper", "bare", "marked", "width")
STYLES: tuple[Style, ...] = ("lower", "upper", "capitals", "bare", "marked", "width")


class Case(Spec):
    """The same words in another style, one drawn for the whole text of those that change it.

    `lower` has no capital letter, `upper` one at the beginning, `capitals` nothing else, `bare` no punctuation,
    `marked` more of it at the end, and `width` gives the punctuation of Chinese text the other width.
    """

    modality: ClassVar[str] = "text"

    kind: Literal["case"] = "case"
    share: Share = 0.5
    styles: Annotated[tuple[Style, ...], OneOrMore, Field(min_length=1)] = USUAL
    """Which styles; `capitals` has to be asked for."""

    def over(self, texts: Sequence[str]) -> Callable[[str, np.random.Generator], str]:
        return lambda text, rng: styled(text, rng, self.styles)


def styled(text: str, rng: np.random.Generator, styles: Sequence[Style] = STYLES) -> str:
    """The text in one of the styles that change it; addresses stay."""
    more = MORE[4:] if re.search(f"[{CJK}]", text) else MORE[:4]
    end = more[int(rng.integers(len(more)))]
    found = [new for style in styles if (new := _outside_addresses(text, style, end)) != text and new.strip()]
    return found[int(rng.integers(len(found)))] if found else text


def _outside_addresses(text: str, style: Style, end: str) -> str:
    if style == "marked":
        return text.rstrip(MARKS + " ") + end
    if style == "upper":
        return text[:1].upper() + text[1:]
    if style == "width" and not re.search(f"[{CJK}]", text):
        return text
    found, last = [], 0
    for match in WHOLE.finditer(text):
        found += [_plain(text[last : match.start()], style), match[0]]
        last = match.end()
    return "".join([*found, _plain(text[last:], style)])


def _plain(text: str, style: Style) -> str:
    if style == "lower":
        return text.lower()
    if style == "capitals":
        return text.upper()
    if style == "bare":
        return re.sub(r"(?<=\S) {2,}", " ", MARK.sub("", text))
    wide = any(mark in text for mark in WIDE)
    return text.translate(TO_NARROW if wide else TO_WIDE)
