"""Rows are unlearned: no likelier than rows never learned, and nowhere kept."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import tuneful
from intents import INTENTS
from tuneful.core.errors import InputError
from tuneful.core.types import FORGOTTEN
from tuneful.recipe import from_mapping
from tuneful.regularisers.unlearning import RunningForget
from tuneful.run.exchange import undo
from tuneful.run.folder import RunFolder
from tuneful.run.forget import forget
from tuneful.run.forgotten import MEMBERSHIP
from tuneful.run.loop import Interrupted
from tuneful.run.session import run
from tuneful.run.teach import teach
from work import greetings, typed, write_rows

KINDS = list(INTENTS)
SETTINGS = ["evaluate.robustness=false", "evaluate.shots=0", "evaluate.memorisation=0", "evaluate.forgetting=false"]
QUICK = ["evaluate.robustness=false", "evaluate.shots=0", "evaluate.forgetting=false", "schedule.epochs=1"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, reader_folder: Path) -> Path:
    """A run that knows its rows by heart: six kinds of request, a row of each in its memory."""
    folder = tmp_path_factory.mktemp("taught")
    rows = [{"text": text, "label": kind} for kind in list(INTENTS)[:4] for text in INTENTS[kind]]
    source = write_rows(folder / "rows.jsonl", rows)
    given = {"model": str(reader_folder), "data": {"source": str(source), "validation": 0, "test": 0.3},
             "optimiser": {"rows_per_step": 8, "learning_rate": 0.01}, "schedule": {"steps": 60},
             "save": {"memory": 0.5}, "choose": {"enabled": False}, "checkpoint": {"every": 10}}  # fmt: skip
    list(run(from_mapping(given, SETTINGS)[0], folder / "run"))
    return folder / "run"


@pytest.fixture
def taught_run(taught: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(taught, tmp_path / "run"))


def holding(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Files of a run folder in which what one of the rows says can be read."""
    said = [row["text"] if "text" in row else turn["content"] for row in rows for turn in row.get("messages", [{}])[:1]]
    files = [file for file in path.rglob("*") if file.suffix in (".json", ".jsonl", ".html", ".md", ".yaml")]
    assert len(files) > 5
    read = {file.name: html.unescape(file.read_text(encoding="utf-8")).casefold() for file in files}
    return [name for name in read if name != "tokenizer.json" and any(text.casefold() in read[name] for text in said)]


def texts_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def kept_in(folder: RunFolder, name: str = "train") -> list[dict[str, Any]]:
    (file,) = folder.memory.glob(f"1-*/{name}.jsonl")
    return texts_in(file)


def test_rows_are_forgotten_and_nowhere_kept(
    taught_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aimed: list[Any] = []
    monkeypatch.setattr(RunningForget, "aim", lambda self, levels: aimed.append(levels))
    kept = kept_in(taught_run)
    gone = kept[::4]
    asked = write_rows(tmp_path / "gone.jsonl", [{**row, "text": f" {row['text'].upper()}!"} for row in gone])
    settings = ["evaluate.robustness=false", "evaluate.shots=0"]
    records = list(forget(taught_run.path, str(asked), overrides=settings))
    looks = [record.metrics for record in records if record.kind == MEMBERSHIP]
    before, after = looks[0]["loss"], looks[-1]["loss"]
    assert len(looks) > 5
    assert len(aimed) == len(looks)  # how unlikely they are to become is found anew at each look
    assert after > before
    report = taught_run.read_json(taught_run.report)
    found = report["forgetting"]["unlearned"]
    assert found["rows"] == len(gone)
    assert found["before"]["loss"] == before
    assert found["after"]["loss"] == after
    assert {row["text"] for row in kept_in(taught_run)} == {row["text"] for row in kept} - {row["text"] for row in gone}
    assert not holding(taught_run.path, gone)
    assert not (taught_run.path / "before").exists()
    assert not taught_run.checkpoints.exists()
    assert FORGOTTEN not in [task["name"] for task in taught_run.read_json(taught_run.memory / "memory.json")["tasks"]]
    assert "unlearned" in report["verdict"]["sentence"]
    with pytest.raises(InputError, match="no earlier version"):
        undo(taught_run.path)
    # What comes later is taught as ever, and learns to forget nothing.
    new = write_rows(tmp_path / "new.jsonl", [{"text": t, "label": k} for k in list(INTENTS)[4:6] for t in INTENTS[k]])
    list(teach(taught_run.path, str(new), overrides=["schedule.steps=4", *settings]))
    lock = taught_run.read_json(taught_run.lock)["recipe"]
    assert "forget" not in [part["kind"] for part in lock["regularisers"]]
    assert list(taught_run.read_json(taught_run.memory / "memory.json")["matrix"])[-2:] == [FORGOTTEN, "new"]
    list(forget(taught_run.path, str(write_rows(tmp_path / "more.jsonl", kept_in(taught_run)[:2])), overrides=settings))
    assert taught_run.read_json(taught_run.lock)["recipe"]["tasks"][-1]["name"] == f"{FORGOTTEN} (2)"


def test_unlearning_that_was_stopped_goes_on(taught_run: RunFolder, tmp_path: Path) -> None:
    asked = str(write_rows(tmp_path / "gone.jsonl", kept_in(taught_run)[::4]))
    other = RunFolder(shutil.copytree(taught_run.path, tmp_path / "other"))
    settings = ["evaluate.robustness=false", "evaluate.shots=0", "checkpoint.every=3"]
    whole = list(forget(taught_run.path, asked, overrides=settings))
    seen: list[Any] = []
    begun = (seen.append(r) for r in forget(other.path, asked, overrides=settings, should_stop=lambda: len(seen) > 8))
    with pytest.raises(Interrupted):
        list(begun)
    rest = list(forget(other.path, None))
    losses = [[r.metrics["loss"] for r in records if r.kind == "train"] for records in (whole, [*seen, *rest])]
    assert losses[0][-3:] == losses[1][-3:]
    assert whole[-1].kind == rest[-1].kind
    assert [r.metrics for r in whole if r.kind == MEMBERSHIP][-1] == [r.metrics for r in rest if r.kind == MEMBERSHIP][
        -1
    ]


def test_answers_that_are_written_are_unlearned_too(tmp_path: Path, generator_folder: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", greetings(40))
    given = {"model": str(generator_folder), "data": {"source": str(source), "validation": 0, "test": 0.3},
             "optimiser": {"rows_per_step": 8, "learning_rate": 0.02}, "schedule": {"steps": 40},
             "save": {"memory": 0.5}, "evaluate": {"generate": 4, "new_tokens": 4}}  # fmt: skip
    path = tmp_path / "run"
    list(run(from_mapping(given, SETTINGS)[0], path))
    done = tuneful.load(path)
    assert done is not None
    gone = [*kept_in(RunFolder(path))[:3], *kept_in(RunFolder(path), "test")[:1]]
    empty = [{"prompt": "greet nobody", "completion": ""}, {"prompt": "greet Ada", "completion": "hi Ada"}]
    before = all_of(path)
    with pytest.raises(InputError, match="1 rows cannot be unlearned"):
        list(forget(path, str(write_rows(tmp_path / "empty.jsonl", empty)), overrides=["data.drop=true"]))
    assert all_of(path) == before
    asked = write_rows(tmp_path / "gone.jsonl", gone)
    records = [r.metrics for r in forget(path, str(asked), overrides=["optimiser.learning_rate=0.005", "evaluate.memorisation=20"])
               if r.kind == MEMBERSHIP]  # fmt: skip
    assert records[-1]["loss"] > records[0]["loss"] + 0.05
    assert not holding(path, gone)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, reader_folder: Path) -> Path:
    """A run that keeps one row of each kind, and was tuned with losses that do not go with unlearning."""
    folder = tmp_path_factory.mktemp("few")
    source = write_rows(
        folder / "rows.jsonl", [{"text": text, "label": kind} for kind in KINDS[:3] for text in INTENTS[kind]]
    )
    given = {"model": str(reader_folder), "data": {"source": str(source), "validation": 0, "test": 0.2},
             "schedule": {"steps": 2}, "optimiser": {"learning_rate": 0.01}, "choose": {"enabled": False},
             "regularisers": ["focal"]}  # fmt: skip
    list(run(from_mapping(given, SETTINGS)[0], folder / "run"))
    return folder / "run"


@pytest.fixture
def few_run(few: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(few, tmp_path / "run"))


def all_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_rows_that_were_measured_by_are_forgotten_too(taught_run: RunFolder, tmp_path: Path) -> None:
    """Rows of all parts of a folder, those that say nearly the same as a kept test row, and one given twice."""
    learned, tested = kept_in(taught_run)[::4], kept_in(taught_run, "test")
    near = {**tested[2], "text": tested[2]["text"] + " x"}
    (tmp_path / "gone").mkdir()
    write_rows(tmp_path / "gone" / "train.jsonl", [*learned, learned[0], near])
    write_rows(tmp_path / "gone" / "test.jsonl", tested[:2])
    said: list[str] = []
    list(forget(taught_run.path, str(tmp_path / "gone"), overrides=QUICK, say=said.append))
    report = taught_run.read_json(taught_run.report)
    assert report["forgetting"]["unlearned"]["rows"] == len(learned) + 1 + 2
    assert report["forgetting"]["unlearned"]["unseen"] == len(tested) - 2
    assert f"{len(learned) + 3} rows are to be forgotten; {len(learned) + 2} rows that say the same" in " ".join(said)
    assert not holding(taught_run.path, [*learned, *tested[:2]])
    assert [row["text"] for row in kept_in(taught_run, "test")] == [row["text"] for row in tested[2:]]


def test_what_cannot_be_unlearned_changes_nothing(taught_run: RunFolder, tmp_path: Path) -> None:
    before, rows = all_of(taught_run.path), kept_in(taught_run)[::4]
    for number, (asked, settings, words) in enumerate((
        ([{**rows[0], "label": ""}, *rows[1:]], ["data.drop=true"], "1 rows cannot be unlearned"),
        ([{"text": row["text"]} for row in rows], [], "has no label"),
        ([{**rows[0], "label": "track_parcels"}], [], "none that this run has learned. Did you mean 'track_parcel'"),
        (kept_in(taught_run), [], "nothing would hold"),
        (rows, ["regularisers=none"], "without forget these rows would be learned"),
        (rows, ["regularisers=previous"], "without forget"),
        (rows, ["tasks.1.name=more"], "leave them out"),
        (rows, ["optimiser.learning_rate=-1"], "learning_rate"),
        (rows, ["gates.bias_probe_increase=0.1"], "gates.bias_probe_increase"),
    )):  # fmt: skip
        file = write_rows(tmp_path / f"asked{number}.jsonl", asked)
        with pytest.raises(InputError, match=re.escape(words)):
            list(forget(taught_run.path, str(file), overrides=[*QUICK, *settings]))
        assert all_of(taught_run.path) == before
    with pytest.raises(InputError, match="not the folder of a run"):
        list(forget(tmp_path / "nowhere", "rows.jsonl"))
    with pytest.raises(InputError, match="what is to be forgotten: tuneful unlearn"):
        list(forget(taught_run.path, None))
    new = str(write_rows(tmp_path / "new.jsonl", rows))
    with pytest.raises(InputError, match="take another name, or have them unlearned"):
        list(teach(taught_run.path, new, name=f"{FORGOTTEN} 2024"))
    with pytest.raises(InputError, match="forget unlearns rows, and `learn` keeps"):
        list(teach(taught_run.path, new, name="x", overrides=["regularisers=forget", f"tasks.1.name={FORGOTTEN}"]))
    assert all_of(taught_run.path) == before


def test_a_class_of_which_no_row_is_left_is_known_still(few_run: RunFolder, tmp_path: Path) -> None:
    """And what learning was like before is what it is like afterwards."""
    names, rows, said = few_run.read_json(few_run.lock)["labels"], kept_in(few_run), []
    assert len(rows) == 3
    last = [row for row in rows if row["label"] == names[-1]]
    settings = [*QUICK, "optimiser.learning_rate=0.123"]
    list(forget(few_run.path, str(write_rows(tmp_path / "g.jsonl", last)), overrides=settings, say=said.append))
    assert "not taken over from the run: focal" in said
    assert few_run.read_json(few_run.lock)["labels"] == names
    assert few_run.read_json(few_run.report)["forgetting"]["tasks"][FORGOTTEN].keys() == {"rows"}
    new = write_rows(tmp_path / "new.jsonl", [{"text": t, "label": k} for k in KINDS[4:6] for t in INTENTS[k]])
    list(teach(few_run.path, str(new), overrides=["schedule.steps=2", "schedule.asymmetric=true", *SETTINGS]))
    lock = few_run.read_json(few_run.lock)
    assert lock["labels"] == [*names, *sorted(KINDS[4:6])]
    assert [part["kind"] for part in lock["recipe"]["regularisers"]] == ["focal"]
    assert lock["recipe"]["optimiser"]["learning_rate"] == 0.01
    again = {"text": INTENTS[names[-1]][5], "label": names[-1]}
    list(forget(few_run.path, str(write_rows(tmp_path / "h.jsonl", [again])), overrides=QUICK))
    assert few_run.read_json(few_run.lock)["labels"] == lock["labels"]


def test_what_was_stopped_is_gone_on_with_by_its_own_command(few_run: RunFolder, tmp_path: Path) -> None:
    asked, before = write_rows(tmp_path / "gone.jsonl", kept_in(few_run)[:1]), all_of(few_run.memory)
    new = write_rows(tmp_path / "new.jsonl", [{"text": t, "label": k} for k in KINDS[4:6] for t in INTENTS[k]])
    with pytest.raises(Interrupted):
        list(forget(few_run.path, str(asked), overrides=QUICK, should_stop=lambda: True))
    assert all_of(few_run.memory) == before  # until it has ended the run is what it was
    other = str(write_rows(tmp_path / "other.jsonl", kept_in(few_run)[1:2]))
    for wrong in (lambda: teach(few_run.path, None), lambda: teach(few_run.path, str(new), resume=True)):
        with pytest.raises(InputError, match=r"unlearns: go on with tuneful unlearn .*--resume"):
            list(wrong())
    with pytest.raises(InputError, match=r"go on with tuneful unlearn .*--resume"):
        undo(few_run.path)
    with pytest.raises(InputError, match="about other rows"):
        list(forget(few_run.path, other, overrides=QUICK, resume=True))
    asked.unlink()
    list(forget(few_run.path, None))  # it has its own copy
    assert not (few_run.path / "next").exists()
    with pytest.raises(Interrupted):
        list(teach(few_run.path, str(new), overrides=QUICK, should_stop=lambda: True))
    with pytest.raises(InputError, match=r"learns: go on with tuneful learn .*--resume"):
        list(forget(few_run.path, None))


def test_the_command(taught_run: RunFolder, tmp_path: Path) -> None:
    assert "which rows are to be forgotten" in typed("unlearn", taught_run.path, cwd=tmp_path).output
    asked = write_rows(tmp_path / "gone.jsonl", kept_in(taught_run)[::4])
    said = typed("unlearn", taught_run.path, asked, "--set", "evaluate.shots=0", cwd=tmp_path)
    assert said.exit_code == 0, said.output
    assert "no version that knew them is kept" in " ".join(said.output.split())
