"""Requests that say what others say: by ROUGE-L, without the words that most of people's requests share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tuneful.data.duplicates import COMMON, FEW
from tuneful.evaluation.metrics import METRICS, words

NEAR = 0.7  # ROUGE-L from which two requests say the same (Wang et al. 2023, arXiv:2212.10560, section 2.2)


@dataclass(slots=True)
class Alike:
    """Requests to which others are compared. Differs from the paper: `common` words are not counted, or an instruction
    that stands before every request would make all of them alike."""

    common: frozenset[str]
    told: list[list[str]] = field(default_factory=list)  # words of each request, in order
    where: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))  # how often, by word and place

    @classmethod
    def of(cls, people: Sequence[str]) -> Alike:
        """Knows requests that people wrote."""
        found = cls(_shared(people))
        for text in people:
            found.add(text)
        return found

    def add(self, text: str) -> None:
        own = self._own(text)
        for word, times in Counter(own).items():
            self.where[word][len(self.told)] = times
        self.told.append(own)

    def knows(self, text: str) -> bool:
        """One of them says the same."""
        own = self._own(text)
        return any(_near(own, self.told[place]) for place in self._overlapping(own))

    def _overlapping(self, own: Sequence[str]) -> Iterable[int]:
        """Those that share enough words, order aside, which is no less than what they share in order."""
        both: Counter[int] = Counter()
        for word, times in Counter(own).items():
            for place, others in self.where.get(word, {}).items():
                both[place] += min(times, others)
        return (place for place, n in both.items() if 2 * n >= NEAR * (len(own) + len(self.told[place])))

    def _own(self, text: str) -> list[str]:
        found = words(text)
        return [word for word in found if word not in self.common] or found


def _shared(people: Sequence[str]) -> frozenset[str]:
    """Words of nearly all requests; none where there are too few to tell."""
    if len(people) < FEW:
        return frozenset()
    counts = Counter(word for text in people for word in set(words(text)))
    return frozenset(word for word, count in counts.items() if count > COMMON * len(people))


def _near(one: Sequence[str], other: Sequence[str]) -> bool:
    return METRICS["rouge_l"]([" ".join(one)], [" ".join(other)]) >= NEAR
