"""Data sets that are not held: the same rows as when they are, in bounded memory, and no bad row stops a run."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuneful
from tuneful.core.errors import CheckpointError, DataError, RecipeError
from tuneful.core.order import Scattered, answered
from tuneful.core.types import Drawn, Dropped, Layout, Step
from tuneful.data import batches
from tuneful.data.layouts import Collator
from tuneful.data.lines import LONGEST, Lines, rows_in
from tuneful.data.sources import read, read_file
from tuneful.data.streams import StreamedRows
from tuneful.data.tables import open_table, rows_of
from tuneful.recipe import Recipe
from tuneful.run import streamed
from tuneful.run.api import recipe_for
from tuneful.run.build import build
from tuneful.run.loop import Interrupted
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.session import run
from tuneful.schedules.ahead import ahead
from tuneful.schedules.epochs import Cut, EpochSteps
from work import greetings, losses_of, moods, whole_and_parts, write_rows

ALL: dict[str, Any] = {"data.validation": 0, "data.test": 0}


def recipe_of(data: Path, model: Path, settings: dict[str, Any], *, streaming: Any = True) -> Recipe:
    return recipe_for(data, model=str(model), settings={**settings, "data.streaming": streaming})


def schedule_of(prepared: Prepared, per_step: int, total: int) -> EpochSteps:
    assert prepared.stream is not None
    return EpochSteps(prepared.stream, Collator(Layout.TOKENS, share=True), Cut(per_step, 4096), total, seed=3)


# ---- lines


@pytest.mark.parametrize("block", [1, 5, 64, 1 << 20])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
def test_every_line_that_is_not_blank_is_a_row_under_its_number(tmp_path: Path, block: int, end: str) -> None:
    written = [f'{{"n": {n}, "t": "{"x" * (n * 7 % 40)}"}}' for n in range(50)]
    text = "\ufeff"
    for number, line in enumerate(written):
        text += ("", "\n", "  \t\n", "\r\n")[number % 4] + line + ("\n" if number % 3 else "\r\n")
    path = tmp_path / "rows.jsonl"
    path.write_bytes((text.rstrip("\r\n") + end).encode())
    expected = [(number, line) for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1) if line.strip()]
    lines = Lines(path, block=block)
    assert len(lines) == 50
    assert [(line.number, line.text.decode().strip()) for line in map(lines.__getitem__, range(50))] == [
        (number, line.strip()) for number, line in expected
    ]


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
def test_a_cell_may_hold_newlines_commas_and_quotes(tmp_path: Path, block: int) -> None:
    rows = [["text", "label"], *([f'a "{n}"\nb,\n\nc' * (n % 3), str(n)] for n in range(40))]
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    path = tmp_path / "rows.csv"
    path.write_text(out.getvalue(), newline="")
    lines = Lines(path, quoted=True, block=block)
    found = [next(csv.reader(io.StringIO(lines[n].text.decode(), newline=""))) for n in range(len(lines))]
    assert found == rows
    table = open_table(path, encoding="utf-8", limit=None, seed=0)
    assert list(rows_of(table)) == list(read_file(path, "utf-8"))


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LONGEST == 1 << 28
    monkeypatch.setattr("tuneful.data.lines.LONGEST", 1000)
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"open,1\n' + "more,2\n" * 500)
    with pytest.raises(DataError, match="double quotes"):
        Lines(path, quoted=True, block=64)


def test_rows_worked_by_hand() -> None:
    starts, ends, numbers = rows_in(b'a\n\n"b\nc"\nd', quoted=True)
    assert (starts.tolist(), ends.tolist(), numbers.tolist()) == ([0, 3, 9], [1, 8, 10], [0, 2, 4])


# ---- order


def test_answers_come_in_the_order_of_what_was_asked() -> None:
    asked: list[str] = []

    def answer(owner: str, places: list[int]) -> list[str]:
        asked.append(owner)
        return [f"{owner}{place}" for place in places]

    assert answered(["b", "a", "b", "c", "a"], answer) == ["b0", "a1", "b2", "c3", "a4"]
    assert asked == ["b", "a", "c"]  # each once


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 1000, 4097])
def test_an_order_that_is_computed_holds_everything_once(count: int) -> None:
    order = Scattered(count, [7])[0:count]
    assert sorted(order.tolist()) == list(range(count))
    assert order[count // 2 :].tolist() == Scattered(count, [7])[count // 2 : count].tolist()


def test_orders_of_two_keys_agree_no_more_than_by_chance() -> None:
    one, other = Scattered(5000, [0, 0])[0:5000], Scattered(5000, [0, 1])[0:5000]
    assert (one == other).sum() < 10  # 1 is expected
    assert abs(np.corrcoef(one, np.arange(5000))[0, 1]) < 0.06  # 4 standard deviations


# ---- rows


def test_a_streamed_row_is_the_row_that_is_held(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    held, stream = (prepare(recipe_of(data, generator_folder, ALL, streaming=s)) for s in (False, True))
    assert held.stream is None
    assert stream.stream is not None
    drawn = stream.stream.draw(np.arange(40))
    assert not drawn.skipped
    for one, other in zip(drawn.rows, held.repeated, strict=True):
        assert one.example == other.example
        assert (one.ids.tolist(), one.learn.tolist(), one.prompt) == (
            other.ids.tolist(),
            other.learn.tolist(),
            other.prompt,
        )
    assert stream.recipe.task.data.streaming is True
    assert held.recipe.task.data.streaming is False


def test_held_out_rows_are_not_trained_on_and_all_others_are(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 20)
    monkeypatch.setattr(streamed, "LEAST", 5)
    data = write_rows(tmp_path / "rows.jsonl", greetings(300))
    prepared = prepare(recipe_of(data, generator_folder, {"data.validation": 10, "data.test": 20}))
    assert prepared.stream is not None
    held = {row.example.place for part in ("validation", "test") for row in prepared.rows(part)}
    trained = [row.example.place for row in prepared.stream.draw(np.arange(len(prepared.stream))).rows]
    assert len(held) == 30
    assert len(prepared.stream) == 270
    assert not held & set(trained)
    assert len(set(trained) | held) == 300
    assert prepared.xray.rows == {"train": 270, "validation": 10, "test": 20}
    assert prepared.xray.sampled == 20
    tokens = sum(len(row) for row in prepared.stream.draw(np.arange(270)).rows)
    assert prepared.xray.tokens == pytest.approx(tokens, rel=0.02)


def test_an_epoch_of_steps_has_every_row_once_and_each_step_is_a_function_of_its_number(
    generator_folder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    schedule = schedule_of(prepare(recipe_of(data, generator_folder, ALL)), 6, 14)
    recorded = Recorded(schedule.rows)  # type: ignore[arg-type]
    steps = list(replace(schedule, rows=recorded).steps(None))  # type: ignore[arg-type]
    assert schedule.steps_per_epoch == 7
    assert {step.rows for step in steps} == {5, 6}
    first, second = ([place for part in recorded.places[start : start + 7] for place in part] for start in (0, 7))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    for start in (3, 9):
        again = list(schedule.steps(None, start))  # type: ignore[arg-type]
        assert [ids(step) for step in again] == [ids(step) for step in steps[start:]]


@dataclass
class Recorded:
    """A stream that remembers which places were drawn."""

    stream: StreamedRows
    places: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.stream)

    def draw(self, places: np.ndarray) -> Drawn:
        self.places.append(places.tolist())
        return self.stream.draw(places)


def ids(step: Step) -> list[list[int]]:
    return [batch.inputs["input_ids"][0].tolist() for batch in step.batches]


def test_weights_say_how_often_a_row_is_seen(generator_folder: Path, tmp_path: Path) -> None:
    rows = greetings(40)
    for name, part in (("a", rows[:10]), ("b", rows[10:20]), ("c", rows[20:])):
        write_rows(tmp_path / f"{name}.jsonl", part)
    source = [
        {"path": str(tmp_path / f"{name}.jsonl"), "weight": weight}
        for name, weight in (("a", 2), ("b", 1.5), ("c", 0.5))
    ]
    data = {"source": source, "streaming": True, "validation": 0, "test": 0}
    stream = prepare(Recipe.model_validate({"data": data, "model": str(generator_folder)})).stream
    assert stream is not None
    seen = Counter(row.example.place for row in stream.draw(np.arange(len(stream))).rows)
    by_file = {name: Counter(seen[place] for place in seen if place.source == f"{name}.jsonl") for name in "abc"}
    assert by_file == {"a": {2: 10}, "b": {1: 5, 2: 5}, "c": {1: 10}}
    half = {place.row for place in seen if place.source == "c.jsonl"}
    assert half != set(range(1, 11)), "a file may be sorted"


def test_a_long_text_brings_all_its_parts(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"text": f"{n} " * 30} for n in range(4)])
    prepared = prepare(recipe_of(data, generator_folder, {**ALL, "data.max_tokens": 32}))
    assert prepared.stream is not None
    assert len(prepared.stream) == 4
    drawn = prepared.stream.draw(np.array([2])).rows
    assert len(drawn) == 2
    assert {row.example.place.row for row in drawn} == {3}


def test_a_token_that_no_sample_holds_can_be_learned(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 20)
    monkeypatch.setattr(streamed, "LEAST", 5)
    rows = moods(300)
    rows[7]["text"] = "Q" * 9  # a byte of its own, in no other row
    prepared = prepare(recipe_of(write_rows(tmp_path / "rows.jsonl", rows), reader_folder, ALL))
    built = build(prepared)
    (name,) = [name for name in built.policy.trainable() if "word_embeddings" in name]
    assert prepared.stream is not None
    spoken = {int(token) for row in prepared.stream.draw(np.array([7])).rows for token in row.ids}
    known = {int(token) for row in prepared.repeated for token in row.ids}
    assert spoken - known, "the sample does not hold it"
    assert len(built.policy.trainable()[name]) == 272, "all rows of the embedding learn"


# ---- bad rows


def spoilt(path: Path, count: int, bad: dict[int, str]) -> Path:
    lines = [json.dumps(row) for row in greetings(count)]
    for place, text in bad.items():
        lines[place] = text
    path.write_text("\n".join(lines) + "\n")
    return path


BAD = {
    50: "{not json", 51: "[1, 2]", 120: '{"prompt": "x", "completion": ""}', 200: "\udcff",
    201: json.dumps({"prompt": "long " * 400, "completion": "y"}), 202: '{"prompt": "z"}',
}  # fmt: skip


@pytest.fixture
def bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(streamed, "SAMPLE", 30)
    monkeypatch.setattr(streamed, "LEAST", 5)
    path = spoilt(tmp_path / "rows.jsonl", 300, {})
    lines = path.read_bytes().split(b"\n")
    for place, text in BAD.items():
        lines[place] = text.encode(errors="surrogateescape")
    path.write_bytes(b"\n".join(lines))
    return path


def test_bad_rows_are_named_and_others_stand_in(generator_folder: Path, bad_file: Path) -> None:
    prepared = prepare(recipe_of(bad_file, generator_folder, {**ALL, "data.drop": True}))
    assert prepared.stream is not None
    drawn = prepared.stream.draw(np.arange(len(prepared.stream)))
    reasons = {item.place.row - 1: item.reason for item in [*drawn.skipped, *prepared.xray.dropped]}
    assert reasons.keys() == BAD.keys()
    for place, words in {50: "not JSON", 51: "holds a list", 120: "'completion' is empty", 200: "0xff is not utf-8",
                         201: "the limit is", 202: "'completion' is empty"}.items():  # fmt: skip
        assert words in reasons[place]
    assert len(drawn.rows) == len(prepared.stream) == 300 - len(prepared.xray.dropped)


def test_a_run_over_bad_rows_ends_and_reports_them_also_when_it_was_interrupted(
    generator_folder: Path, bad_file: Path, tmp_path: Path
) -> None:
    settings = {
        "data.drop": True, "schedule.epochs": 1.5, "optimiser.rows_per_step": 20, "evaluate.every": 4,
        "evaluate.generate": 2, "evaluate.patience": 0, "data.test": 5, "data.validation": 5,
    }  # fmt: skip
    recipe = recipe_of(bad_file, generator_folder, settings)
    whole, parts = whole_and_parts(recipe, tmp_path, after=12)
    losses = [losses_of(folder, "train") for folder in (whole, parts)]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 15, "more than an epoch, so that a row could be counted twice"
    found, other = (folder.read_json(folder.report)["data"] for folder in (whole, parts))
    assert found["skipped"] == other["skipped"]
    rows = {item["row"] for item in (*found["skipped"]["rows"], *found["dropped"])}
    assert rows == {f"rows.jsonl line {place + 1}" for place in BAD}
    assert found["skipped"]["count"] + found["dropped_count"] == len(BAD)
    assert {"streamed", "skipped"} <= {note["key"] for note in found["notes"]}
    for language in ("en", "zh-TW"):
        assert tuneful_words(language)["said_skipped"].format(
            **next(n for n in found["notes"] if n["key"] == "skipped")
        )
    assert not [thread for thread in threading.enumerate() if thread.name == "rows ahead"]


def tuneful_words(language: str) -> Any:
    from tuneful.evaluation.words import words

    return words(language)


def test_rows_none_of_which_can_be_used_end_in_words(generator_folder: Path, bad_file: Path) -> None:
    prepared = prepare(recipe_of(bad_file, generator_folder, {**ALL, "data.drop": True}))
    assert prepared.stream is not None
    prepared.stream._row = lambda part, row: Dropped(prepared.xray.shown[0], "bad")  # type: ignore[method-assign, arg-type]
    with pytest.raises(DataError, match="none of 1000 other rows"):
        prepared.stream.draw(np.array([0]))


def test_more_than_a_hundredth_of_bad_rows_in_the_sample_refuses_the_run(
    generator_folder: Path, tmp_path: Path
) -> None:
    data = spoilt(tmp_path / "rows.jsonl", 100, dict.fromkeys(range(0, 100, 10), "{"))
    prepared = prepare(recipe_of(data, generator_folder, ALL))
    assert any("10 of 100 rows cannot be used" in problem for problem in prepared.xray.problems)


def test_what_a_held_out_row_says_is_not_learned(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 5)
    monkeypatch.setattr(streamed, "LEAST", 5)
    rows = greetings(100)
    copies = [{"prompt": row["prompt"].upper() + "!", "completion": row["completion"]} for row in rows]
    data = write_rows(tmp_path / "rows.jsonl", [*rows, *copies])
    prepared = prepare(recipe_of(data, generator_folder, {"data.test": 10, "data.validation": 0}))
    assert prepared.stream is not None
    tested = {row.example.messages[0].content for row in prepared.rows("test")}
    drawn = prepared.stream.draw(np.arange(len(prepared.stream)))
    trained = {row.example.messages[0].content.lower().rstrip("!") for row in drawn.rows}
    assert len(tested) == 10
    assert not {text.lower().rstrip("!") for text in tested} & trained
    assert all("says the same as rows.jsonl line" in item.reason for item in drawn.skipped)
    assert len(drawn.skipped) + len(prepared.xray.leaked) == 10


def test_a_cluster_stays_on_one_side(generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 5)
    monkeypatch.setattr(streamed, "LEAST", 5)
    rows = [{**row, "who": f"person {number % 20}"} for number, row in enumerate(greetings(200))]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"data.test": 3, "data.validation": 0, "data.cluster": "who"}
    prepared = prepare(recipe_of(data, generator_folder, settings))
    assert prepared.stream is not None
    tested = {row.example.cluster for row in prepared.rows("test")}
    trained = {row.example.cluster for row in prepared.stream.draw(np.arange(len(prepared.stream))).rows}
    assert tested
    assert not tested & trained


# ---- labels


@pytest.mark.parametrize("kind", ["csv", "jsonl", "mixed jsonl", "parquet"])
def test_a_label_that_no_sample_holds_has_its_place(
    kind: str, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 20)
    monkeypatch.setattr(streamed, "LEAST", 5)
    rows: list[dict[str, Any]] = [*moods(300)]
    rows[7]["label"] = "rare"
    rows[8]["label"] = "nan"
    if kind == "mixed jsonl":
        rows[9] = {"text": "a list", "label": 5}
    data = table_file(tmp_path / f"rows.{kind.split()[-1]}", rows)
    prepared = prepare(recipe_of(data, reader_folder, {"data.test": 5, "data.validation": 5}))
    assert prepared.labels is not None
    assert prepared.labels.names == (("5", "glad", "rare", "sad") if "mixed" in kind else ("glad", "rare", "sad"))
    balance = Counter(str(row["label"]) for row in rows if row["label"] != "nan")
    assert prepared.xray.balance == balance
    assert prepared.stream is not None
    targets = {row.target for row in prepared.stream.draw(np.arange(len(prepared.stream))).rows}
    assert prepared.labels.names.index("rare") in targets


def table_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path
    if path.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path, row_group_size=70)
        return path
    return write_rows(path, rows)


def test_one_row_with_a_list_of_labels_makes_lists_of_all(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [*moods(300)]
    rows[7]["label"] = ["rare", "glad"]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    monkeypatch.setattr(streamed, "SAMPLE", 20)
    monkeypatch.setattr(streamed, "LEAST", 5)
    held, stream = (prepare(recipe_of(data, reader_folder, ALL, streaming=s)) for s in (False, True))
    assert stream.labels == held.labels
    assert stream.labels is not None
    assert (stream.labels.kind, stream.labels.names) == ("labels", ("glad", "rare", "sad"))
    assert stream.stream is not None
    assert 7 not in {row.example.place.row - 1 for row in stream.rows("train")}, "the sample does not tell"


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([["a", "b"], ["b"], ["c"]], "labels"),
        ([1, 2, 3], "class"),
        ([0.5, 1.5, 2.25], "number"),
        ([1, "two", True], "class"),
    ],
)
def test_the_kind_of_label_is_found_as_when_all_is_held(
    labels: list[Any], kind: str, reader_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"word {number}", "label": labels[number % 3]} for number in range(60)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    held, stream = (prepare(recipe_of(data, reader_folder, ALL, streaming=s)) for s in (False, True))
    assert stream.labels == held.labels
    assert stream.labels is not None
    assert stream.labels.kind == kind


def test_too_many_labels_for_a_classifier(reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneful.data.counts.MOST", 50)
    data = write_rows(tmp_path / "rows.jsonl", [{"text": f"word {n}", "label": f"x{n % 70}"} for n in range(300)])
    with pytest.raises(DataError, match="different labels"):
        prepare(recipe_of(data, reader_folder, ALL))


# ---- files


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "stream.arrow"])
def test_columns_are_read_row_by_row(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import feather, parquet

    monkeypatch.setattr(batches, "cache_folder", lambda: tmp_path / "cache")
    rows = [{"text": f"row {n}", "turns": [{"role": "user", "content": "é" * (n % 3)}]} for n in range(700)]
    table = pyarrow.Table.from_pylist(rows)
    moods = [pyarrow.array([f"{part}{n % 5}" for n in range(350)]).dictionary_encode() for part in "ab"]
    apart = suffix == "stream.arrow"  # the other kinds allow one list of categories a file
    table = table.append_column(
        "mood", pyarrow.chunked_array(moods) if apart else pyarrow.chunked_array(moods).unify_dictionaries()
    )
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet.write_table(table, path, row_group_size=300)
    elif suffix == "stream.arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=333)
    else:
        feather.write_feather(table, path)
    held = read(str(path))["train"]
    assert len(held) == 700
    written = set()
    for _ in range(2):  # copied, then found
        found = open_table(path, encoding="utf-8", limit=None, seed=0)
        assert [found.read(n) for n in (0, 127, 128, 299, 300, 699)] == [held[n] for n in (0, 127, 128, 299, 300, 699)]
        assert len(found) == 700
        written |= {file.stat().st_ino for file in (tmp_path / "cache" / "rows").glob("*/rows.arrow")}
    assert len(written) == 1


def test_a_sample_by_name_is_the_same_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", greetings(100))
    table = open_table(path, encoding="utf-8", limit=7, seed=3)
    assert list(rows_of(table)) == read(f"{path}#7", seed=3)["train"]


def test_a_changed_row_is_noticed_and_a_moved_file_is_not(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    settings = {"schedule.steps": 3, "checkpoint.every": 1, "evaluate": "none"}
    recipe = recipe_of(data, generator_folder, settings)
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        for _ in run(recipe, tmp_path / "run", should_stop=lambda: next(asked) >= 1):
            pass
    before = prepare(recipe).data_sha256
    text = data.read_text()
    data.write_text(text.replace("hi", "ho", 1))
    with pytest.raises(CheckpointError, match="data has changed"):
        for _ in run(recipe, tmp_path / "run", resume=True):
            pass
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "rows.jsonl"
    moved.write_text(text)
    assert prepare(recipe_of(moved, generator_folder, settings)).data_sha256 == before


def test_a_folder_with_its_own_test_rows(generator_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = greetings(60)
    write_rows(folder / "train.jsonl", rows[:50])
    (folder / "test.json").write_text(json.dumps(rows[50:]))
    prepared = prepare(recipe_of(folder, generator_folder, {"data.validation": 4}))
    assert prepared.stream is not None
    assert len(prepared.stream) == 46
    assert [row.example.place.source for row in prepared.rows("test")] == ["test.json"] * 10


def test_large_files_are_streamed_and_small_ones_are_not(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps(greetings()))
    said: list[str] = []
    assert prepare(recipe_of(data, generator_folder, {}, streaming="auto"), said.append).stream is None
    monkeypatch.setattr(streamed, "LARGE", 1000)
    assert prepare(recipe_of(data, generator_folder, {}, streaming="auto")).stream is not None
    assert prepare(recipe_of(data, generator_folder, {}, streaming=False), said.append).stream is None
    assert not any("held in memory" in words for words in said)
    assert prepare(recipe_of(listed, generator_folder, {}, streaming="auto"), said.append).stream is None
    assert any("all of it is held in memory" in words for words in said)
    with pytest.raises(DataError, match="cannot be read row by row"):
        prepare(recipe_of(listed, generator_folder, {}))
    monkeypatch.setattr(streamed, "HELD_OUT", 20)
    with pytest.raises(RecipeError, match=r"data\.test: asks for 21 rows"):
        prepare(recipe_of(data, generator_folder, {"data.test": 21}))


# ---- ahead


def test_steps_are_made_ahead_in_order_and_no_further_than_asked() -> None:
    made: list[int] = []

    def make(number: int) -> Step:
        made.append(number)
        return Step([], number)

    steps = ahead(make, 3, 100, 2)
    assert [next(steps).rows, next(steps).rows] == [3, 4]
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [3, 4, 5, 6, 7]  # two handed over, two waiting, one in hand
    steps.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "rows ahead"]
    assert made == [3, 4, 5, 6, 7]


def test_what_goes_wrong_ahead_is_raised_in_its_place() -> None:
    def make(number: int) -> Step:
        if number == 2:
            raise DataError("no more")
        return Step([], number)

    steps = ahead(make, 0, 9, 4)
    assert [next(steps).rows, next(steps).rows] == [0, 1]
    with pytest.raises(DataError, match="no more"):
        next(steps)
    assert list(steps) == []


# ---- memory

PEAK = """
import sys
from pathlib import Path
import numpy as np
from tuneful.core.device import peak_memory_mb
from tuneful.data.layouts import Collator
from tuneful.core.types import Layout
from tuneful.run.api import recipe_for
from tuneful.run.prepare import prepare
from tuneful.schedules.epochs import Cut, EpochSteps
settings = {"data.streaming": True, "data.test": 20, "data.validation": 20}
prepared = prepare(recipe_for(sys.argv[1], model=sys.argv[2], settings=settings))
for _ in EpochSteps(prepared.stream, Collator(Layout.TOKENS, share=True), Cut(16, 4096), 100).steps(None):
    pass
print(peak_memory_mb())
"""


def test_memory_does_not_grow_with_the_rows(generator_folder: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (5_000, 100_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as stream:
            stream.writelines(f'{{"prompt": "say {n}", "completion": "{n * n} and so on"}}\n' for n in range(count))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), str(generator_folder)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 30, f"MB: {peaks}"  # held, the larger takes hundreds more


def test_a_report_of_a_stream_reads_like_any_other(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(120))
    settings = {"schedule.steps": 6, "data.streaming": True, "data.test": 20}
    done = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    report = done.report
    assert report["quality"]["accuracy"]["n"] == 20
    assert report["data"]["skipped"] == {"count": 0, "rows": []}
    assert report["data"]["sampled"] == report["data"]["rows"]["train"] - 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "too large to be held" in page
