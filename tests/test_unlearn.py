"""Rows are unlearned: no likelier than rows never learned, and nowhere kept."""

from __future__ import annotations

import html
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tuneful
from intents import INTENTS
from tuneful.core.errors import InputError, RecipeError
from tuneful.core.types import FORGOTTEN, Batch, Boundary, Terms
from tuneful.evaluation.membership import membership, told_apart
from tuneful.evaluation.tasks import lessons
from tuneful.evaluation.words import words
from tuneful.recipe import from_mapping
from tuneful.regularisers import Forget
from tuneful.regularisers.unlearning import RunningForget
from tuneful.run.folder import RunFolder
from tuneful.run.forget import forget
from tuneful.run.forgotten import MEMBERSHIP
from tuneful.run.loop import Interrupted
from tuneful.run.session import run
from tuneful.run.teach import teach
from work import greetings, typed, write_rows

NOBODY: Any = None


class Said:
    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = torch.tensor(logits)

    def class_logits(self) -> Tensor:
        return self.logits


def batch_of(task: str) -> Batch:
    return Batch({}, {"labels": torch.tensor([0])}, torch.ones(1), 1.0, 1, task)


def test_the_loss_of_rows_to_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """p was 3/4 and is 1/2: (2 / beta) log(1 + (2/3)^beta) in place of log 2; beta = 2 gives log(13/9)."""
    then, now = Said([[math.log(3), 0.0]]), Said([[0.0, 0.0]])
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: then)
    losses = torch.tensor([math.log(2)], requires_grad=True)
    terms = Terms(losses, now)  # type: ignore[arg-type]
    part = Forget(beta=2.0).begin(np.zeros(0))
    assert float(part(NOBODY, batch_of(FORGOTTEN), terms)) == 0  # nothing has been learned before
    part.consolidate(NOBODY, Boundary("one"))
    assert float(part(NOBODY, batch_of("one"), terms)) == 0  # rows of other tasks are learned as they are
    found = part(NOBODY, batch_of(FORGOTTEN), terms)
    assert float(found.detach()) == pytest.approx(math.log(13 / 9) - math.log(2))
    (slope,) = torch.autograd.grad(losses.sum() + found, losses)
    assert float(slope) == pytest.approx(-2 * (4 / 9) / (13 / 9))  # 2 p^b / (p^b + p_then^b), upwards


def test_rows_that_are_as_unlikely_as_others_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: Said([[0.0, 0.0]]))
    losses = torch.tensor([0.5], requires_grad=True)
    for level, slope in ((0.4, 0.0), (0.6, -1.0)):
        part = Forget(beta=1e-6).begin(np.zeros(0))
        part.consolidate(NOBODY, Boundary("one"))
        part.aim(level)
        whole = losses.sum() + part(NOBODY, batch_of(FORGOTTEN), Terms(losses, Said([[0.0, 0.0]])))  # type: ignore[arg-type]
        assert float(torch.autograd.grad(whole, losses)[0]) == pytest.approx(slope, abs=1e-5)
    given = Forget(level=0.7).begin(np.zeros(0))
    given.aim(0.1)
    assert given.state() == {"level": 0.7}  # what a person says stands


def test_how_often_a_row_is_told_from_one_never_learned() -> None:
    assert told_apart([0.1, 0.2], [0.3, 0.4]) == 1.0
    assert told_apart([0.3, 0.4], [0.1, 0.2]) == 0.0
    assert told_apart([0.1, 0.3], [0.2, 0.3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert "attack" not in membership([0.1] * 9, [0.2] * 50)
    found = membership([0.1] * 10 + [0.3] * 10, [0.2] * 50)
    assert found["attack"] == 0.5
    assert 0 < found["low"] < 0.5 < found["high"] < 1
    assert (found["loss"], found["unseen_loss"]) == (pytest.approx(0.2), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.4, 0.6, "were unlearned:"), (0.55, 0.7, "not wholly"), (0.1, 0.3, "too far")],
)
def test_it_is_said_whether_they_are_forgotten(low: float, high: float, expected: str) -> None:
    after = {"attack": (low + high) / 2, "low": low, "high": high}
    found = {"rows": 20, "unseen": 50, "least": 10, "before": {"attack": 0.9}, "after": after}
    for language in ("en", "zh-TW"):
        told = lessons({"forgetting": {"unlearned": found}}, words(language))
        assert "0.9" in told[0]
        assert "20" in told[0]
    assert expected in lessons({"forgetting": {"unlearned": found}}, words("en"))[0]
    few = {**found, "after": {"loss": 1.0}}
    assert "cannot be said" in lessons({"forgetting": {"unlearned": few}}, words("en"))[0]


SETTINGS = ["evaluate.robustness=false", "evaluate.shots=0", "evaluate.memorisation=0", "evaluate.forgetting=false"]


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
    aimed: list[float] = []
    monkeypatch.setattr(RunningForget, "aim", lambda self, level: aimed.append(level))
    kept = kept_in(taught_run)
    gone = kept[::4]
    asked = write_rows(tmp_path / "gone.jsonl", [{**row, "text": f" {row['text'].upper()}!"} for row in gone])
    settings = ["evaluate.robustness=false", "evaluate.shots=0"]
    records = list(forget(taught_run.path, str(asked), overrides=settings))
    looks = [record.metrics for record in records if record.kind == MEMBERSHIP]
    before, after = (metrics["loss"] for metrics in looks)
    assert aimed == [looks[0]["unseen_loss"]]
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
        tuneful_undo(taught_run.path)
    # What comes later is taught as ever, and learns to forget nothing.
    new = write_rows(tmp_path / "new.jsonl", [{"text": t, "label": k} for k in list(INTENTS)[4:6] for t in INTENTS[k]])
    list(teach(taught_run.path, str(new), overrides=["schedule.steps=4", *settings]))
    lock = taught_run.read_json(taught_run.lock)["recipe"]
    assert "forget" not in [part["kind"] for part in lock["regularisers"]]
    assert list(taught_run.read_json(taught_run.memory / "memory.json")["matrix"])[-2:] == [FORGOTTEN, "new"]
    list(forget(taught_run.path, str(write_rows(tmp_path / "more.jsonl", kept_in(taught_run)[:2])), overrides=settings))
    assert taught_run.read_json(taught_run.lock)["recipe"]["tasks"][-1]["name"] == f"{FORGOTTEN} (2)"


def tuneful_undo(path: Path) -> None:
    from tuneful.run.exchange import undo

    undo(path)


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


def test_what_cannot_be_unlearned(taught_run: RunFolder, tmp_path: Path) -> None:
    everything = str(write_rows(tmp_path / "all.jsonl", kept_in(taught_run)))
    with pytest.raises(InputError, match="nothing would hold"):
        list(forget(taught_run.path, everything))
    assert kept_in(taught_run)  # nothing was taken out
    with pytest.raises(InputError, match="not the folder of a run"):
        list(forget(tmp_path / "nowhere", everything))
    given = {"model": "minilm-l6", "tasks": [{"name": FORGOTTEN, "data": "a"}, {"name": "b", "data": "b"}],
             "schedule": "lifelong"}  # fmt: skip
    from tuneful.run.tasks import check_tasks

    with pytest.raises(RecipeError, match="take another name"):
        check_tasks(from_mapping(given, [])[0])


def test_answers_that_are_written_are_unlearned_too(tmp_path: Path, generator_folder: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", greetings(40))
    given = {"model": str(generator_folder), "data": {"source": str(source), "validation": 0, "test": 0.3},
             "optimiser": {"rows_per_step": 8, "learning_rate": 0.02}, "schedule": {"steps": 40},
             "save": {"memory": 0.5}, "evaluate": {"generate": 4, "new_tokens": 4}}  # fmt: skip
    path = tmp_path / "run"
    list(run(from_mapping(given, SETTINGS)[0], path))
    done = tuneful.load(path)
    assert done is not None
    gone = kept_in(RunFolder(path))[:3]
    asked = write_rows(tmp_path / "gone.jsonl", gone)
    records = [r.metrics for r in forget(path, str(asked), overrides=["optimiser.learning_rate=0.005", "evaluate.memorisation=20"])
               if r.kind == MEMBERSHIP]  # fmt: skip
    assert records[-1]["loss"] > records[0]["loss"] + 0.05
    assert not holding(path, gone)


def test_the_command(taught_run: RunFolder, tmp_path: Path) -> None:
    assert "which rows are to be forgotten" in typed("unlearn", taught_run.path, cwd=tmp_path).output
    asked = write_rows(tmp_path / "gone.jsonl", kept_in(taught_run)[::4])
    said = typed("unlearn", taught_run.path, asked, "--set", "evaluate.shots=0", cwd=tmp_path)
    assert said.exit_code == 0, said.output
    assert "no version that knew them is kept" in " ".join(said.output.split())
