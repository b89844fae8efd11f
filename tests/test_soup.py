"""Several runs from one start, and their mean."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tuneful.core.errors import RecipeError
from tuneful.recipe import Recipe
from tuneful.run.api import check
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted, tried
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.session import run
from tuneful.run.soup import Shelf, Soup, copied, mixed, reseeded, taste
from tuneful.run.train import train
from tuneful.run.vary import tokens_seen


def recipe(folder: Path, reader: Path, **more: Any) -> Recipe:
    lines = ["text,label", *(f"text {n} {'ab' * (n % 9)} {'xyz'[n % 3] * 4},{'xyz'[n % 3]}" for n in range(60))]
    (folder / "d.csv").write_text("\n".join(lines), encoding="utf-8")
    given = {"data": str(folder / "d.csv"), "model": str(reader), "choose": "none", "name": "t",
             "schedule": {"epochs": 3}, **more}  # fmt: skip
    return Recipe.model_validate(given)


def weights(built: Built) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}


def learned(built: Built) -> dict[str, Tensor]:
    for _ in tried(built, lambda: False):
        pass
    return weights(built)


def test_each_run_counts_the_same() -> None:
    soup = Soup({"w": torch.tensor(3.0)}, 1)
    for value in (6.0, 0.0):
        soup = soup.plus({"w": torch.tensor(value)})
    assert float(soup.weights["w"]) == pytest.approx(3.0)
    assert soup.kept == 3


def test_a_soup_is_the_mean_of_runs_that_were_made_one_by_one(reader_folder: Path, tmp_path: Path) -> None:
    """Without rows to look at all count. The runs differ, and start from the same weights."""
    given = recipe(tmp_path, reader_folder, soup=3, evaluate="none")
    built = build(prepare(given))
    start = weights(built)
    apart = [learned(built)]
    for number in (1, 2):
        apart.append(learned(reseeded(built, number, start)))
    records = list(train(again := build(prepare(given)), RunFolder(tmp_path / "run"), Progress()))
    for name, tensor in weights(again).items():
        torch.testing.assert_close(tensor, torch.stack([one[name] for one in apart]).mean(0), rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(apart[0][name], apart[1][name]) for name in start)
    assert any(not torch.allclose(apart[1][name], apart[2][name]) for name in start)
    steps = [record.step for record in records if record.kind == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) == 3 * len(again.schedule) == again.cost.steps


def test_what_makes_the_mean_worse_is_left_out() -> None:
    """Losses of single runs 3, 1, 2 and 9: the second best joins, the third makes the mean worse, the worst better."""
    runs = [{"w": torch.tensor(value)} for value in (30.0, 10.0, 20.0, 90.0)]
    losses = {30: 3.0, 10: 1.0, 20: 2.0, 90: 9.0, 15: 0.9, 40: 0.8}  # 10 and 20; 10, 20 and 90; with 30 it were 20
    soup = mixed(runs, lambda found: losses[round(float(found["w"]))])
    assert float(soup.weights["w"]) == pytest.approx(40.0)
    assert soup.kept == 3


def test_a_run_without_a_number_is_left_out() -> None:
    runs = [{"w": torch.tensor(value)} for value in (float("nan"), 1.0)]
    soup = mixed(runs, lambda found: float(found["w"]))
    assert soup == Soup(runs[1], 1)


def test_a_mean_does_better_than_its_runs(reader_folder: Path, tmp_path: Path) -> None:
    """On the validation rows, than each of them: of texts that half tell their class every run learns other accidents."""
    chance = random.Random(0)
    texts = [
        "".join(
            chance.choice(("abc", "def", "ghi")[n % 3] if chance.random() < 0.55 else "abcdefghi") for _ in range(8)
        )
        for n in range(90)
    ]
    given = recipe(tmp_path, reader_folder, soup=4, schedule={"epochs": 12}, regularisers="none",
                   optimiser={"learning_rate": 1e-2, "decay": "constant"})  # fmt: skip
    lines = ["text,label", *(f"{text} {n},{'xyz'[n % 3]}" for n, text in enumerate(texts))]
    (tmp_path / "d.csv").write_text("\n".join(lines), encoding="utf-8")
    task = given.task.model_copy(update={"data": given.task.data.model_copy(update={"validation": 0.3})})
    built = build(prepare(given.model_copy(update={"tasks": [task]})))
    list(train(built, folder := RunFolder(tmp_path / "run"), progress := Progress()))
    together, loss = copied(built), taste(built)
    assert loss is not None
    others = [Shelf(folder.soup).take(number, Progress()) for number in (1, 2, 3)]
    assert loss(together) < min(loss(one) for one in others if one is not None)
    assert progress.kept[0].facts["kept"] > 1


def test_updates_are_counted_where_runs_stop_early(reader_folder: Path, tmp_path: Path) -> None:
    given = recipe(tmp_path, reader_folder, soup=3, schedule={"epochs": 20}, evaluate={"patience": 1, "every": 2},
                   optimiser={"learning_rate": 0.3})  # fmt: skip
    built = build(prepare(given))
    records = list(train(built, RunFolder(tmp_path / "run"), progress := Progress()))
    steps = [record.step for record in records if record.kind == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert progress.step == len(steps) < 3 * len(built.schedule)
    assert [note.key for note in progress.kept] == ["souped"]


def stopping(after: int) -> Callable[[], bool]:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > after

    return stop


def test_a_soup_that_is_stopped_in_its_third_run_ends_the_same(reader_folder: Path, tmp_path: Path) -> None:
    """Weights are the same to the last bit, and of the runs that had ended none is made again."""
    given, ends = recipe(tmp_path, reader_folder, soup=3, evaluate={"patience": 0}), []
    total = len(build(prepare(given)).schedule)
    stopped = RunFolder(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        for _ in run(given, stopped.path, should_stop=stopping(2 * total + 1)):
            pass
    assert [place.name for place in stopped.soup.iterdir()] == ["run-1"]
    for name in ("whole", "stopped"):
        folder = RunFolder(tmp_path / name)
        made = [record.step for record in run(given, folder.path, resume=name == "stopped") if record.kind == "train"]
        report = folder.read_json(folder.report)
        ends.append((load_file(folder.path / "model" / "model.safetensors"), report["cost"]["steps"]))
        assert "(a soup)" in folder.page.read_text(encoding="utf-8")
        assert report["generalisation"]["best_step"] is None
    assert made == list(range(2 * total + 1, 3 * total + 1))
    assert ends[0][1] == ends[1][1] == 3 * total
    for key, tensor in ends[0][0].items():
        assert torch.equal(tensor, ends[1][0][key])


def test_what_makes_no_soup(reader_folder: Path, tmp_path: Path) -> None:
    for adapter in ("lora", {"kind": "lora", "dora": True}):
        with pytest.raises(RecipeError, match="mean of low-rank factors"):
            check({**recipe(tmp_path, reader_folder).model_dump(exclude_unset=True), "soup": 2, "adapter": adapter})
    for more, words in (({"sharded": True}, "without sharded"), ({"choose": {"enabled": True}}, "by single runs")):
        with pytest.raises(RecipeError, match=words):
            check({**recipe(tmp_path, reader_folder).model_dump(exclude_unset=True), "soup": 2, **more})


def test_augmented_runs_may_meet_any_token(reader_folder: Path, tmp_path: Path) -> None:
    """Further runs draw other typos, so it is not known which rows of the embedding will learn."""
    assert tokens_seen(prepare(recipe(tmp_path, reader_folder, augment=["typos"]))) is not None
    assert tokens_seen(prepare(recipe(tmp_path, reader_folder, augment=["typos"], soup=2))) is None
