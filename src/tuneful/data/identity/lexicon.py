"""The word lists: what each term may mean, and how a group is said in each form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from tuneful.core.errors import DataError
from tuneful.core.spec import unknown
from tuneful.data.identity.trie import pattern

LANGUAGES = ("en", "zh")
LETTER = "0-9A-Za-z_\u00c0-\u024f"  # of a word that has boundaries; Chinese characters have none
KNOWN = 1 << 15  # terms of which it is remembered how they are looked up
CHINESE, LATIN = re.compile("[\u3400-\u9fff]"), re.compile("[A-Za-z]")
NAME_AXIS = "name_origin"


class Group(NamedTuple):
    """One group of people along one axis."""

    axis: str
    name: str

    def __str__(self) -> str:
        return f"{self.axis}: {self.name}"


class Reading(NamedTuple):
    """What a term means if the rule of its context holds: a group, in one form."""

    group: Group
    form: str
    rule: str = ""


class Term(NamedTuple):
    """A word or phrase; Chinese ones in both scripts."""

    text: str
    simplified: str

    @classmethod
    def of(cls, written: str) -> Term:
        text, _, simplified = written.partition("/")
        return cls(text, simplified or text)


@dataclass(slots=True)
class Lexicon:
    """One language. `readings` holds what a term in lower case may mean, nothing for phrases that only look like
    mentions; `written` how a group is said: of names there are many, in an order that pairs those of both genders."""

    language: str
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    written: dict[tuple[str, str], dict[str, tuple[Term, ...]]] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)  # a term with the capital letters it usually has
    groups: dict[str, list[str]] = field(default_factory=dict)
    fixed: set[Group] = field(default_factory=set)  # mentioned, never exchanged
    rules: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    biology: re.Pattern[str] = field(default_factory=lambda: re.compile(""))
    grammar: dict[str, frozenset[str]] = field(default_factory=dict)  # words by what they do in a sentence
    scripts: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    pattern: re.Pattern[str] = field(default_factory=lambda: re.compile(""))

    def add(self, group: Group, form: str, written: str, rule: str = "", *, is_name: bool = False) -> None:
        """`a|b|=c`: alternatives, of which the first is written; one with `=` is never recognised. A term that has a
        rule of its own follows that, but for names: "Christian" is one of them."""
        terms = written.split("|")
        self.written.setdefault((group.axis, form), {})[group.name] = (Term.of(terms[0].lstrip("=")),)
        for one in dict.fromkeys(spelling for term in terms if term[0] != "=" for spelling in Term.of(term)):
            own = rule if is_name else self.rules.get(key(one)) or self.rules.get(f"*{one[-1]}") or rule
            self.spelled.setdefault(key(one), one)
            self.readings.setdefault(key(one), []).append(Reading(group, form, own))

    def is_simplified(self, text: str) -> bool:
        """Whether Chinese characters that the scripts write in two ways are mostly simplified here."""
        traditional, simplified = (sum(character in script for character in text) for script in self.scripts)
        return simplified > traditional


@lru_cache(KNOWN)
def key(term: str) -> str:
    """As `readings` are looked up: without what people write in several ways."""
    return re.sub(r"\s", "-", term.lower()).replace("’", "'")


@cache
def lexicon(language: str) -> Lexicon:
    """The lists of one language, read once."""
    text = files("tuneful.data.identity").joinpath("assets", f"{language}.json").read_text(encoding="utf-8")
    given = json.loads(text)
    made = Lexicon(language, rules={key(term): rule for rule, terms in given["rules"].items() for term in terms})
    for axis, listed in given["axes"].items():
        _add_axis(made, axis, listed)
    _add_names(made, given["names"], given["names_by_cue"])
    for phrase in given["neutral"]:
        for spelling in Term.of(phrase):
            made.readings.setdefault(key(spelling), [])
    made.grammar = {kind: frozenset(listed) for kind, listed in given.get("grammar", {}).items()}
    written = given.get("script", "")
    made.scripts = (frozenset(written[::2]) - set(written[1::2]), frozenset(written[1::2]) - set(written[::2]))
    bounded = f"(?<![{LETTER}]){{}}(?![{LETTER}])" if language == "en" else "{}"
    made.pattern = re.compile(bounded.format(pattern(made.readings)), re.IGNORECASE)
    words = {spelling for word in given["biology"] for spelling in Term.of(word)}
    made.biology = re.compile(bounded.format(pattern(words)), re.IGNORECASE)
    return made


def _add_axis(made: Lexicon, axis: str, listed: Mapping[str, Any]) -> None:
    if "pairs" in listed:
        made.groups[axis] = listed["pairs"]["groups"]
        for row in listed["pairs"]["rows"]:
            for name, written in zip(made.groups[axis], row, strict=True):
                made.add(Group(axis, name), _form(row), written)
        return
    made.groups[axis] = list(listed["groups"])
    made.fixed |= {Group(axis, name) for name in listed.get("fixed", ())}
    for name, forms in listed["groups"].items():
        for form, written in forms.items():
            made.add(Group(axis, name), form, written, listed.get("rules", {}).get(form, listed.get("rule", "")))


def _form(row: Sequence[str]) -> str:
    """`father/mother`: a pair is a form of its own."""
    return "/".join(written.split("|")[0].lstrip("=") for written in row)


def _add_names(made: Lexicon, origins: Mapping[str, Any], by_cue: Mapping[str, Any]) -> None:
    """Each name has one of the other gender and of the same origin that always stands for it."""
    rule = "name" if made.language == "en" else ""
    for origin, names in [*origins.items(), ("", by_cue)]:
        rule = "cue" if names is by_cue else rule
        for pair in zip(names["male"], names["female"], strict=True):
            for gender, written in zip(("male", "female"), pair, strict=True):
                made.names.update(key(spelling) for term in written.split("|") for spelling in Term.of(term))
                made.add(Group("gender", gender), _form(pair), written, rule, is_name=True)
                if origin:
                    made.add(Group(NAME_AXIS, origin), f"{gender} name", written, rule, is_name=True)
        if origin:
            made.groups.setdefault(NAME_AXIS, []).append(origin)
            for gender, column in names.items():
                firsts = tuple(Term.of(written.split("|")[0]) for written in column)
                made.written[NAME_AXIS, f"{gender} name"][origin] = firsts


def languages_of(text: str) -> Iterator[str]:
    """Those whose lists can say something of it."""
    if not text.isascii() and CHINESE.search(text):
        yield "zh"
    if LATIN.search(text):
        yield "en"


def known_groups(languages: Sequence[str] = LANGUAGES) -> dict[str, tuple[str, ...]]:
    """The groups of each axis that the lists of these languages know."""
    found: dict[str, list[str]] = {}
    for language in languages:
        for axis, names in lexicon(language).groups.items():
            found.setdefault(axis, []).extend(names)
    return {axis: tuple(dict.fromkeys(names)) for axis, names in found.items()}


def checked(axes: Sequence[str] | None) -> tuple[str, ...]:
    """The axes, all that are known where None are given. Raises DataError at one that is not known."""
    known = known_groups()
    for axis in axes or ():
        if axis not in known:
            raise DataError(unknown("axis of identity", axis, known))
    return tuple(known) if axes is None else tuple(dict.fromkeys(axes))
