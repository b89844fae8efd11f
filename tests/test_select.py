"""Some of the training rows are learned: which, by numbers worked out by hand, and whether that is better than chance."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.errors import CheckpointError, DataError, RecipeError
from tuneful.core.types import Layout
from tuneful.data.duplicates import said_in
from tuneful.data.layouts import Collator
from tuneful.data.of_each import of_each_class
from tuneful.data.select import RDS, SELECTORS, Diverse, KCenter, Length, Pool, Random, in_turn, likeness, spread
from tuneful.run import vectors as room
from tuneful.run.api import check, recipe_for
from tuneful.run.queries import asked_apart
from tuneful.run.session import run
from tuneful.run.vectors import weighted_mean
from tuneful.testing import tiny_policy, tiny_rows
from work import losses_of, moods, whole_and_parts, write_rows

PLAIN: dict[str, Any] = {"optimiser": {"rows_per_step": 8}, "schedule": {"steps": 8}, "choose": "none",
                         "evaluate": {"forgetting": False, "shots": 0, "generate": 4}}  # fmt: skip


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def pool(vectors: np.ndarray, queries: np.ndarray | None = None, sources: Any = None) -> Pool:
    lengths = np.arange(len(vectors))
    return Pool(lengths, vectors, queries, None if queries is None else np.array(sources or [0] * len(queries)))


def test_each_query_takes_the_row_nearest_to_it_in_turn() -> None:
    """Rows at 0, 10, 50, 80, 90 degrees; queries at 2 and 84: 0 and 80 in the first turn, 10 and 90 in the second, then
    50 for the first query, which the second names too."""
    given = pool(at(0, 10, 50, 80, 90), at(2, 84))
    assert RDS().choose(given, 4, 0).tolist() == [0, 3, 1, 4]
    assert RDS().choose(given, 5, 0).tolist() == [0, 3, 1, 4, 2]


def test_each_source_takes_the_row_nearest_to_any_of_its_queries() -> None:
    """Two queries near 0 in one file and one at 90 in another: with queries taking turns two rows of three are near 0,
    with sources every other."""
    given = pool(at(0, 1, 2, 3, 90, 89), at(0, 2, 90), [0, 0, 1])
    assert RDS(turns="queries").choose(given, 3, 0).tolist() == [0, 2, 4]
    assert RDS(turns="sources").choose(given, 4, 0).tolist() == [0, 4, 2, 5]
    assert RDS().choose(given, 4, 0).tolist() == [0, 4, 2, 5]


def test_a_row_named_twice_costs_a_turn() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.1], [0.1, 0.8]])
    assert in_turn(scores, 3).tolist() == [0, 1, 2]


def test_k_centre_by_hand() -> None:
    """Begins nearest to the mean (40), then always the farthest: 90 (50 away), then 0 (40 away), then 60."""
    given = pool(at(0, 30, 40, 60, 90))
    assert KCenter().choose(given, 4, 0).tolist() == [2, 4, 0, 3]


def test_diverse_by_hand() -> None:
    """Longest first; cosine 0.9 is 25.8 degrees: 90 is taken, 80 is near it, 40 is taken, 30 is near that, 0 is taken;
    what was passed over follows in its order."""
    given = Pool(np.array([1, 2, 3, 4, 5]), at(0, 30, 40, 80, 90))
    assert Diverse(order="length", near=0.9).choose(given, 3, 0).tolist() == [4, 2, 0]
    assert Diverse(order="length", near=0.9).choose(given, 5, 0).tolist() == [4, 2, 0, 3, 1]
    assert Diverse(order="length", near=1.0).choose(given, 3, 0).tolist() == [4, 3, 2]


def test_rows_are_as_far_apart_as_so_many_can_be_in_their_order() -> None:
    """Two of them: 90 and 0, at cosine 0. Three: 90, 40 and 0, as 0 is at cos 40 to 40. Four: only 10 degrees apart."""
    given = Pool(np.array([1, 2, 3, 4, 5]), at(0, 30, 40, 80, 90))
    chosen = Diverse(order="length")
    assert [chosen.choose(given, count, 0).tolist() for count in (1, 2, 3, 4)] == [[4], [4, 0], [4, 2, 0], [4, 3, 2, 1]]


def test_longest_and_random() -> None:
    given = Pool(np.array([3, 9, 9, 1]))
    assert Length().choose(given, 3, 0).tolist() == [1, 2, 0]
    many = Pool(np.arange(50))
    drawn = [Random().choose(many, 10, seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10


def test_likeness_by_hand() -> None:
    """Rows at 0 and 60, queries at 0 and 90: a row's nearest query is at cosine 1 and cos 30, a query's nearest row at
    1 and cos 30; the rows 0 and 60 are near the kept row 0 at 1 and 1/2."""
    found = likeness(at(0, 60), at(0, 90))
    assert found.nearness == pytest.approx((1 + np.sqrt(0.75)) / 2)
    assert found.coverage == pytest.approx((1 + np.sqrt(0.75)) / 2)
    assert likeness(at(0), at(0, 90)).coverage == pytest.approx(0.5, abs=1e-6)
    assert spread(at(0, 60), np.array([0]), block=1) == pytest.approx((0.75, 0.5))


@pytest.mark.parametrize("selector", list(SELECTORS), ids=lambda one: one.__name__)
def test_every_selector_keeps_its_contract(selector: Any) -> None:
    """As many different places as asked for, the same each time."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = pool(vectors, vectors[:5])
    for count in (1, 7, 60):
        found = selector().choose(given, count, 3)
        assert len(set(found.tolist())) == count == len(found)
        assert found.tolist() == selector().choose(given, count, 3).tolist()


@pytest.mark.parametrize(("keep", "rows"), [("10%", 20), (0.1, 20), ("0.5 %", 1), (7, 7), ("7", 7), (0.001, 1)])
def test_how_many_are_kept(keep: Any, rows: int) -> None:
    assert Random(keep=keep).count(200) == rows
    assert Random.model_validate_json(Random(keep=keep).model_dump_json()) == Random(keep=keep)


@pytest.mark.parametrize("keep", [0, "0%", "100%", -1, 1.5, "many", True, "150%", "nan"])
def test_amounts_that_mean_nothing_are_refused(keep: Any) -> None:
    with pytest.raises(RecipeError, match=r"data\.select\.keep: expected a share of the rows"):
        recipe_for({"data": {"source": "d.csv", "select": {"kind": "random", "keep": keep}}}, model=None, settings={})


def test_later_tokens_count_more_behind_a_causal_mask(generator_folder: Path) -> None:
    """The n-th token n times, however rows are packed and share prefixes."""
    policy, loaded = tiny_policy(generator_folder)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.TOKENS)
    batch = Collator(Layout.TOKENS, share=True)(rows)
    with torch.no_grad():
        found = weighted_mean(policy.read(batch.inputs).hidden, batch.inputs, later_more=True)
        even = weighted_mean(policy.read(batch.inputs).hidden, batch.inputs, later_more=False)
        for number, row in enumerate(rows):
            ids = torch.from_numpy(row.ids.astype(np.int64))[None]
            with loaded.network.natively(loaded.module):
                states = loaded.module.base_model(input_ids=ids).last_hidden_state[0]
            weights = torch.arange(1, len(row) + 1) / (len(row) * (len(row) + 1) / 2)
            wanted = torch.nn.functional.normalize((states * weights[:, None]).sum(0), dim=0)
            torch.testing.assert_close(found[number], wanted, rtol=1e-4, atol=1e-4)
            plain = torch.nn.functional.normalize(states.mean(0), dim=0)
            torch.testing.assert_close(even[number], plain, rtol=1e-4, atol=1e-4)


def mixture(folder: Path, count: int = 60) -> dict[str, Path]:
    """Sums, of which there are few, among three other kinds of rows; and more sums, for queries and tests."""
    rng = np.random.default_rng(1)
    sums = [
        {"prompt": f"{a} + {b} =", "completion": str(a + b)} for a, b in rng.integers(10, 99, (count + 60, 2)).tolist()
    ]
    words = ["apple", "river", "stone", "cloud", "tiger", "piano", "lemon", "chair"]
    other = []
    for number in range(3 * count):
        some = rng.permutation(words)[:4].tolist()
        kind = ("say backwards: ", "the first of: ", "shout: ")[number % 3]
        answer = (" ".join(some[::-1]), some[0], " ".join(some).upper())[number % 3]
        other.append({"prompt": f"{kind}{' '.join(some)} {number}", "completion": answer})
    return {
        "sums": write_rows(folder / "sums.jsonl", sums[:count]),
        "other": write_rows(folder / "other.jsonl", other),
        "queries": write_rows(folder / "queries.jsonl", sums[count : count + 10]),
        "held": write_rows(folder / "held.jsonl", sums[count + 10 :]),
    }


@pytest.mark.parametrize("model", ["writes", "reads"])
def test_rows_of_the_wanted_kind_are_found(
    model: str, generator_folder: Path, reader_folder: Path, tmp_path: Path
) -> None:
    """Even with random weights: of a tenth kept, nearly all are of the kind that is a quarter of the mixture; of random
    rows a quarter. Each is beside as many drawn by lot, in the report's numbers."""
    files = mixture(tmp_path)
    select = {"kind": "rds", "keep": "10%", "target": str(files["queries"])}
    data: dict[str, Any] = {"source": [str(files["sums"]), str(files["other"])], "select": select, "validation": 10,
                            "test": 10}  # fmt: skip
    if model == "reads":
        for name in ("sums", "other", "queries"):
            rows = [json.loads(line) for line in files[name].read_text(encoding="utf-8").splitlines()]
            write_rows(files[name], [{"text": row["prompt"], "label": row["completion"][0]} for row in rows])
    folder = generator_folder if model == "writes" else reader_folder
    found = check({"data": data, "model": str(folder), **PLAIN})
    facts = found.selection.facts
    share = {source: item["kept"] / facts["kept"] for source, item in facts["sources"].items()}
    assert facts["kept"] == len(found.repeated) == len(found.rows("train")) == round(0.1 * facts["rows"])
    assert share["sums.jsonl"] > 0.9
    assert facts["nearness"]["kept"] > facts["nearness"]["random"]
    assert facts["coverage"]["kept"] > facts["coverage"]["random"]
    assert found.xray.rows["train"] == facts["kept"]
    keys = {note.key for note in found.xray.notes}
    assert {"select_kept", "select_sources", "select_near", "select_spread"} <= keys
    random = check({"data": {**data, "select": {"kind": "random", "keep": "12%"}}, "model": str(folder), **PLAIN})
    by_lot = random.selection.facts["sources"]["sums.jsonl"]["kept"] / random.selection.facts["kept"]
    assert by_lot < 0.5


def test_no_row_is_far_from_all_that_are_kept(reader_folder: Path, tmp_path: Path) -> None:
    """What k-centre is for, and how far rows are told apart: beside as many drawn by lot."""
    source = write_rows(tmp_path / "rows.jsonl", moods(200))

    def farthest(kind: str) -> float:
        given = {
            "data": {"source": str(source), "select": {"kind": kind, "keep": 20}},
            "model": str(reader_folder),
            **PLAIN,
        }
        found = check(given)
        every = check({"data": str(source), "model": str(reader_folder), **PLAIN}).rows("train")
        read = room.read_vectors(
            found.recipe, found.folder, Layout.LABELS, [*every, *found.rows("train")], print
        ).vectors
        least = float((read[: len(every)] @ read[len(every) :].T).max(1).min())
        if kind != "random":
            told = found.selection.facts["farthest"]
            assert told["kept"] == pytest.approx(least, abs=1e-4)
            assert told["kept"] > told["random"]
        return least

    assert farthest("k_center") > farthest("random")
    assert farthest("diverse") > farthest("random")


def test_near_duplicates_are_left_out_first(reader_folder: Path, tmp_path: Path) -> None:
    rows = moods(40)
    copies = [{**row, "text": f"{row['text']}!!"} for row in rows[:10]] * 3
    source = write_rows(tmp_path / "rows.jsonl", [*rows, *copies])
    for kind in ("k_center", "random"):
        data = {"source": str(source), "select": {"kind": kind, "keep": 12}, "validation": 0, "test": 0}
        found = check({"data": data, "model": str(reader_folder), **PLAIN})
        assert found.selection.facts["duplicates"] == 30
        assert (found.selection.left_out, found.selection.passed_over) == (58, 28), "of 40 that differ 12 are kept"
        texts = {said_in(row.example).strip("!") for row in found.rows("train")}
        assert len(texts) == 12


def test_all_that_differ_are_kept_where_too_few_do(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(10) * 4)
    said: list[str] = []
    data = {"source": str(source), "select": {"kind": "random", "keep": 20}, "validation": 0, "test": 0}
    found = check({"data": data, "model": str(reader_folder), **PLAIN}, say=said.append)
    assert len(found.rows("train")) == 10
    assert any("without near-duplicates there are 10 of 40 rows" in line for line in said)


def test_no_test_row_is_ever_asked(generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model reads before training holds training rows and queries; a target that repeats test rows chooses
    nothing by them, and one of nothing else is refused."""
    files = mixture(tmp_path)
    (tmp_path / "data").mkdir()
    for part, name in (("train", "other"), ("validation", "queries"), ("test", "held")):
        (tmp_path / "data" / f"{part}.jsonl").write_bytes(files[name].read_bytes())
    seen: list[str] = []
    read = room.read_vectors

    def watched(recipe: Any, folder: Path, layout: Layout, rows: Any, say: Any) -> Any:
        seen.extend(said_in(row.example) for row in rows)
        return read(recipe, folder, layout, rows, say)

    monkeypatch.setattr("tuneful.run.select.read_vectors", watched)
    tests = {json.loads(line)["prompt"] for line in files["held"].read_text(encoding="utf-8").splitlines()}
    given: dict[str, Any] = {"data": {"source": str(tmp_path / "data"), "select": "rds"}, "model": str(generator_folder),
                             **PLAIN}  # fmt: skip
    found = check(given)
    assert found.selection.facts["queries"] == 5, "half of the validation rows"
    assert seen
    assert not tests & set(seen)
    seen.clear()
    both = tmp_path / "both.jsonl"
    both.write_bytes(files["held"].read_bytes() + files["queries"].read_bytes())
    said: list[str] = []
    given["data"]["select"] = {"kind": "rds", "target": str(both)}
    found = check(given, say=said.append)
    assert found.selection.facts["queries"] == 10
    assert not tests & set(seen)
    assert any("50 rows of data.select.target repeat test rows" in line for line in said)
    given["data"]["select"]["target"] = str(files["held"])
    with pytest.raises(DataError, match="that are not for the test"):
        check(given)


def test_half_of_the_validation_rows_know_nothing_of_the_choice() -> None:
    rows: Any = list(range(41))
    chose, asked = asked_apart(rows, 0)
    assert (len(chose), len(asked)) == (21, 20)
    assert sorted([*chose, *asked]) == rows
    assert asked_apart(rows, 0)[0] == chose != asked_apart(rows, 1)[0]


def test_a_run_on_chosen_rows_beside_one_on_random_rows(generator_folder: Path, tmp_path: Path) -> None:
    """The report says what was kept, what choosing took, and which of two short runs did better."""
    files = mixture(tmp_path, 80)
    (tmp_path / "data").mkdir()
    mixed = files["sums"].read_bytes() + files["other"].read_bytes()
    (tmp_path / "data" / "train.jsonl").write_bytes(mixed)
    (tmp_path / "data" / "validation.jsonl").write_bytes(files["queries"].read_bytes() + files["held"].read_bytes())
    select = {"kind": "rds", "keep": 40, "compare": True}
    given = {"data": {"source": str(tmp_path / "data"), "select": select, "test": 10}, "model": str(generator_folder),
             **PLAIN, "adapter": "full", "optimiser": {"learning_rate": 0.01, "rows_per_step": 8},
             "schedule": {"steps": 60}}  # fmt: skip
    done = tuneful.fit(given, out=tmp_path / "run")
    found = done.report["data"]["selection"]
    compared = found["compared"]
    assert (compared["metric"], compared["updates"], compared["rows"]) == ("perplexity", 30, 30)
    assert compared["kept"] < compared["random"]
    assert compared["ci95"][0] <= compared["delta"] <= compared["ci95"][1] < 0
    assert done.report["cost"]["selecting_seconds"] == pytest.approx(found["seconds"] + compared["seconds"], abs=0.02)
    assert done.report["data"]["rows"]["train"] == 40
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Two short runs of 30 updates" in page
    assert "chosen by ‘rds’" in page
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))
    assert lock["recipe"]["tasks"][0]["data"]["select"]["keep"] == 40


def test_labels_are_compared_by_accuracy(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(200))
    for objective in ("classify", {"kind": "classify", "pooling": "mean"}):
        given = {"data": {"source": str(source), "select": {"kind": "k_center", "keep": 30, "compare": True},
                          "validation": 30}, "model": str(reader_folder), "objective": objective, **PLAIN}  # fmt: skip
        out = tmp_path / str(objective)[:9].strip("{'")
        compared = tuneful.fit(given, out=out).report["data"]["selection"]["compared"]
        assert compared["metric"] == "accuracy"
        assert compared["rows"] == 30
        assert {0 <= compared[way] <= 1 for way in ("kept", "random")} == {True}


def test_a_resumed_run_learns_the_same_rows_and_notices_others(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(120))
    given = {"data": {"source": str(source), "select": {"kind": "rds", "keep": 30}}, "model": str(reader_folder), **PLAIN,
             "checkpoint": {"every": 2}}  # fmt: skip
    whole, parts = whole_and_parts(recipe_for(given, model=None, settings={}), tmp_path, after=4)
    assert losses_of(whole, "train") == losses_of(parts, "train")
    kept, all_rows = check(given), check({**given, "data": str(source)})
    other = check({**given, "data": {"source": str(source), "select": {"kind": "k_center", "keep": 30}}})
    assert len({kept.data_sha256, all_rows.data_sha256, other.data_sha256}) == 3
    assert kept.data_sha256 == check(given).data_sha256
    (parts.path / "report.json").unlink()
    lock = json.loads(parts.lock.read_text(encoding="utf-8"))
    lock["recipe"]["tasks"][0]["data"]["select"] = {"kind": "random", "keep": 30}
    parts.lock.write_text(json.dumps(lock), encoding="utf-8")
    with pytest.raises(CheckpointError, match="the data has changed"):
        for _ in run(recipe_for(given, model=None, settings={}), parts.path, resume=True):
            pass


def test_vectors_are_read_once(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(90))
    given = {"data": {"source": str(source), "select": "k_center"}, "model": str(reader_folder), **PLAIN}
    said: list[str] = []
    first, second = check(given, say=said.append), check(given, say=said.append)
    assert sum("reading" in line for line in said) == 2, "the rows, and those they are set beside"
    assert first.selection.facts == second.selection.facts
    assert first.selection.facts["seconds"] > 0, "what reading took is counted, whoever did it"
    for file in room.cache_folder().glob("vectors/*/vectors.npz"):
        file.write_bytes(b"damaged")
    again = check(given, say=said.append)
    assert sum("reading" in line for line in said) == 4
    assert again.selection.kept.tolist() == first.selection.kept.tolist()


@pytest.mark.parametrize(("broken", "refused"), [(2, False), (8, True)])
def test_unusable_rows_are_counted_among_all(broken: int, refused: bool, reader_folder: Path, tmp_path: Path) -> None:
    """2 of 300 are less than one in a hundred, also where 30 are learned; 8 are more."""
    rows = [*moods(300 - broken), *({"text": f"no label {n}", "label": None} for n in range(broken))]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    data = {"source": str(source), "select": "random", "validation": 0, "test": 0}
    found = check({"data": data, "model": str(reader_folder), **PLAIN})
    assert bool(found.xray.problems) is refused
    assert found.xray.rows["train"] == 30 if not refused else 29


def test_where_no_row_can_be_used_that_is_said(generator_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a " * 400, "completion": "b"} for _ in range(20)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    given = {"data": {"source": str(source), "select": "random", "max_tokens": 50, "validation": 0, "test": 0},
             "model": str(generator_folder), **PLAIN}  # fmt: skip
    assert any("no training row can be used" in words for words in check(given).xray.problems)


def test_classes_of_which_nothing_or_little_is_left_are_named(reader_folder: Path, tmp_path: Path) -> None:
    """Wanted are eight rows of one class and one of another, and these are kept: what is wanted may be of some classes
    only."""
    glad, sad = ([row for row in moods(40) if row["label"] == label] for label in ("glad", "sad"))
    rows = [*glad, *sad, *({"text": text, "label": "odd"} for text in ("a thing", "quite another", "one more"))]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    wanted = write_rows(tmp_path / "wanted.jsonl", [{"text": row["text"]} for row in (*glad[:8], sad[0])])
    data = {"source": str(source), "select": {"kind": "rds", "keep": 9, "target": str(wanted)}, "validation": 0,
            "test": 0}  # fmt: skip
    found = check({"data": data, "model": str(reader_folder), **PLAIN})
    assert Counter(row.example.label for row in found.rows("train")) == {"glad": 8, "sad": 1}
    facts = found.selection.facts
    assert (facts["lost"], facts["lost_classes"], facts["thin_classes"]) == (1, ["odd"], {"sad": 1})
    notes = {note.key: note.facts for note in found.xray.notes}
    assert notes["select_lost"] == {"n": 1, "names": "odd"}
    assert notes["select_thin"] == {"n": 1, "least": 4, "names": "sad 1"}


@pytest.mark.parametrize("kind", ["length", "random", "k_center", "diverse"])
def test_some_rows_of_each_class_stay(kind: str, reader_folder: Path, tmp_path: Path) -> None:
    rows = [*moods(60), *({"text": f"odd {n}", "label": "odd"} for n in range(6))]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    data = {"source": str(source), "select": {"kind": kind, "keep": 12}, "validation": 0, "test": 0}
    found = check({"data": data, "model": str(reader_folder), **PLAIN})
    left = Counter(row.example.label for row in found.rows("train"))
    assert left.total() == 12
    assert min(left[name] for name in ("glad", "sad", "odd")) >= 4
    assert "select_lost" not in {note.key for note in found.xray.notes}
    assert found.selection.facts["learned"] == [str(row.example.place) for row in found.rows("train")]
    with pytest.raises(DataError, match="2 rows cannot hold one of each of 3 classes"):
        check({"data": {**data, "select": {"kind": kind, "keep": 2}}, "model": str(reader_folder), **PLAIN})


def test_what_large_classes_give_up_by_hand() -> None:
    """Rows 0 to 7 of class 0, 8 and 9 of class 1, 10 of class 2, which has but one; the longest come first."""
    pool = Pool(np.array([20, 19, 18, 17, 16, 15, 14, 13, 3, 4, 1]))
    classes = np.array([0] * 8 + [1] * 2 + [2])
    chosen = Length().choose(pool, 7, 0)
    assert chosen.tolist() == [0, 1, 2, 3, 4, 5, 6]
    found = of_each_class(Length(), pool, chosen, classes, 0)
    assert found.tolist() == [0, 1, 2, 3, 9, 8, 10], "seven rows have room for two of each"
    assert of_each_class(Length(), pool, np.array([0, 9, 10]), classes, 0).tolist() == [0, 9, 10]
    assert of_each_class(Length(), pool, np.array([0, 1, 9, 10]), classes, 0).tolist() == [0, 1, 9, 10]


def test_few_labels_are_not_chosen_among_unless_asked(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(30))
    given: dict[str, Any] = {"data": {"source": str(source), "select": "random"}, "model": str(reader_folder)}
    assert check(given).recipe.choose.enabled != True  # noqa: E712
    assert check({**given, "data": {"source": str(source)}}).recipe.choose.enabled is True
    with pytest.raises(RecipeError, match=r"leave data\.select or choose out"):
        check({**given, "choose": {"enabled": True}})


def test_what_cannot_be_chosen_is_refused(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", moods(60))
    given: dict[str, Any] = {"data": {"source": str(source), "select": "rds"}, "model": str(reader_folder), **PLAIN}

    def refused(error: type[Exception], match: str, **data: Any) -> None:
        with pytest.raises(error, match=match):
            check({**given, "data": {**given["data"], **data}})

    refused(DataError, "neither data.select.target nor validation rows", validation=0)
    refused(DataError, r"asks for 500 rows and there are 45", select={"kind": "random", "keep": 500})
    refused(RecipeError, r"data\.streaming=false", streaming=True)
    refused(RecipeError, r"Did you mean 'rds'", select="rdss")
    refused(DataError, "nowhere", select={"kind": "rds", "target": str(tmp_path / "nowhere.jsonl")})
    refused(DataError, r"there are 3; at least 20", select={"kind": "rds", "compare": True})
    with pytest.raises(RecipeError, match="need one another"):
        check({**given, "objective": "prototype"})
    with pytest.raises(RecipeError, match=r"leave compare out"):
        check({**given, "objective": "contrast", "data": {**given["data"], "select": {"kind": "rds", "compare": True}}})
    refused(RecipeError, r"leave data\.balance or compare out", select={"kind": "rds", "compare": True},
            balance="logits")  # fmt: skip
    numbers = write_rows(
        tmp_path / "numbers.jsonl", [{"text": row["text"], "label": n / 7} for n, row in enumerate(moods(90))]
    )
    with pytest.raises(RecipeError, match="labels of which a row has one"):
        check({**given, "data": {"source": str(numbers), "select": {"kind": "random", "compare": True}}})
    other = write_rows(tmp_path / "other.jsonl", [{"nothing": 1, "more": 2}])
    given = {**given, "model": str(generator_folder), "objective": "next_token"}
    refused(DataError, "other.jsonl", select={"kind": "rds", "target": str(other)})
