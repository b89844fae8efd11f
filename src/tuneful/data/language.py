"""Is this English? Asked so that other languages get a model that reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Words that hold English sentences together; none is common in another language written in these letters.
HOLDS = {
    "the", "of", "and", "to", "is", "that", "it", "for", "on", "with", "as", "you", "your", "my", "are", "be",
    "this", "have", "from", "or", "by", "we", "not", "but", "they", "can", "will", "what", "when", "how",
    "do", "does", "which", "there", "their", "if", "would", "about", "was", "were", "has", "had", "i", "me",
    "our", "could", "should", "where", "why", "who", "been", "its", "than", "them", "then", "these", "those",
    "any", "some", "please",
}  # fmt: skip
LOOKED = 2000  # texts
FOREIGN = 0.03  # share of letters beyond ASCII from which on a text is not English
HELD = 0.10  # share of such words below which a text is not English
ENOUGH, SENTENCE = 100, 4  # words from which on that share says anything: of all texts, of one


def is_english(texts: Iterable[str]) -> bool:
    """Whether most of it is; texts that say nothing of their language are taken for English."""
    letters = foreign = words = holds = 0
    for _, text in zip(range(LOOKED), texts, strict=False):
        letters += sum(letter.isalpha() for letter in text)
        foreign += sum(letter.isalpha() and not letter.isascii() for letter in text)
        found = re.findall(r"[a-z]+", text.lower())
        if len(found) >= SENTENCE:
            words += len(found)
            holds += sum(word in HOLDS for word in found)
    if foreign > FOREIGN * letters:
        return False
    return words < ENOUGH or holds >= HELD * words
