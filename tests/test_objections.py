"""What a model itself objects to: `check` refuses it as `fit` does, and a run that is refused leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tuneful.adapters import Full, TopLayers
from tuneful.core.errors import RecipeError, RunFolderError
from tuneful.run.api import check, fit, recipe_for
from tuneful.run.choose import said
from tuneful.run.few import against_choosing
from tuneful.run.folder import RunFolder
from tuneful.run.ways import Beside, Tried
from work import moods, typed, write_rows

REFUSED = [
    ({"regularisers": ["neftune"]}, "neftune disturbs what the lowest layer reads, .*; use an adapter"),
    ({"augment": ["masked"]}, "has not learned to name hidden words; name one that has"),
]


def test_an_adapter_file_holds_no_head_over_means(tmp_path: Path, reader_folder: Path) -> None:
    """The message names the adapter that was given, and where the mean comes from where nobody asked for it."""
    data = str(write_rows(tmp_path / "moods.jsonl", moods(40)))
    words = r"adapter: the class head reads the mean .*choosing a way takes too.* 'lora' holds no such head; use full"
    for more in ({"objective": {"pooling": "mean"}}, {"choose": {"enabled": True}}):
        with pytest.raises(RecipeError, match=words):
            check({"data": data, "model": str(reader_folder), "adapter": "lora", **more})


@pytest.mark.parametrize(
    ("adapter", "words"),
    [(TopLayers(layers=3), " ({kind: top_layers, layers: 3})"), (Full(), " ({kind: full})"), (None, "")],
)
def test_an_adapter_is_named_as_in_a_recipe(adapter: TopLayers | Full | None, words: str) -> None:
    nothing = torch.zeros(1, 2)
    way = Tried("tune", Beside(), nothing, 0.0, adapter)
    assert said(way) == f"encoder tuned with its head{words}"


def test_what_is_to_be_left_out_for_a_choice_is_what_a_choice_refuses(tmp_path: Path, reader_folder: Path) -> None:
    """Each setting that is named is refused beside `choose.enabled=true`; a plain recipe has none."""
    source = str(write_rows(tmp_path / "moods.jsonl", moods(60)))
    plain: dict[str, Any] = {"data": {"source": source}, "model": str(reader_folder)}
    assert against_choosing(recipe_for(plain, model=None, settings={})) == []
    settings = {"data.select": "random", "data.balance": "sampling", "augment": "typos", "soup": 2, "interpolate": 0.5,
                "schedule": "selftrain", "adapter": "head", "repair": "balanced_head"}  # fmt: skip
    for name, value in settings.items():
        recipe = recipe_for(plain, model=None, settings={name: value, "choose.enabled": True})
        assert against_choosing(recipe) == [name]
        with pytest.raises(RecipeError):
            check(recipe)


@pytest.fixture
def given(tmp_path: Path, reader_folder: Path) -> dict[str, Any]:
    data = write_rows(tmp_path / "moods.jsonl", moods(40))
    return {"data": str(data), "model": str(reader_folder), "adapter": "head", "schedule": {"steps": 2}}


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_check_refuses_what_fit_refuses_in_the_same_words(
    given: dict[str, Any], tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as fitted:
        fit({**given, **more}, out=tmp_path / "run")
    with pytest.raises(RecipeError) as checked:
        check({**given, **more})
    assert str(checked.value) == str(fitted.value)
    assert not (tmp_path / "run").exists(), "nothing was written"


def test_the_terminal_refuses_too_and_loads_a_model_for_nothing_else(given: dict[str, Any], tmp_path: Path) -> None:
    settings = ("moods.jsonl", "--model", given["model"], "--set", "adapter=head", "--set", "schedule.steps=2")
    refused = typed("check", *settings, "--set", "regularisers=neftune", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "neftune disturbs what the lowest layer reads" in refused.stderr
    passed = typed("check", *settings, "--set", "regularisers=label_smoothing", cwd=tmp_path)
    assert passed.exit_code == 0
    assert "loading the model" not in passed.stderr


def refused(folder: Path, *, writes: bool = False) -> None:
    with RunFolder(folder).claimed():
        if writes:
            (folder / "records.jsonl").touch()
        raise RecipeError(["refused"])


def test_only_a_folder_in_which_nothing_was_written_goes(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new", "old", "written"):
        with pytest.raises(RecipeError, match="refused"):
            refused(tmp_path / name, writes=name == "written")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old").is_dir()
    assert (tmp_path / "written" / "records.jsonl").exists()


def test_a_folder_that_another_run_has_is_left_to_it(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").claimed():
        with pytest.raises(RunFolderError, match="another run is at work"), RunFolder(tmp_path / "run").claimed():
            pass
        assert (tmp_path / "run" / ".claim").exists()
    assert (tmp_path / "run").exists(), "a run that ended well"
