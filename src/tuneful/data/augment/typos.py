"""What fingers do to words: a neighbouring key, letters in the wrong order, one too few, one too many, and a word that
sounds like the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tuneful.core.spec import Spec
from tuneful.data.augment.homophones import ALIKE
from tuneful.data.augment.pieces import KNOWN, drawn, free, is_cjk, pieces
from tuneful.data.augment.settings import KeepNames, OneOrMore, Share, Strength
from tuneful.data.keyboard import NEAR

SHORTEST = 3  # letters of a word that may get a typo; in a shorter one nothing is left to know it by

Slip = Literal["neighbour", "swap", "drop", "double", "homophone"]
SLIPS: tuple[Slip, ...] = ("neighbour", "swap", "drop", "double", "homophone")


class Typos(Spec):
    """Words with a typo each (Belinkov and Bisk 2018, arXiv:1711.02173, section 3, noise of training for noise of use).

    Letters of the Latin script slip on a QWERTY keyboard; Chinese characters become others of the same sound. Numbers,
    addresses and words such as 'not' are never touched.
    """

    modality: ClassVar[str] = "text"

    kind: Literal["typos"] = "typos"
    strength: Strength = 0.1
    """Share of the words, or of the Chinese characters, that get a typo; one at least."""
    share: Share = 0.5
    slips: Annotated[tuple[Slip, ...], OneOrMore, Field(min_length=1)] = SLIPS
    """Which typos: a `neighbour` key, a `swap` of two letters, a `drop`, a `double`, a `homophone`."""
    keep_names: KeepNames = True

    def over(self, texts: Sequence[str]) -> Callable[[str, np.random.Generator], str]:
        return lambda text, rng: mistyped(text, self.strength, rng, slips=self.slips, keep_names=self.keep_names)


def mistyped(
    text: str, strength: float, rng: np.random.Generator, *, slips: Sequence[Slip] = SLIPS, keep_names: bool = True
) -> str:
    """The text with a typo in this share of the words that may have one, at least in one word."""
    parts = pieces(text)
    slips = tuple(slips)
    fit = [place for place in free(parts, names=keep_names) if _possible(parts[place], slips)]
    for place in drawn(fit, strength, rng):
        parts[place] = slipped(parts[place], rng, slips)
    return "".join(parts)


def slipped(word: str, rng: np.random.Generator, slips: Sequence[Slip] = SLIPS) -> str:
    """One word with one typo of those it can have."""
    possible = _possible(word, tuple(slips))
    slip = possible[int(rng.integers(len(possible)))]
    if slip == "homophone":
        others = ALIKE[word.lower()]
        return _in_case_of(word, others[int(rng.integers(len(others)))])
    places = _letters(word, slip)
    place = places[int(rng.integers(len(places)))]
    if slip == "neighbour":
        keys = NEAR[word[place].lower()]
        typed = keys[int(rng.integers(len(keys)))]
        return word[:place] + _in_case_of(word[place], typed) + word[place + 1 :]
    if slip == "swap":
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + (word[place] * 2 if slip == "double" else "") + word[place + 1 :]


@lru_cache(KNOWN)
def _possible(word: str, slips: tuple[Slip, ...]) -> list[Slip]:
    if is_cjk(word):
        return [slip for slip in slips if slip == "homophone" and word in ALIKE]
    return [slip for slip in slips if (word.lower() in ALIKE if slip == "homophone" else len(_letters(word, slip)) > 0)]


def _letters(word: str, slip: Slip) -> list[int]:
    """Places of letters at which it can happen."""
    if len(word) < SHORTEST:
        return []
    places = [place for place, letter in enumerate(word) if letter.lower() in NEAR]
    if slip == "swap":
        return [place for place in places if place + 1 in places and word[place] != word[place + 1]]
    return places


def _in_case_of(model: str, typed: str) -> str:
    if len(model) > 1 and model.isupper():
        return typed.upper()
    return typed[0].upper() + typed[1:] if model[0].isupper() else typed
