"""Texts without labels beside those that have one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import tuneful
from intents import rows as intents
from tuneful.cli.main import main
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Example, Place, Row
from tuneful.data.folds import folds
from tuneful.data.rows import name_rows
from tuneful.models import unlabelled
from tuneful.models.probe import STRENGTH, Probe, fit_probe
from tuneful.models.propagation import PASSED_ON, SHARPNESS, propagated
from tuneful.models.unlabelled import surest, with_texts
from tuneful.run import choose, heads
from tuneful.run.api import check, recipe_for
from tuneful.run.build import build
from tuneful.run.loop import undone
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.ways import Beside, Trial, Tried, probe_with_texts, tuned
from tuneful.schedules.selftrain import Labelled, SelfTrainSteps, labelled
from work import losses_of, moods, whole_and_parts, write_rows


def test_labels_spread_as_the_closed_form_says() -> None:
    """(1 - a) (I - a S)^-1 Y of the paper's section 2, dense, on six vectors that are all neighbours."""
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(6, 3, generator=generator).abs(), dim=-1)
    weights = (vectors @ vectors.T).fill_diagonal_(0.0).clamp(min=0) ** SHARPNESS
    weights = weights + weights.T
    roots = weights.sum(1).rsqrt()
    graph = roots[:, None] * weights * roots[None]
    given = torch.zeros(6, 2)
    given[0, 0] = given[1, 1] = 1.0
    exact = (1 - PASSED_ON) * torch.linalg.solve(torch.eye(6) - PASSED_ON * graph, given)[2:]
    found = propagated(vectors[:2], torch.tensor([0, 1]), vectors[2:], 2)
    torch.testing.assert_close(found, exact / exact.sum(1, keepdim=True), atol=2e-2, rtol=0)


def test_a_label_reaches_its_whole_cloud_and_not_the_other() -> None:
    """A chain that leads away from the labelled end: neighbours carry the label where distance alone would not."""
    angles = torch.linspace(0, 1.2, 13)
    chain = torch.stack([angles.cos(), angles.sin(), torch.zeros(13)], 1)
    far = F.normalize(torch.tensor([[0.2, 0.5, 1.0]]) + 0.02 * torch.randn(12, 3), dim=-1)
    found = propagated(torch.cat([chain[:1], far[:1]]), torch.tensor([0, 1]), torch.cat([chain[1:], far[1:]]), 2)
    assert found.argmax(1).tolist() == [0] * 12 + [1] * 11


def test_of_every_class_the_surest_share_is_kept() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
    places, classes = surest(shares, 0.5)
    assert places.tolist() == [0, 2, 3]
    assert classes.tolist() == [0, 0, 1]
    assert surest(shares, 1.0)[0].tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def prepared(reader_folder: Path, tmp_path: Path) -> Prepared:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    others = [{"text": f"{row['text']} indeed"} for row in moods(80)[12:]]
    texts = write_rows(tmp_path / "texts.jsonl", others)
    settings = {"data.unlabelled": str(texts), "objective.pooling": "mean", "schedule": "selftrain", "adapter": "full",
                "schedule.steps": 12, "data.test": 0, "data.validation": 0}  # fmt: skip
    return prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def learned(step: object) -> list[tuple[str, object]]:
    return sorted((str(batch.inputs["input_ids"].tolist()), str(batch.targets["labels"].tolist()))
                  for batch in step.batches)  # type: ignore[attr-defined]  # fmt: skip


def test_a_resumed_round_learns_the_same_labels(prepared: Prepared) -> None:
    built = build(prepared)
    first = built.schedule
    assert isinstance(first, SelfTrainSteps)
    walk = first.steps(built.policy)
    for _ in range(3):
        next(walk)
    state = dict(first.state())
    assert set(state["classes"]) == {0, 1}
    with torch.no_grad():  # what has been learned meanwhile must not change the labels of this round
        for parameter in built.policy.trainable().values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    again = replace(first, round=None)
    again.load(state)
    assert learned(next(again.steps(built.policy, 3))) == learned(next(walk))


def test_a_run_that_was_stopped_inside_a_round_ends_as_one_that_was_not(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of the round it stopped in are those it had, and are not made anew."""
    rounds = []
    known = SelfTrainSteps._label
    monkeypatch.setattr(SelfTrainSteps, "_label", lambda *given: rounds.append(given[2]) or known(*given))
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(80)[12:]])
    settings = {"data.unlabelled": str(texts), "objective.pooling": "mean", "schedule": "selftrain", "adapter": "full",
                "schedule.steps": 12, "data.test": 0, "data.validation": 0, "evaluate.forgetting": False,
                "optimiser.learning_rate": 3e-3}  # fmt: skip
    recipe = recipe_for(data, model=str(reader_folder), settings=settings)
    whole, parts = whole_and_parts(recipe, tmp_path, after=9)
    assert len(losses_of(whole, "train")) == 12
    assert losses_of(whole, "train") == losses_of(parts, "train")
    assert rounds[: len(rounds) // 2] == rounds[len(rounds) // 2 :] == [0, 1]


def test_first_guesses_are_those_of_a_solved_head_and_later_rounds_take_more(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(prepared)
    schedule = built.schedule
    assert isinstance(schedule, SelfTrainSteps)
    given = []
    monkeypatch.setattr("tuneful.schedules.selftrain.labelled", lambda *found: given.append(found) or labelled(*found))
    first = schedule._label(built.policy, 0)
    schedule._label(built.policy, 1)
    (known, targets, texts, solved, share), (*_, own, more) = given
    probe = fit_probe(known, targets, STRENGTH, classes=2)
    torch.testing.assert_close(solved, probe.logits(texts))
    assert not torch.allclose(own, solved)
    assert share == schedule.settings.share
    assert more == pytest.approx(1 - (1 - share) / 2)
    assert 0 < len(first.places) <= len(texts)


def test_where_the_views_part_the_labels_stay(prepared: Prepared) -> None:
    built = build(prepared)
    schedule = built.schedule
    assert isinstance(schedule, SelfTrainSteps)
    before = Labelled(0, 1.1, [3, 5], [0, 1])  # more than any two views can agree
    schedule.round = before
    list(schedule.steps(built.policy, 6))
    assert schedule.round == replace(before, number=1)
    assert Labelled(**schedule.state()) == schedule.round


def test_rows_with_a_label_of_their_own_are_seen_more_often(prepared: Prepared) -> None:
    built = build(prepared)
    schedule = built.schedule
    assert isinstance(schedule, SelfTrainSteps)
    rows: list[Row] = schedule._learned(Labelled(0, 1.0, [0, 1], [1, 1]))
    assert len(rows) == 2 * 12 + 2
    assert all(row.target == 1 for row in rows[-2:])


def test_texts_are_taken_once_and_never_from_what_is_held_out(reader_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", moods(12))
    write_rows(data / "test.jsonl", [{"text": f"{row['text']} too", "label": row["label"]} for row in moods(8)])
    texts = [f"{moods(8)[0]['text']} too", moods(12)[3]["text"], "new here", "new here", "another one"]
    source = write_rows(tmp_path / "texts.jsonl", [{"text": text, "label": "whatever"} for text in texts])
    recipe = {"data": {"source": str(data), "unlabelled": str(source)}, "model": str(reader_folder)}
    found = [row.example.text for row in check(recipe).repeated if not row.counts]
    assert found == ["new here", "another one"]


def test_texts_in_a_column_of_another_name(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    source = write_rows(tmp_path / "texts.jsonl", [{"id": 7, "said": "new here", "agent": "x", "status": "open"}])
    recipe = {"data": {"source": str(data), "unlabelled": str(source)}, "model": str(reader_folder)}
    with pytest.raises(DataError, match=r"data\.unlabelled_text"):
        check(recipe)
    recipe["data"]["unlabelled_text"] = "said"  # type: ignore[index]
    assert [row.example.text for row in check(recipe).repeated if not row.counts] == ["new here"]


def test_labels_of_texts_are_not_read_and_that_is_said(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    texts = write_rows(
        tmp_path / "texts.jsonl", [{"text": f"{row['text']} too", "label": row["label"]} for row in moods(4)]
    )
    said: list[str] = []
    prepare(recipe_for(data, model=str(reader_folder), settings={"data.unlabelled": str(texts)}), said.append)
    assert any("its column 'label' is not read" in words for words in said)


@pytest.mark.parametrize(
    ("with_texts", "classes", "taken", "expected"),
    [
        (12, 1, True, {"count": 12, "enough": True, "taken": True, "delta": 0.25}),
        (12, 2, False, {"count": 12, "enough": False, "taken": False, "delta": 0.25}),
    ],
)
def test_the_report_is_told_what_texts_brought(
    with_texts: int, classes: int, taken: bool, expected: dict[str, object]
) -> None:
    """Of four rows three are right without, all with them."""
    wanted = torch.tensor([0, 0, 0, 0])
    without = torch.zeros(4, 2)
    without[3, 1] = 1
    rows = [Row(Example(Place("t", n)), np.zeros(1), np.zeros(1)) for n in range(with_texts)]
    alone = Tried("tune", Beside(), without[:, : max(2, classes)], 1.0)
    taught = Tried("tune", Beside(texts=rows), torch.tensor([[1.0, 0.0]] * 4)[:, :classes], 1.0)
    other = Tried("probe", Beside(), without, 1.0)
    found = choose._texts([other, alone, taught], taught if taken else alone, wanted)
    assert found is not None
    assert found.items() >= expected.items()
    assert found["ci95"][0] <= 0.25 <= found["ci95"][1]
    assert choose._texts([other, alone, taught], other, wanted) is None


def test_nothing_to_label_and_nothing_to_label_by_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(30))
    model = str(reader_folder)
    with pytest.raises(RecipeError, match="labels texts that have none"):
        build(check({"data": str(data), "model": model, "schedule": "selftrain", "objective": {"pooling": "mean"}}))
    numbers = write_rows(
        tmp_path / "n.jsonl", [{"text": row["text"], "label": n / 7} for n, row in enumerate(moods(30))]
    )
    with pytest.raises(RecipeError, match="go with labels, one a row"):
        check({"data": {"source": str(numbers), "unlabelled": str(data)}, "model": model, "schedule": "selftrain"})


def test_texts_that_nothing_would_learn_from_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(60))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "one"}, {"text": "two"}])
    recipe = {"data": {"source": str(data), "unlabelled": str(texts)}, "model": str(reader_folder), "choose": "none"}
    with pytest.raises(RecipeError, match="nothing here learns from texts without labels"):
        check(recipe)
    assert any(not row.counts for row in check({**recipe, "schedule": "selftrain"}).repeated)


@pytest.mark.parametrize("way", ["probe", "tune", "neither"])
def test_texts_are_learned_only_where_that_was_taken(
    way: str, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line; what the trials of the texts answered is made right about all rows, or about none."""
    from tuneful.run import choose as room

    def answers(trial: Trial, right: bool) -> torch.Tensor:
        return F.one_hot(trial.wanted if right else 1 - trial.wanted, 2).float()

    def probe_with_texts(trial: Trial, beside: Beside) -> Tried:
        assert len(beside.texts) == 36
        return Tried("probe", beside, answers(trial, way == "probe"), 0.0)

    def tuned(trial: Trial, beside: Beside) -> list[Tried]:
        adapter = trial.built.prepared.resolved.adapter
        return [Tried("tune", replace(beside, texts=()), answers(trial, False), 0.0, adapter),
                Tried("tune", beside, answers(trial, way == "tune"), 0.0, adapter)]  # fmt: skip

    monkeypatch.setattr(room, "probe_with_texts", probe_with_texts)
    monkeypatch.setattr(room, "tuned", tuned)
    monkeypatch.setattr(sys, "argv", ["tuneful"])
    said = [{"text": row["text"], "label": f"{number % 3 == 0}"} for number, row in enumerate(moods(24))]  # no pattern
    data = write_rows(tmp_path / "said.jsonl", said)
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    command = ["fit", str(data), "--unlabelled", str(texts), "--model", str(reader_folder), "--out", str(tmp_path / "run"),
               "--set", "evaluate.forgetting=false"]  # fmt: skip
    done = CliRunner().invoke(main, command, standalone_mode=False)
    assert done.exception is None or done.exit_code == 0, done.output
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text(encoding="utf-8"))["recipe"]
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    (taken,) = [found for found in report["choice"]["ways"] if found["taken"]]
    assert taken["texts"] is (way != "neither")
    assert lock["schedule"]["kind"] == "epochs"
    assert (lock["adapter"]["kind"] == "head") is (taken["way"] == "probe")
    assert (lock["tasks"][0]["data"]["unlabelled"] is not None) is (way != "neither")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("then texts without labels learned") == 2  # each way that was tried with them
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    why = "were learned, as" if way != "neither" else "were left out, as"
    for text in (page, card):
        assert "36 texts without labels changed that by" in text
        assert why in text
        assert "each answered by what had learned from the other folds" in text


def clouds() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two arcs of 40 texts on a circle, and a row with a label at the beginning of each: the end of the first is nearer
    to the row of the second."""
    angles = torch.cat([torch.linspace(0, 1.2, 40), torch.linspace(1.5, 2.0, 40)])
    texts = torch.stack([angles.cos(), angles.sin()], 1)
    return texts[[0, 40]], torch.tensor([0, 1]), texts, torch.arange(80) // 40


def test_a_head_learns_from_texts_what_their_neighbours_say() -> None:
    known, targets, texts, wanted = clouds()
    alone = fit_probe(known, targets, STRENGTH, classes=2)
    taught = with_texts(alone, known, targets, texts)
    right = [float((head.logits(texts).argmax(1) == wanted).float().mean()) for head in (alone, taught)]
    assert right[1] > right[0] + 0.1, right


def test_no_text_is_judged_by_a_head_that_learned_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known, targets, texts, _ = clouds()
    learned = []

    def recorded(vectors: torch.Tensor, *given: object, **more: object) -> Probe:
        learned.append({tuple(vector) for vector in vectors.tolist()})
        return fit_probe(vectors, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(unlabelled, "fit_probe", recorded)
    with_texts(fit_probe(known, targets, STRENGTH, classes=2), known, targets, texts)
    assert len(learned) == unlabelled.PARTS + 1
    rows = {tuple(vector) for vector in known.tolist()}
    for part, seen in enumerate(learned[:-1]):
        own = {tuple(vector) for vector in texts[part :: unlabelled.PARTS].tolist()} - rows
        assert not own & seen
        assert len(seen) > 40
    assert len(learned[-1]) >= 72  # the surest nine in ten of each class


@pytest.mark.parametrize(
    ("right", "tuned", "texts", "taken"),
    [(13, 12, 20, "probe texts"), (12, 9, 20, "probe texts"), (11, 9, 20, "probe texts"), (6, 9, 20, "probe"),
     (13, 9, 19, "probe texts"), (12, 9, 19, "probe"), (6, 12, 20, "probe"), (6, 13, 20, "tune texts")],
    ids=["better", "as good", "one row worse", "much worse", "few and better", "few and as good",
         "another that is as good", "another that is better"],
)  # fmt: skip
def test_enough_texts_are_taken_where_rows_cannot_tell(right: int, tuned: int, texts: int, taken: str) -> None:
    """Of 24 rows of two classes the first 12 are right without texts, and with them others than the first three."""

    def answered(way: str, right: int, beside: Beside) -> Tried:
        start = 3 if beside.texts else 0
        logits = torch.tensor([[1.0, 0.0] if start <= row < start + right else [0.0, 1.0] for row in range(24)])
        return Tried(way, beside, logits, 0.0)

    row = Row(Example(Place("texts", 1)), np.zeros(1), np.zeros(1))
    beside = Beside(texts=[row] * texts)
    plain, wanted = answered("probe", 12, Beside()), torch.zeros(24, dtype=torch.long)
    ways = [answered("probe", right, beside), answered("tune", tuned, beside)]
    found = choose._with_texts_or_not(plain, ways, wanted)
    assert found.way + (" texts" if found.texts else "") == taken
    assert choose._with_texts_or_not(plain, [], wanted) is plain


@pytest.mark.parametrize("frozen", [False, True])
def test_no_row_is_asked_about_by_what_learned_it(
    frozen: bool, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What learns texts is given the rows of the other folds, and, where the encoder was tuned, the head that learned."""
    from tuneful.run import ways

    given, learned = [], []

    def recorded(head: Probe, known: torch.Tensor, targets: torch.Tensor, texts: torch.Tensor) -> Probe:
        given.append((head, known, targets, texts))
        return with_texts(head, known, targets, texts)

    def averaged(own: Probe, solution: Probe, weight: float) -> Probe:
        learned.append(own)
        return Probe(own.weight + 1, own.bias)

    for room in (heads, ways):
        monkeypatch.setattr(room, "with_texts", recorded)
    monkeypatch.setattr(heads, "averaged", averaged)
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    settings = {"data.unlabelled": str(texts), "choose.enabled": True}
    built = build(prepare(recipe_for(data, model=str(reader_folder), settings=settings)))
    rows = built.prepared.rows("train")
    wanted, parts = torch.tensor([row.target for row in rows]), folds([row.target for row in rows], 2)
    trial = Trial(built, rows, wanted, parts)
    beside, read = Beside(texts=heads.texts_of(built.prepared)), trial.vectors(rows)
    probe_with_texts(trial, beside) if frozen else tuned(trial, beside)
    assert len(given) == 2
    for part, (head, known, targets, read_texts) in enumerate(given):
        others = torch.from_numpy(parts != part)
        assert len(known) == len(targets)
        assert len(read_texts) == 36
        if frozen:
            torch.testing.assert_close(known, read[others])
        assert targets.tolist() == wanted[others].tolist()
        if not frozen:
            assert head.weight is not learned[2 * part].weight
            torch.testing.assert_close(head.weight, learned[2 * part].weight, rtol=0, atol=0)


def test_what_learns_texts_has_learned_names_and_generated_rows_too(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneful.run import ways

    given = []
    monkeypatch.setattr(ways, "with_texts", lambda *found: given.append(found) or with_texts(*found))
    built, labels = build(prepared), prepared.labels
    assert labels is not None
    rows = built.prepared.rows("train")
    trial = Trial(built, rows, torch.tensor([row.target for row in rows]), folds([row.target for row in rows], 2))
    names = name_rows(labels, prepared.processor, 64)
    made = [replace(row, example=replace(row.example, text=f"made up {row.example.text}")) for row in rows[:1]]
    probe_with_texts(trial, Beside(names, made, heads.texts_of(built.prepared)))
    assert [len(known) for _, known, *_ in given] == [6 + 2 + 1] * 2
    assert [answers.tolist()[6:] for _, _, answers, _ in given] == [[0, 1, 0]] * 2


def test_what_is_tried_is_not_remembered(prepared: Prepared) -> None:
    built = build(prepared)
    policy, batch = built.policy, built.collate(built.prepared.rows("train")[:2])
    policy.module.eval()
    before = policy(batch).hidden.detach().clone()
    policy.forget()
    with undone(policy):
        with torch.no_grad():
            for parameter in policy.trainable().values():
                parameter.add_(0.3)
        assert not torch.allclose(policy(batch).hidden, before)
    torch.testing.assert_close(policy(batch).hidden.detach(), before, rtol=0, atol=0)


def test_texts_cost_no_updates_and_are_not_counted_as_learned(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    settings = {"choose": "none", "objective.pooling": "mean", "schedule.steps": 4}
    found = [build(prepare(recipe_for(data, model=str(reader_folder), settings={**settings, **more}))).cost.tflop
             for more in ({}, {"data.unlabelled": str(texts)})]  # fmt: skip
    assert found[0] == found[1]


def test_selftrain_is_none_of_the_ways_that_are_tried(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "one"}, {"text": "two"}])
    settings = {"data.unlabelled": str(texts), "schedule": "selftrain", "choose.enabled": True}
    with pytest.raises(RecipeError, match="none of the ways that are tried"):
        prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def test_single_texts_say_nothing_of_pairs(reader_folder: Path, tmp_path: Path) -> None:
    pairs = [{"premise": row["text"], "hypothesis": "so it is", "label": row["label"]} for row in moods(24)]
    data = write_rows(tmp_path / "pairs.jsonl", pairs)
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "one"}, {"text": "two"}])
    settings = {"data.unlabelled": str(texts), "objective.pooling": "mean", "choose": "none"}
    with pytest.raises(RecipeError, match="nothing here learns from texts without labels"):
        prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def test_a_head_that_learned_texts_stays_as_it_learned(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    settings = {"choose": "none", "objective.pooling": "mean", "data.unlabelled": str(texts)}
    for schedule, stays in (("selftrain", True), ("epochs", False)):
        recipe = recipe_for(data, model=str(reader_folder), settings={**settings, "schedule": schedule})
        built = build(prepare(recipe))
        before = heads.own_head(built.policy.module).weight
        heads.end(built)
        assert torch.equal(heads.own_head(built.policy.module).weight, before) is stays


@pytest.mark.parametrize("frozen", [False, True])
def test_runs_and_trials_learn_texts_in_the_same_way(
    frozen: bool, reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of what texts teach, a head that answers the first class whatever it reads; tuned with a head, and
    with nothing but a head."""
    from tuneful.run import ways

    blind = Probe(torch.zeros(2, 32), torch.tensor([1e3, 0.0]))
    asked = []
    for room in (heads, ways):
        monkeypatch.setattr(room, "with_texts", lambda *given: asked.append(len(given[3])) or blind)
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['text']} indeed"} for row in moods(60)[24:]])
    settings = {"data.unlabelled": str(texts), "evaluate.forgetting": False}
    built = build(prepare(recipe_for(data, model=str(reader_folder), settings={**settings, "choose.enabled": True})))
    rows = built.prepared.rows("train")
    trial = Trial(built, rows, torch.tensor([row.target for row in rows]), folds([row.target for row in rows], 2))
    beside = Beside(texts=[row for row in built.prepared.repeated if row.target is None])
    found = probe_with_texts(trial, beside) if frozen else tuned(trial, beside)[1]
    assert found.texts
    assert set(found.logits.argmax(1).tolist()) == {0}
    assert asked == [36, 36]
    if not frozen:
        assert set(tuned(trial, beside)[0].logits.argmax(1).tolist()) == {0, 1}
    settings |= {"choose": "none", "objective.pooling": "mean", "schedule.steps": 2}
    settings |= {"adapter": "head"} if frozen else {}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    assert set(run.load().classify([row["text"] for row in moods(24)])) == {"glad"}


def test_what_is_learned_in_the_end_are_second_opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first head says class 0 of everything, what learns from that (never mind what) says class 1."""
    known, targets, texts, _ = clouds()
    given: list[list[int]] = []
    contrary = Probe(torch.zeros(2, 2), torch.tensor([0.0, 50.0]))
    monkeypatch.setattr(unlabelled, "fit_probe", lambda _, told, *__, **___: given.append(told.tolist()) or contrary)
    first = Probe(torch.zeros(2, 2), torch.tensor([50.0, 0.0]))
    with_texts(first, known, targets, texts)
    assert [told[:4] for told in given] == [[0, 1, 0, 1]] * 5  # rows with labels, twice
    assert [set(told[4:]) for told in given] == [{0}] * 4 + [{1}]


def test_very_many_texts_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST", 4)
    texts = [Row(Example(Place("texts", number)), np.zeros(1), np.zeros(1)) for number in range(9)]
    assert [row.example.place.row for row in heads.thinned(texts)] == [0, 2, 4, 6]
    assert heads.thinned(texts[:4]) == texts[:4]
    assert heads.thinned([]) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_texts_are_no_obstacle(count: int) -> None:
    known, targets, texts, _ = clouds()
    alone = fit_probe(known, targets, STRENGTH, classes=2)
    texts = texts[:count]
    taught = with_texts(alone, known, targets, texts)
    assert taught.logits(known).argmax(1).tolist() == [0, 1]


@pytest.mark.real
@pytest.mark.parametrize("schedule", ["epochs", "selftrain"])
def test_texts_without_labels_help(schedule: str, minilm: Path, tmp_path: Path) -> None:
    """One row a kind with a label, without its name; nine texts a kind without, each said in two ways; asked about these
    nine as they are. Over three draws of the labelled rows."""
    right = [0.0, 0.0]
    for draw in (0, 4, 8):
        own = intents(draw, draw + 1)
        kinds = {row["label"]: str(number) for number, row in enumerate(own)}
        folder = tmp_path / str(draw)
        folder.mkdir()
        others = [row for row in intents(0, 10) if row not in own]
        write_rows(folder / "train.jsonl", [{**row, "label": kinds[row["label"]]} for row in own])
        write_rows(folder / "test.jsonl", [{**row, "label": kinds[row["label"]]} for row in others])
        said = [text for row in others for text in (f"hello, {row['text']}", f"{row['text']}, thanks")]
        texts = write_rows(tmp_path / f"{draw}.jsonl", [{"text": text} for text in said])
        alone = {"objective.pooling": "mean", "adapter": "top_layers", "adapter.layers": 3, "data.validation": 0,
                 "evaluate.forgetting": False}  # fmt: skip
        both = {**alone, "data.unlabelled": str(texts), "schedule": schedule}
        for way, settings in enumerate((alone, both)):
            run = tuneful.fit(folder, model=str(minilm), out=tmp_path / f"run{draw}{way}", settings=settings)
            right[way] += run.report["quality"]["accuracy"]["tuned"] / 3
    assert right[1] >= right[0] + 0.03, right
