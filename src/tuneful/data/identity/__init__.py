"""Which groups of people a text mentions, by lists of words, and the same text about another group.

The lists (`assets/*.json`) are English and Chinese, in both scripts: kinds of people (axes, such as religion), groups
along each, and terms of each group by form (adjective, one person, several, ...). A word that usually means something
else ("white", "Turkish delight", "Will") counts only where the words around it say that people are meant, so what is
found errs on the side of finding less.

What such lists cannot see: who wrote a text, whom it means without naming them ("those people", a place, a dialect),
slurs and new words (none is listed), sarcasm, names that are not among a few hundred common ones, and what a person
would call themselves: a name or a pronoun is taken for a gender, and a name for an origin, as readers tend to, which is
wrong of many people. Groups are listed because data mention them, in words respectful ones prefer where there is
a choice; nothing follows from a group's absence, and no list of groups is complete. A swap knows grammar and no facts:
"the first woman on the moon" or "Prince William" become untrue, and only the caller can say so (`keep`).
"""

from tuneful.data.identity.census import Census, census
from tuneful.data.identity.detect import Mention, mentioned, mentions
from tuneful.data.identity.lexicon import Group, known_groups
from tuneful.data.identity.swap import swapped, swapped_together

__all__ = [
    "Census",
    "Group",
    "Mention",
    "census",
    "known_groups",
    "mentioned",
    "mentions",
    "swapped",
    "swapped_together",
]
