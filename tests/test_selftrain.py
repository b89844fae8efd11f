"""Texts without labels beside those that have one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import tuneful
from intents import rows as intents
from tuneful.cli.main import main
from tuneful.core.errors import RecipeError
from tuneful.core.types import Row
from tuneful.models.propagation import PASSED_ON, SHARPNESS, propagated
from tuneful.run import train
from tuneful.run.api import check, recipe_for
from tuneful.run.build import build
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.ways import Beside, Trial, Tried
from tuneful.schedules.selftrain import Labelled, SelfTrainSteps, surest
from work import moods, write_rows


def test_labels_spread_as_the_closed_form_says() -> None:
    """(1 - a) (I - a S)^-1 Y of the paper's section 2, dense, on six vectors that are all neighbours."""
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(6, 3, generator=generator).abs(), dim=-1)
    weights = (vectors @ vectors.T).fill_diagonal_(0.0).clamp(min=0) ** SHARPNESS
    weights = weights + weights.T
    roots = weights.sum(1).rsqrt()
    graph = roots[:, None] * weights * roots[None]
    given = torch.zeros(6, 2)
    given[0, 0] = given[1, 1] = 1.0
    exact = (1 - PASSED_ON) * torch.linalg.solve(torch.eye(6) - PASSED_ON * graph, given)[2:]
    found = propagated(vectors[:2], torch.tensor([0, 1]), vectors[2:], 2)
    torch.testing.assert_close(found, exact / exact.sum(1, keepdim=True), atol=2e-2, rtol=0)


def test_a_label_reaches_its_whole_cloud_and_not_the_other() -> None:
    """A chain that leads away from the labelled end: neighbours carry the label where distance alone would not."""
    angles = torch.linspace(0, 1.2, 13)
    chain = torch.stack([angles.cos(), angles.sin(), torch.zeros(13)], 1)
    far = F.normalize(torch.tensor([[0.2, 0.5, 1.0]]) + 0.02 * torch.randn(12, 3), dim=-1)
    found = propagated(torch.cat([chain[:1], far[:1]]), torch.tensor([0, 1]), torch.cat([chain[1:], far[1:]]), 2)
    assert found.argmax(1).tolist() == [0] * 12 + [1] * 11


def test_of_every_class_the_surest_share_is_kept() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
    places, classes = surest(shares, 0.5)
    assert places.tolist() == [0, 2, 3]
    assert classes.tolist() == [0, 0, 1]
    assert surest(shares, 1.0)[0].tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def prepared(reader_folder: Path, tmp_path: Path) -> Prepared:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    others = [{"text": f"{row['text']} indeed"} for row in moods(80)[12:]]
    texts = write_rows(tmp_path / "texts.jsonl", others)
    settings = {"data.unlabelled": str(texts), "objective.pooling": "mean", "schedule": "selftrain", "adapter": "full",
                "schedule.steps": 12, "data.test": 0, "data.validation": 0}  # fmt: skip
    return prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def learned(step: object) -> list[tuple[str, object]]:
    return sorted((str(batch.inputs["input_ids"].tolist()), str(batch.targets["labels"].tolist()))
                  for batch in step.batches)  # type: ignore[attr-defined]  # fmt: skip


def test_a_resumed_round_learns_the_same_labels(prepared: Prepared) -> None:
    built = build(prepared)
    first = built.schedule
    assert isinstance(first, SelfTrainSteps)
    walk = first.steps(built.policy)
    for _ in range(3):
        next(walk)
    state = dict(first.state())
    assert set(state["classes"]) == {0, 1}
    with torch.no_grad():  # what has been learned meanwhile must not change the labels of this round
        for parameter in built.policy.trainable().values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    again = replace(first, round=None)
    again.load(state)
    assert learned(next(again.steps(built.policy, 3))) == learned(next(walk))


def test_where_the_views_part_the_labels_stay(prepared: Prepared) -> None:
    built = build(prepared)
    schedule = built.schedule
    assert isinstance(schedule, SelfTrainSteps)
    before = Labelled(0, 1.1, [3, 5], [0, 1])  # more than any two views can agree
    schedule.round = before
    list(schedule.steps(built.policy, 6))
    assert schedule.round == replace(before, number=1)
    assert Labelled(**schedule.state()) == schedule.round


def test_rows_with_a_label_of_their_own_are_seen_more_often(prepared: Prepared) -> None:
    built = build(prepared)
    schedule = built.schedule
    assert isinstance(schedule, SelfTrainSteps)
    rows: list[Row] = schedule._learned(Labelled(0, 1.0, [0, 1], [1, 1]))
    assert len(rows) == 2 * 12 + 2
    assert all(row.target == 1 for row in rows[-2:])


def test_texts_are_taken_once_and_never_from_what_is_held_out(reader_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", moods(12))
    write_rows(data / "test.jsonl", [{"text": f"{row['text']} too", "label": row["label"]} for row in moods(8)])
    texts = [f"{moods(8)[0]['text']} too", moods(12)[3]["text"], "new here", "new here", "another one"]
    source = write_rows(tmp_path / "texts.jsonl", [{"text": text, "label": "whatever"} for text in texts])
    recipe = {"data": {"source": str(data), "unlabelled": str(source)}, "model": str(reader_folder)}
    found = [row.example.text for row in check(recipe).repeated if not row.counts]
    assert found == ["new here", "another one"]


def test_nothing_to_label_and_nothing_to_label_by_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(30))
    model = str(reader_folder)
    with pytest.raises(RecipeError, match="labels texts that have none"):
        build(check({"data": str(data), "model": model, "schedule": "selftrain", "objective": {"pooling": "mean"}}))
    numbers = write_rows(
        tmp_path / "n.jsonl", [{"text": row["text"], "label": n / 7} for n, row in enumerate(moods(30))]
    )
    with pytest.raises(RecipeError, match="go with labels, one a row"):
        check({"data": {"source": str(numbers), "unlabelled": str(data)}, "model": model, "schedule": "selftrain"})


def test_texts_that_nothing_would_learn_from_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(60))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "one"}, {"text": "two"}])
    recipe = {"data": {"source": str(data), "unlabelled": str(texts)}, "model": str(reader_folder), "choose": "none"}
    with pytest.raises(RecipeError, match="nothing here learns from texts without labels"):
        check(recipe)
    assert any(not row.counts for row in check({**recipe, "schedule": "selftrain"}).repeated)


@pytest.mark.parametrize("help_it", [True, False])
def test_the_run_trains_itself_only_where_that_was_taken(
    help_it: bool, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line; what the trial of the texts answered is made right about all rows, or about none."""
    from tuneful.run import choose as room

    def spread(trial: Trial, beside: Beside, _: object) -> Tried:
        wanted = trial.wanted
        return Tried("spread", beside, F.one_hot(wanted if help_it else 1 - wanted, 2).float(), 0.0)

    monkeypatch.setattr(room, "spread", spread)
    monkeypatch.setattr(sys, "argv", ["tuneful"])
    said = [{"text": row["text"], "label": f"{number % 3 == 0}"} for number, row in enumerate(moods(24))]  # no pattern
    data = write_rows(tmp_path / "said.jsonl", said)
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    command = ["fit", str(data), "--unlabelled", str(texts), "--model", str(reader_folder), "--out", str(tmp_path / "run"),
               "--set", "evaluate.forgetting=false"]  # fmt: skip
    done = CliRunner().invoke(main, command, standalone_mode=False)
    assert done.exception is None or done.exit_code == 0, done.output
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    (taken,) = [way["way"] for way in report["choice"]["ways"] if way["taken"]]
    assert (taken == "spread") is help_it
    assert (lock["schedule"]["kind"] == "selftrain") is help_it
    assert (lock["tasks"][0]["data"]["unlabelled"] is not None) is help_it
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert ("which no figure here measures" in page) is help_it


@pytest.mark.real
def test_texts_without_labels_help(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a kind with a label, without its name; six texts a kind without, said in three ways; three to be asked.
    Both under the head that learned: with the one solved at the end, labels alone are as good here (docs/log.md)."""
    monkeypatch.setattr(train, "end", lambda _: 0.0)
    data = tmp_path / "data"
    data.mkdir()
    labelled = [{"text": row["text"], "label": str(number)} for number, row in enumerate(intents(0, 1))]
    kinds = {row["label"]: str(number) for number, row in enumerate(intents(0, 1))}
    write_rows(data / "train.jsonl", labelled)
    write_rows(data / "test.jsonl", [{**row, "label": kinds[row["label"]]} for row in intents(7, 10)])
    said = [text for row in intents(1, 7) for text in (row["text"], f"hello, {row['text']}", f"{row['text']}, thanks")]
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in said])
    settings = {"objective.pooling": "mean", "adapter": "top_layers", "adapter.layers": 3, "data.validation": 0}
    model = str(minilm)
    alone = tuneful.fit(data, model=model, out=tmp_path / "alone", settings=settings)
    both = tuneful.fit(data, model=model, out=tmp_path / "both",
                       settings={**settings, "data.unlabelled": str(texts), "schedule": "selftrain"})  # fmt: skip
    first, second = (run.report["quality"]["accuracy"]["tuned"] for run in (alone, both))
    assert second >= first + 0.05, (first, second)
