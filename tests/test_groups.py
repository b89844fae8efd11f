"""Groups while they are learned: how often their rows are drawn, how much they count, and what each step has of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneful.core.errors import RecipeError
from tuneful.data.balance import GroupSampling, Reweighing
from tuneful.recipe import Recipe
from tuneful.run.build import build
from tuneful.run.prepare import Prepared, prepare
from tuneful.schedules.epochs import order_of, spread
from work import MOODS, losses_of, whole_and_parts, write_rows


def cities(counts: dict[tuple[str, str], int]) -> list[dict[str, str]]:
    """So many rows of each mood and city; the text tells the mood."""
    rng, rows = np.random.default_rng(0), []
    for (mood, city), count in counts.items():
        for number in range(count):
            words = " ".join(rng.choice(MOODS[mood].split(), 4))
            rows.append({"text": f"{words} {city}{number}", "label": mood, "city": city})
    return rows


UNEVEN = {("glad", "east"): 40, ("glad", "west"): 8, ("sad", "east"): 8, ("sad", "west"): 24}


def prepared(tmp_path: Path, model: Path, rows: list[dict[str, str]], **more: Any) -> Prepared:
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    data = {"source": source, "group": "city", "validation": 0, "test": 0, **more.pop("data", {})}
    return prepare(Recipe.model_validate({"data": data, "model": str(model), "name": "t", "choose": "none", **more}))


def test_cells_are_drawn_alike_by_hand() -> None:
    counts = np.array([[6, 2], [1, 0]])
    np.testing.assert_allclose(GroupSampling().weights(counts), [[1 / 6, 1 / 2], [1, 0]])
    np.testing.assert_allclose(GroupSampling(by="group").weights(counts), [[1 / 8, 1 / 8], [1, 0]])


def test_reweighing_by_hand() -> None:
    """Of 10 rows 8 in the first group, 7 of the first class: 8 * 7 / 10 = 5.6 for 6 rows. Weighed so, the classes of
    each group are as often as those of all."""
    counts = np.array([[6, 2], [1, 1]])
    weights = Reweighing().weights(counts)
    np.testing.assert_allclose(weights, [[5.6 / 6, 2.4 / 2], [1.4 / 1, 0.6 / 1]])
    weighed = weights * counts
    np.testing.assert_allclose(weighed / weighed.sum(1, keepdims=True), [[0.7, 0.3], [0.7, 0.3]])


def test_every_stretch_has_its_share_of_each_stratum() -> None:
    strata = np.array([0] * 60 + [1] * 30 + [2] * 10)
    for epoch in range(20):
        order = spread(order_of([1.0] * 100, [3, epoch]), strata, [3, epoch])
        assert sorted(order.tolist()) == list(range(100))
        for start in range(0, 100, 10):
            found = np.bincount(strata[order[start : start + 10]], minlength=3)
            assert np.abs(found - [6, 3, 1]).max() <= 1
    again, other = (spread(order_of([1.0] * 100, [3, epoch]), strata, [3, epoch]) for epoch in (0, 1))
    assert again.tolist() != other.tolist(), "drawn by lot"


def test_of_each_stratum_as_much_is_drawn_as_it_is_said() -> None:
    """Of 60, 30 and 10 rows each stratum a third of 100 draws."""
    strata = np.array([0] * 60 + [1] * 30 + [2] * 10)
    for epoch in range(20):
        order = order_of([1 / [60, 30, 10][stratum] for stratum in strata], [3, epoch], strata)
        assert np.abs(np.bincount(strata[order]) - 100 / 3).max() < 1


def test_rows_know_how_often_they_come(reader_folder: Path, tmp_path: Path) -> None:
    found = prepared(tmp_path, reader_folder, cities(UNEVEN), data={"balance": "group_sampling"})
    times = {(row.example.label, row.example.group): row.times for row in found.repeated}
    assert times["glad", "west"] / times["glad", "east"] == pytest.approx(5)
    assert times["sad", "west"] / times["glad", "east"] == pytest.approx(40 / 24)
    weighed = prepared(tmp_path, reader_folder, cities(UNEVEN), data={"balance": "reweighing"}).repeated
    totals: Counter[tuple[str, str]] = Counter()
    for row in weighed:
        totals[row.example.label, row.example.group or ""] += row.weight  # type: ignore[assignment]
    assert totals["glad", "east"] / totals["sad", "east"] == pytest.approx(
        totals["glad", "west"] / totals["sad", "west"]
    )
    assert sum(totals.values()) == pytest.approx(80)


def test_a_row_of_no_known_group_counts_as_the_mean_row(reader_folder: Path, tmp_path: Path) -> None:
    rows = cities(UNEVEN)
    rows += [{**row, "text": f"{row['text']} x", "city": ""} for row in rows[:4]]
    found = prepared(tmp_path, reader_folder, rows, data={"balance": "reweighing"}).repeated
    assert {row.weight for row in found if row.example.group is None} == {1.0}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"balance": "group_sampling", "group": None}, "the training rows have 0"),
        ({"balance": "reweighing", "streaming": True}, "data.streaming=false"),
    ],
    ids=str,
)
def test_what_cannot_be_evened_is_refused(
    data: dict[str, Any], words: str, reader_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=words):
        prepared(tmp_path, reader_folder, cities(UNEVEN), data=data)


def test_a_step_needs_rows_of_each_group(reader_folder: Path, tmp_path: Path) -> None:
    mmd = {"regularisers": [{"kind": "mmd", "least": 3}], "optimiser": {"rows_per_step": 20}}
    with pytest.raises(RecipeError, match=r"about 2.0 are of group ('east' and class 'sad'|'west' and class 'glad')"):
        prepared(tmp_path, reader_folder, cities(UNEVEN), **mmd)
    found = prepared(tmp_path, reader_folder, cities(UNEVEN), **mmd, data={"balance": "group_sampling"})
    (note,) = [note for note in found.xray.notes if note.key == "groups_compared"]
    assert note.facts == {"groups": "east, west", "count": 2, "how": "mmd"}
    built = build(found)
    for step in built.schedule.steps(built.policy):
        (batch,) = step.batches
        assert batch.groups is not None
        cells = Counter(zip(batch.groups.tolist(), batch.targets["labels"].tolist(), strict=True))
        assert min(cells.values()) >= 4
        assert len(cells) == 4


def test_as_many_as_are_needed_are_enough(reader_folder: Path, tmp_path: Path) -> None:
    """Four cells drawn alike, three of each in twelve, though a quarter of the sum of these weights is a little less."""
    cells = dict(zip(UNEVEN, (3, 3, 3, 7), strict=True))
    mmd = {"regularisers": [{"kind": "mmd", "least": 3}], "optimiser": {"rows_per_step": 12}}
    found = prepared(tmp_path, reader_folder, cities(cells), **mmd, data={"balance": "group_sampling"})
    assert found.resolved.rows_per_step == 12
    less = {**mmd, "optimiser": {"rows_per_step": 11}}
    with pytest.raises(RecipeError, match="needs 3 rows"):
        prepared(tmp_path, reader_folder, cities(cells), **less, data={"balance": "group_sampling"})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**row, "city": "east"} for row in cities(UNEVEN)], "all training rows are of one"),
        ([{**row, "city": ""} for row in cities(UNEVEN)], "no training row with a label has one"),
        ([{**row, "city": f"c{n}"} for n, row in enumerate(cities(UNEVEN))], "at most 50 groups, and found 80"),
        ([{**row, "city": row["label"]} for row in cities(UNEVEN)], "tells the class of every row"),
    ],
    ids=["one", "none", "many", "label"],
)
def test_groups_that_cannot_be_compared_are_refused(
    rows: list[dict[str, str]], words: str, reader_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=words):
        prepared(tmp_path, reader_folder, rows, regularisers=["mmd"])


def test_what_a_penalty_keeps_outlasts_a_stop(reader_folder: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", cities(UNEVEN)))
    recipe = Recipe.model_validate({
        "data": {"source": source, "group": "city"}, "model": str(reader_folder), "choose": "none",
        "regularisers": [{"kind": "group_dro", "eta": 0.5}, "adversary"],
        "optimiser": {"rows_per_step": 16, "learning_rate": 1e-3}, "schedule": {"steps": 6},
        "checkpoint": {"every": 2}, "evaluate": {"every": 2},
    })  # fmt: skip
    whole, parts = whole_and_parts(recipe, tmp_path, after=3)
    assert losses_of(whole) == losses_of(parts)
    penalties = [[record.metrics["penalty"] for record in folder.read_records() if record.kind == "train"]
                 for folder in (whole, parts)]  # fmt: skip
    assert penalties[0] == penalties[1]
    assert len(set(penalties[0])) > 1
