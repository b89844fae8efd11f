"""Search by words alone: what any search by meaning has to beat."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tuneful.evaluation.metrics import words

SATURATION, LENGTH = 1.2, 0.75  # k1 and b: how soon a repeated word says no more, how much long documents are held back


class Bm25:
    """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15), with the inverse document frequency of Lucene, which is
    never negative. Words are lower-cased runs of letters; of Chinese and Japanese, characters."""

    def __init__(self, documents: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in documents]
        sizes = np.array([found.total() for found in counts], dtype=np.float64)
        self._norms = SATURATION * (1 - LENGTH + LENGTH * sizes / max(sizes.mean(), 1e-12))
        self._found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, found in enumerate(counts):
            for word, times in found.items():
                self._found[word].append((place, times))

    def scores(self, query: str) -> np.ndarray:
        """(D,), 0 where no word is shared."""
        total = np.zeros(len(self._norms))
        for word in dict.fromkeys(words(query)):
            if word in self._found:
                places, times = np.array(self._found[word]).T
                rarity = math.log(1 + (len(total) - len(places) + 0.5) / (len(places) + 0.5))
                total[places] += rarity * times * (SATURATION + 1) / (times + self._norms[places])
        return total
