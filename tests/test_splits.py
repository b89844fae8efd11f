"""Splits are seeded, stratified, and keep what says the same on one side; labels and duplicates are found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tuneful.core.errors import DataError
from tuneful.core.types import Example, Message, Place
from tuneful.data.duplicates import clusters, said_in
from tuneful.data.labels import LabelSet, label_set
from tuneful.data.splits import split

WORDS = [
    "river",
    "stone",
    "cloud",
    "ember",
    "maple",
    "lantern",
    "harbour",
    "violet",
    "copper",
    "thunder",
    "meadow",
    "needle",
    "orchard",
    "velvet",
]


def example(number: int, label: object = None, text: str | None = None, cluster: str | None = None) -> Example:
    rng = np.random.default_rng(number)
    words = " ".join(rng.choice(WORDS, 12)) if text is None else text
    return Example(Place("f", number, "line"), text=words, label=label, cluster=cluster)


def places(examples: list[Example]) -> set[int]:
    return {item.place.row for item in examples}


def cut(examples: list[Example], **settings: object) -> tuple[set[int], set[int], set[int]]:
    made = split({"train": examples}, **{"validation": 0.1, "test": 0.2, "seed": 0, "labelled": True} | settings)
    return places(made.train), places(made.validation), places(made.test)


def test_shares_are_kept_and_nothing_is_lost() -> None:
    train, validation, test = cut([example(n, n % 4) for n in range(400)])
    assert len(test) == pytest.approx(80, abs=3)
    assert len(validation) == pytest.approx(40, abs=3)
    assert train | validation | test == set(range(400))
    assert not train & test
    assert not train & validation


def test_every_class_is_in_every_part() -> None:
    labels = {n: "rare" if n % 20 == 0 else "common" for n in range(400)}
    _, validation, test = cut([example(n, label) for n, label in labels.items()])
    for part, expected in ((test, 4), (validation, 2)):
        counts = Counter(labels[n] for n in part)
        assert counts["rare"] == pytest.approx(expected, abs=1)


def test_the_seed_decides() -> None:
    rows = [example(n, n % 2) for n in range(100)]
    assert cut(rows) == cut(rows)
    assert cut(rows) != cut(rows, seed=1)


def test_near_duplicates_stay_together() -> None:
    """Each text three times, in other case and punctuation: without clustering two thirds would leak."""
    texts = [example(n).text or "" for n in range(60)]
    rows = [
        example(3 * n + k, n % 2, text)
        for n, t in enumerate(texts)
        for k, text in enumerate((t, t.upper() + "!", f"{t}."))
    ]
    train, validation, test = cut(rows)
    groups = {row.place.row: row.place.row // 3 for row in rows}
    sides = [{groups[n] for n in part} for part in (train, validation, test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert len(test) == pytest.approx(36, abs=6)


def test_named_clusters_stay_together() -> None:
    rows = [example(n, n % 2, cluster=f"person {n // 10}") for n in range(200)]
    train, _, test = cut(rows)
    assert not {n // 10 for n in train} & {n // 10 for n in test}


def test_training_rows_that_repeat_a_given_test_row_are_taken_out() -> None:
    train, test = [example(n, n % 2) for n in range(50)], [example(n + 45, n % 2) for n in range(20)]
    made = split({"train": train, "test": test}, validation=0, test=0.2, seed=0, labelled=True)
    assert places(made.train) == set(range(45))
    assert len(made.test) == 20
    assert "says the same as f line 45, which is for test" in made.leaked[0].reason


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_few_rows_still_leave_some_to_learn(count: int) -> None:
    train, validation, test = cut([example(n) for n in range(count)], labelled=False)
    assert train
    assert len(train) + len(validation) + len(test) == count


def test_counts_instead_of_shares() -> None:
    _, validation, test = cut([example(n, n % 2) for n in range(200)], validation=20, test=30)
    assert (len(validation), len(test)) == (pytest.approx(20, abs=2), pytest.approx(30, abs=2))
    with pytest.raises(DataError, match=r"data.test asks for 30 rows and there are 10"):
        cut([example(n) for n in range(10)], test=30)
    assert cut([example(n) for n in range(10)], validation=0, test=0, labelled=False)[0] == set(range(10))


def test_duplicates_are_counted() -> None:
    rows = [example(n) for n in range(20)] + [example(n + 100, text=example(n).text) for n in range(3)]
    assert split({"train": rows}, validation=0, test=0, seed=0, labelled=False).duplicates == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The quick brown fox jumps over it", "the QUICK brown fox, jumps over it!", True),
        ("今天天氣真好，我們去公園散步吧", "今天天氣真好!我們去公園散步吧", True),
        ("book a table for two at seven", "book a table for nine at eleven", False),
        ("😀", "😢", False),
        ("", "", True),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width", True),
        ("a" * 500, "a" * 499 + "b" * 200, False),
    ],
)
def test_what_counts_as_the_same(one: str, other: str, same: bool) -> None:
    found = clusters([one, "something else entirely, so that there is a third", other])
    assert (found[0] == found[2]) is same


def test_many_rows_take_seconds_not_minutes() -> None:
    import time

    begin = time.perf_counter()
    clusters([example(n).text or "" for n in range(5000)])
    assert time.perf_counter() - begin < 20


def test_answers_are_not_compared() -> None:
    """The same question with two answers is one thing said twice."""
    asked = Message("user", "what is the capital")
    both = [Example(Place("f", n), messages=(asked, Message("assistant", answer))) for n, answer in enumerate("ab")]
    assert said_in(both[0]) == said_in(both[1]) == "what is the capital"


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["b", "a", "b"], "class", ("a", "b")),
        ([1, 0, 10], "class", ("0", "1", "10")),
        (["1", "0", "1.5"], "number", ("value",)),
        ([0.5, 1.25], "number", ("value",)),
        (list(range(100)), "number", ("value",)),
        ([["x"], ["x", "y"], []], "labels", ("x", "y")),
        (['["x"]', '["y"]'], "labels", ("x", "y")),
        ([True, False], "class", ("False", "True")),
    ],
)
def test_kinds_of_labels(labels: list[object], kind: str, names: tuple[str, ...]) -> None:
    found = label_set([example(n, label) for n, label in enumerate(labels)], "auto")
    assert (found.kind, found.names) == (kind, names)


def test_targets() -> None:
    assert LabelSet("class", ("a", "b")).target(example(0, "b")) == 1
    assert LabelSet("labels", ("a", "b")).target(example(0, ["b"])).tolist() == [0.0, 1.0]
    assert LabelSet("number", ("value",), mean=10.0, deviation=2.0).target(example(0, "13")) == pytest.approx(1.5)
    assert LabelSet("number", ("value",), mean=3.0, deviation=4.0).without_mean().deviation == 5.0


def test_labels_that_cannot_be_learned() -> None:
    with pytest.raises(DataError, match=r"f line 7: the label 'catt' is in no training row.*Did you mean 'cat'"):
        LabelSet("class", ("cat", "dog")).target(example(7, "catt"))
    with pytest.raises(DataError, match="every row has the label 'a'"):
        label_set([example(0, "a"), example(1, "a")], "auto")
    with pytest.raises(DataError, match="every number is 2"):
        label_set([example(0, 2), example(1, 2)], "number")
    with pytest.raises(DataError, match="f line 1: the label 'x' is not a number"):
        label_set([example(0, 2), example(1, "x")], "number")


def test_a_common_instruction_does_not_make_requests_alike() -> None:
    """Ten requests behind one long instruction are ten; one of them written twice with a typo is found."""
    instruction = (
        "You are given a sentence from a letter. Read it twice, think about who wrote it and why, and then answer with "
        "a single English word that says how the writer felt on that day; do not explain your choice, do not repeat the "
        "question, never apologise, and if several words would fit equally well, take whichever is shortest of them all."
    )
    requests = [f"{instruction} {' '.join(np.random.default_rng(n).choice(WORDS, 4))} {n}" for n in range(20)]
    assert len(set(clusters(requests))) == 20
    again = requests[3] + "!"
    assert clusters([*requests, again])[20] == 3


def test_a_large_group_of_likes_does_not_become_the_test() -> None:
    """Half of the rows belong to one cluster; the test is a fifth of all rows, so that cluster stays in training."""
    examples = [example(n, cluster="big" if n < 50 else None) for n in range(100)]
    for seed in range(5):
        train, _, test = cut(examples, seed=seed, labelled=False)
        assert len(test) == pytest.approx(20, abs=2)
        assert set(range(50)) <= train


def test_validation_rows_that_are_made_do_not_repeat_given_test_rows() -> None:
    given = [example(1000 + n, n % 2) for n in range(20)]
    train = [*[example(n, n % 2) for n in range(100)], *[example(2000 + n, 0, given[n].text) for n in range(20)]]
    made = split({"train": train, "test": given}, validation=0.3, test=0.1, seed=0, labelled=True)
    held = {item.text for item in given}
    assert not held & {item.text for item in (*made.validation, *made.train)}
    assert len(made.leaked) == 20


def test_when_every_training_row_leaks_the_reason_is_said() -> None:
    rows = [example(n, n % 2) for n in range(6)]
    with pytest.raises(DataError, match="every training row says the same"):
        split({"train": rows, "test": rows}, validation=0, test=0.1, seed=0, labelled=True)
