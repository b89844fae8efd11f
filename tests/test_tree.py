"""Shared prefixes are found from the ids alone, and every row can be read back from its path."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneful.data.tree import added, plant


def rows(*texts: str) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) for text in texts]


def test_a_common_prefix_is_stored_once() -> None:
    forest = plant(rows("instruction: add", "instruction: sub", "other words here"), share=True)
    assert forest.tokens == len("instruction: ") + 3 + 3 + len("other words here")
    assert forest.segments[0] == (0, 13, -1)
    assert sorted(parent for _, _, parent in forest.segments) == [-1, -1, 0, 0]


def test_short_prefixes_stay_where_they_are() -> None:
    assert plant(rows("abcX", "abcY"), share=True).tokens == 8


def test_prefix_of_a_prefix() -> None:
    forest = plant(rows("0123456789abcdefghijX", "0123456789abcdefghijY", "0123456789Z"), share=True)
    assert forest.tokens == 10 + 10 + 1 + 1 + 1
    assert forest.segments[1][2] == 0


def test_equal_rows_end_in_the_same_segment() -> None:
    forest = plant(rows("the same text twice", "the same text twice"), share=True)
    assert forest.tokens == len("the same text twice")
    assert forest.last == [0, 0]


def test_a_row_that_is_the_beginning_of_another() -> None:
    forest = plant(rows("a long beginning", "a long beginning and an end"), share=True)
    assert forest.tokens == len("a long beginning and an end")
    assert forest.last[0] == 0
    assert forest.segments[forest.last[1]][2] == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=30), min_size=1, max_size=12), st.integers(1, 9))
def test_every_row_reads_back(texts: list[str], least: int) -> None:
    given_rows = rows(*texts)
    forest = plant(given_rows, share=True, min_shared=least)
    ids, positions = np.concatenate(forest.ids), np.concatenate(forest.positions)
    assert forest.tokens <= sum(map(len, given_rows))
    for number, row in enumerate(given_rows):
        assert ids[forest.places[number]].tolist() == row.tolist()
        assert positions[forest.places[number]].tolist() == list(range(len(row)))
    for number, (start, _, parent) in enumerate(forest.segments):
        assert parent < number
        if parent >= 0:  # descendants lie behind their ancestor without a gap
            between = [forest.segments[n] for n in range(parent + 1, number)]
            assert all(_descends(forest.segments, n, parent) for n in range(parent + 1, number)), between
            assert start >= forest.segments[parent][1]


def _descends(segments: list[tuple[int, int, int]], segment: int, ancestor: int) -> bool:
    while segment >= 0:
        if segment == ancestor:
            return True
        segment = segments[segment][2]
    return False


def test_what_a_row_adds_behind_its_neighbour() -> None:
    """10 common tokens and 3 of its own; a beginning below the least is not shared."""
    one, other = np.arange(12), np.concatenate([np.arange(10), [50, 51, 52]])
    assert added(other, None) == 13
    assert added(other, one) == 3
    assert added(other, one, min_shared=11) == 13
    assert added(one, np.arange(40)) == 0
