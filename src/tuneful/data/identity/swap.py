"""The same text about another group: its counterfactual.

Whole texts are exchanged, names among them, so that nothing in one text contradicts the rest (Hall Maudslay et al.
2019, arXiv:1909.00871, counterfactual data substitution with names; after Lu et al. 2018, arXiv:1807.11714, of
words). Differs from both: other axes than gender move as well, a name stands for another of its origin
instead of one as frequent, and the grammar around a term follows by rules (it is learned for languages with agreement
by Zmigrod et al. 2019, arXiv:1906.04571).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from tuneful.data.identity import english
from tuneful.data.identity.detect import read
from tuneful.data.identity.lexicon import NAME_AXIS, Group, Lexicon, Term, checked, key, languages_of, lexicon

GENDER = "gender"
SENTENCE = re.compile(r"(?:^|[.!?。！？\n])[\s\"'“‘(]*$")


class Use(NamedTuple):
    """A term that may be exchanged, and the form in which it stands."""

    start: int
    end: int
    group: Group
    form: str
    words: Lexicon


def swapped(
    text: str, rng: np.random.Generator, axes: Sequence[str] | None = None, *,
    keep: Sequence[str] = (), across: bool = False,
) -> str | None:  # fmt: skip
    """The counterfactual of a text; None where there is nothing to exchange.

    Along each of the `axes` (None: all that are known) every group that the text mentions becomes another one, the same
    for the whole text: male and female each other, on other axes groups that `rng` draws and of which none stands for
    two. `keep` are terms or phrases that stay, as what is true of some only ("Prince William", "widow's pension").
    Gender is not exchanged in a text with a word of biology ("pregnant"), which it would make untrue. `across`: one of
    any axis may stand for another, of gender and the origin of names excepted, which names and pronouns tell. Raises
    DataError at an unknown axis.
    """
    new = swapped_together([text], rng, axes, keep=keep, across=across)
    return None if new is None else new[0]


def swapped_together(
    texts: Sequence[str], rng: np.random.Generator, axes: Sequence[str] | None = None, *,
    keep: Sequence[str] = (), across: bool = False,
) -> list[str] | None:  # fmt: skip
    """The same of several texts that belong together, as a question and its answer: one mapping for all of them."""
    new = list(texts)
    moving = [axis for axis in checked(axes) if axis != GENDER or not any(tells_sex(text) for text in texts)]
    for together in _stages(moving) if across else [[axis] for axis in moving]:
        new = _moved(new, together, rng, keep)
    return None if new == list(texts) else new


def _stages(axes: Sequence[str]) -> list[list[str]]:
    """Axes that are exchanged at once, and each of the others by itself."""
    return [[axis for axis in axes if axis not in (GENDER, NAME_AXIS)],
            *([axis] for axis in axes if axis in (GENDER, NAME_AXIS))]  # fmt: skip


def tells_sex(text: str) -> bool:
    """Whether a word of biology stands in it."""
    return any(lexicon(language).biology.search(text) for language in languages_of(text))


def _moved(texts: Sequence[str], axes: Sequence[str], rng: np.random.Generator, keep: Sequence[str]) -> list[str]:
    uses = [
        sorted((use for axis in axes for use in _uses(text, axis, keep)), key=lambda use: use.start) for text in texts
    ]
    said = _Said(_targets(list(chain(*uses)), axes, rng), rng)
    return [_written(text, own, said) for text, own in zip(texts, uses, strict=True)]


def _uses(text: str, axis: str, keep: Sequence[str]) -> Iterator[Use]:
    kept = [match.span() for one in keep for match in re.finditer(_whole(one), text, re.IGNORECASE)]
    for language in languages_of(text):
        words = lexicon(language)
        for start, end, readings in read(text, words):
            forms = {reading.form: reading.group for reading in readings if reading.group.axis == axis}
            if forms and not any(first < end and start < last for first, last in kept):
                form = english.form(text, start, end, forms)
                yield Use(start, end, forms[form], form, words)


def _whole(term: str) -> str:
    return rf"(?<!\w){re.escape(term)}(?!\w)" if term.isascii() else re.escape(term)


def _targets(uses: Sequence[Use], axes: Sequence[str], rng: np.random.Generator) -> dict[Group, Group]:
    """For each group the one that stands for it: another that has all its forms, and for no two the same."""
    found: dict[Group, Group] = {}
    stay = {use.group for use in uses if use.group in use.words.fixed}
    for group in dict.fromkeys(use.group for use in uses if use.group not in stay):
        free = [other for other in _fit(uses, group, axes) if other not in {*found.values(), *stay}]
        if free:
            found[group] = free[int(rng.integers(len(free)))]
        else:
            stay.add(group)
    return {} if stay & set(found.values()) else found


def _fit(uses: Iterable[Use], group: Group, axes: Sequence[str]) -> list[Group]:
    """Of one of the axes, in all forms that the group has."""
    needed = {(use.words.language, use.form): use.words for use in uses if use.group == group}
    able = [
        [Group(axis, name) for axis in axes for name in words.written.get((axis, form), ())]
        for (_, form), words in needed.items()
    ]
    fixed = set().union(*(words.fixed for words in needed.values()))
    return [one for one in able[0] if one != group and one not in fixed and all(one in others for others in able)]


@dataclass(slots=True)
class _Said:
    """How terms are said of another group. Where there are several ways, as with names, one term is always said the
    same way, and two terms differently as long as there are ways left."""

    targets: dict[Group, Group]
    rng: np.random.Generator
    chosen: dict[tuple[str, str], Term] = field(default_factory=dict)

    def __call__(self, use: Use, old: str) -> Term | None:
        if use.group not in self.targets:
            return None
        target = self.targets[use.group]
        ways = use.words.written[target.axis, use.form][target.name]
        if len(ways) == 1:
            return ways[0]
        if (use.form, key(old)) not in self.chosen:
            free = [way for way in ways if way not in self.chosen.values()] or ways
            self.chosen[use.form, key(old)] = free[int(self.rng.integers(len(free)))]
        return self.chosen[use.form, key(old)]


def _written(text: str, uses: Sequence[Use], said: _Said) -> str:
    found, last = "", 0
    for use in uses:
        old = text[use.start : use.end]
        term = said(use, old)
        if term is None or use.start < last:
            continue
        before = found + text[last : use.start]
        if use.words.language == "en":
            new = english.cased(
                old, use.words.spelled[key(old)], term.text, first=SENTENCE.search(before[-8:]) is not None
            )
            before = english.with_article(before, new)
        else:
            new = term.simplified if use.words.is_simplified(text) else term.text
        found, last = before + new, use.end
    return found + text[last:]
