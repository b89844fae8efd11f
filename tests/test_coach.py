"""The data coach: numbers worked out by hand, what it finds of errors that were put in, and what it does not."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from intents import rows as intents
from tuneful.core.errors import DataError
from tuneful.evaluation.coverage import DRAWN, Point, drawn
from tuneful.evaluation.words import LANGUAGES
from tuneful.models.confident import believed, joint, thresholds
from tuneful.models.doubts import beliefs, beliefs_of, doubts, flipped, memberships, neighbours, solve, unseen, votes
from tuneful.models.landscape import grouped, likeness, nearness, plane, robust, vendi
from tuneful.recipe import from_mapping
from tuneful.run.coach import Coached, coach
from tuneful.run.prepare import prepare
from work import typed, write_rows

# Confident learning


def test_confident_counts_worked_by_hand() -> None:
    """Six rows, three of each class. Mean self-confidence: (.9 + .8 + .3) / 3 = 2/3 and (.8 + .6 + .3) / 3 = .5667. Row 3
    reaches the second class's threshold only, row 6 the first's; so two of three rows stay in each class."""
    shares = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    given = torch.tensor([0, 0, 0, 1, 1, 1])
    torch.testing.assert_close(thresholds(shares, given), torch.tensor([2 / 3, 1.7 / 3]))
    assert believed(shares, thresholds(shares, given)).tolist() == [0, 0, 1, 1, 1, 0]
    torch.testing.assert_close(joint(shares, given), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))


def test_a_row_that_reaches_no_threshold_is_counted_for_none() -> None:
    """And what is counted is brought to the number of rows that were given the class: of three rows one is counted,
    for its own class, and stands for all three."""
    shares = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.1, 0.9]])
    given = torch.tensor([0, 0, 0, 1])
    assert believed(shares, thresholds(shares, given)).tolist() == [0, -1, -1, 1]
    torch.testing.assert_close(joint(shares, given), torch.tensor([[3.0, 0.0], [0.0, 1.0]]))


def test_a_class_without_rows_is_reached_by_nothing() -> None:
    shares = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4]])
    assert thresholds(shares, torch.tensor([0, 1]))[2] == torch.inf


def test_what_is_wrong_and_how_sure() -> None:
    """Shares .64 against .04: roots .8 and .2, so .8 sure. A rare class whose low threshold is reached is not believed
    where the given one has the larger share."""
    shares = torch.tensor([[0.04, 0.64, 0.32], [0.5, 0.1, 0.4]])
    found = doubts(shares, torch.tensor([0, 0]), torch.tensor([0.9, 0.6, 0.3]))
    assert found.wrong.tolist() == [True, False]
    assert found.other[0] == 1
    torch.testing.assert_close(found.sure[0], torch.tensor(0.8))


# Two views


def test_the_line_worked_by_hand() -> None:
    """One number a row, 1 and -1, wanted 1 and 0: Z'Z + 1 = 3 for weight and bias alike, moments 1 and 1."""
    found = solve(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(found.weight, torch.tensor([[1 / 3]]))
    torch.testing.assert_close(found.bias, torch.tensor([1 / 3]))


def test_unseen_equals_solving_without_the_fold() -> None:
    vectors, wanted = torch.randn(30, 5), torch.randn(30, 3)
    folds = np.arange(30) % 3
    found = unseen(vectors, wanted, folds)
    for fold in range(3):
        held = torch.from_numpy(folds == fold)
        torch.testing.assert_close(
            found[held], solve(vectors[~held], wanted[~held])(vectors[held]), atol=1e-4, rtol=1e-4
        )


def test_neighbours_are_of_other_units_and_count_by_nearness() -> None:
    """The first two rows are one unit. Of the others one has cosine .8, one .6: weights .8^8 and .6^8."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    near, weights = neighbours(vectors, vectors, torch.tensor([0, 0, 1, 2]))
    assert near[0].tolist() == [2, 3, -1, -1]
    share = votes(F.one_hot(torch.tensor([0, 0, 0, 1]), 2).float(), near, weights)[0]
    torch.testing.assert_close(share[0], torch.tensor(0.8**8 / (0.8**8 + 0.6**8)))


def clouds(count: int, classes: int = 5, *, seed: int = 0, width: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(classes, width, generator=rng), dim=1)
    labels = torch.arange(count) % classes
    return F.normalize(centres[labels] + 0.18 * torch.randn(count, width, generator=rng), dim=1), labels


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_found(seed: int) -> None:
    """A fifth of 400 labels is wrong: at least nine of ten are found, nine of ten of what is found is wrong, and nearly
    all of these get their own label back; of clean labels nearly none is doubted. Rows asked about later are judged as
    well."""
    vectors, labels = clouds(400, seed=seed)
    rng = np.random.default_rng(seed)
    bad = torch.zeros(400, dtype=torch.bool)
    bad[torch.from_numpy(rng.permutation(400)[:80])] = True
    given = torch.where(bad, (labels + torch.from_numpy(rng.integers(1, 5, 400))) % 5, labels)
    folds = rng.permutation(400) % 5
    found = beliefs(vectors, given, folds, range(400), classes=5)
    limits = thresholds(found.shares, given)
    thought = doubts(found.shares, given, limits)
    hits = (thought.wrong & bad).sum()
    assert hits / bad.sum() >= 0.9
    assert hits / thought.wrong.sum() >= 0.9
    assert (thought.other == labels)[thought.wrong & bad].float().mean() >= 0.95
    clean = beliefs(vectors, labels, folds, range(400), classes=5)
    assert doubts(clean.shares, labels, thresholds(clean.shares, labels)).wrong.sum() <= 8
    more = doubts(beliefs_of(vectors, vectors, labels, classes=5).shares, given, limits)
    assert (more.wrong == bad).float().mean() > 0.9


def test_a_head_that_has_seen_its_rows_finds_less() -> None:
    """Why probabilities are out of fold: the same head, asked about what it learned, repeats the wrong labels."""
    vectors, labels = clouds(60, width=60)
    given = labels.clone()
    given[:12] = (given[:12] + 1) % 5
    members = F.one_hot(given, 5).float()
    seen = solve(vectors, members)(vectors).argmax(1) != given
    apart = unseen(vectors, members, np.arange(60) // 5 % 5).argmax(1) != given
    assert apart[:12].sum() > seen[:12].sum()


# Where texts lie


def test_vendi_worked_by_hand() -> None:
    """Four texts with nothing in common are 4, five that are the same 1, two pairs 2."""
    assert vendi(torch.eye(4)) == pytest.approx(4)
    assert vendi(torch.full((5, 4), 0.5)) == pytest.approx(1)
    assert vendi(torch.eye(4)[[0, 0, 1, 1]]) == pytest.approx(2)


def test_vendi_by_both_matrices() -> None:
    """exp of the entropy of the eigenvalues of K / N, as the paper has it."""
    vectors = F.normalize(torch.randn(12, 5, dtype=torch.float64), dim=1)
    values = torch.linalg.eigvalsh(vectors @ vectors.T / 12).clamp(min=1e-30)
    assert vendi(vectors) == pytest.approx(float(torch.exp(-(values * values.log()).sum())), rel=1e-5)


def test_the_plane_holds_what_differs() -> None:
    """Points on two axes, and hardly any on a third."""
    points = torch.tensor([[3.0, 0, 0.1], [-3, 0, -0.1], [0, 2, 0.1], [0, -2, -0.1]])
    mean, directions, share = plane(points)
    torch.testing.assert_close(mean, torch.zeros(3))
    torch.testing.assert_close(directions.abs(), torch.tensor([[1.0, 0], [0, 1], [0, 0]]), atol=0.05, rtol=0)
    assert share > 0.99


def test_groups_are_the_clouds() -> None:
    vectors, labels = clouds(100)
    groups, centres = grouped(vectors, 5)
    assert centres.shape[0] == 5
    assert all(len(set(groups[labels == number].tolist())) == 1 for number in range(5))
    same, _ = grouped(torch.ones(6, 2) / 2**0.5, 4)
    assert set(same.tolist()) == {0}


def test_nearness_likeness_and_deviations_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    torch.testing.assert_close(nearness(vectors), torch.tensor([0.4, 0.7, 0.3]))
    like, which = likeness(vectors, torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    torch.testing.assert_close(like, torch.tensor([0.6, 0.96, 1.0]))
    assert which.tolist() == [1, 1, 0]
    torch.testing.assert_close(robust(torch.tensor([1.0, 2, 3, 4, 100]))[-1], torch.tensor(97 / 1.4826))
    assert robust(torch.ones(5)).tolist() == [0] * 5


def test_the_map_is_xml_and_shows_suspects_in_front() -> None:
    points = [
        Point(float(n), float(n % 7), n % 2, "label" if n == 3 else "", n == 5, f'"<{n}>" &') for n in range(3000)
    ]
    root = ET.fromstring(drawn(points, {0: "<a>", 1: "b"}, label='"&'))
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(circles) == DRAWN
    assert circles[-1].get("class") == "odd label"
    assert sum(one.tag.endswith("ellipse") for one in root.iter()) == 2
    assert all(0 <= float(one.get("cx") or -1) <= 720 and 0 <= float(one.get("cy") or -1) <= 460 for one in circles)


# The whole way. What the tiny encoder makes of a text follows its letters, so made-up texts tell classes by theirs.

LETTERS = {"low": "abcdefg", "mid": "hijklmn", "top": "opqrstu"}


def lettered(count: int, *, seed: int = 0, names: list[str] | None = None) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        name = (names or list(LETTERS))[number % len(names or LETTERS)]
        text = " ".join("".join(rng.choice(list(LETTERS[name]), 5)) for _ in range(6))
        rows.append({"text": text, "label": name})
    return rows


def coached(rows: list[dict[str, Any]], folder: Path, reader: Path, **data: Any) -> Coached:
    write_rows(folder / "data.jsonl", rows)
    given = {"model": str(reader), "data": {"source": str(folder / "data.jsonl"), **data}}
    recipe, _ = from_mapping(given, [])
    return coach(prepare(recipe), lambda _: None, encoder=str(reader))


def numbers(found: Coached, kind: Any) -> set[int]:
    return {line.row for line in found.of(kind)}


def test_what_was_put_in_is_found(reader_folder: Path, tmp_path: Path) -> None:
    """Wrong labels, a repeat, a contradiction, a stranger: each under its kind. Nothing of it is of a row held out."""
    rows = lettered(120)
    for number in (3, 33, 63):
        rows[number]["label"] = "top" if rows[number]["label"] != "top" else "low"
    rows.append(dict(rows[7]))
    rows.append({**rows[11], "label": "low"})
    rows.append({"text": "0123 9876 " * 30, "label": "mid"})
    found = coached(rows, tmp_path, reader_folder, validation=0, test=0)
    relabelled = {line.row: line.to for line in found.of("label")}
    assert {row: relabelled.get(row) for row in (4, 34, 64)} == dict.fromkeys((4, 34, 64), "low")
    assert len(relabelled) <= 8
    assert numbers(found, "duplicate") == {121}
    assert numbers(found, "contradiction") & {12, 122}
    assert 123 in numbers(found, "outlier")
    assert found.facts["counts"]["duplicate"] == {"found": 1, "accepted": 0}
    assert not found.facts["least_like"]
    assert any("No rows are held out" in words for words in found.facts["not_applied"])


def test_rows_held_out_are_told_and_never_suggested(reader_folder: Path, tmp_path: Path) -> None:
    """Wrong labels in the test file: shown, accepted by nobody, not among the lines of a patch."""
    (tmp_path / "d").mkdir()
    write_rows(tmp_path / "d" / "train.jsonl", lettered(90))
    test = lettered(30, seed=1)
    test[4]["label"] = "top" if test[4]["label"] != "top" else "low"
    write_rows(tmp_path / "d" / "test.jsonl", test)
    recipe, _ = from_mapping({"model": str(reader_folder), "data": {"source": str(tmp_path / "d")}}, [])
    found = coach(prepare(recipe), lambda _: None)
    assert 5 in {line.row for line in found.held_out if line.source == "test.jsonl"}
    assert not any(line.accept for line in found.held_out)
    assert not any(line.source == "test.jsonl" for line in found.lines)
    assert len(found.facts["least_like"]) == 50


def test_leaks_are_told_though_a_run_leaves_them_out(reader_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    test = lettered(20, seed=1)
    write_rows(tmp_path / "d" / "train.jsonl", [*lettered(60), test[3]])
    write_rows(tmp_path / "d" / "test.jsonl", test)
    recipe, _ = from_mapping({"model": str(reader_folder), "data": {"source": str(tmp_path / "d")}}, [])
    leaks = [line for line in coach(prepare(recipe), lambda _: None).of("leak") if line.accept]
    assert [line.row for line in leaks] == [61]
    assert "says the same as test.jsonl line 4" in leaks[0].why


def test_numbers_far_from_what_rows_like_them_have(reader_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = {"low": 1.0, "mid": 2.0, "top": 3.0}
    rows = [{"text": row["text"], "label": places[row["label"]] + 0.1 * rng.standard_normal()} for row in lettered(90)]
    rows[5]["label"] = 40.0
    found = coached(rows, tmp_path, reader_folder, validation=0, test=0)
    lines = [line for line in found.of("outlier") if "usual error" in line.why]
    assert lines[0].row == 6
    assert (lines[0].suggest, lines[0].accept) == ("drop", False)


def test_several_labels_a_row(reader_folder: Path, tmp_path: Path) -> None:
    """Rows that lack a label which all rows like them have are told what they lack; nothing is accepted by itself."""
    rows = [{"text": row["text"], "label": [row["label"], *(["edge"] if row["label"] != "mid" else [])]}
            for row in lettered(150)]  # fmt: skip
    bad = range(3, 150, 27)
    for number in bad:
        rows[number]["label"] = rows[number]["label"][:1]
    found = coached(rows, tmp_path, reader_folder, validation=0, test=0)
    lines = {line.row - 1: line for line in found.of("label")}
    hits = [lines[number] for number in bad if number in lines]
    assert hits
    assert all(set(line.to) == {"low", "edge"} and "missing" in line.why for line in hits)
    assert not any(line.accept for line in lines.values())


def test_memberships_that_are_wrong_are_found() -> None:
    """Of 400 rows with two labels each, 40 have one too many or one too few: four of five are found, and four of five
    of what is found is wrong."""
    vectors, labels = clouds(400)
    given = F.one_hot(labels, 5).float() + F.one_hot((labels + 1) % 5, 5).float()
    rng = np.random.default_rng(0)
    bad = torch.zeros(400, 5, dtype=torch.bool)
    bad[torch.from_numpy(rng.permutation(400)[:40]), torch.from_numpy(rng.integers(0, 5, 40))] = True
    given = torch.where(bad, 1 - given, given)
    yes = memberships(unseen(vectors, given, np.arange(400) // 5 % 5),
                      votes(given, *neighbours(vectors, vectors, torch.arange(400))))  # fmt: skip
    wrong = flipped(yes, given, 2)
    assert (wrong & bad).sum() / bad.sum() >= 0.8
    assert (wrong & bad).sum() / wrong.sum() >= 0.8
    assert not flipped(yes, given, 400).any()


def test_both_views_of_a_membership_by_hand() -> None:
    """Half by the head and three quarters of the neighbours: odds of .751 to .251; nine tenths and none of them: e^4
    times .001 to 1.001."""
    found = memberships(torch.tensor([[0.5, 0.9]]), torch.tensor([[0.75, 0.0]]))[0]
    torch.testing.assert_close(found, torch.tensor([0.751 / 1.002, 1 / (1 + 1.001 / (0.001 * 2.718281828**4))]))


def test_labels_hardly_another_row_has_are_not_judged(reader_folder: Path, tmp_path: Path) -> None:
    rows = [*lettered(60), {"text": "once 777", "label": "single"}]
    found = coached(rows, tmp_path, reader_folder, validation=0, test=0)
    assert 61 not in numbers(found, "label")
    assert any("hardly another row has" in words for words in found.facts["not_applied"])


def test_too_few_rows_and_one_class(reader_folder: Path, tmp_path: Path) -> None:
    few = coached(lettered(6), tmp_path, reader_folder, validation=0, test=0)
    assert any("There are 6 rows with a label" in words for words in few.facts["not_applied"])
    with pytest.raises(DataError, match="at least two different labels"):
        coached(lettered(20, names=["low"]), tmp_path, reader_folder)


def test_answers_that_are_none(generator_folder: Path, reader_folder: Path, tmp_path: Path) -> None:
    """Texts that a model writes: repeats, the same request answered otherwise, refusals, answers that stop in the
    middle; and it is said that there are no labels."""
    body = "Then the story of number {} went on and on, through a house, a garden, a dark wood and then a long road to the sea"
    rows = [{"prompt": f"tell story {number} of {'abcdefgh'[number % 8] * 9}", "completion": f"{body.format(number)}."}
            for number in range(40)]  # fmt: skip
    rows[4]["completion"] = body.format(4)
    rows[9]["completion"] = "I'm sorry, but I cannot help with that request."
    rows.append({**rows[20], "completion": "Something else was said here, and nothing of what came before is in it."})
    rows.append(dict(rows[21]))
    write_rows(tmp_path / "data.jsonl", rows)
    data = {"source": str(tmp_path / "data.jsonl"), "validation": 0, "test": 0}
    recipe, _ = from_mapping({"model": str(generator_folder), "data": data}, [])
    found = coach(prepare(recipe), lambda _: None, encoder=str(reader_folder))
    assert {line.row: line.why for line in found.of("answer")} == {
        5: "The answer stops in the middle; nearly all others end as texts end.", 10: "The answer refuses.",
    }  # fmt: skip
    assert numbers(found, "contradiction") == {41}
    assert 42 in numbers(found, "duplicate")
    assert any("no labels" in words for words in found.facts["not_applied"])


def test_rows_on_disk_are_sampled(reader_folder: Path, tmp_path: Path) -> None:
    found = coached(lettered(3000), tmp_path, reader_folder, streaming=True, validation=20, test=20)
    assert 1900 <= found.facts["rows"]["looked_at"] <= 2100
    assert any("seeded sample" in words for words in found.facts["not_applied"])


# The command


def test_the_way_from_check_to_fit(reader_folder: Path, tmp_path: Path) -> None:
    """Check writes a patch and a page; fit learns the accepted lines; the same rows are held out."""
    rows = lettered(120)
    for number in range(0, 120, 8):
        rows[number]["label"] = "top" if rows[number]["label"] != "top" else "low"
    data = write_rows(tmp_path / "data.jsonl", rows)
    told = typed("check", data, "--model", reader_folder, "--coach", "--patch", "p.jsonl", "--page", "c.html",
                 cwd=tmp_path)  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "Labels that are likely wrong" in told.stdout
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    counts = Counter(line["kind"] for line in lines)
    assert max(counts.values()) > 10
    for kind, count in counts.items():
        assert (f"... and {count - 10} more; --patch FILE" in told.stdout) == (count > 10), kind
    accepted = [line for line in lines if line["accept"]]
    assert {line["kind"] for line in accepted} == {"label"}
    done = typed("fit", data, "--model", reader_folder, "--patch", "p.jsonl", "--set", "schedule.steps=2", "--set",
                 "choose=none", "--out", "run", cwd=tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    notes = {note["key"]: note for note in json.loads((tmp_path / "run" / "report.json").read_text())["data"]["notes"]}
    assert notes["patched"]["changed"] == len(accepted)
    assert "patched_elsewhere" not in notes
    page = (tmp_path / "c.html").read_text()
    assert "<svg" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|src=", page)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_and_the_reasons_in_both_languages(language: str, reader_folder: Path, tmp_path: Path) -> None:
    rows = lettered(60)
    rows[3]["label"] = "top"
    rows[9]["text"] = "<b>&</b> " + rows[9]["text"]
    data = write_rows(tmp_path / "data.jsonl", rows)
    done = typed("check", data, "--model", reader_folder, "--coach", "--page", "c.html", "--json", "--lang", language,
                 "--set", "data.test=0", "--set", "data.validation=0", cwd=tmp_path)  # fmt: skip
    found = json.loads(done.stdout)["coach"]
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<b>&</b>" not in page
    for line in found["suggestions"][:5]:
        assert line["why"][:20].replace("’", "’") in page
    assert found["diversity"]["vendi"] > 1
    assert ("What to mend" in page) == (language == "en")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--patch", "p.jsonl"), "--patch is the coach's: give --coach too"),
        (("--coach", "--patch", "p.csv"), "name a .jsonl file"),
        (("--coach", "--page", "p.txt"), "name a .html file"),
    ],
)
def test_options_that_do_not_fit(given: tuple[str, ...], words: str, reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", lettered(20))
    done = typed("check", data, "--model", reader_folder, *given, cwd=tmp_path)
    assert done.exit_code == 2
    assert words in done.stderr


def test_chinese_rows(reader_folder: Path, tmp_path: Path) -> None:
    """Characters count as words do; a repeat differs in width and punctuation alone."""
    texts = {"天氣": "今天下雨明天放晴雲風雷電雪霧", "食物": "麵飯湯茶餅肉菜魚果糖鹽醬"}
    rng = np.random.default_rng(0)
    rows = [{"text": "".join(rng.choice(list(texts[label]), 8)), "label": label} for label in list(texts) * 30]
    rows[8]["label"] = "食物"
    rows.append({"text": f"「{rows[20]['text']}」！", "label": rows[20]["label"]})
    found = coached(rows, tmp_path, reader_folder, validation=0, test=0)
    assert 9 in numbers(found, "label")
    assert 61 in numbers(found, "duplicate")


@pytest.mark.real
def test_real_intents_with_wrong_labels(minilm: Path, tmp_path: Path) -> None:
    """Sixty requests of six kinds, nine of them labelled wrong: most are found. Ten rows of a class are too few to
    accept anything unasked, which is said."""
    rows = intents(0, 10)
    names = sorted({row["label"] for row in rows})
    bad = list(range(2, 60, 7))
    for number in bad:
        rows[number]["label"] = names[(names.index(rows[number]["label"]) + 2) % 6]
    found = coached(rows, tmp_path, minilm, validation=0, test=0)
    lines = {line.row - 1: line for line in found.of("label")}
    assert len(lines.keys() & set(bad)) >= 7
    assert len(lines) <= 15
    assert not any(line.accept for line in found.lines)
    assert any("fewer than 20 rows" in words for words in found.facts["not_applied"])
