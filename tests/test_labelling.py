"""Labelling by hand: what is asked first, and that nothing typed is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch.nn import functional as F

import tuneful
from intents import INTENTS
from intents import rows as intents
from tuneful.core.errors import InputError
from tuneful.models.choice import density, next_to_label, unsure
from tuneful.run.labelling import Labelling, open_labelling
from work import moods, typed, write_rows


def test_doubt_is_how_near_the_second_comes() -> None:
    """Worked by hand: odds of 3 to 1 leave a margin of a half."""
    logits = torch.log(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    torch.testing.assert_close(unsure(logits), torch.tensor([0.5, 1.0]))


def test_of_two_alike_one_is_asked() -> None:
    """Three directions, the first twice: two questions never go to the same place, nor to what is known."""
    texts = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]]), dim=-1)
    first, second, third = next_to_label(texts, torch.ones(4), torch.zeros(0, 3), 3)
    assert {first, second, third} in ({0, 2, 3}, {1, 2, 3})
    assert next_to_label(texts, torch.ones(4), texts[2:3], 4)[-1] == 2


def test_what_is_unsure_is_asked_first() -> None:
    texts = torch.eye(3)
    assert next_to_label(texts, torch.tensor([0.1, 0.9, 0.2]), torch.zeros(0, 3), 1) == [1]


def test_an_odd_text_stands_for_nobody() -> None:
    cloud = F.normalize(torch.tensor([[1.0, 0.0]]) + 0.05 * torch.randn(30, 2), dim=-1)
    assert density(torch.cat([cloud, torch.tensor([[-1.0, 0.0]])]))[-1] < density(cloud).min()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in moods(20)])


def opened(texts: Path, reader_folder: Path, labels: list[str] | None = None) -> Labelling:
    return open_labelling(str(texts), texts.parent / "out.jsonl", model=str(reader_folder), labels=labels or [],
                          column=None, say=lambda _: None)  # fmt: skip


def test_a_label_is_on_disk_at_once_and_is_not_asked_again(texts: Path, reader_folder: Path) -> None:
    work = opened(texts, reader_folder)
    (place,) = work.next(1)
    work.label(place, "glad")
    assert [json.loads(line) for line in (texts.parent / "out.jsonl").read_text().splitlines()] == [
        {"text": work.texts[place], "label": "glad"}
    ]
    again = opened(texts, reader_folder)
    assert again.given == {place: "glad"}
    assert place not in again.next(20)
    assert len(again.next(50)) == 19


def test_a_file_that_is_something_else_is_not_written_to(texts: Path, reader_folder: Path) -> None:
    (texts.parent / "out.jsonl").write_text("hello\n")
    with pytest.raises(InputError, match="line 1: expected an object with text and label"):
        opened(texts, reader_folder)


def label(texts: Path, reader_folder: Path, keys: str, *more: str) -> Result:
    return typed("label", texts, "--model", reader_folder, *more, cwd=texts.parent, keys=keys)


def test_the_loop_in_a_terminal(texts: Path, reader_folder: Path) -> None:
    """A number, a name with a slip, its correction, a text passed over, and the end."""
    done = label(texts, reader_folder, "2\nglat\nglad\n\n1\nq\n", "--labels", "glad,sad")
    assert done.exit_code == 0, done.stderr
    assert "'glat' is none of the labels. Did you mean 'glad'?" in done.stderr
    rows = [json.loads(line) for line in (texts.parent / "labelled.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == ["sad", "glad", "glad"]
    assert len({row["text"] for row in rows}) == 3
    other = label(texts, reader_folder, "", "--labels", "good,bad")
    assert other.exit_code == 2
    assert "'sad' is none of --labels good,bad" in other.stderr
    on = label(texts, reader_folder, "sad\n", "--labels", "glad,sad", "--count", "1")
    assert "3 of them have a label" in on.stderr
    assert len((texts.parent / "labelled.jsonl").read_text().splitlines()) == 4


def test_what_is_said_in_the_end_can_be_run(texts: Path, reader_folder: Path) -> None:
    """A name in another case is the name; the encoder that read the texts is named; nothing is said of no labels."""
    none = label(texts, reader_folder, "q\n", "--labels", "glad,sad")
    assert "learn from them" not in none.stdout
    done = label(texts, reader_folder, "GLAD\nq\n", "--labels", "glad,sad")
    assert f"--model {reader_folder}" in done.stdout.replace("\n", "")
    assert json.loads((texts.parent / "labelled.jsonl").read_text())["label"] == "glad"


def test_in_a_terminal_u_takes_back(texts: Path, reader_folder: Path) -> None:
    """A slip is taken back and its text asked about again; so is a label of an earlier sitting; then nothing is left."""
    done = label(texts, reader_folder, "1\nu\n2\nq\n", "--labels", "glad,sad")
    assert done.exit_code == 0, done.stderr
    assert "taken back: glad" in done.stderr
    assert "labelled.jsonl: 1;" in done.stdout
    (row,) = [json.loads(line) for line in (texts.parent / "labelled.jsonl").read_text().splitlines()]
    assert row["label"] == "sad"
    assert done.stdout.count(row["text"]) == 2
    again = label(texts, reader_folder, "u\nu\nq\n", "--labels", "glad,sad")
    assert "taken back: sad" in again.stderr
    assert "there is no label to take back" in again.stderr
    assert (texts.parent / "labelled.jsonl").read_text() == ""


def test_taking_back_leaves_other_lines_alone(texts: Path, reader_folder: Path) -> None:
    """What stands there for other texts, an older label of the same text, and a last line without its end."""
    work = opened(texts, reader_folder)
    one, two = work.texts[:2]
    given = [{"text": "elsewhere\u2028 too", "label": "x"}, {"text": one, "label": "glad"}, {"text": two, "label": "sad"},
             {"text": one, "label": "sad"}]  # fmt: skip
    (texts.parent / "out.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in given))
    work = opened(texts, reader_folder)
    assert list(work.given.items()) == [(1, "sad"), (0, "sad")]
    work.label(2, "glad")
    work.take_back(2)
    work.take_back(0)
    left = [json.loads(line) for line in (texts.parent / "out.jsonl").read_bytes().decode().split("\n")[:-1]]
    assert left == given[:3]
    assert work.given == {0: "glad", 1: "sad"}
    assert opened(texts, reader_folder).given == {0: "glad", 1: "sad"}


def test_machines_are_told_what_to_ask(texts: Path, reader_folder: Path) -> None:
    done = label(texts, reader_folder, "", "--json", "--count", "3")
    assert len(json.loads(done.stdout)["next"]) == 3
    assert not (texts.parent / "labelled.jsonl").exists()


@pytest.mark.real
def test_chosen_texts_teach_more_than_others(minilm: Path, tmp_path: Path) -> None:
    """Twelve labels of sixty texts: chosen one after another, against ten draws of twelve."""
    rows = intents(0, 10)
    source = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in rows])
    work = open_labelling(str(source), tmp_path / "out.jsonl", model=str(minilm), labels=[], column=None,
                          say=lambda _: None)  # fmt: skip
    truth = {row["text"]: row["label"] for row in rows}
    for _ in range(12):
        (place,) = work.next(1)
        work.label(place, truth[work.texts[place]])
    names = list(INTENTS)
    targets = torch.tensor([names.index(truth[text]) for text in work.texts])

    def right(places: list[int]) -> float:
        from tuneful.models.probe import fit_probe

        rest = [place for place in range(60) if place not in places]
        head = fit_probe(work.vectors[places], targets[places], 10.0, classes=6)
        return float((head.logits(work.vectors[rest]).argmax(1) == targets[rest]).float().mean())

    drawn = [right(torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:12].tolist())
             for seed in range(10)]  # fmt: skip
    assert right(list(work.given)) >= sum(drawn) / 10 + 0.05
    assert (
        tuneful.fit(tmp_path / "out.jsonl", model=str(minilm), out=tmp_path / "run").report["data"]["rows"]["train"]
        == 12
    )


def test_a_name_is_the_same_now_and_when_labelling_goes_on(texts: Path, reader_folder: Path) -> None:
    work = opened(texts, reader_folder)
    work.label(0, " glad ")
    work.label(1, "glad")
    assert work.names == opened(texts, reader_folder).names == ["glad"]
