"""The watch on generalisation: its measures against numbers worked out by hand, what moves them, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from test_page import Document, generator_report, reader_report, text_of
from tuneful.core.errors import RecipeError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.typos import slip, with_typos, without_punctuation
from tuneful.evaluation import calibration, exposure, gap, learning_curve
from tuneful.evaluation.before import beside_head
from tuneful.evaluation.card import card
from tuneful.evaluation.compare import apart
from tuneful.evaluation.gap import Told, mean, told
from tuneful.evaluation.memorised import begun, copied, longest_run
from tuneful.evaluation.page import page
from tuneful.evaluation.panels import panels, sentences
from tuneful.evaluation.reading import class_logits, mean_loss
from tuneful.evaluation.report import compose
from tuneful.evaluation.robustness import advised, examine_robustness, hurried, reworded
from tuneful.evaluation.verdict import check, with_head
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.objectives import Classify, NextToken
from tuneful.recipe.reading import schema
from tuneful.run.api import recipe_for
from tuneful.run.canaries import CANDIDATES, candidates
from tuneful.run.prepare import prepare
from tuneful.testing import tiny_policy, tiny_rows
from work import greetings, moods, typed, write_rows

FAST: dict[str, Any] = {
    "schedule.steps": 40,
    "evaluate.generate": 4,
    "evaluate.every": 10,
    "evaluate.forgetting": False,
}


def sums(*losses: float, units: float = 1.0) -> np.ndarray:
    return np.array([[loss, units] for loss in losses])


# Texts written hurriedly


def test_each_slip() -> None:
    rng = np.random.default_rng(0)
    assert slip("ab", "swap", rng) == ("ba", 2)
    assert slip("ab", "drop", rng) == ("", 1)
    assert slip("ab", "double", rng) == ("aa", 1)
    assert slip("Q1", "neighbour", rng)[0] in ("W", "A")
    assert slip("a1", "swap", rng) == ("aa", 1), "digits are not swapped"
    assert slip("aa", "swap", rng) == ("aa", 1), "equal letters cannot be told apart"
    assert slip("題", "neighbour", rng) == ("題題", 1)


def test_typos_touch_letters_alone_and_always_one() -> None:
    for seed in range(50):
        text = "Order 66-1977, please!"
        found = with_typos(text, np.random.default_rng(seed))
        assert found != text
        assert re.sub(r"[^\W\d_]", "", found) == re.sub(r"[^\W\d_]", "", text)
        assert found == with_typos(text, np.random.default_rng(seed))
    assert with_typos("123 ?", np.random.default_rng(0)) == "123 ?"


def test_as_many_slips_as_asked_for() -> None:
    text = "abcdefghij " * 200
    found = with_typos(text, np.random.default_rng(0), rate=0.1)
    kept = sum(one == other for one, other in zip(text.split(), found.split(), strict=True))
    assert kept / 200 == pytest.approx(0.9**10, abs=0.12), "a word of ten letters is left alone that often"


def test_no_punctuation() -> None:
    assert without_punctuation("Where's my card?! (the 2nd)") == "Where s my card the 2nd"
    assert without_punctuation("?!") == "?!"


# The gap


def test_a_gap_by_hand() -> None:
    train, unseen = Told(sums(1, 3)), Told(sums(4, 8, units=2))
    assert gap.gap(train, unseen).delta == pytest.approx(12 / 4 - 4 / 2)


def test_the_interval_of_rows_drawn_apart() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (np.stack([rng.normal(size=n) * s, np.ones(n)], 1) for n, s in ((400, 1.0), (100, 2.0)))
    found = apart(ours, theirs, mean)
    deviation = math.sqrt(ours[:, 0].var() / 400 + theirs[:, 0].var() / 100)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.06)


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_losses_by_row_are_those_of_the_objective(layout: Layout, generator_folder: Path, reader_folder: Path) -> None:
    folder = generator_folder if layout is Layout.TOKENS else reader_folder
    policy, loaded = tiny_policy(folder, layout=layout)
    rows, collate = tiny_rows(loaded, layout)[::-1], Collator(layout)  # not as they are read
    objective = NextToken() if layout is Layout.TOKENS else Classify(target="class")
    found = told(policy, objective, rows, collate, classes=layout is Layout.LABELS)
    assert found.loss == pytest.approx(mean_loss(policy, objective, rows, collate)["loss"], rel=1e-5)
    alone = [mean_loss(policy, objective, [row], collate)["loss"] for row in rows]
    np.testing.assert_allclose(mean(found.sums), alone, rtol=1e-4)
    if layout is Layout.LABELS:
        assert found.logits is not None
        np.testing.assert_allclose(found.logits, class_logits(policy, rows, collate), rtol=1e-4)


@pytest.mark.parametrize(
    ("train", "unseen", "still_falling", "key"),
    [
        ([0.1] * 20, [1.0] * 20, False, "gap_over"),
        ([0.1] * 20, [1.0] * 20, True, "gap_over"),
        ([0.1] * 20, [1.0] * 5, False, "gap_unsure"),
        ([0.5] * 20, [0.0, 1.4] * 10, False, "gap_unsure"),
        ([0.5] * 20, [0.0, 1.4] * 15, False, "gap_unsure"),
        ([0.95] * 20, [1.0] * 30, False, "gap_fine"),
        ([0.95] * 20, [1.0] * 29, False, "gap_unsure"),
        ([0.95] * 20, [1.0] * 30, True, "gap_under"),
        ([0.95] * 20, [1.0] * 5, False, "gap_unsure"),
        ([0.001] * 20, [0.01] * 30, True, "gap_fine"),
        ([0.1] * 20, [], False, "gap_unknown"),
    ],
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_said_of_a_gap(
    train: list[float], unseen: list[float], still_falling: bool, key: str, part: str
) -> None:
    parts = {"train": Told(sums(*train)), **({part: Told(sums(*unseen))} if unseen else {})}
    found = gap.advice(parts, still_falling=still_falling)
    assert found.key == key
    if key == "gap_unsure":
        assert (found.facts["n"], found.facts["setting"]) == (len(unseen), f"data.{part}")


@pytest.mark.parametrize(
    ("validation", "test", "part"),
    [(0, 5, "test"), (16, 28, "test"), (28, 16, "validation"), (500, 30, "test"), (500, 29, "validation"),
     (20, 20, "test"), (20, 0, "validation"), (0, 0, None)],
)  # fmt: skip
def test_test_rows_judge_the_gap_where_they_tell_more(validation: int, test: int, part: str | None) -> None:
    rows = {"validation": validation, "test": test}
    assert gap.judged_by({"train": 1, **{name: count for name, count in rows.items() if count}}) == part


def test_a_gap_that_only_validation_rows_hide_is_told() -> None:
    """Sixteen validation rows chose the weights and are easy; the loss of 28 test rows is twice theirs."""
    parts = {"train": Told(sums(*[0.4] * 120)), "validation": Told(sums(*[0.42] * 16)),
             "test": Told(sums(*[0.8, 0.9] * 14))}  # fmt: skip
    found = gap.advice(parts, still_falling=False)
    assert found.key == "gap_over"
    assert (found.facts["gap"], found.facts["percent"]) == (0.45, 53)


def test_test_rows_that_are_surely_harder_are_never_called_fine() -> None:
    parts = {"train": Told(sums(*[0.95] * 50)), "validation": Told(sums(*[0.8] * 40)), "test": Told(sums(*[1.0] * 40))}
    found = gap.advice(parts, still_falling=False)
    assert (found.key, found.facts["test"], found.facts["validation"]) == ("gap_flattered", 1.0, 0.8)
    spread = {**parts, "test": Told(sums(*[0.5, 1.5] * 20)), "validation": Told(sums(*[0.45, 1.45] * 20))}
    assert gap.advice(spread, still_falling=False).key == "gap_fine", "not surely harder"
    few = {**parts, "validation": Told(sums(*[0.8] * 11))}
    assert gap.advice(few, still_falling=False).key == "gap_fine", "eleven rows say nothing of the others"


@pytest.mark.parametrize(
    ("key", "helped", "told"),
    [
        ("gap_fine", "yes", "gap_fine_helped"),
        ("gap_fine", "no", "gap_fine_unhelped"),
        ("gap_fine", "unclear", "gap_fine_unhelped"),
        ("gap_over", "yes", "gap_over"),
        ("gap_flattered", "yes", "gap_flattered"),
    ],
)
def test_nothing_needs_to_be_done_only_where_tuning_helped(key: str, helped: str, told: str) -> None:
    found = gap.settled({"gap": 0.1, "advice": {"key": key, "gap": 0.1}}, helped)
    assert found == {"gap": 0.1, "advice": {"key": told, "gap": 0.1}}
    assert gap.settled({"gap": 0.1}, helped) == {"gap": 0.1}


def test_only_one_sentence_says_that_nothing_needs_to_be_done() -> None:
    for language, done in (("en", "Nothing needs to be done"), ("zh-TW", "不需要做任何事")):
        assert [key for key, sentence in words(language).items() if done in sentence] == ["said_gap_fine_helped"]


def test_labels_that_were_only_learned_by_heart() -> None:
    def part(rows: int, right: int) -> Told:
        """So many rows of two classes, the first ones right."""
        targets = np.arange(rows) % 2
        said = np.where(np.arange(rows) < right, targets, 1 - targets)
        return Told(sums(*[0.1] * rows), np.eye(2)[said], targets)

    train = part(40, 40)
    found = gap.learned_nothing(train, part(100, 59))
    assert found is not None, "50 and two standard errors of 5 are 60"
    assert found.facts == {"right": 59, "learned": 100, "chance": 50}
    assert gap.learned_nothing(train, part(100, 61)) is None


def test_chance_is_that_of_the_rows_that_are_asked() -> None:
    """19 of 20 training rows are of one class, half of the others: 90 of 100 right is no chance there."""
    skewed = Told(sums(*[0.1] * 20), np.eye(2)[[0] * 19 + [1]], np.array([0] * 19 + [1]))
    targets = np.arange(100) % 2
    asked = Told(sums(*[0.1] * 100), np.eye(2)[np.where(np.arange(100) < 90, targets, 1 - targets)], targets)
    assert gap.learned_nothing(skewed, asked) is None


def test_a_loss_that_still_falls() -> None:
    def looks(*losses: float) -> list[dict[str, float]]:
        return [{"loss": loss} for loss in losses]

    assert gap.falling(looks(3, 2, 1))
    assert not gap.falling(looks(3, 2, 1.99))
    assert not gap.falling(looks(3, 1, 2))
    assert not gap.falling(looks(1, 3, 2)), "it had been lower"
    assert not gap.falling(looks(2, 1))


def test_accuracy_by_part() -> None:
    logits = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    train, unseen = (Told(sums(0, 0, 0, 0), logits, np.array(targets)) for targets in ([0, 0, 1, 1], [0, 1, 1, 0]))
    found = gap.accuracies({"train": train, "validation": unseen})
    assert (found["train"], found["validation"], found["gap"]) == (1.0, 0.5, 0.5)
    assert gap.accuracies({"train": train})["gap"] is None


# Confidence


def test_the_error_of_confidence_by_hand() -> None:
    sure, right = np.array([0.6, 0.7, 0.8, 0.9]), np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration.error(sure, right, 2) == pytest.approx((abs(0.65 - 0.5) + abs(0.85 - 1.0)) / 2)
    assert calibration.error(sure, right, 1) == pytest.approx(0.0, abs=1e-12)


def test_the_temperature_by_hand() -> None:
    logits, targets = np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    assert calibration.temperature(logits, targets) == pytest.approx(2 / math.log(3), rel=1e-4)
    assert calibration.temperature(logits, np.zeros(4, dtype=int)) < 0.06, "as cold as it may be"


def drawn(rows: int, *, times: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right as often as they say, then made so many times as large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 4)) * 1.5
    shares = calibration.probabilities(logits)
    return logits * times, np.array([rng.choice(4, p=share) for share in shares])


def test_a_model_that_is_too_sure_is_told_so_and_mended() -> None:
    logits, targets = drawn(2000, times=3.0, seed=0)
    heat = calibration.temperature(logits[:1000], targets[:1000])
    assert heat == pytest.approx(3.0, rel=0.15)
    found = calibration.calibration(logits[1000:], targets[1000:])
    mended = {"temperature": heat, **calibration.calibration(logits[1000:] / heat, targets[1000:])}
    assert found["ece"] > 0.15
    assert mended["ece"] < 0.06
    assert found["ci95"][0] < found["ece"] < found["ci95"][1]
    assert calibration.advice(found, mended).key == "calibration_over_mended"
    assert calibration.advice(found, None).key == "calibration_over"
    shy = calibration.calibration(logits[1000:] / 9, targets[1000:])
    assert calibration.advice(shy, None).key == "calibration_under"


def test_few_rows_are_not_taken_for_a_fault() -> None:
    said = []
    for seed in range(20):
        found = calibration.calibration(*drawn(60, times=1.0, seed=seed))
        assert len(found["bins"]) == 6
        assert found["ece"] > 0.02, "the error of few rows is never small"
        said.append(calibration.advice(found, None).key)
    assert said.count("calibration_unsure") >= 17


@pytest.mark.parametrize(
    ("ece", "chance", "rows", "key"),
    [
        (0.05, 0.06, 100, "calibration_fine"),
        (0.05, 0.06, 99, "calibration_unsure"),
        (0.05, 0.10, 100, "calibration_fine"),
        (0.05, 0.11, 100, "calibration_unsure"),
        (0.12, 0.11, 28, "calibration_over"),
    ],
)
def test_confidence_is_believed_only_where_a_fault_would_show(ece: float, chance: float, rows: int, key: str) -> None:
    found = {"ece": ece, "by_chance": chance, "confidence": 0.9, "accuracy": 0.8, "n": rows}
    assert calibration.advice(found, None).key == key


# The encoder as it was


def hits(*right: int, rows: int = 40) -> np.ndarray:
    """Logits of two classes, all rows of the first, of which the ones in the range are right."""
    return np.eye(2)[np.where(np.isin(np.arange(rows), np.arange(*right)), 0, 1)]


@pytest.mark.parametrize(
    ("tuned", "head", "rows", "key"),
    [
        ((0, 20), (0, 36), 40, "head_better"),
        ((0, 30), (0, 31), 40, "head_as_good"),
        ((0, 30), (0, 30), 40, "head_as_good"),
        ((0, 31), (0, 30), 40, None),
        ((0, 2), (0, 11), 11, None),
    ],
)
def test_a_head_that_does_as_well_is_pointed_at(
    tuned: tuple[int, int], head: tuple[int, int], rows: int, key: str | None
) -> None:
    logits = (hits(*tuned, rows=rows), hits(*head, rows=rows))
    found = beside_head(*logits, np.zeros(rows, dtype=int), ["data.balance", "augment"])
    assert found["tuned"] == pytest.approx(tuned[1] / rows, abs=1e-5)
    assert found["head"] == pytest.approx(head[1] / rows, abs=1e-5)
    assert found.get("advice", {}).get("key") == key
    if key == "head_better":
        assert (found["advice"]["tuned"], found["advice"]["head"]) == (50.0, 90.0)
        assert 0 < found["advice"]["low"] < 40 < found["advice"]["high"] <= 100, "points, for the head"
        assert with_head("Done.", found).startswith("Done. A head solved over the encoder as it was does better here")
        assert with_head("Done.", found).endswith("For the choice leave out `data.balance`, `augment`.")
        assert "leave out" not in with_head("Done.", {**found, "against": []})
    assert (with_head("Done.", found) == "Done.") == (key is None)


@pytest.mark.parametrize("tried", [False, True])
def test_a_head_is_no_news_where_ways_were_tried(tried: bool) -> None:
    """The verdict names it in both languages, and says nothing of it where it was one of the ways."""
    head = beside_head(hits(0, 20), hits(0, 36), np.zeros(40, dtype=int), [])
    blocks: dict[str, Any] = {
        name: {} for name in ("cost", "bias", "groups", "forgetting", "data", "provenance", "curves", "repair")
    }
    told = compose(name="run", examined=None, limits={}, generalisation={"head": head},
                   choice={"ways": []} if tried else {}, **blocks)["verdict"]  # fmt: skip
    assert ("choose.enabled" in told["sentence"]) is not tried
    assert ("choose.enabled" in told["sentences"]["zh-TW"]) is not tried


@pytest.mark.parametrize(("judged", "state"), [("test", "broken"), ("validation", "passed"), (None, "passed")])
def test_a_gate_holds_the_gap_that_is_judged_by(judged: str | None, state: str) -> None:
    found = {"gap": 0.1, "test_gap": 0.5, "judged_by": judged}
    assert check({"generalisation_gap": 0.2}, "yes", found, {}, {}) == {"generalisation_gap": state}


# Copies


def row_of(ids: list[int], learn: list[float], prompt: int = 0) -> Row:
    return Row(Example(Place("t", 1)), np.array(ids, dtype=np.int32), np.array(learn, dtype=np.float32), prompt=prompt)


def test_the_longest_run_by_hand() -> None:
    assert longest_run([1, 2, 3, 4, 5], [9, 2, 3, 4, 9, 5]) == 3
    assert longest_run([1, 2], [3]) == longest_run([], [1]) == 0


def test_exact_and_near_copies() -> None:
    text = list(range(10))
    assert copied(text, text) == (True, True)
    assert copied(text, [*range(5), 99, 98]) == (False, True)
    assert copied(text, [99, *range(5, 10)]) == (False, True), "wherever the run stands"
    assert copied(text, [*range(4), 99]) == (False, False)
    assert copied(text, text[:9]) == (False, True), "a text that ends early is not the text"


def test_what_is_shown_of_a_row() -> None:
    answered = row_of([*range(20), 2, 77], [0] * 8 + [1] * 13 + [0], prompt=8)
    shown, wanted = begun(answered, frozenset([2])) or ([], [])
    assert (list(shown), list(wanted)) == (list(range(8)), [*range(8, 20)][:]), "neither the stop nor what follows"
    plain = row_of(list(range(10, 130)), [0, *[1] * 119])
    shown, wanted = begun(plain, frozenset([2])) or ([], [])
    assert (len(shown), len(wanted)) == (50, 50)
    assert begun(row_of([5] * 20, [0] * 15 + [1] * 5, prompt=15), frozenset([2])) is None, "five tokens are no text"


def notes_of(count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    return [
        {"prompt": f"note {seed}{number}", "completion": "".join(rng.choice(letters, 14))} for number in range(count)
    ]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    write_rows(folder / "train.jsonl", notes_of(10, 1))
    write_rows(folder / "test.jsonl", notes_of(10, 2))
    return folder


@pytest.mark.parametrize(("steps", "known"), [(500, True), (5, False)])
def test_copies_are_found_where_rows_were_learned_by_heart(
    steps: int, known: bool, secrets: Path, generator_folder: Path, tmp_path: Path
) -> None:
    settings = {**FAST, "schedule.steps": steps, "adapter": "full", "optimiser.learning_rate": 0.01,
                "optimiser.rows_per_step": 10, "data.validation": 0, "evaluate.shots": 0}  # fmt: skip
    done = tuneful.fit(secrets, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = done.report["generalisation"]["memorisation"]
    assert (found["rows"], found["held_out_rows"], found["against"]) == (10, 10, "held_out")
    assert found["base"]["near"] == found["held_out"]["near"] == 0
    if known:
        assert found["tuned"]["exact"] >= 0.8
        assert found["excess"]["ci95"][0] > 0.5
        assert found["advice"]["key"] == "memorised"
    else:
        assert found["tuned"]["near"] <= 0.1
        assert found["advice"]["key"] == "memorised_little"


# Canaries


def test_exposure_by_hand() -> None:
    assert exposure.exposure(1.0, [0.5, 2.0, 3.0]) == 1.0
    assert exposure.exposure(0.1, [0.5, 2.0, 3.0]) == 2.0
    assert exposure.exposure(2.0, [0.5, 2.0, 3.0]) == pytest.approx(2 - math.log2(3)), "of equals the last"
    assert exposure.by_chance(4) == pytest.approx(np.mean([2 - math.log2(rank) for rank in (1, 2, 3, 4)]))


def test_planted_sequences_are_known_and_others_not(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    settings = {**FAST, "schedule.steps": 150, "optimiser.learning_rate": 0.02, "evaluate.canaries": 4}
    said: list[str] = []
    prepared = prepare(recipe_for(data, model=str(generator_folder), settings=settings), said.append)
    planted = [row.example.text for row in prepared.repeated if row.example.place.source == "canaries"]
    assert len(planted) == 4
    assert all(
        len({row.example.text for row in candidates(0, n, prepared.processor, 512)}) == CANDIDATES for n in (1, 2)
    )
    assert any("canaries are planted" in line for line in said)
    done = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = done.report["generalisation"]["canaries"]
    assert found["mean"] > found["by_chance"] + 2
    assert any(note["key"] == "canaries" and note["n"] == 4 for note in done.report["data"]["notes"])
    tuned = done.load()
    strange = [candidates(0, number, prepared.processor, 512) for number in range(5, 13)]
    other = exposure.examine_canaries(tuned.policy, strange, Collator(Layout.TOKENS), 0)
    assert other["mean"] < found["mean"] - 1
    without = prepare(recipe_for(data, model=str(generator_folder), settings={**settings, "evaluate.canaries": 0}))
    assert without.data_sha256 != prepared.data_sha256, "a run that goes on notices that other rows are learned"
    assert len(without.repeated) == len(prepared.repeated) - 4


# Hurried writing


def test_what_hurried_writing_costs(reader_folder: Path) -> None:
    _, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    rows = []
    for number in range(40):
        encoded = loaded.processor.text(text := f"word {number}", limit=64)
        rows.append(Row(Example(Place("t", number), text=text), encoded.ids, encoded.learn, target=0))
    asked: list[int] = []

    def by_case(given: Any) -> np.ndarray:
        asked.append(len(given))
        return np.array([int(row.example.text.isupper() and row.example.text.endswith(("1", "3"))) for row in given])

    clean = np.array([0] * 36 + [1] * 4)
    systems = {"tuned": by_case, "base": lambda given: np.zeros(len(given), dtype=int)}
    otherwise = hurried(rows, loaded.processor, 64)
    found = examine_robustness(rows, systems, {"tuned": clean, "base": clean}, otherwise)
    capitals = found["ways"]["capitals"]
    assert capitals["tuned"]["clean"] == 0.9
    assert capitals["tuned"]["so"] == 0.8, "8 of the 40 end with 1 or 3"
    assert capitals["tuned"]["delta"] == pytest.approx(-0.1)
    assert capitals["base"]["so"] == 1.0
    assert found["ways"]["punctuation"] == {
        "changed": 0, "n": 40, **{name: {"clean": 0.9, "so": 0.9, "delta": 0.0, "ci95": [0.0, 0.0]} for name in systems}
    }  # fmt: skip
    assert found["advice"]["key"] == "robust_unsure", "10 points of 40 rows"
    shown = panels({"generalisation": {"robustness": found}}, words("en"))[0]["table"]["caption"]
    assert shown.endswith("(an uncased one knows no capitals): Without punctuation.")
    assert asked == [40, 40], "rows that read the same are not asked about again"
    again = hurried(rows[3:4], loaded.processor, 64)["typos"][0]
    assert again.example.text == otherwise["typos"][3].example.text != "word 3"


def test_what_other_words_cost(reader_folder: Path) -> None:
    """Nine in ten of 200 rows have other words, and all of these are told wrong; the others do not count."""
    _, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    rows = []
    for number in range(200):
        encoded = loaded.processor.text(text := f"word {number}", limit=64)
        rows.append(Row(Example(Place("t", number), text=text), encoded.ids, encoded.learn, target=0))
    words = {f"word {number}": f"term {number}" for number in range(200) if number % 10}
    systems = {"tuned": lambda given: np.array([row.example.text.startswith("term") for row in given]).astype(int)}
    clean = {"tuned": np.zeros(200, dtype=int)}
    found = examine_robustness(rows, systems, clean, reworded(rows, words, loaded.processor, 64))
    assert found["ways"].keys() == {"paraphrase"}
    assert found["ways"]["paraphrase"]["n"] == found["ways"]["paraphrase"]["changed"] == 180
    assert found["ways"]["paraphrase"]["tuned"]["clean"] == 1.0
    assert found["ways"]["paraphrase"]["tuned"]["so"] == 0.0
    assert found["advice"]["key"] == "robust_paraphrase"
    assert found["advice"]["cost"] == 100.0
    assert reworded(rows, {}, loaded.processor, 64) == {}


@pytest.mark.parametrize(
    ("delta", "ci95", "changed", "key"),
    [
        (0.0, [0.0, 0.0], 40, "robust_none"),
        (0.01, [-0.02, 0.04], 40, "robust_none"),
        (-0.01, [-0.03, 0.0], 40, "robust_fine"),
        (-0.02, [-0.09, 0.0], 40, "robust_unsure"),
        (-0.1, [-0.2, -0.03], 40, "robust_capitals"),
        (0.0, [0.0, 0.0], 0, "robust_same"),
    ],
)
def test_what_is_said_of_hurried_writing(delta: float, ci95: list[float], changed: int, key: str) -> None:
    """Typos change no row, so nothing is said of them, however they come out."""
    typos = {"changed": 0, "n": 40, "tuned": {"delta": -0.5, "ci95": [-0.6, -0.4]}}
    capitals = {"changed": changed, "n": 40, "tuned": {"delta": delta, "ci95": ci95}}
    assert advised({"typos": typos, "capitals": capitals})["key"] == key


# More rows


def test_the_power_law_is_found_again() -> None:
    sizes = np.array([16.0, 64.0, 256.0, 1024.0])
    a, b, c = learning_curve.LAW.fit(sizes, sizes**-0.5)
    assert (float(a), float(b), float(c)) == pytest.approx((0.0, 1.0, 0.5), abs=1e-6)
    assert float(learning_curve.LAW.gain(sizes, sizes**-0.5, 1024)) == pytest.approx(1 / 32 - 1 / math.sqrt(2048))
    many = np.stack([sizes**-0.5, np.full(4, 0.3)])
    np.testing.assert_allclose(learning_curve.LAW.gain(sizes, many, 1024), [1 / 32 - 2048**-0.5, 0.0], atol=2e-3)


def clouds(rows: int, *, noise: float, shuffled: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes in twenty directions of space."""
    rng = np.random.default_rng(0)
    targets = np.arange(rows) % 4
    vectors = rng.normal(size=(4, 20))[targets] + noise * rng.normal(size=(rows, 20))
    if shuffled:
        targets = rng.permutation(targets)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(vectors).float(), torch.from_numpy(targets)


def test_more_rows_pay_where_they_do() -> None:
    vectors, targets = clouds(240, noise=2.5)
    found = learning_curve.forecast(learning_curve.measure(vectors, targets, 4), 240)
    assert found["points"][-1][1] > found["points"][0][1] + 0.1
    assert [size for size, _ in found["points"]] == [20, 40, 80, 160]
    assert 0 < found["ci95"][0] < found["gain"] < found["ci95"][1]
    assert found["advice"]["key"] == "curve_more"
    assert found["advice"]["rows"] == 480


def test_no_row_is_asked_about_by_a_head_that_saw_it() -> None:
    curve = learning_curve.measure(*clouds(240, noise=2.5, shuffled=True), 4)
    assert (curve.errors > 0.6).all(), "labels that were shuffled cannot be told from others"
    assert learning_curve.forecast(curve, 240)["advice"]["key"] != "curve_more"


@pytest.mark.parametrize(
    ("low", "high", "left_out", "key"),
    [
        (0.5, 4.9, 0, "curve_unsure"),
        (0.3, 3.7, 0, "curve_unsure"),
        (1.0, 3.7, 0, "curve_more"),
        (0.9, 3.7, 0, "curve_unsure"),
        (0.0, 0.9, 0, "curve_flat"),
        (0.0, 1.0, 0, "curve_unsure"),
        (1.0, 3.7, 40, "curve_left_out"),
        (0.3, 3.7, 40, "curve_left_out"),
        (0.0, 0.9, 40, "curve_flat"),
    ],
)
def test_whether_more_rows_pay_is_told_by_the_interval(low: float, high: float, left_out: int, key: str) -> None:
    sentence = learning_curve.advised({"gain": 0.7, "low": low, "high": high, "rows": 240}, left_out)
    assert sentence.key == key
    assert sentence.facts.get("left_out", 0) == (left_out if key == "curve_left_out" else 0)


def test_rows_that_belong_together_are_in_one_fold() -> None:
    vectors, targets = clouds(60, noise=2.5, shuffled=True)
    twice = torch.cat([vectors, vectors]), torch.cat([targets, targets])
    apart_, together = (learning_curve.measure(*twice, 4, units=units).errors[-1] for units in (None, [*range(60)] * 2))
    assert apart_ < together - 0.2, "a twin in another fold gives the answer away"


def test_too_few_rows_for_a_curve() -> None:
    found = learning_curve.forecast(learning_curve.measure(*clouds(12, noise=1.0), 4), 12)
    assert found["advice"] == {"key": "curve_short"}
    assert "gain" not in found
    chosen = learning_curve.forecast(learning_curve.measure(*clouds(12, noise=1.0), 4), 12, left_out=90)
    assert chosen["advice"] == {"key": "curve_short_left_out", "left_out": 90}


def test_every_beginning_of_a_spread_order_has_all_classes() -> None:
    classes = np.array([0] * 60 + [1] * 30 + [2] * 10)
    order = learning_curve.spread(classes, np.arange(100), 0)
    assert sorted(order) == list(range(100))
    for part in (20, 50):
        counts = np.bincount(classes[order[:part]], minlength=3)
        np.testing.assert_allclose(counts / part, [0.6, 0.3, 0.1], atol=0.06)


# What is refused before training


@pytest.mark.parametrize(
    ("settings", "reads", "wrong"),
    [
        ({"evaluate.canaries": 3}, True, "evaluate.canaries: 3 random sequences .* expected a model that writes"),
        (
            {"evaluate.canaries": 9},
            False,
            "evaluate.canaries: 9 beside 30 training rows, of which expected are at most 6",
        ),
        ({"evaluate.canaries": 3, "data.streaming": True}, False, "evaluate.canaries: .* --set data.streaming=false"),
        ({"evaluate.canaries": 3, "evaluate.enabled": False}, False, "nothing is measured after this run"),
        ({"evaluate.learning_curve": True}, False, "evaluate.learning_curve: is measured for labels, one a row"),
        ({"evaluate.canaries": -1}, False, "evaluate.canaries"),
        ({"evaluate.memorisation": -1}, False, "evaluate.memorisation"),
        ({"evaluate.learning_curve": "maybe"}, True, "evaluate.learning_curve"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    settings: dict[str, Any], reads: bool, wrong: str, generator_folder: Path, reader_folder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", moods(40) if reads else greetings())
    folder = reader_folder if reads else generator_folder
    with pytest.raises(RecipeError, match=wrong):
        prepare(recipe_for(data, model=str(folder), settings=settings))


def test_a_canary_that_does_not_fit_is_refused(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "texts.jsonl", [{"text": f"text {number}"} for number in range(40)])
    settings = {"evaluate.canaries": 2, "data.max_tokens": 30}
    with pytest.raises(RecipeError, match=r"a canary does not fit into data\.max_tokens: 30"):
        prepare(recipe_for(data, model=str(generator_folder), settings=settings))


# In the report


@pytest.fixture(scope="module")
def reader_done(tmp_path_factory: pytest.TempPathFactory, reader_folder: Path) -> tuneful.Run:
    folder = tmp_path_factory.mktemp("reader")
    data = write_rows(folder / "moods.jsonl", moods(160))
    settings = {**FAST, "optimiser.learning_rate": 0.005, "data.validation": 24}
    return tuneful.fit(data, model=str(reader_folder), out=folder / "run", settings=settings)


def test_a_reader_is_watched(reader_done: tuneful.Run) -> None:
    found = reader_done.report["generalisation"]
    assert found["gap_ci95"][0] <= found["gap"] <= found["gap_ci95"][1]
    assert found["test_gap"] == pytest.approx(found["test"] - found["train"], abs=1e-4)
    assert found["test_gap_ci95"][0] <= found["test_gap"] <= found["test_gap_ci95"][1]
    assert found["judged_by"] == "test", "24 rows, which chose nothing, beside 24 that did"
    assert found["head"]["tuned"] == found["accuracy"]["test"]
    assert found["head"]["n"] == 24
    assert found["accuracy"].keys() == {"train", "validation", "test", "gap", "ci95"}
    assert found["accuracy"]["test"] == reader_done.report["quality"]["accuracy"]["tuned"]
    assert found["calibration"]["tuned"]["accuracy"] == found["accuracy"]["test"]
    assert found["calibration"]["mended"]["fitted_on"] == 24
    assert found["robustness"]["ways"].keys() == {"typos", "capitals", "punctuation"}
    assert found["learning_curve"]["rows"] == 112
    assert "memorisation" not in found
    assert "accuracy" in reader_done.report["curves"]
    seconds = reader_done.report["cost"]["watching_seconds"]
    assert seconds.keys() == {"losses", "before", "calibration", "robustness", "learning_curve"}


def test_shuffled_labels_are_found_to_teach_nothing(reader_folder: Path, tmp_path: Path) -> None:
    rows = moods(160)
    labels = np.random.default_rng(1).permutation([row["label"] for row in rows])
    data = write_rows(
        tmp_path / "rows.jsonl", [{**row, "label": str(label)} for row, label in zip(rows, labels, strict=True)]
    )
    settings = {**FAST, "optimiser.learning_rate": 0.005, "data.validation": 24, "evaluate.learning_curve": False,
                "evaluate.robustness": False}  # fmt: skip
    found = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings).report[
        "generalisation"
    ]
    assert found["advice"]["key"] == "gap_nothing"
    assert found["accuracy"]["test"] < 0.75


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_card_say_each_sentence(language: str, reader_done: tuneful.Run) -> None:
    report, say = reader_done.report, words(language)
    said = sentences(report, say)
    assert said.keys() == {"gap", "calibration", "robustness", "learning_curve"}
    html = page(report, language)
    Document(html)
    text, told_on_card = text_of(html), card(report, language)
    for sentence in said.values():
        assert "{" not in sentence
        assert sentence in text
        assert sentence in told_on_card
    assert 'id="reliability-' in html
    assert 'id="growth-' in html
    assert say["robustness_typos"] in text


def test_settings_turn_measures_off(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(60))
    off = {**FAST, "evaluate.robustness": False, "evaluate.learning_curve": False, "schedule.steps": 2}
    found = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "one", settings=off).report["generalisation"]
    assert not {"robustness", "learning_curve"} & found.keys()
    assert found["calibration"]["advice"]["key"] == "calibration_few"
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    off = {**FAST, "evaluate.memorisation": 0, "schedule.steps": 2}
    found = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "two", settings=off).report["generalisation"]
    assert "memorisation" not in found


def test_the_terminal_says_each_sentence(reader_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "moods.jsonl", moods(60))
    settings = [f"--set={name}={value}" for name, value in {**FAST, "schedule.steps": 2}.items()]
    done = typed("fit", "moods.jsonl", "--model", reader_folder, "--out", "run", *settings, cwd=tmp_path)
    shown = " ".join(done.output.split())
    assert "more rows Twice the data" in shown
    assert "typing" in shown


def test_advice_names_settings_there_are() -> None:
    """Every dotted name in the sentences is a setting of the recipe."""
    text = str(schema())
    for language in LANGUAGES:
        for key, sentence in words(language).items():
            for name in re.findall(r"`(\w+)\.(\w+)`", sentence) if key.startswith("said_") else ():
                assert f"'{name[0]}'" in text, name
                assert f"'{name[1]}'" in text, name


@pytest.mark.parametrize("block", ["calibration", "robustness", "learning_curve", "memorisation", "canaries", "advice"])
def test_a_measure_may_be_missing(block: str, reader_done: tuneful.Run) -> None:
    report = reader_done.report
    given = {**report, "generalisation": {**report["generalisation"], block: None if block < "m" else {}}}
    Document(page(given, "en"))
    assert block not in sentences(given, words("en"))


def test_an_old_report_is_still_shown() -> None:
    for made in (generator_report(), reader_report()):
        assert sentences(made, words("en")) == {}
        Document(page(made, "en"))
