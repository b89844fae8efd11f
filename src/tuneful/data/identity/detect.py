"""Which groups of people a text mentions, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuneful.data.identity.context import RULES
from tuneful.data.identity.lexicon import Group, Lexicon, Reading, key, languages_of, lexicon

# Addresses, handles, tags and places that a programme fills in; nobody is meant by a word of theirs.
ADDRESS = re.compile(r"\b\w+://\S+|\bwww\.\S+|\S+@\S+|(?<!\w)[@#]\w+|\{\{?[^{}]*\}?\}|<[^<>\s]+>")
HINT = re.compile("[@#{<]|://|www")  # without one of these there is none


@dataclass(frozen=True, slots=True)
class Mention:
    """A term of a text, from character `start` to before `end`, that names a group along one axis."""

    start: int
    end: int
    axis: str
    group: str
    term: str


def mentions(text: str) -> list[Mention]:
    """In the order of the text. A term that says two things ("Frenchwoman") is a mention of each."""
    found = []
    for language in languages_of(text):
        for start, end, readings in read(text, lexicon(language)):
            for group in dict.fromkeys(reading.group for reading in readings):
                found.append(Mention(start, end, group.axis, group.name, text[start:end]))
    return sorted(found, key=lambda mention: (mention.start, mention.end))


def mentioned(text: str) -> frozenset[Group]:
    """The groups that a text mentions."""
    return frozenset(
        reading.group
        for language in languages_of(text)
        for _, _, readings in read(text, lexicon(language))
        for reading in readings
    )


def read(text: str, words: Lexicon) -> Iterator[tuple[int, int, list[Reading]]]:
    """Where terms stand and what each means there; addresses and places that a programme fills in are passed over."""
    passed = [match.span() for match in ADDRESS.finditer(text)] if HINT.search(text) else ()
    for match in words.pattern.finditer(text):
        start, end = match.span()
        possible = words.readings[key(match[0])]
        found = [one for one in possible if not one.rule or RULES[one.rule](text, start, end)]
        if found and not any(first < end and start < last for first, last in passed):
            yield start, end, found
