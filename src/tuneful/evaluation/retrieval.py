"""How well queries find their documents, among all documents there are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.types import Layout, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.compare import Examined, score
from tuneful.evaluation.lexical import Bm25
from tuneful.evaluation.metrics import METRICS, SEARCH_METRICS
from tuneful.evaluation.reading import embeddings
from tuneful.evaluation.settings import Evaluate

MOST = 5000  # documents; those of the test rows are all there, of the others a seeded sample
BLOCK = 256  # queries scored at once
DEPTH = 10  # documents a query is shown


@dataclass(frozen=True, slots=True)
class Corpus:
    """The test queries, each once, and what they search. `right[q]` are the documents that are right for query q."""

    queries: list[Row]
    documents: list[str]
    texts: list[Row]  # what the encoder reads of each document
    right: list[frozenset[int]]

    @staticmethod
    def of(test: Sequence[Row], others: Sequence[Row]) -> Corpus:
        """Every document of the test rows once, then those of other rows up to MOST in all; in an order drawn by lot,
        so that equal scores favour none. What any row says is right for a test query is right."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for row in (*test, *others):
            wanted[str(row.example.text)].add(str(row.example.positive))
        own, strange = _documents(test), _documents(others)
        needed = {text for row in test for text in wanted[str(row.example.text)]}
        own |= {text: row for text, row in strange.items() if text in needed}
        rng = np.random.default_rng(0)
        rest = sorted(strange.keys() - own.keys())
        drawn = [rest[place] for place in rng.permutation(len(rest))[: max(0, MOST - len(own))]]
        known = own | {text: strange[text] for text in drawn}
        ordered = sorted(known)
        documents = [ordered[place] for place in rng.permutation(len(ordered))]
        number = {text: place for place, text in enumerate(documents)}
        asked: dict[str, Row] = {}
        for row in test:
            asked.setdefault(str(row.example.text), row)
        queries = list(asked.values())
        right = [frozenset(number[text] for text in wanted[str(row.example.text)]) for row in queries]
        return Corpus([_single(row, 0) for row in queries], documents, [known[text] for text in documents], right)


def examine_retrieval(
    policy: Policy, test: Sequence[Row], others: Sequence[Row], settings: Evaluate, *, base: bool = True
) -> Examined:
    """The tuned encoder, the same before tuning where there is one (`base`), and search by words. A document that is
    the query word for word, and not among the right ones, is passed over: no text looks for itself."""
    corpus = Corpus.of(test, others)
    found = {"tuned": _ranked(corpus, _cosines(policy, corpus, original=False))}
    if base:
        found["base"] = _ranked(corpus, _cosines(policy, corpus, original=True))
    index = Bm25(corpus.documents)
    found["trivial"] = _ranked(corpus, (index.scores(str(row.example.text)) for row in corpus.queries))
    scores = [score(METRICS[name], corpus.right, found) for name in SEARCH_METRICS]
    return Examined(scores, settings.primary or SEARCH_METRICS[0], _listed(corpus, found))


def _documents(rows: Sequence[Row]) -> dict[str, Row]:
    """By text, what the encoder reads of it."""
    found: dict[str, Row] = {}
    for row in rows:
        for place, text in enumerate((row.example.positive, *row.example.negatives), 1):
            found.setdefault(str(text), _single(row, place))
    return found


def _single(row: Row, place: int) -> Row:
    """One text of a row as a row."""
    ids = row.texts[place]
    return Row(row.example, ids, np.zeros(len(ids), dtype=np.float32))


def _cosines(policy: Policy, corpus: Corpus, *, original: bool) -> Iterator[np.ndarray]:
    """(D,) for each query; no more than BLOCK of them are held."""
    collate = Collator(Layout.LABELS)
    queries, documents = (
        embeddings(policy, rows, collate, original=original) for rows in (corpus.queries, corpus.texts)
    )
    for start in range(0, len(queries), BLOCK):
        yield from queries[start : start + BLOCK] @ documents.T


def _ranked(corpus: Corpus, scores_QD: Iterable[np.ndarray]) -> list[list[int]]:
    """The first DEPTH documents of each query."""
    number = {text: place for place, text in enumerate(corpus.documents)}
    found = []
    for row, right, scores in zip(corpus.queries, corpus.right, scores_QD, strict=True):
        itself = number.get(str(row.example.text))
        order = np.argsort(-scores, kind="stable")[: DEPTH + 1].tolist()
        found.append([place for place in order if place != itself or place in right][:DEPTH])
    return found


def _listed(corpus: Corpus, found: Mapping[str, Sequence[Sequence[int]]]) -> list[dict[str, object]]:
    """For each query what it asks, what is right, and what each system finds first; `found` are the first places,
    `corpus` the fingerprint of what was searched."""
    corpus_sha256 = hashlib.sha256("\0".join(corpus.documents).encode()).hexdigest()
    return [
        {
            "row": str(row.example.place),
            "asked": row.example.text,
            "expected": sorted(corpus.documents[place] for place in right),
            **{
                system: corpus.documents[places[number][0]] if places[number] else ""
                for system, places in found.items()
            },
            "documents": len(corpus.documents),
            "corpus": corpus_sha256,
            "right": sorted(right),
            "found": {system: list(places[number]) for system, places in found.items()},
        }
        for number, (row, right) in enumerate(zip(corpus.queries, corpus.right, strict=True))
    ]
