"""Words that usually mean something else: what has to stand around them for people to be meant.

A rule is asked of one place of a text. Each is written for precision: it says no where it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tuneful.data.identity.lexicon import key, lexicon

Rule = Callable[[str, int, int], bool]

PERSON = (
    r"(?:people|persons?|m[ae]n|wom[ae]n|lad(?:y|ies)|gentlem[ae]n|guys?|dudes?|blokes?|folks?|famil(?:y|ies)|couples?|"
    r"citizens?|adults?|males?|females?|boys?|girls?|kids?|child(?:ren)?|teens?|teenagers?|youths?|pensioners?)"
)
ROLE = (
    r"(?:communit(?:y|ies)|population|students?|teachers?|professors?|workers?|employees?|voters?|neighbou?rs?|friends?|"
    r"colleagues?|co-?workers?|customers?|clients?|patients?|officers?|cops?|act(?:ors?|ress(?:es)?)|artists?|writers?|"
    r"authors?|candidates?|applicants?|americans?|britons?|africans?|immigrants?|refugees?|minorit(?:y|ies)|voices?|"
    r"supremac(?:y|ists?)|privilege|nationalis(?:m|ts?)|brothers?|sisters?|mothers?|fathers?|sons?|daughters?|husbands?|"
    r"wi(?:fe|ves)|girlfriends?|boyfriends?|parents?|doctors?|nurses?|lawyers?|engineers?|drivers?|players?|athletes?|"
    r"singers?|musicians?|presidents?|leaders?|politicians?|lives|muslims?|christians?|jews?|lesbians?|users?|veterans?|"
    r"members?|tourists?|visitors?|residents?|soldiers?|beneficiar(?:y|ies))"
)
BETWEEN = (
    r"(?:and|or|,|&|very|young|old|older|younger|elderly|gay|straight|trans|transgender|bisexual|heterosexual|homosexual|"
    r"black|white|brown|asian|latino|hispanic|american|british|african|male|female|christian|muslim|jewish|catholic|"
    r"disabled|deaf|blind|poor|rich|tall|short|fat|thin|happy|single|married|working-class|middle-class|cis|lgbtq?|"
    r"queer|nonbinary|lesbian|sikh|hindu|buddhist|mexican|chinese|indian|japanese|canadian|middle-aged|teenage|autistic|"
    r"dyslexic|homeless|immigrant|refugee|atheist|agnostic|intersex|cisgender|(?-i:[A-Z][a-z]+))"
)
TO = rf"[\s,-]+(?:{BETWEEN}[\s,-]+){{0,3}}"
BEFORE_PERSON = re.compile(rf"{TO}{PERSON}(?![\w-])", re.IGNORECASE)
BEFORE_ROLE = re.compile(rf"{TO}(?:{PERSON}|{ROLE})(?![\w-])", re.IGNORECASE)
# "I am black", "being old", "Aki is a happy deaf": of a person who is named, and nothing comes after it.
SAID_OF = re.compile(
    rf"(?:\b(?i:i|you|he|she|we|who|{PERSON})(?:\s+(?i:am|are|is|was|were)|['’](?:m|re|s))|\b(?i:being)|"
    r"\b[A-Z][a-z]+\s+(?:is|was)(?=\s+an?\s))"
    rf"\s+(?:(?i:not|also|both|so|very|too|just|only|openly|proudly|{BETWEEN})\s+)*(?:(?i:an?)\s+(?:\w+\s+)?)?$"
)
ALONE = re.compile(r"\s*(?:$|[.,;:!?)\"”]|(?:and|or|but|is|in|who|because)\b)", re.IGNORECASE)
ARTICLE = re.compile(r"\b(?:an?|another|every)\s+$", re.IGNORECASE)
ONE_ENDS = re.compile(
    r"\s*(?:$|[.,;:!?)\"”]|(?:is|was|who|said|says|has|had|met|came|went|here|there|from|in|at|with|told|asked|can|will|"
    r"would)\b)",
    re.IGNORECASE,
)
CLOSES = re.compile(r"\s*(?:$|[.,;:!?)\"”]|(?:and|or|are|have|do|who|get|need|pay|should|can)\b)", re.IGNORECASE)
THINGS = re.compile(
    r"(?:\s+(?:and|or)\s+\w+)?[\s-]+(?:dollars?|pounds?|pesos?|francs?|rupees?|yen|yuan|won|kron[aeo]r?|real|lira|rubles?|roubles?|zloty|currency|"
    r"accounts?|cards?|banks?|visas?|bonds?|stocks?|markets?|shares?|number|address|version|translation|language|grammar|"
    r"words?|keyboard|characters?|letters?|subtitles|dictionary|alphabet|food|cuisine|dish(?:es)?|recipes?|restaurants?|meals?|dinners?|lunch|breakfast|"
    r"wines?|teas?|beers?|cheeses?|breads?|salads?|cars?|trains?|airlines?|flights?|movies?|films?|songs?|music|"
    r"countr(?:y|ies)|cit(?:y|ies)|coast|border|government|embassy|constitution|law|league|cup|grand prix|union|zone|"
    r"continent|nations?|summer|winter|time)\b",
    re.IGNORECASE,
)
LANGUAGE = re.compile(
    r"\b(?:in|into|to|speaks?|speaking|spoke|learn(?:s|ing|ed)?|study(?:ing)?|teach(?:es)?|translat\w+|read|writ\w+|"
    r"understand|fluent in|us(?:e|ing)|practi[cs](?:e|ing))\s+$",
    re.IGNORECASE,
)
# Somebody is from there: not "a transfer came from Spain", nor where somebody is today.
FROM = re.compile(
    rf"(?:\b(?:i|you|he|she|we|they|who)(?:\s+(?:am|are|is|was|were|comes?|came)|['’](?:m|re|s))|\b(?:{PERSON}|immigrants?|"
    r"refugees?|migrants?|born|raised|tourists?|friends?|neighbou?rs?|students?|workers?|originally))"
    r"\s+(?:(?:originally|all|both)\s+)?from\s+$|"
    r"\b(?:(?:born|raised|grew\s+up)\s+in|citizens?\s+of|people\s+of)\s+$",
    re.IGNORECASE,
)
FROM_CHINESE = re.compile("(?:來自|来自|出生於|出生于|出生在|生於|生于|移民自)$")
NO_NAME = re.compile(r"(?:\b(?:St|San|Santa|Saint|Mount|Mt|Lake|Port|Fort|Camp|Pope)\.?\s+|[\w@#][-.@])$")
PLACE = re.compile(
    r"(?:['’]s)?\s+(?:Street|St|Road|Rd|Avenue|Ave|Lane|Square|University|College|Hospital|School|River|Island|County|City|"
    r"Airport|Bay|Park|Cross|Inc|Ltd|Corp|Bank|Hotel|Cup|Prize)\b|\.(?:com|org|net|io)\b"
)
CALLED = re.compile(
    r"(?:\b(?i:mr|mrs|ms|miss|dr|prof|sir|uncle|aunt|auntie|named|called|name is|name's|dear|hi|hello|hey|i am|i'm|"
    r"this is|friend|brother|sister|son|daughter|husband|wife|boyfriend|girlfriend|father|mother)\.?,?\s+)$"
)
DOES = re.compile(
    r"\s+(?:said|says|asked|asks|told|tells|thinks|thought|wants|wanted|went|goes|loves|loved|likes|liked|lives|lived|works|"
    r"worked|smiled|laughed|replied|knew|knows|has|had|was born)\b"
)
VERB = re.compile(r"\b(?:to|will|would|can|could|must|shall|should|i|you|he|she|we|they)\s+$", re.IGNORECASE)
CAPITAL = re.compile(r"\s+[A-Z][a-z]")
BESIDE = re.compile(r"\b([A-Z]\w*)[ \t]+$")
UNFINISHED = frozenset("民壽寿口均工力次才氣气")


def people(text: str, start: int, end: int) -> bool:
    """A noun of people follows, or it is said of a person."""
    return BEFORE_ROLE.match(text, end) is not None or _said_of(text, start, end)


def continent(text: str, start: int, end: int) -> bool:
    """The same, or one person: "an African said", but not "an African elephant"."""
    if people(text, start, end):
        return True
    one = ARTICLE.search(text[max(0, start - 9) : start])
    return one is not None and ONE_ENDS.match(text, end) is not None


def near(text: str, start: int, end: int) -> bool:
    """The same, but in "an old friend" or "my poor sister" it says something else; "the poor" are people as well."""
    before = text[max(0, start - 12) : start].lower()
    if re.search(r"years?[\s-]$", before):
        return False
    if BEFORE_PERSON.match(text, end) is not None or _said_of(text, start, end):
        return True
    return before.endswith("the ") and text[start:end].lower() in COLLECTIVE and CLOSES.match(text, end) is not None


COLLECTIVE = frozenset({"poor", "rich", "old", "young", "wealthy"})


def _said_of(text: str, start: int, end: int) -> bool:
    return ALONE.match(text, end) is not None and SAID_OF.search(text[max(0, start - 60) : start]) is not None


def demonym(text: str, start: int, end: int) -> bool:
    """Neither of a thing ("Chinese food") nor of a language ("say it in French")."""
    if THINGS.match(text, end):
        return False
    return not LANGUAGE.search(text[max(0, start - 24) : start]) or BEFORE_ROLE.match(text, end) is not None


def person_only(text: str, start: int, end: int) -> bool:
    return BEFORE_ROLE.match(text, end) is not None


def capital(text: str, start: int, end: int) -> bool:
    """Another word in lower case, or at the beginning of a sentence."""
    if BEFORE_ROLE.match(text, end):
        return True
    return text[start].isupper() and not _starts(text, start) and demonym(text, start, end)


def origin(text: str, start: int, end: int) -> bool:
    """A country counts where somebody is from there."""
    before = text[max(0, start - 40) : start]
    return FROM_CHINESE.search(before) is not None or FROM.search(before) is not None


def faith(text: str, start: int, end: int) -> bool:
    """Not the name: "Christian said", "Mr Christian", "Christian Weber"."""
    if BEFORE_ROLE.match(text, end):
        return True
    named = CALLED.search(text[max(0, start - 16) : start]) and text[start].isupper() and not _said_of(text, start, end)
    return not (named or DOES.match(text, end) or (text[start].isupper() and CAPITAL.match(text, end)))


def apart(text: str, start: int, end: int) -> bool:
    """Not part of a proper name: "Burger King", "Lady Gaga", "Church Street", but "Queen Anna"."""
    if text[start].islower() or text[start:end].isupper():
        return True
    before = BESIDE.search(text[max(0, start - 24) : start])
    beside = before is not None and before[1] not in (
        "The",
        "A",
        "An",
        "My",
        "Our",
        "Your",
        "His",
        "Her",
        "Dear",
        "This",
    )
    if beside or not CAPITAL.match(text, end):
        return not beside
    return text[start:end].lower() in RANKS and not PLACE.match(text, end)


def noun(text: str, start: int, end: int) -> bool:
    """Not the verb: "to man the desk", "she will groom six dogs"."""
    return VERB.search(text[max(0, start - 10) : start]) is None


RANKS = frozenset({"king", "queen", "prince", "princess", "emperor", "empress", "duke", "duchess", "baron"})


def title(text: str, start: int, end: int) -> bool:
    """ "Miss Lee" and no verb, "Ms Lee" and no milliseconds."""
    alone = text[max(0, start - 1) : start] != "&"  # M&Ms
    return alone and text[start].isupper() and re.match(r"\.?\s+[A-Z]", text[end : end + 4]) is not None


def name(text: str, start: int, end: int) -> bool:
    """With a capital letter, and of no place, firm or family ("Henry James")."""
    own = text[start:end]
    written = (own[0].isupper() and own[1:] != own[1:].upper()) or (own.isupper() and text.isupper())
    if not written or NO_NAME.search(text[max(0, start - 8) : start]) or PLACE.match(text, end):
        return False
    before = BESIDE.search(text[max(0, start - 24) : start])
    return before is None or key(before[1]) not in lexicon("en").names


def cue(text: str, start: int, end: int) -> bool:
    """A name that is a word as well ("Will", "May"): called so, or doing what people do."""
    if not name(text, start, end):
        return False
    if CALLED.search(text[max(0, start - 16) : start]):
        return True
    return DOES.match(text, end) is not None


def human(text: str, start: int, end: int) -> bool:
    """Chinese, of a term that ends with the character for a person: no longer word goes on."""
    return text[end : end + 1] not in UNFINISHED


def _starts(text: str, start: int) -> bool:
    before = text[:start].rstrip(' "“(')
    return not before or before[-1] in ".!?:\n"


RULES: dict[str, Rule] = {
    "people": people, "continent": continent, "near": near, "demonym": demonym, "person_only": person_only,
    "capital": capital, "origin": origin, "faith": faith, "apart": apart, "title": title, "noun": noun,
    "name": name, "cue": cue, "human": human,
}  # fmt: skip
