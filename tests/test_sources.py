"""Files in every kind and state: what is read, and what is said of those that cannot be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import feather, parquet

from tuneful.core.errors import DataError
from tuneful.data.names import Name
from tuneful.data.sources import read

ROWS = [{"text": "one, two", "label": "a"}, {"text": 'say "hi"\nthere', "label": "b"}, {"text": "三", "label": "a"}]
CSV = 'text,label\n"one, two",a\n"say ""hi""\nthere",b\n三,a\n'


def write(folder: Path, name: str, data: str | bytes) -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def fields(source: str, **settings: object) -> list[dict[str, object]]:
    return [dict(raw.fields) for raw in read(source, **settings)["train"]]


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def damaged(data: bytes) -> bytes:
    """The same with bytes in the middle turned over: gzip's own header and length stay right."""
    return data[:20] + bytes(byte ^ 0xFF for byte in data[20:40]) + data[40:]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.csv", CSV),
        ("d.tsv", 'text\tlabel\none, two\ta\n"say ""hi""\nthere"\tb\n三\ta\n'),
        ("d.jsonl", lines(ROWS)),
        ("d.ndjson", lines(ROWS).replace("\n", "\r\n")),
        ("d.json", json.dumps(ROWS)),
        ("lines.json", lines(ROWS)),
        ("inside.json", json.dumps({"version": 1, "data": ROWS})),
        ("columns.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("wide.csv", CSV.encode("utf-16")),
        ("d.csv.gz", gzip.compress(CSV.encode())),
        ("d.jsonl.gz", gzip.compress(lines(ROWS).encode())),
        ("blank.csv", CSV.replace("三", "\n\n三")),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 15 else "",
)
def test_the_same_rows_from_every_kind(name: str, data: str | bytes, tmp_path: Path) -> None:
    assert fields(write(tmp_path, name, data)) == ROWS


def test_columnar_files(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "d.parquet")
    feather.write_feather(table, str(tmp_path / "d.feather"))
    with pyarrow.ipc.new_stream(tmp_path / "d.arrow", table.schema) as stream:
        stream.write_table(table)
    for name in ("d.parquet", "d.feather", "d.arrow"):
        assert fields(str(tmp_path / name)) == ROWS


def test_text_without_a_blank_line_is_one_row_a_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my parcel is late\nI want my money back\n  \n", encoding="utf-8")
    rows = read(str(file))["train"]
    assert [(row.fields["text"], str(row.place)) for row in rows] == [
        ("my parcel is late", "notes.txt line 1"), ("I want my money back", "notes.txt line 2"),
    ]  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("one line\nof one paragraph", encoding="utf-8")
    assert len(read(str(page))["train"]) == 1


def test_plain_text_is_one_row_a_paragraph(tmp_path: Path) -> None:
    assert fields(write(tmp_path, "d.txt", "one\nstill one\n\n\ntwo\n")) == [
        {"text": "one\nstill one"},
        {"text": "two"},
    ]


def test_places_are_those_an_editor_shows(tmp_path: Path) -> None:
    places = [str(raw.place) for raw in read(write(tmp_path, "d.csv", CSV))["train"]]
    assert places == ["d.csv line 2", "d.csv line 3", "d.csv line 5"]
    places = [str(raw.place) for raw in read(write(tmp_path, "d.jsonl", "\n" + lines(ROWS)))["train"]]
    assert places[0] == "d.jsonl line 2"


def test_a_folder_brings_its_splits(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", lines(ROWS))
    write(tmp_path, "dev.csv", CSV)
    write(tmp_path, "test.json", json.dumps(ROWS[:1]))
    write(tmp_path, "README.md", "not data")
    assert {split: len(rows) for split, rows in read(str(tmp_path)).items()} == {"train": 3, "validation": 3, "test": 1}


def test_a_sample_is_seeded_and_of_the_size_asked(tmp_path: Path) -> None:
    source = write(tmp_path, "d.jsonl", lines([{"text": str(n), "label": "x"} for n in range(100)]))
    first = fields(f"{source}#10", seed=1)
    assert len(first) == 10
    assert first == fields(f"{source}#10", seed=1)
    assert first != fields(f"{source}#10", seed=2)
    assert len(fields(f"{source}#1000")) == 100
    assert Name.of("a#b.csv") == Name("a#b.csv", None)


def test_other_encodings_by_name(tmp_path: Path) -> None:
    text = "text,label\n你好世界我們都很好,a\n"
    assert fields(write(tmp_path, "d.csv", text.encode("big5")), encoding="big5")[0]["text"] == "你好世界我們都很好"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("d.csv", "", "is empty"),
        ("d.jsonl", "\n\n", "is empty"),
        ("d.csv", "text,label\n", "has no rows"),
        ("d.json", "[]", "has no rows"),
        ("d.csv", "text,label\na,b\nc\n", "line 3 has 1 fields, the header has 2"),
        ("d.csv", "text,label\na,b,c\n", "line 2 has 3 fields.*double quotes"),
        ("d.csv", "text,text\na,b\n", "the column 'text' is there twice"),
        ("d.csv", 'text,label\n"a,b\nc,d\n', "line 3: unexpected end of data"),
        ("d.csv", 'text,label\n"a"b,c\n', "line 2"),
        ("d.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("d.jsonl", '{"text": "a"}\n[1, 2]\n', "line 2 holds a list"),
        ("d.json", '[{"text": "a"},\n {"text": }]', "line 2 is not JSON"),
        ("d.json", "7", "holds one int"),
        ("d.json", "[1]", "item 1 holds a int"),
        ("d.csv", b"text,label\nok,b\ncaf\xe9 au lait,b\n", "line 3: the byte 0xe9 is not utf-8.*cp1252"),
        ("d.csv", "文字,標籤\n你好世界我們都很好,甲\n".encode("big5"), "is not utf-8.*data.encoding="),
        ("d.csv.gz", b"not gzip", "cannot be read"),
        ("d.jsonl.gz", gzip.compress(lines(ROWS).encode())[:-9], "cannot be read"),
        ("d.csv.gz", damaged(gzip.compress(CSV.encode() * 50)), "cannot be read"),
        ("d.parquet", b"PAR1 and then nothing", "cannot be read as parquet"),
        ("d.xlsx", b"PK", "is of no kind Tuneful reads"),
    ],
    ids=range(21),
)
def test_what_is_wrong_with_a_file(name: str, data: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, name, data))


def test_what_is_wrong_with_a_name(tmp_path: Path) -> None:
    write(tmp_path, "data.csv", CSV)
    with pytest.raises(DataError, match=r"there is no file or folder.*Did you mean 'data.csv'"):
        read(str(tmp_path / "dta.csv"))
    with pytest.raises(DataError, match="asks for 0 rows"):
        read(str(tmp_path / "data.csv#0"))
    with pytest.raises(DataError, match=r"holds no train\."):
        read(str(tmp_path))
    write(tmp_path, "train.csv", CSV)
    write(tmp_path, "train.jsonl", lines(ROWS))
    with pytest.raises(DataError, match="more than one file for train"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="there is no encoding 'klingon'"):
        read(str(tmp_path / "data.csv"), encoding="klingon")


def test_a_source_without_training_rows(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text,label\n")
    write(tmp_path, "test.csv", CSV)
    with pytest.raises(DataError, match=r"has no training rows, only rows of test \(3\)"):
        read(str(tmp_path))
    assert len(read(str(tmp_path), learns=False)["test"]) == 3


def on_the_hub(monkeypatch: pytest.MonkeyPatch, **splits: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """A hub that holds one data set under every name; what it was asked for."""
    asked: list[tuple[str, ...]] = []

    def load_dataset(*names: str) -> dict[str, list[dict[str, str]]]:
        asked.append(names)
        return splits

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("teknium/OpenHermes-2.5", ("teknium/OpenHermes-2.5",)),
        ("teknium/OpenHermes-2.5#2", ("teknium/OpenHermes-2.5",)),
        ("openai/gsm8k@main", ("openai/gsm8k", "main")),
        ("allenai/c4@en.noblocklist", ("allenai/c4", "en.noblocklist")),
    ],
)
def test_hub_ids(source: str, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    given = on_the_hub(monkeypatch, train=ROWS)
    rows = read(source)["train"]
    assert given == [asked]
    assert len(rows) == (2 if "#" in source else 3)


def test_a_hub_set_of_test_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(monkeypatch, test=ROWS)
    with pytest.raises(DataError, match="has no training rows"):
        read("owner/name")


@pytest.mark.parametrize("source", ["owner/data.jsonl", "owner/data.csv.gz", "owner/data.gz", "./owner/name", "a/b/c"])
def test_paths_are_not_asked_of_the_hub(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = on_the_hub(monkeypatch, train=ROWS)
    with pytest.raises(DataError, match="there is no file or folder"):
        read(source)
    assert not given


def test_a_row_of_a_megabyte(tmp_path: Path) -> None:
    big = "word " * 250_000
    assert len(str(fields(write(tmp_path, "d.csv", f'text,label\n"{big}",a\nb,c\n'))[0]["text"])) == len(big)
