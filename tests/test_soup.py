"""Several runs from one start, and their mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tuneful.core.errors import RecipeError
from tuneful.recipe import Recipe
from tuneful.run import soup as module
from tuneful.run.api import check
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted, tried
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from tuneful.run.soup import Soup, mixed
from tuneful.run.train import Progress, train


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
        built.policy.attached.load(start)
        apart.append(learned(module._reseeded(built, number)))
    records = list(train(again := build(prepare(given)), RunFolder(tmp_path / "run"), Progress()))
    for name, tensor in weights(again).items():
        torch.testing.assert_close(tensor, torch.stack([one[name] for one in apart]).mean(0), rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(apart[0][name], apart[1][name]) for name in start)
    assert any(not torch.allclose(apart[1][name], apart[2][name]) for name in start)
    steps = [record.step for record in records if record.kind == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) == 3 * len(again.schedule) == again.cost.steps


def test_what_makes_the_mean_worse_is_left_out(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses of single runs 3, 1, 2 and 9; the second best is taken, the third makes the mean worse, the worst
    better."""
    built = build(prepare(recipe(tmp_path, reader_folder, soup=4)))
    runs = [{"w": torch.tensor(value)} for value in (30.0, 10.0, 20.0, 90.0)]
    losses = {30.0: 3.0, 10.0: 1.0, 20.0: 2.0, 90.0: 9.0, 15.0: 0.9, 20.0 + 1e-9: 2.0, 40.0: 0.8}
    monkeypatch.setattr(module, "_loss", lambda _, found: losses[round(float(found["w"]), 4)])
    soup = mixed(built, runs)
    assert float(soup.weights["w"]) == pytest.approx(40.0)  # (10 + 20 + 90) / 3; with 30 it would be 20 again
    assert soup.kept == 3


def stopping(after: int) -> Callable[[], bool]:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > after

    return stop


def test_a_run_that_is_stopped_in_its_second_part_ends_the_same(reader_folder: Path, tmp_path: Path) -> None:
    given, ends = recipe(tmp_path, reader_folder, soup=2), []
    total = len(build(prepare(given)).schedule)
    with pytest.raises(Interrupted):
        for _ in run(given, tmp_path / "stopped", should_stop=stopping(total + 2)):
            pass
    for name in ("whole", "stopped"):
        folder = RunFolder(tmp_path / name)
        for _ in run(given, folder.path, resume=name == "stopped"):
            pass
        ends.append(folder.read_json(folder.report)["generalisation"])
        assert "(a soup)" in folder.page.read_text(encoding="utf-8")
    assert ends[0]["reason"]["key"] == "souped"
    assert ends[0]["best_step"] is None
    assert ends[0]["validation"] == pytest.approx(ends[1]["validation"], rel=1e-3)
    assert ends[0]["reason"] == ends[1]["reason"]


def test_low_ranks_make_no_soup(reader_folder: Path, tmp_path: Path) -> None:
    for adapter in ("lora", {"kind": "lora", "dora": True}):
        with pytest.raises(RecipeError, match="mean of low-rank factors"):
            check({**recipe(tmp_path, reader_folder).model_dump(exclude_unset=True), "soup": 2, "adapter": adapter})
