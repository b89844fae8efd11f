"""An encoder learns to tell classes apart that it has never seen, by one row of each or few."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import DataError, RecipeError, RunFolderError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.episodes import by_class
from tuneful.data.layouts import Collator
from tuneful.data.unseen import split_classes
from tuneful.evaluation.prototypes import examine_prototype, right_by_class
from tuneful.evaluation.settings import Evaluate
from tuneful.models.prompts import Prompts, write_prompts
from tuneful.objectives import Prototype
from tuneful.objectives.prototype import nearness
from tuneful.recipe import Recipe
from tuneful.run.api import check
from tuneful.run.build import build
from tuneful.run.folder import RunFolder
from tuneful.run.losses import by_part
from tuneful.run.tuned import open_encoder
from tuneful.schedules import Episodes
from tuneful.schedules.epochs import Cut
from tuneful.testing import tiny_policy, tiny_rows
from work import losses_of, moods, whole_and_parts, write_rows

LETTERS = "ABCDEFGHJK"
SMALL: dict[str, Any] = {
    "objective": "prototype",
    "evaluate": {"forgetting": False, "every": 20},
    "schedule": {"kind": "episodes", "classes": 12, "rows": 3, "steps": 60},
    "optimiser": {"learning_rate": 3e-3},
}


def pairs(rows: int = 8) -> list[dict[str, str]]:
    """45 classes: which two capitals stand among small letters that mean nothing."""
    rng = np.random.default_rng(0)
    found = []
    for name in map("".join, itertools.combinations(LETTERS, 2)):
        for _ in range(rows):
            noise = "".join(rng.choice(list("qrstuvwxyz"), 6))
            found.append({"text": f"{noise[:3]}{name[0]}{noise[3:]}{name[1]}", "label": name})
    return found


def rows_of(*classes: int, length: int = 4) -> list[Row]:
    """A row of so many tokens for each class that is named, all of them different."""
    return [
        Row(Example(Place("rows", n), label=c), np.full(length, 10 + n, dtype=np.int32), np.zeros(length), target=c)
        for n, c in enumerate(classes)
    ]


def recipe(folder: Path, reader: Path, **changes: Any) -> dict[str, Any]:
    return {"data": str(write_rows(folder / "pairs.jsonl", pairs())), "model": str(reader), **SMALL, **changes}


def test_nearness_by_hand() -> None:
    """Rows 0 and 1 are of one class, at right angles; 2 and 3 of another, opposite to row 0; 4 is alone."""
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    found = nearness(vectors, torch.tensor([0, 0, 1, 1, 2]))
    half = math.sqrt(0.5)
    expected = [[0, -1, 0], [0, 0, 1], [-half, 1, 0], [-half, 1, 0], [half, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_losses_are_worked_out_by_hand(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.CLASSES)
    policy.module.eval()
    rows = [replace(row, target=target) for row, target in
            zip(tiny_rows(loaded, Layout.CLASSES, 7), (7, 3, 3, 7, 3, 9, 7), strict=True)]  # fmt: skip
    batch = Collator(Layout.CLASSES)(rows)
    assert batch.weights.tolist() == [1, 1, 1, 1, 1, 0, 1]
    assert batch.units == 6
    terms = Prototype(temperature=0.2)(policy, batch)
    vectors = policy(batch).embeddings().detach().numpy()
    kinds, right = [row.target for row in rows], []
    for number, loss in enumerate(terms.losses.tolist()):
        scores = {}
        for kind in (3, 7, 9):
            others = [vectors[n] for n, other in enumerate(kinds) if other == kind and n != number]
            if others:
                mean = np.mean(others, axis=0)
                scores[kind] = float(vectors[number] @ mean / np.linalg.norm(mean)) / 0.2
        if kinds[number] == 9:
            assert loss == 0
            continue
        assert loss == pytest.approx(math.log(sum(map(math.exp, scores.values()))) - scores[kinds[number]], abs=1e-4)
        right.append(max(scores, key=lambda kind: scores[kind]) == kinds[number])
    assert terms.metrics["accuracy"] == pytest.approx(np.mean(right))
    (terms.losses * batch.weights).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in policy.trainable().values() if p.grad is not None)


def test_a_row_that_stands_twice_counts_once_and_a_class_of_one_row_not_at_all() -> None:
    rows = rows_of(5, 5, 2, 7, 7, 7)
    groups = by_class([*rows, rows[0], rows[2], replace(rows[0], target=None)])
    assert [[row.target for row in group] for group in groups] == [[5, 5], [7, 7, 7]]
    assert Episodes().learns([*rows, rows[0]]) == [rows[0], rows[1], *rows[3:]]


def test_steps_are_drawn_by_class_and_a_function_of_their_number() -> None:
    rows = rows_of(*[c for c in range(9) for _ in range(2 + c)])
    settings, collate = Episodes(classes=5, rows=3), Collator(Layout.CLASSES)
    assert settings.drawn(rows) == 15

    def steps(start: int = 0, tokens: int = 1000, seed: int = 0) -> list[Any]:
        schedule = settings.over(rows, collate, Cut(15, tokens), total=40, seed=seed)
        return list(schedule.steps(None, start))  # type: ignore[arg-type]

    def told(found: list[Any]) -> list[list[int]]:
        return [[n for batch in step.batches for n in batch.inputs["input_ids"][0, ::4].tolist()] for step in found]

    whole = steps()
    assert told(whole)[13:] == told(steps(13))
    assert told(whole) != told(steps(seed=1))
    seen: dict[int, int] = {}
    for step in whole:
        (batch,) = step.batches
        labels, counts = batch.targets["labels"].unique(return_counts=True)
        assert len(labels) == 5
        assert all(count == min(3, 2 + label) for label, count in zip(labels.tolist(), counts.tolist(), strict=True))
        assert len(set(batch.inputs["input_ids"].tolist()[0])) == step.rows == len(batch.weights)
        seen |= dict.fromkeys(labels.tolist())
    assert sorted(seen) == list(range(9))
    for step in steps(tokens=30):
        assert len(step.batches) == 2
        groups = [set(batch.targets["labels"].tolist()) for batch in step.batches]
        assert not groups[0] & groups[1]
        assert min(map(len, groups)) == 2
    first = next(settings.over(rows, collate, Cut(15, 1000), total=1, seed=0).steps(None))  # type: ignore[arg-type]
    smaller = first.smaller()
    assert [len(batch.targets["labels"].unique()) for batch in smaller.batches] == [3, 2]
    assert smaller.smaller() is None  # a class is told apart from another
    schedule = settings.over(rows, collate, Cut(15, 1000), total=1, seed=0)
    measured = [batch.inputs["input_ids"].tolist() for batch in schedule.measured(rows, 4)]
    assert measured == [batch.inputs["input_ids"].tolist() for batch in schedule.measured(rows, 4)]
    assert all(len(batch.targets["labels"].unique()) == 4 for batch in schedule.measured(rows, 4))
    assert schedule.classes_in(rows) == 5
    narrow = settings.over(rows, collate, Cut(15, 40), total=1, seed=0)
    assert narrow.classes_in(rows) == 3  # of three rows of four tokens each
    assert all(len(batch.targets["labels"].unique()) == 3 for batch in narrow.measured(rows, 3))


def test_a_step_has_no_more_rows_than_its_largest_classes(reader_folder: Path, tmp_path: Path) -> None:
    """And what the lock file says of it is what a run that goes on finds."""
    rows = rows_of(*[c for c in range(6) for _ in range(2)], 9, 9, 9, 9)
    assert Episodes(classes=3, rows=4).drawn(rows) == 4 + 2 + 2
    assert Episodes(classes=32, rows=4).drawn(rows) == 4 + 6 * 2
    uneven = [row for row in pairs(2) if row["label"] != "AB"] + [row for row in pairs(4) if row["label"] == "AB"]
    told = {**recipe(tmp_path, reader_folder), "data": str(write_rows(tmp_path / "uneven.jsonl", uneven)),
            "schedule": {"kind": "episodes", "steps": 3}}  # fmt: skip
    found = check(told).recipe
    assert check(Recipe.model_validate(json.loads(found.model_dump_json()))).recipe == found


def examples(*labels: str) -> list[Example]:
    return [Example(Place("rows", n), text=f"text {n} {n * 7919} {label}", label=label)
            for n, label in enumerate(labels)]  # fmt: skip


def test_whole_classes_are_held_out() -> None:
    given = {"train": examples(*[f"class {n % 20}" for n in range(80)])}
    found = split_classes(given, validation=0.1, test=5, seed=0)
    parts = [{example.label for example in part} for part in (found.train, found.validation, found.test)]
    assert list(map(len, parts)) == [13, 2, 5]
    assert len(set.union(*parts)) == 20
    assert len(found.train) + len(found.validation) + len(found.test) == 80
    again = split_classes(given, validation=0.1, test=5, seed=1)
    assert {example.label for example in again.test} != parts[2]
    other = {**given, "test": examples("new", "new", "newer", "newer")}
    assert split_classes(other, validation=0, test=0.15, seed=0).test == other["test"]
    leaky = {"train": [*given["train"], replace(other["test"][0], label="class 3")], "test": other["test"]}
    mended = split_classes(leaky, validation=0, test=0, seed=0)
    assert mended.train == given["train"]
    assert len(mended.leaked) == 1


def test_classes_that_cannot_be_held_out_are_refused() -> None:
    with pytest.raises(DataError, match="classes of the test rows are in the training rows too, the first: 'b'"):
        split_classes({"train": examples("a", "b", "c"), "test": examples("b", "d")}, validation=0, test=0, seed=0)
    with pytest.raises(DataError, match="3 classes of several rows; 2 of them for test would leave"):
        split_classes({"train": examples("a", "a", "b", "b", "c", "c", "d")}, validation=0, test=0.1, seed=0)
    with pytest.raises(DataError, match="asks for 1 class"):
        split_classes({"train": examples(*"aabbccddee")}, validation=0, test=1, seed=0)
    with pytest.raises(DataError, match="fewer than two classes of the test rows have several"):
        split_classes({"train": examples(*"aabb"), "test": examples(*"ccd")}, validation=0, test=0, seed=0)
    with pytest.raises(DataError, match="fewer than two classes with several different rows are left"):
        split_classes({"train": examples("a", "a")}, validation=0, test=0, seed=0)


def test_one_shot_accuracy_by_hand() -> None:
    """The two rows of class 0 are alike. Of class 1 one lies with them, so whichever of its rows it is known by, the
    other is nearer to class 0 or as near to it."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, -1.0]])
    found = right_by_class(vectors, [2, 2, 1], 1)
    assert found[:, 1].tolist() == [20, 20]  # draws, one row asked each; the class of one row is no way
    assert found[1, 0] == 0
    apart = right_by_class(np.array([[1.0, 0], [0.9, 0.1], [0, 1.0], [0.1, 0.9]]), [2, 2], 1)
    assert apart.tolist() == [[20, 20], [20, 20]]
    turned = np.deg2rad([70, 70, 70, -70, -70, -70, *[180] * 6])
    many = right_by_class(np.stack([np.cos(turned), np.sin(turned)], 1), [6, 6], 5)
    assert many.tolist() == [[20, 20], [20, 20]]  # the mean of five lies between the two sides of the first class
    few = right_by_class(np.stack([np.cos(turned), np.sin(turned)], 1), [6, 6], 1)
    assert few.tolist() == [[40, 100], [100, 100]]  # of its other rows, the two on the same side
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 16))
    chance = right_by_class(noise / np.linalg.norm(noise, axis=1, keepdims=True), [20] * 20, 5).sum(0)
    assert chance[0] / chance[1] == pytest.approx(0.05, abs=0.02)


def test_the_report_measures_classes_not_rows(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.CLASSES)
    encoded = [(loaded.processor.text(row["text"], limit=64), row["label"]) for row in pairs(3)]
    names = sorted({label for _, label in encoded})
    rows = [Row(Example(Place("rows", n)), text.ids, text.learn, target=names.index(label))
            for n, (text, label) in enumerate(encoded)]  # fmt: skip
    found = examine_prototype(policy, Collator(Layout.CLASSES), rows, Evaluate())
    assert found is not None
    (score,) = found.scores  # no class has six rows
    assert (score.metric, score.n, score.of) == ("one_shot_accuracy", 45, "classes")
    assert score.values["tuned"] == score.values["base"]
    assert score.values["trivial"] == pytest.approx(1 / 45)
    assert score.against["base"].low == score.against["base"].high == 0
    assert examine_prototype(policy, Collator(Layout.CLASSES), rows[:3], Evaluate()) is None


@pytest.mark.parametrize("adapter", ["full", "lora", "top_layers"])
def test_classes_never_seen_are_told_apart_and_few_labels_are_tuned_further(
    adapter: str, reader_folder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    optimiser = {"learning_rate": 2e-2} if adapter == "lora" else {"learning_rate": 3e-3}
    made = tuneful.fit(recipe(tmp_path, reader_folder, adapter=adapter, optimiser=optimiser), out=tmp_path / "run")
    report = made.report
    assert report["verdict"]["primary"] == "one_shot_accuracy"
    for metric in ("one_shot_accuracy", "five_shot_accuracy"):
        assert report["quality"][metric]["ci95"][0] > 0.1, metric
        assert report["quality"][metric]["trivial"] == pytest.approx(1 / 7)
    assert {part: report["data"]["rows"][part] for part in ("validation", "test")} == {"validation": 32, "test": 56}
    assert report["generalisation"]["validation"] < 0.1
    page = (made.path / "report.html").read_text(encoding="utf-8")
    assert "Whole classes are held out: 34 are learned, 4 steer training, and 7 are only asked about." in page
    assert "which is chance" in page
    card = (made.path / "README.md").read_text(encoding="utf-8")
    assert "library_name: sentence-transformers" in card
    assert "print(vectors.shape)" in card
    assert "tuneful fit few.csv --model RUN" in card
    assert (made.path / "adapter").exists() is (adapter == "lora")
    assert "7 unseen classes" in report["verdict"]["sentence"]
    with pytest.raises(RunFolderError, match="learned to tell classes apart"):
        tuneful.load(made.path)
    asked = ["qrsAtuvC", "wxAyzqB"]
    told = SentenceTransformer(str(made.path / "model"), device="cpu").encode(asked)
    np.testing.assert_allclose(told, open_encoder(str(made.path), None).vectors(asked).numpy(), atol=1e-5)
    assert np.abs(told - open_encoder(str(reader_folder), None).vectors(asked).numpy()).max() > 0.05


def test_new_classes_are_tuned_from_few_rows_on_top_of_it(reader_folder: Path, tmp_path: Path) -> None:
    made = tuneful.fit(recipe(tmp_path, reader_folder), out=tmp_path / "run")
    new = [row for row in pairs(12) if "K" in row["label"]]  # some of them learned, some not: three rows of each
    few = [row for n, row in enumerate(new) if n % 12 < 3]
    folder = tmp_path / "few"
    folder.mkdir()
    write_rows(folder / "train.jsonl", few)
    write_rows(folder / "test.jsonl", [row for n, row in enumerate(new) if n % 12 >= 8])
    small = {"schedule.steps": 4, "evaluate.forgetting": False}
    after, before = (
        tuneful.fit(folder, model=str(model), out=tmp_path / name, settings={"choose.enabled": True, **small})
        for name, model in (("after", made.path), ("before", reader_folder))
    )
    assert after.report["quality"]["accuracy"]["tuned"] > before.report["quality"]["accuracy"]["tuned"] + 0.2


def test_a_stopped_run_goes_on_as_if_it_had_not_been(reader_folder: Path, tmp_path: Path) -> None:
    lora = {"kind": "lora", "dropout": 0.1}
    told = recipe(
        tmp_path, reader_folder, adapter=lora, schedule={"steps": 8}, evaluate={"forgetting": False, "every": 3}
    )
    whole, parts = whole_and_parts(check(told).recipe, tmp_path, after=4)
    told_by = [losses_of(folder, "train", "validation") for folder in (whole, parts)]
    assert told_by[0] == told_by[1]
    assert len(told_by[0]) == 11
    assert whole.read_json(whole.report)["quality"] == parts.read_json(parts.report)["quality"]


def test_a_step_is_computed_at_once_unless_memory_or_the_person_says_otherwise(
    reader_folder: Path, tmp_path: Path
) -> None:
    whole = check(recipe(tmp_path, reader_folder)).recipe
    assert whole.optimiser.rows_per_step == 36
    assert whole.optimiser.micro_tokens == 36 * 10
    cut = check(recipe(tmp_path, reader_folder, optimiser={"micro_tokens": 100})).recipe
    assert cut.optimiser.micro_tokens == 100
    bare = check({"data": str(tmp_path / "pairs.jsonl"), "model": str(reader_folder), "objective": "prototype",
                  "schedule": {"epochs": 2}}).recipe  # fmt: skip
    assert (bare.schedule.kind, bare.schedule.epochs, bare.optimiser.rows_per_step) == ("episodes", 2, 128)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": "head"}, "there is no head here"),
        ({"regularisers": ["reference_kl"]}, "an encoder by itself gives none"),
        ({"adapter": "lora", "quantise": "int8"}, "an encoder is saved whole"),
        ({"schedule": "selftrain"}, "use schedule=episodes"),
        ({"objective": "classify"}, "other objectives learn by epochs"),
        ({"optimiser": {"rows_per_step": 8}}, r"say how many rows a step has \(36\)"),
        ({"optimiser": {"tokens_per_step": 500}}, "tokens_per_step out"),
        ({"evaluate": {"primary": "macro_f1"}}, "Known here: one_shot_accuracy, five_shot_accuracy"),
        ({"choose": {"enabled": True}}, "learn one label a text"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, Any], said: str, reader_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        check(recipe(tmp_path, reader_folder, **changes))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"streaming": True}, "--set data.streaming=false"),
        ({"labels": ["A", "B"]}, "the classes here are those of the rows"),
        ({"unlabelled": "pairs.jsonl"}, "rows with labels of their own"),
        ({"cluster": "label"}, "rows of a cluster may lie on both sides"),
        ({"source": [{"path": "pairs.jsonl", "weight": 2}]}, "a weight changes nothing"),
    ],
    ids=str,
)
def test_data_settings_that_would_do_nothing_are_refused(
    data: dict[str, Any], said: str, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = recipe(tmp_path, reader_folder)
    with pytest.raises(RecipeError, match=said):
        check({**told, "data": {"source": told["data"], **data}})


def test_data_that_no_class_can_be_drawn_from_is_refused(
    reader_folder: Path, generator_folder: Path, tmp_path: Path
) -> None:
    def tried(rows: list[dict[str, Any]], model: Path = reader_folder) -> None:
        source = write_rows(tmp_path / "rows.jsonl", rows)
        check({"data": str(source), "model": str(model), "objective": "prototype"})

    with pytest.raises(RecipeError, match="a class is one label a row"):
        tried([{"text": f"a {n}", "label": ["x", "y"]} for n in range(9)])
    with pytest.raises(RecipeError, match="'prototype' needs a text and a label"):
        tried([{"text": f"a {n}"} for n in range(9)])
    with pytest.raises(RecipeError, match="single texts with labels"):
        tried([{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": "xyz"[n % 3]} for n in range(9)])
    with pytest.raises(RecipeError, match="this is for encoders"):
        tried(pairs(2), generator_folder)
    with pytest.raises(DataError, match="0 classes of several rows; 2 of them for test"):
        tried([{"text": f"text number {n * 7919}", "label": f"class {n}"} for n in range(20)])
    cut = write_rows(tmp_path / "cut.jsonl", [{"text": f"same {n}", "label": "ab"[n % 2]} for n in range(9)])
    told = {"source": str(cut), "max_tokens": 5, "test": 0, "validation": 0}
    with pytest.raises(RecipeError, match="fewer than two classes have several different rows"):
        check({"data": told, "model": str(reader_folder), "objective": "prototype"})
    with pytest.raises(DataError, match="2 classes of several rows; 2 of them for test would leave"):
        tried(moods(20))
    with pytest.raises(DataError):
        tried([{"text": "alone", "label": "x"}])


def test_losses_of_the_parts_are_over_as_many_classes(reader_folder: Path, tmp_path: Path) -> None:
    """So warm that all classes are as likely: the loss is the logarithm of their number, 4 where validation has 4."""
    objective = {"kind": "prototype", "temperature": 1e6}
    schedule = {"kind": "episodes", "classes": 12, "steps": 1}
    made = tuneful.fit(
        recipe(tmp_path, reader_folder, objective=objective, schedule=schedule, evaluate={"forgetting": True}),
        out=tmp_path / "run",
    )
    found = made.report["generalisation"]
    assert [found[part] for part in ("train", "validation", "test")] == pytest.approx([math.log(4)] * 3, abs=1e-4)
    (step,) = (record for record in RunFolder(made.path).read_records() if record.kind == "train")
    assert step.metrics["loss"] == pytest.approx(math.log(12), abs=1e-4)
    assert made.report["forgetting"]["embedding_similarity"] > 0.9


def test_losses_of_parts_that_are_cut_are_over_as_many_classes(reader_folder: Path, tmp_path: Path) -> None:
    """The texts of one part are so long that not all its classes are computed at once."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "cut"
    folder.mkdir()
    for part, classes, length in (("train", 12, 10), ("validation", 8, 60), ("test", 8, 10)):
        write_rows(folder / f"{part}.jsonl", [
            {"text": "".join(rng.choice(list("abcdefgh"), length)) + f"{n}", "label": f"{part} {c}"}
            for c in range(classes) for n in range(4)
        ])  # fmt: skip
    told = {**SMALL, "data": str(folder), "model": str(reader_folder), "optimiser": {"micro_tokens": 500},
            "objective": {"kind": "prototype", "temperature": 1e6},
            "schedule": {"kind": "episodes", "steps": 1}}  # fmt: skip
    losses = list(by_part(build(check(told))).values())
    assert losses[0] == losses[1] == losses[2]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)


def test_the_metric_of_the_verdict_may_be_named(reader_folder: Path, tmp_path: Path) -> None:
    named = recipe(tmp_path, reader_folder, evaluate={"primary": "five_shot_accuracy"})
    assert check(named).recipe.evaluate.primary == "five_shot_accuracy"
    few = {**named, "data": str(write_rows(tmp_path / "few.jsonl", pairs(4)))}  # no class has six rows
    with pytest.raises(RecipeError, match=r"classes that were never learned\. Known here: one_shot_accuracy; or"):
        check(few)


def test_texts_are_read_with_what_the_encoder_wants_before_them(reader_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    shutil.copytree(reader_folder, tmp_path / "prompted")
    write_prompts(tmp_path / "prompted", Prompts("query: "))
    told = recipe(tmp_path, tmp_path / "prompted", schedule={"steps": 1}, evaluate="none")
    found = check(told)
    assert "query: " in found.processor.decode(found.rows("train")[0].ids.tolist())
    made = tuneful.fit(told, out=tmp_path / "run")
    vectors = SentenceTransformer(str(made.path / "model"), device="cpu").encode(["qrsAtuvC"])
    np.testing.assert_allclose(vectors, open_encoder(str(made.path), None).vectors(["qrsAtuvC"]).numpy(), atol=1e-5)


def test_odd_rows_are_told_of_and_the_others_learned(reader_folder: Path, tmp_path: Path) -> None:
    rows = [*pairs(3), {"text": "only one of its kind", "label": "single"}, {"text": "", "label": "AB"},
            *pairs(3)[:40], {"text": "\u4f60\u597d \U0001f600", "label": "AB"}]  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", rows)
    found = check({"data": {"source": str(source), "drop": True, "test": 0, "validation": 0},
                   "model": str(reader_folder), **SMALL})  # fmt: skip
    said = {note.key: note.facts for note in found.xray.notes}
    assert said["classes_apart"] == {"train": 46, "validation": 0, "test": 0}
    assert said["single_rows"] == {"n": 1}
    assert len(found.xray.dropped) == 1
    assert found.recipe.optimiser.rows_per_step == 36
    learned = found.recipe.schedule.learns(found.repeated)
    assert len(learned) == 45 * 3 + 1
