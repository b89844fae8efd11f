"""A patch: what it changes, what it never does, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tuneful
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Example, Message, Place
from tuneful.data.patch import Line, apply, mark_of, read_patch, write_patch
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.prepare import Prepared, prepare
from work import moods, typed, write_rows


def rows() -> list[Example]:
    return [Example(Place("a.csv", 2 + n, "line"), text=f"text {n}", label="x" if n % 2 else "y") for n in range(4)]


def line(example: Example, to: Any = None, **more: Any) -> Line:
    given: dict[str, Any] = {
        "source": example.place.source, "row": example.place.row, "unit": example.place.unit, "mark": mark_of(example),
        "kind": "label", "text": example.text or "", "label": example.label, "sure": 0.9, "why": "because",
        "suggest": "drop" if to is None else "relabel", "to": to, "accept": True,
    }  # fmt: skip
    return Line(**{**given, **more})


def test_lines_relabel_and_drop() -> None:
    """Of four rows one gets another label, one goes, two stay as they are."""
    train = rows()
    done = apply([line(train[0], "x"), line(train[1])], train, [], [])
    assert [(one.text, one.label) for one in done.train] == [("text 0", "x"), ("text 2", "y"), ("text 3", "x")]
    assert (done.changed, done.dropped, done.held_out) == (1, 1, 0)


def test_a_row_held_out_is_never_changed() -> None:
    train = rows()
    done = apply([line(train[3], "y"), line(train[0], "x")], train[:3], train[3:], [])
    assert (done.changed, done.dropped, done.held_out) == (1, 0, 1)
    assert len(done.used) == 1


def test_a_row_that_is_left_out_anyway_is_no_fault() -> None:
    train = rows()
    done = apply([line(train[3])], train[:3], [], [str(train[3].place)])
    assert (done.changed, done.dropped, len(done.train)) == (0, 0, 3)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (lambda train: [line(train[0], "x", mark="0" * 16)], "a.csv line 2: the row has changed since it was looked at"),
        (lambda train: [line(train[0], "x", row=99)], "a.csv line 99: there is no such row"),
        (lambda train: [line(train[0], "xx")], r"no row has the label 'xx'\. Did you mean 'x'\?|no row has the label 'xx'"),
        (lambda train: [line(one) for one in train], "drop every training row"),
        (lambda train: [line(train[0], "x"), line(train[0], "y")], "is relabelled to x and to y"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_words(lines: Any, words: str) -> None:
    train = rows()
    with pytest.raises(DataError, match=words):
        apply(lines(train), train, [], [])


def test_a_patch_of_another_file_is_told_in_one_sentence() -> None:
    train = rows()
    others = [Example(Place("other.csv", n), text=f"t{n}", label="x") for n in range(300)]
    with pytest.raises(DataError, match=r"none of its 300 accepted lines, about rows of other\.csv, is about") as told:
        apply([line(one) for one in others], train, [], [])
    assert "\n" not in str(told.value)
    changed = [line(replace(one, text=f"{one.text} before")) for one in train]
    with pytest.raises(DataError, match=r"none of its .* these have changed since\. Write the patch anew"):
        apply(changed, train, [], [])
    with pytest.raises(DataError, match=r"other\.csv row 0: there is no such row"):
        apply([line(others[0]), line(train[0])], train, [], [])


def test_a_row_is_not_dropped_and_relabelled() -> None:
    train = rows()
    for lines in ([line(train[0]), line(train[0], "y")], [line(train[0], "y"), line(train[0])]):
        with pytest.raises(DataError, match="one line drops it and another relabels it; accept one of the lines"):
            apply(lines, train, [], [])


def test_a_conversation_has_no_label_to_change() -> None:
    one = Example(Place("a", 1), messages=(Message("user", "hi"), Message("assistant", "ho")))
    with pytest.raises(DataError, match="has no label to change"):
        apply([line(one, "x")], [one, *rows()], [], [])
    assert apply([line(one)], [one, *rows()], [], []).dropped == 1


def test_a_mark_stands_for_text_label_and_answer() -> None:
    one = Example(Place("a", 1), text="t", label=1)
    same = [Example(Place("b", 9), text="t", label=label) for label in (1, 1.0, "1", " 1 ")]
    assert {mark_of(other) for other in same} == {mark_of(one)}
    others = [
        Example(Place("a", 1), text="t", label=2), Example(Place("a", 1), text="u", label=1),
        Example(Place("a", 1), text="t", second="s", label=1), Example(Place("a", 1), text="t", label=["1"]),
        Example(Place("a", 1), messages=(Message("user", "t"),)),
    ]  # fmt: skip
    assert len({mark_of(other) for other in [one, *others]}) == 6


def test_labels_may_be_lists_and_numbers() -> None:
    several = [Example(Place("a", n), text=f"t{n}", label=["a", "b"] if n else ["a"]) for n in range(3)]
    done = apply([line(several[0], ["a", "b"])], several, [], [])
    assert done.train[0].label == ["a", "b"]
    with pytest.raises(DataError, match="no row has the label 'c'"):
        apply([line(several[0], ["a", "c"])], several, [], [])
    numbers = [Example(Place("a", n), text=f"t{n}", label=n + 0.5) for n in range(30)]
    assert apply([line(numbers[0], 77.25)], numbers, [], []).train[0].label == 77.25


def test_only_accepted_lines_are_read(tmp_path: Path) -> None:
    train = rows()
    write_patch(tmp_path / "p.jsonl", [line(train[0], "x"), line(train[1], accept=False)])
    assert [one.row for one in read_patch(tmp_path / "p.jsonl")] == [2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{", "line 1 is not JSON"),
        ('\n[1]', "line 2: the line: .* expected a suggestion as"),
        ('{"source": "a"}', "line 1: row: Field required"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_patch(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(DataError, match=words):
        read_patch(tmp_path / "p.jsonl")


def test_a_patch_that_is_missing_or_relabels_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*check DATA --coach --patch"):
        read_patch(tmp_path / "none.jsonl")
    write_patch(tmp_path / "p.jsonl", [line(rows()[0], " ")])
    with pytest.raises(DataError, match="relabels to nothing"):
        read_patch(tmp_path / "p.jsonl")


# In a run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "moods.jsonl", moods(60))


def recipe(data: Path, reader_folder: Path, **more: Any) -> Recipe:
    given = {"source": str(data), **more}
    found, _ = from_mapping({"model": str(reader_folder), "data": given, "choose": "none"}, [])
    return found


def patched(prepared: Prepared, place: Path) -> Path:
    """Drops the first row that is learned, relabels the second, and names the first row of the test as well."""
    first, second = prepared.split.train[:2]
    other = "sad" if second.label == "glad" else "glad"
    write_patch(place, [line(first), line(second, other), line(prepared.split.test[0])])
    return place


def test_a_patch_changes_what_is_learned_and_nothing_else(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    """The split is that without the patch; test and validation rows are the same, to the letter; so is a second
    reading; the fingerprint and the report's notes tell."""
    before = prepare(recipe(data, reader_folder))
    patch = patched(before, tmp_path / "p.jsonl")
    said: list[str] = []
    after = prepare(recipe(data, reader_folder, patch=str(patch)), said.append)
    assert after.split.test == before.split.test
    assert after.split.validation == before.split.validation
    assert after.split.train[1:] == before.split.train[2:]
    assert after.split.train[0].label != before.split.train[1].label
    assert after.data_sha256 != before.data_sha256
    assert after.data_sha256 == prepare(recipe(data, reader_folder, patch=str(patch))).data_sha256
    notes = {note.key: note.facts for note in after.xray.notes}
    assert notes["patched"] == {"changed": 1, "dropped": 1}
    assert notes["patched_elsewhere"] == {"n": 1}
    assert any("1 training rows relabelled, 1 dropped" in words and "another split" in words for words in said)


def test_what_a_person_takes_back_is_not_done(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    before = prepare(recipe(data, reader_folder))
    patch = patched(before, tmp_path / "p.jsonl")
    patch.write_text(patch.read_text().replace('"accept": true', '"accept": false'))
    after = prepare(recipe(data, reader_folder, patch=str(patch)))
    assert after.split.train == before.split.train
    assert after.data_sha256 == before.data_sha256


def test_with_few_labels_a_patch_has_rows_held_out(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    """Otherwise cross-validation would ask about labels that the patch has changed."""
    given: dict[str, Any] = {"model": str(reader_folder), "choose": {"enabled": True}}
    without, _ = from_mapping({**given, "data": {"source": str(data)}}, [])
    assert not prepare(without).split.test
    held, _ = from_mapping({**given, "data": {"source": str(data), "test": 0.15}}, [])
    patch = patched(prepare(held), tmp_path / "p.jsonl")
    having, _ = from_mapping({**given, "data": {"source": str(data), "patch": str(patch)}}, [])
    assert prepare(having).split.test == prepare(held).split.test
    none, _ = from_mapping({**given, "data": {"source": str(data), "patch": str(patch), "test": 0}}, [])
    with pytest.raises(RecipeError, match="cross-validation says how good the result is"):
        prepare(none)


def test_a_row_that_has_changed_stops_a_run_before_it_starts(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    before = prepare(recipe(data, reader_folder))
    patch = patched(before, tmp_path / "p.jsonl")
    first = before.split.train[0]
    data.write_text(data.read_text().replace(json.dumps(first.text), json.dumps(f"{first.text} indeed")))
    with pytest.raises(DataError, match="the row has changed since"):
        tuneful.fit(recipe(data, reader_folder, patch=str(patch)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_on_disk_take_no_patch(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    patch = patched(prepare(recipe(data, reader_folder)), tmp_path / "p.jsonl")
    with pytest.raises(RecipeError, match=r"data\.patch: goes with rows that are held"):
        prepare(recipe(data, reader_folder, patch=str(patch), streaming=True))


def test_a_run_under_a_patch_reports_it(data: Path, reader_folder: Path, tmp_path: Path) -> None:
    patch = patched(prepare(recipe(data, reader_folder)), tmp_path / "p.jsonl")
    done = typed("fit", data, "--model", reader_folder, "--patch", patch, "--out", tmp_path / "run", "--set",
                 "choose=none", "--set", "schedule.steps=2", cwd=tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {"key": "patched", "changed": 1, "dropped": 1} in report["data"]["notes"]
    assert "changed the labels of 1 training rows and left out 1" in (tmp_path / "run" / "report.html").read_text()
