"""Examples in the prompt: the same for all, or for each request those nearest to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tuneful.cli.main import main
from tuneful.core.types import Message
from tuneful.evaluation.shots import before, nearest, spread, with_shots
from tuneful.run.api import check
from tuneful.run.build import build
from work import write_rows

COLOURS = ["red", "blue", "green"]


def rows(count: int) -> list[dict[str, str]]:
    """Three kinds of requests that share an instruction."""
    return [
        {"prompt": f"say what follows: {COLOURS[n % 3] * 4} {n}", "completion": COLOURS[n % 3]} for n in range(count)
    ]


@pytest.mark.parametrize("settings", [{}, {"evaluate.shots_by": "nearest"}])
def test_which_rows_are_shown(settings: dict[str, str], generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows(60))
    recipe = {"data": str(data), "model": str(generator_folder), "evaluate": {"shots": 2, **{
        key.split(".")[1]: value for key, value in settings.items()}}}  # fmt: skip
    built = build(check(recipe))
    train, test = built.prepared.rows("train"), built.prepared.rows("test")
    shown = with_shots(built.policy, built.prepared.processor, train, test, built.recipe.evaluate)
    assert shown is not None
    said = [built.prepared.processor.decode(row.ids.tolist()) for row in shown]
    for row, text in zip(test, said, strict=True):
        assert text.count("say what follows") == 3
        assert text.rstrip().endswith(str(row.example.messages[-1].content))
        own = str(row.example.messages[-1].content)
        assert not settings or text.count(own * 4) == 3  # of its own kind, all of them
    heads = {text[: text.rindex("say what follows")] for text in said}
    assert len(heads) > 1 if settings else len(heads) == 1


def test_the_nearest_stands_last(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows(30))
    built = build(check({"data": str(data), "model": str(generator_folder)}))
    train = built.prepared.rows("train")
    assert [places[-1] for places in nearest(built.policy, train, train, 3)] == list(range(len(train)))
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(2, 4) == [0, 1]


def test_examples_stand_behind_the_system_message_and_are_not_learned() -> None:
    own = (Message("system", "be brief"), Message("user", "c"), Message("assistant", "C"))
    examples = [(Message("system", "other"), Message("user", "a"), Message("assistant", "A"))]
    found = before(own, examples)
    assert [message.content for message in found] == ["be brief", "a", "A", "c", "C"]
    assert [message.learned for message in found] == [False, False, False, False, True]


def test_predict_shows_rows_and_answers_the_request(generator_folder: Path, tmp_path: Path) -> None:
    known = write_rows(tmp_path / "known.jsonl", rows(12))
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": row["prompt"]} for row in rows(3)])
    base = ["predict", str(generator_folder), str(asked), "--new-tokens", "8"]
    plain, shown = (CliRunner().invoke(main, [*base, *more]) for more in ([], ["--shots", str(known), "--shown", "2"]))
    assert plain.exit_code == shown.exit_code == 0, shown.output
    before_, after = ([json.loads(line) for line in done.stdout.splitlines()] for done in (plain, shown))
    assert [line["input"] for line in before_] == [line["input"] for line in after]
    assert [line["prediction"] for line in before_] != [line["prediction"] for line in after]


def test_refusals(generator_folder: Path, reader_folder: Path, tmp_path: Path) -> None:
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": "a"}])
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "one"}, {"text": "two"}])
    both = CliRunner().invoke(main, ["predict", "minilm-l6", str(asked), "--labels", "a,b", "--shots", str(bare)])
    assert (both.exit_code, "leave one out" in both.output) == (2, True)
    alone = CliRunner().invoke(main, ["predict", str(generator_folder), str(asked), "--shown", "2"])
    assert (alone.exit_code, "name those too" in alone.output) == (2, True)
    nothing = CliRunner().invoke(main, ["predict", str(generator_folder), str(asked), "--shots", str(bare)])
    assert (nothing.exit_code, "nothing to show" in nothing.output) == (2, True)
