"""Classes of uneven size: how often rows are drawn, how much they count, the head start of logits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import RecipeError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.balance import Logits, Sampling, Weights
from tuneful.data.layouts import Collator
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import mean_loss_of
from tuneful.objectives import Classify
from tuneful.run.api import check
from tuneful.run.build import build
from tuneful.schedules.epochs import occurrences, order_of
from tuneful.testing import tiny_policy, tiny_rows
from work import MOODS, losses_of, moods, whole_and_parts, write_rows

UNEVEN = {"optimiser": {"learning_rate": 0.003, "rows_per_step": 8}, "schedule": {"steps": 60}, "choose": "none",
          "evaluate": {"forgetting": False}}  # fmt: skip


def test_effective_numbers_by_hand() -> None:
    """beta 0.9: one row is worth 1, two 1.9, three 2.71 (equation 2); a row counts one over that."""
    found = Weights(beta=0.9).weights(np.array([1, 2, 3, 0]))
    np.testing.assert_allclose(found, [1.0, 1 / 1.9, 1 / 2.71, 0.0])


def test_offsets_by_hand() -> None:
    """Of 8 rows 6, 1 and 1: log(3/4), log(1/8), log(1/8); a class without rows is taken for one with a single row."""
    assert Logits().offsets(np.array([6, 1, 1])) == pytest.approx([math.log(0.75), math.log(0.125), math.log(0.125)])
    assert Logits(tau=2).offsets(np.array([3, 1, 0]))[2] == pytest.approx(2 * math.log(0.25))


def test_shares_of_what_is_drawn_by_hand() -> None:
    """Of 1 and 4 rows: with power 1 each class as often; with 0.5 as 1 to 2, so a row as 1 to 1/2."""
    counts = np.array([1, 4])
    assert (Sampling().weights(counts) * counts).tolist() == [1.0, 1.0]
    assert (Sampling(power=0.5).weights(counts) * counts).tolist() == [1.0, 2.0]


def test_logits_have_a_head_start_while_they_learn(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    policy.module.eval()
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))
    logits = policy(batch).class_logits().detach()
    ahead = logits + torch.tensor([0.5, -1.0, 2.0])
    expected = ahead.logsumexp(-1) - ahead[range(6), batch.targets["labels"]]
    found = Classify(offsets=(0.5, -1.0, 2.0))(policy, batch)
    torch.testing.assert_close(found.losses.detach(), expected)
    right = float((logits.argmax(-1) == batch.targets["labels"]).float().mean())
    assert found.metrics["accuracy"] == pytest.approx(right), "asked without the head start"


def test_a_row_counts_as_its_weight_says() -> None:
    rows = [Row(Example(Place("t", n)), np.array([1, 2], dtype=np.int32), np.zeros(2, dtype=np.float32), target=n,
                weight=weight) for n, weight in enumerate((2.0, 0.5))]  # fmt: skip
    batch = Collator(Layout.LABELS)(rows)
    assert batch.weights.tolist() == [2.0, 0.5]
    assert batch.units == 2.5


def test_an_epoch_draws_rows_as_often_as_they_say() -> None:
    """Ten rows, the first as often as the nine others together: five times each epoch, the others once or not at all,
    and over many epochs all of them."""
    seen: Counter[int] = Counter()
    for epoch in range(40):
        order = order_of([9.0, *[1.0] * 9], [3, epoch])
        assert len(order) == 10
        counts = Counter(order.tolist())
        assert counts[0] == 5
        assert max(counts[place] for place in range(1, 10)) == 1
        seen.update(counts)
    assert min(seen[place] for place in range(1, 10)) > 10
    assert order_of([2.0, 2.0, 2.0], [3, 0]).tolist() == np.random.default_rng([3, 0]).permutation(3).tolist()
    assert order_of([9.0, *[1.0] * 9], [3, 0]).tolist() == order_of([9.0, *[1.0] * 9], [3, 0]).tolist()


def uneven(folder: Path, common: int = 60, rare: int = 4) -> Path:
    """Words tell the label, and so few rows have the second one that it pays to forget it; even tests."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    rows = moods(2 * common)
    write_rows(folder / "data" / "train.jsonl", [*rows[0::2], *rows[1 : 2 * rare : 2]])
    held = moods(2 * common + 60)[2 * common :]
    write_rows(folder / "data" / "validation.jsonl", held[:20])
    write_rows(folder / "data" / "test.jsonl", held[20:])
    return folder / "data"


def test_counts_come_from_the_rows_that_are_learned(reader_folder: Path, tmp_path: Path) -> None:
    """60 and 4 rows, so 15 times as often or as much; validation and test rows are even, and count the same way."""
    given: dict[str, Any] = {"data": {"source": str(uneven(tmp_path)), "balance": "sampling"},
                             "model": str(reader_folder), **UNEVEN}  # fmt: skip
    found = check(given)
    times = {row.example.label: row.times for row in found.repeated}
    assert times["sad"] / times["glad"] == pytest.approx(15.0)
    assert {row.weight for row in found.repeated} == {1.0}
    weights = {row.example.label: row.weight for row in found.rows("validation")}
    assert weights["sad"] / weights["glad"] == pytest.approx(15.0)
    given["data"]["balance"] = {"kind": "weights", "beta": 0.5}
    found = check(given)
    weights = {row.example.label: row.weight for row in found.repeated}
    assert weights["sad"] / weights["glad"] == pytest.approx((1 - 0.5**60) / (1 - 0.5**4))
    assert {row.times for row in found.repeated} == {1.0}
    given["data"]["balance"] = "logits"
    found = check(given)
    assert found.resolved.objective.offsets == pytest.approx([math.log(60 / 64), math.log(4 / 64)])
    assert [note.facts for note in found.xray.notes if note.key == "balanced"] == [
        {"balance": "logits", "few": 4, "many": 60}
    ]


def test_a_row_that_comes_again_is_told_apart() -> None:
    assert occurrences(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert occurrences(np.empty(0, dtype=np.int64)).tolist() == []


def test_accuracy_counts_rows_by_their_weight(reader_folder: Path) -> None:
    """One right row of weight 3 and wrong ones of weight 1, in one batch or in several."""
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.LABELS)
    with torch.no_grad():
        said = policy.read(Collator(Layout.LABELS)(rows).inputs).class_logits().argmax(-1).tolist()
    weighed = [replace(row, target=answer if number == 0 else (answer + 1) % 3, weight=3.0 if number == 0 else 1.0)
               for number, (row, answer) in enumerate(zip(rows, said, strict=True))]  # fmt: skip
    wanted = 3.0 / (3.0 + len(rows) - 1)
    whole = mean_loss_of(policy, Classify(), [Collator(Layout.LABELS)(weighed)])
    parts = mean_loss_of(policy, Classify(), [Collator(Layout.LABELS)([row]) for row in weighed])
    assert whole["accuracy"] == pytest.approx(wanted)
    assert parts["accuracy"] == pytest.approx(wanted)


@pytest.mark.parametrize("balance", ["sampling", "weights", "logits"])
def test_rare_classes_are_learned(balance: str, reader_folder: Path, tmp_path: Path) -> None:
    """Macro-F1 over even test rows, three seeds."""
    gains = []
    for seed in range(3):
        scores = []
        for chosen in (None, balance):
            source = uneven(tmp_path / f"{seed}")
            given = {"data": {"source": str(source), "balance": chosen}, "model": str(reader_folder), "seed": seed,
                     **UNEVEN}  # fmt: skip
            run = tuneful.fit(given, out=tmp_path / f"run-{seed}-{chosen}")
            scores.append(run.report["quality"]["macro_f1"]["tuned"])
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 0.1, gains
    assert METRICS["macro_f1"].higher_is_better


def test_a_resumed_run_draws_the_same(reader_folder: Path, tmp_path: Path) -> None:
    given = {"data": {"source": str(uneven(tmp_path)), "balance": "sampling"}, "model": str(reader_folder), **UNEVEN,
             "schedule": {"steps": 12}, "checkpoint": {"every": 3}}  # fmt: skip
    whole, parts = whole_and_parts(tuneful.run.api.recipe_for(given, model=None, settings={}), tmp_path, after=4)
    assert losses_of(whole, "train") == losses_of(parts, "train")


def test_what_cannot_be_evened_is_refused(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    data = uneven(tmp_path)
    given: dict[str, Any] = {"data": {"source": str(data), "balance": "sampling"}, "model": str(reader_folder),
                             **UNEVEN}  # fmt: skip
    with pytest.raises(RecipeError, match=r"choose: the ways .* data\.balance"):
        check({**given, "choose": {"enabled": True}})
    with pytest.raises(RecipeError, match=r"leave objective\.pooling or data\.balance out"):
        check({**given, "objective": {"kind": "classify", "pooling": "mean"}})
    with pytest.raises(RecipeError, match="found rows without labels under 'next_token'"):
        check({**given, "model": str(generator_folder), "objective": "next_token"})
    with pytest.raises(RecipeError, match=r"data\.streaming=false"):
        check({**given, "data": {**given["data"], "streaming": True}})
    rows = [{"text": f"{word} {n}", "label": n / 7} for n, word in enumerate(MOODS["glad"].split() * 6)]
    numbers = write_rows(tmp_path / "numbers.jsonl", rows)
    with pytest.raises(RecipeError, match="found numbers"):
        check({**given, "data": {"source": str(numbers), "balance": "weights"}})
    several = write_rows(
        tmp_path / "several.jsonl", [{**row, "label": ["a", "b"][: n % 3]} for n, row in enumerate(rows)]
    )
    with pytest.raises(RecipeError, match="found several labels a row"):
        check({**given, "data": {"source": str(several), "balance": "logits"}})
    with pytest.raises(RecipeError, match="found 3 numbers for 2 classes"):
        check({**given, "data": {"source": str(data)}, "objective": {"kind": "classify", "offsets": [1, 2, 3]}})
    with pytest.raises(RecipeError, match=r"Did you mean 'sampling'"):
        check({**given, "data": {**given["data"], "balance": "samplin"}})


def test_balance_changes_nothing_where_it_is_not_asked_for(reader_folder: Path, tmp_path: Path) -> None:
    found = check({"data": str(uneven(tmp_path)), "model": str(reader_folder), **UNEVEN})
    assert {(row.times, row.weight) for row in found.repeated} == {(1.0, 1.0)}
    assert found.resolved.objective.offsets == ()
    assert "balanced" not in {note.key for note in found.xray.notes}
    assert build(found).schedule.total == 60
