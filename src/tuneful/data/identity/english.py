"""English around a term that is exchanged: which of its forms stands there, capital letters, and a or an."""

from __future__ import annotations

import re
from collections.abc import Collection

from tuneful.data.identity.lexicon import lexicon

NEXT = re.compile(r"[ \t]+[\"“‘($€£¥]?(\w[\w'’-]*)")
TIME = re.compile(
    r"\s+(?:(?:last|next|early|late|every|one|\d+|two|three|a few)\s+)+(?:week|month|year|night|"
    r"summer|winter|spring|autumn|day|hour|minute|evening|morning|afternoon|time|weekend|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?\b",
    re.IGNORECASE,
)
DESCRIBES = re.compile("(?:ed|en|ing|ght|ful|al|ic|le|ous|ive)$")
NUMBER = re.compile(r"\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twenty|fifty|hundred|thousand")
ONE = re.compile(r"\b(?:an?|another|every|each|one|this|that)\s+(?:(?!and\b|or\b)[\w'-]+\s+){0,2}$", re.IGNORECASE)
SEVERAL = re.compile(r"\b(?:the|these|those|many|most|some|all)\s+$", re.IGNORECASE)
ARTICLE = re.compile(r"(?<![\w'’])(a|an)(\s+)$", re.IGNORECASE)
# By sound: "a European", "a Ukrainian", "an heir", "an LGBT person".
LIKE_YOU = re.compile(r"eu|uni(?!n)|us[aeu]|uk|uga|ut[ai]|one\b|ub|ure|uto", re.IGNORECASE)
SILENT = re.compile(r"heir|hon(?:est|ou?r)|hour|LGBT", re.IGNORECASE)


def form(text: str, start: int, end: int, forms: Collection[str]) -> str:
    """Which of the forms that a term may be stands here."""
    if len(forms) == 1:
        return next(iter(forms))
    if "him/her" in forms:
        return "his/her" if owns(text, start, end) else "him/her"
    if "his/hers" in forms:
        return "his/her" if _noun_follows(text, end) else "his/hers"
    return _as_noun(text, start, end, forms)


def _as_noun(text: str, start: int, end: int, forms: Collection[str]) -> str:
    """An adjective before a noun and after a verb; else one person after "a", and several after "the"."""
    following = NEXT.match(text, end)
    if "adjective" in forms and following and not _ends_noun(following[1].lower()):
        return "adjective"
    before = text[max(0, start - 40) : start]
    if "people" in forms and SEVERAL.search(before):
        return "people"
    if "person" in forms and (ONE.search(before) or "adjective" not in forms):
        return "person"
    return next((one for one in ("adjective", "person", "people") if one in forms), min(forms))


def _ends_noun(word: str) -> bool:
    return _is(word, "closed") or _is_verb(word)


def owns(text: str, start: int, end: int) -> bool:
    """Whether "her" is the possessive (his), and not the object (him).

    It is the possessive where a noun phrase follows. It is the object before the end of a clause, a preposition,
    conjunction, determiner, pronoun, auxiliary or adverb; before a bare verb after "let" or "see", a participle after
    "see" or "keep", an adjective that ends the clause after "make" or "keep", a number or a thing that is given after
    "give", and "home" after "drive". Beside "him" or "his" ("him or her", "his or her") it is the same as that.
    """
    before = text[max(0, start - 40) : start].lower()
    if beside := re.search(r"\b(him|his)(?:\s+(?:and|or)\s+|\s*/\s*)$", before):
        return beside[1] == "his" and _noun_follows(text, end)
    if re.match(r"(?:\s+(?:and|or)\s+|\s*/\s*)(his)\b\s+[a-z]", text[end : end + 12], re.IGNORECASE):
        return True
    words = re.findall(r"[\w'’]+", before)
    return _noun_follows(text, end, words[-1] if words else "")


def _noun_follows(text: str, end: int, verb: str = "") -> bool:
    """`verb` is the word that stands before the pronoun."""
    if beside := re.match(r"(?:\s+(?:and|or)\s+|\s*/\s*)(her|hers)\b", text[end : end + 12], re.IGNORECASE):
        return beside[1].lower() == "her" and re.match(r"\s+[A-Za-z]", text[end + beside.end() :]) is not None
    following = NEXT.match(text, end)
    if following is None or TIME.match(text, end):
        return False
    word = following[1].lower().replace("’", "'")
    after = NEXT.match(text, following.end())
    last = after is None or _is(after[1].lower(), "closed")
    if _is(word, "closed") or (last and _is_verb(word)) or _object_of(verb, word, last=last):
        return False
    if word.endswith("ly") and not _is(word, "no_adverb"):  # "thanked her warmly", but "her newly bought car"
        return after is not None and not last and DESCRIBES.search(after[1]) is not None
    return True


def _is(word: str, kind: str) -> bool:
    """Whether it is among the words of this kind in the lists."""
    return word in lexicon("en").grammar[kind]


def _is_verb(word: str) -> bool:
    return _is(word, "verbs") or (word.endswith("ed") and not _is(word, "no_past"))


def _object_of(verb: str, word: str, *, last: bool) -> bool:
    """Whether the verb before "her" makes `word` say what she does, is or gets; `last`: the clause may end with it."""
    lets, sees, keeps = (_is(verb, kind) for kind in ("lets", "sees", "keeps"))
    if (lets or sees) and _is(word, "bare"):
        return True
    if (sees or keeps) and word.endswith("ing") and not _is(word, "no_participle"):
        return True
    if (lets or keeps) and _is(word, "moods") and last:
        return True
    if _is(verb, "gives") and (NUMBER.fullmatch(word) or (_is(word, "given") and last)):
        return True
    return _is(verb, "moves") and word == "home"


def cased(old: str, written: str, new: str, *, first: bool) -> str:
    """The new term, spelled as `written`'s would be where that was spelled `old`; `first`: it begins a sentence."""
    if len(old) > 1 and old.isupper() and not written.isupper():
        return new.upper()
    if old == written:
        return _capital(new) if first and old[0].isupper() else new
    if old == old.lower():
        return new.lower() if written != written.lower() else new
    return _capital(new)


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


def with_article(before: str, word: str) -> str:
    """What stands before a word, with the article that belongs to it if it ends with one."""
    found = ARTICLE.search(before)
    if found is None:
        return before
    old, new = found[1], "an" if sounds_open(word) else "a"
    if old.lower() == new:
        return before
    if old.isupper() and len(word) > 1 and word.isupper():
        new = new.upper()
    elif old[0].isupper():
        new = new.capitalize()
    return before[: found.start()] + new + found[2]


def sounds_open(word: str) -> bool:
    """Whether a word begins with the sound of a vowel."""
    if SILENT.match(word):
        return True
    return word[0].lower() in "aeiou" and not LIKE_YOU.match(word)
