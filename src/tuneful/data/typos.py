"""Texts as hurried people write them: slips of the keyboard, no capitals or nothing else, no punctuation."""

from __future__ import annotations

import re

import numpy as np

from tuneful.data.keyboard import NEAR

SLIPS = ("neighbour", "swap", "drop", "double")
RATE = 0.05  # slips a letter
PUNCTUATION = re.compile(r"[^\w\s]|_")


def with_typos(text: str, rng: np.random.Generator, rate: float = RATE) -> str:
    """Each letter slips with this chance, one of them in any case where there is one; digits and all else stay."""
    letters = [place for place, letter in enumerate(text) if letter.isalpha()]
    if not letters:
        return text
    slips = {letters[number] for number in np.flatnonzero(rng.random(len(letters)) < rate)}
    slips = slips or {letters[int(rng.integers(len(letters)))]}
    written, place = "", 0
    while place < len(text):
        if place in slips:
            found, read = slip(text[place : place + 2], SLIPS[int(rng.integers(len(SLIPS)))], rng)
        else:
            found, read = text[place], 1
        written, place = written + found, place + read
    return written


def slip(letters: str, how: str, rng: np.random.Generator) -> tuple[str, int]:
    """What is written for the first of two letters, and how many were read. One that has no neighbour on the keyboard,
    or none to be swapped with, is written twice."""
    letter, following = letters[0], letters[1:]
    if how == "drop":
        return "", 1
    if how == "swap" and following.isalpha() and following != letter:
        return following + letter, 2
    if how == "neighbour" and (near := NEAR.get(letter.lower())):
        other = near[int(rng.integers(len(near)))]
        return other.upper() if letter.isupper() else other, 1
    return letter * 2, 1


def without_punctuation(text: str) -> str:
    """The text itself where nothing else would be left."""
    left = " ".join(PUNCTUATION.sub(" ", text).split())
    return left or text
