"""How well queries find documents: every number worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tuneful.core.errors import RunFolderError
from tuneful.core.types import Example, Place, Row
from tuneful.evaluation import retrieval
from tuneful.evaluation.compare import Difference, Score
from tuneful.evaluation.lexical import Bm25
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.retrieval import Corpus
from tuneful.evaluation.verdict import judge
from tuneful.run.assess import compare
from work import write_rows

RIGHT = frozenset({"a", "b", "c"})
FOUND = ["x", "a", "y", "b", "z", "u", "v", "w", "s", "t", "c"]  # right at places 2, 4 and, too late, 11


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("accuracy_at_1", 0.0),
        ("recall_at_10", 2 / 3),
        ("mrr_at_10", 1 / 2),
        ("ndcg_at_10", (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)),
    ],
)
def test_what_is_found_first_counts(metric: str, value: float) -> None:
    assert METRICS[metric]([RIGHT], [FOUND]) == pytest.approx(value)
    assert METRICS[metric]([RIGHT], [["x", "y"]]) == 0
    assert METRICS[metric]([frozenset("a")], [["a", "x"]]) == 1
    assert METRICS[metric]([frozenset("a"), frozenset("a")], [["a"], ["x"]]) == 0.5


def test_gain_of_more_right_documents_than_places_can_be_whole() -> None:
    many = [str(number) for number in range(12)]
    assert METRICS["ndcg_at_10"]([frozenset(many)], [many]) == pytest.approx(1)


def test_bm25_by_hand() -> None:
    """Three documents of 2, 4 and 3 words, 3 on average; `red` twice in the second, `fish` in the last two."""
    index = Bm25(["blue bird", "Red red fish pond", "fish and chips"])
    scores = index.scores("red fish fish")
    red, fish = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    long = 1.2 * (0.25 + 0.75 * 4 / 3)
    assert scores[0] == 0
    assert scores[1] == pytest.approx(red * 2 * 2.2 / (2 + long) + fish * 2.2 / (1 + long))
    assert scores[2] == pytest.approx(fish * 2.2 / (1 + 1.2))
    assert Bm25(["貓在家", "狗在外"]).scores("貓").argmax() == 0


def row(number: int, query: str, positive: str, *negatives: str) -> Row:
    texts = [query, positive, *negatives]
    ids = np.array([ord(text[0]) for text in texts], dtype=np.int32)
    example = Example(Place("rows", number), text=query, positive=positive, negatives=negatives)
    return Row(example, ids, np.zeros(len(ids)), lengths=(1,) * len(texts))


def test_what_is_searched_and_what_is_right() -> None:
    test = [row(1, "q", "d", "n"), row(2, "r", "e"), row(3, "q", "f")]
    corpus = Corpus.of(test, [row(4, "s", "d", "m"), row(5, "q", "g")])
    assert sorted(corpus.documents) == ["d", "e", "f", "g", "m", "n"]
    assert [query.example.text for query in corpus.queries] == ["q", "r"]
    told = [{corpus.documents[place] for place in right} for right in corpus.right]
    assert told == [{"d", "f", "g"}, {"e"}]
    assert [chr(read.ids[0]) for read in corpus.texts] == corpus.documents


def test_a_sample_of_strange_documents_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "MOST", 4)
    others = [row(n, "s", chr(ord("g") + n)) for n in range(12)] + [row(20, "q", "z")]
    corpus = Corpus.of([row(1, "q", "d"), row(2, "r", "e")], others)
    assert len(corpus.documents) == 4
    assert {"d", "e", "z"} < set(corpus.documents)


def test_no_text_finds_itself_unless_it_is_right() -> None:
    corpus = Corpus.of([row(1, "q", "d"), row(2, "d", "d"), row(3, "e", "q")], [])
    scores = np.array([[1.0 if text == str(query.example.text) else 0.5 for text in corpus.documents]
                       for query in corpus.queries])  # fmt: skip
    first = [corpus.documents[found[0]] for found in retrieval._ranked(corpus, scores)]
    assert first == ["d", "d", first[2]]


def test_equal_scores_favour_no_document() -> None:
    """A search that knows nothing finds what is right as often as chance."""
    test = [row(number, f"q{number}", f"d{number}") for number in range(200)]
    corpus = Corpus.of(test, [row(300 + number, "s", f"e{number}") for number in range(200)])
    found = retrieval._ranked(corpus, np.zeros((200, 400)))
    assert METRICS["recall_at_10"](corpus.right, found) == pytest.approx(10 / 400, abs=0.02)


def test_the_verdict_names_search_by_words() -> None:
    gaps = {"base": Difference(0.1, 0.05, 0.2), "trivial": Difference(-0.1, -0.2, -0.05)}
    values = {"tuned": 0.5, "base": 0.4, "trivial": 0.6}
    assert judge(Score("ndcg_at_10", True, 50, values, gaps)).reason == "worse_than_words"
    assert judge(Score("accuracy", True, 50, values, gaps)).reason == "worse_than_trivial"


def test_documents_are_sorted_once_and_not_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(retrieval, "sorted", lambda values: calls.append(1) or sorted(values), raising=False)
    corpus = Corpus.of([row(number, f"q{number}", f"d{number}") for number in range(50)], [])
    assert len(corpus.documents) == 50
    assert len(calls) == 2  # the others once, and all once


def test_no_more_scores_are_held_than_those_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", 2)
    corpus = Corpus.of([row(number, f"q{number}", f"d{number}") for number in range(5)], [])
    vectors = iter([np.eye(5), np.eye(5)])
    monkeypatch.setattr(retrieval, "embeddings", lambda *_, **__: next(vectors))
    found = list(retrieval._cosines(None, corpus, original=False))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, np.eye(5))
    assert all(scores.base is not None and scores.base.shape[0] <= 2 for scores in found)


def test_runs_that_searched_other_documents_are_not_compared(tmp_path: Path) -> None:
    told = {}
    for name, strange in (("one", 1), ("same", 1), ("other", 9)):
        corpus = Corpus.of([row(1, "q", "d")], [row(2 + n, "s", f"e{n}") for n in range(strange)])
        (tmp_path / name).mkdir()
        answers = write_rows(tmp_path / name / "answers.jsonl", retrieval._listed(corpus, {"tuned": [[0]]}))
        told[name] = answers.parent
    assert compare([told["one"], told["same"]])
    with pytest.raises(RunFolderError, match=r"different documents \(2 and 10 of them\)"):
        compare([told["one"], told["other"]])


def test_each_pair_of_runs_is_compared_on_all_that_it_shares(tmp_path: Path) -> None:
    """A third run that shares hardly anything takes nothing from the first two, and a row that is asked twice counts
    twice."""
    asked = {"one": ["a", "a", "b", "c"], "same": ["a", "a", "b", "c"], "other": ["c", "d"]}
    for name, texts in asked.items():
        (tmp_path / name).mkdir()
        rows = [{"asked": text, "expected": "x", "tuned": "x" if name == "one" else "y"} for text in texts]
        write_rows(tmp_path / name / "answers.jsonl", rows)
    found = compare([tmp_path / name for name in asked])
    assert [line["n"] for line in found] == [4, 1]
    with pytest.raises(RunFolderError, match="there is no folder"):
        compare([tmp_path / "one", tmp_path / "none"])


def test_a_run_without_answers_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="the run did not end"):
        compare([tmp_path, tmp_path])
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunFolderError, match="has ended and holds no answers"):
        compare([tmp_path, tmp_path])
