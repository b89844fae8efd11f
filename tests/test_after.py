"""A run in use: measured on new data against what it came from, asked with the columns it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuneful
from tuneful.core.errors import DataError
from tuneful.core.types import Example, Message, Place, Row
from tuneful.data.inputs import inputs
from tuneful.data.sources import Raw
from tuneful.evaluation.generators import longest_answer
from tuneful.evaluation.settings import Evaluate
from tuneful.run.api import check
from tuneful.run.assess import assess
from work import greetings, moods, write_rows

FAST: dict[str, Any] = {"schedule.steps": 40, "optimiser.learning_rate": 0.005, "evaluate": "none"}


def quiet(_: str) -> None: ...


@pytest.fixture(scope="module")
def full_writer(generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuneful.Run:
    folder = tmp_path_factory.mktemp("writer")
    data = write_rows(folder / "greetings.jsonl", greetings())
    settings = {**FAST, "adapter": "full"}
    return tuneful.fit(data, model=str(generator_folder), out=folder / "run", settings=settings)


def test_a_fully_tuned_run_is_measured_against_the_model_it_came_from(
    full_writer: tuneful.Run, generator_folder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "new.jsonl", greetings(60)[40:])
    few = Evaluate(generate=2)
    tuned = assess(str(full_writer.path), str(data), {}, few, quiet)["quality"]["perplexity"]
    alone = assess(str(generator_folder), str(data), {}, few, quiet)["quality"]["perplexity"]
    assert tuned["base"] == pytest.approx(alone["base"], rel=0.2), "one was read in bf16"
    assert tuned["tuned"] < 0.9 * tuned["base"]


def test_neighbours_look_in_the_untuned_space(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods())
    settings = {**FAST, "schedule.steps": 60}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    policy = run.load().policy
    with policy.attached.original() as original:
        before = next(original.parameters()).clone()
    assert not np.allclose(before.numpy(), next(policy.module.parameters()).detach().numpy())


def test_rows_that_cannot_be_measured_are_listed(full_writer: tuneful.Run, tmp_path: Path) -> None:
    rows = [*greetings(20), {"prompt": "greet Ada", "completion": ""}]
    data = write_rows(tmp_path / "new.jsonl", rows)
    found = assess(str(full_writer.path), str(data), {}, Evaluate(generate=2), quiet)
    assert found["dropped"] == [{"row": "new.jsonl line 21", "reason": "'completion' is empty"}]
    assert found["dropped_count"] == 1


def test_a_run_whose_data_has_gone_says_what_it_takes_instead(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods())
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=FAST)
    new = write_rows(tmp_path / "new.jsonl", moods(20))
    said: list[str] = []
    whole = assess(str(run.path), str(new), {}, Evaluate(), said.append)["quality"]["accuracy"]
    trained = {row.example.text for row in check(run.path / "recipe.lock.json").rows("train")}
    seen = sum(row["text"] in trained for row in moods(20))
    assert 0 < seen < 20
    assert (whole["n"], said) == (20, [f"{seen} of the 20 rows are in the training data, word for word"])
    data.unlink()
    part = assess(str(run.path), str(new), {}, Evaluate(), said.append)["quality"]["accuracy"]
    assert part["n"] == 16
    assert "a fifth of the 20 rows" in said[-1]
    assert run.load().classify("sunny warm") in ("glad", "sad")


def test_a_file_sorted_by_label_gives_fair_rivals(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods())
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings={**FAST, "schedule.steps": 60})
    new = write_rows(tmp_path / "sorted.jsonl", sorted(moods(100), key=lambda row: row["label"]))
    found = assess(str(run.path), str(new), {}, Evaluate(), quiet)["quality"]["accuracy"]
    assert found["n"] == 100, "rivals know the run's own training rows, so every row is measured"
    assert found["base"] > 0.6, "five neighbours of both labels"


def test_one_very_long_answer_does_not_set_the_limit() -> None:
    """99 answers of 10 tokens and one of 900: 10 + 32, not 932; named, it is what was named."""
    rows = [answered(10) for _ in range(99)] + [answered(900)]
    assert longest_answer(rows, Evaluate()) == 42
    assert longest_answer([answered(900)], Evaluate()) == 512
    assert longest_answer(rows, Evaluate(new_tokens=7)) == 7


def answered(tokens: int) -> Row:
    ids = np.zeros(5 + tokens, dtype=np.int32)
    return Row(Example(Place("f", 1)), ids, np.ones(len(ids), dtype=np.float32), prompt=5)


def raw(**fields: Any) -> list[Raw]:
    return [Raw(Place("ask.csv", 2, "line"), fields)]


def asked(**fields: Any) -> tuple[Message, ...]:
    return inputs(raw(**fields), {}, labelled=False, column=None)[0].messages


def test_a_writer_is_asked_what_training_would_ask() -> None:
    turns = '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]'
    assert asked(messages=turns) == (Message("user", "hi"),), "JSON in a cell, and the old answer is not given away"
    assert asked(prompt="hi", system="be kind") == (Message("system", "be kind"), Message("user", "hi"))
    assert asked(instruction="add", input="1 2", output="3") == (Message("user", "add\n1 2"),)
    assert asked(text="hi") == (Message("user", "hi"),)
    assert asked(whatever="hi") == (Message("user", "hi"),)
    tools = inputs(raw(prompt="hi", tools='[{"name": "f"}]'), {}, labelled=False, column=None)[0].tools
    assert tools == ({"name": "f"},)


def test_a_reader_of_pairs_is_asked_with_both_texts() -> None:
    (found,) = inputs(raw(sentence1="one", sentence2="two", score="0.5"), {}, labelled=True, column=None)
    assert (found.text, found.second) == ("one", "two")
    (found,) = inputs(raw(body="one", mood="glad"), {"text": "body", "label": "mood"}, labelled=True, column=None)
    assert found == Example(Place("ask.csv", 2, "line"), text="one")


def test_a_column_can_be_named_and_must_be_there() -> None:
    (found,) = inputs(raw(text="no", other="yes"), {}, labelled=True, column="other")
    assert found.text == "yes"
    with pytest.raises(DataError, match="has no column 'nothing'"):
        inputs(raw(text="no"), {}, labelled=True, column="nothing")
    with pytest.raises(DataError, match="say which column"):
        inputs(raw(a="x", b="y"), {}, labelled=True, column=None)


def test_a_pair_model_predicts_from_a_file_as_from_python(reader_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [(f"{a} one", f"{b} two") for a, b in rng.integers(10, 99, (40, 2))]
    rows = [{"sentence1": a, "sentence2": b, "label": "up" if a < b else "down"} for a, b in pairs]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    tuned = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=FAST).load()
    examples = inputs([Raw(Place("p", n), dict(row)) for n, row in enumerate(rows)], {}, labelled=True, column=None)
    assert tuned.answers_to(examples) == tuned.classify(pairs)
    assert not np.allclose(tuned.scores(pairs), tuned.scores([first for first, _ in pairs]))
