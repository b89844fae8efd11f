"""A text as words, characters of Chinese and Japanese, and what stands between them; and which of these must stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Chinese characters, of which each stands for itself
WORD = re.compile(rf"[{CJK}]|(?:(?![{CJK}])[^\W_])+(?:['’-](?:(?![{CJK}])[^\W_])+)*")
# Addresses, handles, tags and places that a programme fills in: a single other letter makes something else of them.
WHOLE = re.compile(r"\b\w+://\S+|\bwww\.\S+|\S+@\S+|(?<!\w)[@#]\w+|\{\{?[^{}]*\}?\}|<[^<>\s]+>")
ENDS = re.compile(r"[.!?。！？:：\n]\W*$")
NUMBERS = frozenset("零〇一二三四五六七八九十百千萬万億亿兩两半")
KNOWN = 1 << 15  # words of which it is remembered what may be done to them
# Words that turn what is said into its opposite.
TURNING = frozenset({
    "not", "no", "never", "none", "nothing", "nobody", "neither", "nor", "without", "cannot", "unless", "except",
    "不", "沒", "没", "無", "无", "未", "別", "别", "非", "否", "莫",
})  # fmt: skip


def pieces(text: str) -> list[str]:
    """Words stand at the odd places, what is between them at the even ones; joined, they are the text again."""
    found, end = [], 0
    for match in WORD.finditer(text):
        found += [text[end : match.start()], match[0]]
        end = match.end()
    return [*found, text[end:]]


def words(text: str) -> list[str]:
    """The words alone."""
    return WORD.findall(text)


def is_cjk(word: str) -> bool:
    return re.match(f"[{CJK}]", word) is not None


def free(parts: Sequence[str], *, names: bool = True) -> list[int]:
    """Places of `pieces` that may be changed: no number, no address, nothing that turns the meaning round, and no name
    where `names` are kept. A name is a word with a capital letter that does not begin a sentence."""
    found = [place for place in range(1, len(parts), 2) if not is_fixed(parts[place])]
    if names:
        found = [place for place in found if not (_capital(parts[place]) and _is_name(parts, place))]
    if not any(mark in part for part in parts[::2] for mark in "@#{<:."):
        return found
    whole = [match.span() for match in WHOLE.finditer("".join(parts))]
    ends = list(accumulate(map(len, parts)))
    return [
        place for place in found if not any(ends[place - 1] < last and first < ends[place] for first, last in whole)
    ]


@lru_cache(KNOWN)
def is_fixed(word: str) -> bool:
    """A number, or what turns the meaning round."""
    lower = word.lower()
    if lower in TURNING or lower.replace("’", "'").endswith("n't") or word in NUMBERS:
        return True
    return any(letter.isdigit() for letter in word)


def _capital(word: str) -> bool:
    return word != "I" and word != word.lower()


def _is_name(parts: Sequence[str], place: int) -> bool:
    """At the beginning of a sentence a capital letter says nothing, unless there are more."""
    word = parts[place]
    begins = place == 1 or ENDS.search(parts[place - 1]) is not None
    return not (begins and word[0].isupper() and word[1:] == word[1:].lower())


def drawn(places: Sequence[int], strength: float, rng: np.random.Generator) -> list[int]:
    """So large a share of the places, one at least, in the order they were drawn."""
    if not places:
        return []
    count = max(1, round(strength * len(places)))
    return [int(place) for place in rng.permutation(places)[:count]]
