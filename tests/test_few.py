"""Few labels: solved heads, heads over means, and the choice between ways of learning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tuneful
from intents import rows as intents
from tuneful.adapters import Full
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.folds import folds
from tuneful.data.labels import label_set, spoken
from tuneful.data.layouts import Collator
from tuneful.data.rows import NAMES, name_rows
from tuneful.evaluation.compare import score
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import embeddings
from tuneful.evaluation.verdict import judge
from tuneful.models.heads import Labels
from tuneful.models.load import Loaded, load
from tuneful.models.probe import Probe, averaged, best_strength, fit_probe, losses, out_of_fold, right
from tuneful.models.processors import TextProcessor
from tuneful.models.sentence import SentenceForSequenceClassification
from tuneful.run import heads
from tuneful.run.api import check, recipe_for
from tuneful.run.build import build
from tuneful.run.folder import RunFolder
from tuneful.run.heads import SCALE, end, put, started
from tuneful.run.loop import Interrupted
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from tuneful.run.ways import Beside, Trial, Tried, tuned
from work import moods, write_rows

MOODS = Labels(("glad", "sad"), "single_label_classification", pooled=True)


def clouds(seed: int = 0) -> tuple[Tensor, Tensor]:
    """40 points around three centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 6, generator=generator)
    targets = torch.arange(40) % 3
    return centres[targets] + 0.8 * torch.randn(40, 6, generator=generator), targets


def test_a_solved_head_is_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    vectors, targets = clouds()
    for strength in (0.3, 10.0):
        theirs = sklearn.LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(vectors.numpy(), targets.numpy())
        ours = fit_probe(vectors, targets, strength, classes=3).logits(vectors).softmax(1)
        np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(vectors.numpy()), atol=2e-3)


def test_a_solved_head_of_memberships_is_one_yes_or_no_each() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    vectors, targets = clouds()
    members = torch.nn.functional.one_hot(targets, 3).float()
    ours = fit_probe(vectors, members, 3.0, classes=3).logits(vectors).sigmoid()
    for place in range(3):
        theirs = sklearn.LogisticRegression(C=3.0, max_iter=5000, tol=1e-8).fit(vectors.numpy(), members[:, place])
        np.testing.assert_allclose(ours[:, place].numpy(), theirs.predict_proba(vectors.numpy())[:, 1], atol=2e-3)


def test_out_of_fold_answers_come_from_heads_that_have_not_seen_the_row() -> None:
    """Labels without any pattern: a head that had seen them would be right about most."""
    generator = torch.Generator().manual_seed(0)
    vectors, targets = torch.randn(60, 50, generator=generator), torch.randint(0, 2, (60,), generator=generator)
    parts = folds(targets.tolist(), 3)
    logits = out_of_fold(vectors, targets, parts, (100.0,), classes=2)[100.0]
    assert right(fit_probe(vectors, targets, 100.0, classes=2).logits(vectors), targets).mean() > 0.95
    assert right(logits, targets).mean() < 0.7


def test_the_strength_with_the_smallest_loss_is_taken() -> None:
    """Worked by hand: sure and right loses least, unsure and right less than wrong."""
    targets = torch.tensor([0, 1])
    wrong, unsure, sure = torch.tensor([[0.0, 1], [1, 0]]), torch.tensor([[0.1, 0], [0, 0.1]]), torch.eye(2) * 3
    assert best_strength({1.0: wrong, 2.0: unsure, 3.0: sure}, targets) == 3.0
    assert best_strength({1.0: wrong, 2.0: unsure}, targets) == 2.0


def test_folds_spread_every_class() -> None:
    classes = ["a"] * 7 + ["b"] * 5 + ["c"]
    found = folds(classes, 3, seed=1)
    for name, least in (("a", 2), ("b", 1)):
        counts = np.bincount(found[np.array(classes) == name], minlength=3)
        assert counts.min() >= least
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(found)
    assert sizes.max() - sizes.min() <= 1
    assert (folds(classes, 3, seed=1) == found).all()


def test_names_as_a_person_says_them() -> None:
    assert spoken("card_arrival") == "card arrival"
    assert spoken("CardArrival") == "Card Arrival"
    assert spoken("top-up/failed") == "top up failed"
    assert spoken("退款") == "退款"
    assert spoken("7") is None


def test_a_head_starts_at_the_classes_means_and_names() -> None:
    """Worked by hand: class 0 has (1, 0) and (0, 1), so it points at 45 degrees; class 1 has (0, 1) and the name (1, 0),
    which counts a half; class 2 has its name alone; class 3 nothing."""
    vectors = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0], [0, 1]])
    sources, classes = ["x", "x", "x", NAMES, NAMES], [0, 0, 1, 1, 2]
    rows = [Row(Example(Place(source, 1)), np.zeros(1), np.zeros(1), target=name)
            for source, name in zip(sources, classes, strict=True)]  # fmt: skip
    head = started(vectors, rows, 4)
    diagonal, leaning = SCALE * 0.5**0.5, SCALE / 1.25**0.5
    wanted = [[diagonal, diagonal], [0.5 * leaning, leaning], [0, SCALE], [0, 0]]
    torch.testing.assert_close(head.weight, torch.tensor(wanted))


def test_two_heads_are_averaged_at_the_size_of_the_one_that_learned() -> None:
    """Worked by hand: around their means, the first is (3, 0) and (-3, 0), the second (0, 1) and (0, -1), so the second is
    brought to three times its size, what all classes share with it, and counts twice."""
    learned = Probe(torch.tensor([[4.0, 0], [-2, 0]]), torch.tensor([1.0, 0]))
    solution = Probe(torch.tensor([[0.0, 3], [0, 1]]), torch.tensor([0.0, 1]))
    head = averaged(learned, solution, 2.0)
    torch.testing.assert_close(head.weight, torch.tensor([[4 / 3, 6.0], [-2 / 3, 2.0]]))
    torch.testing.assert_close(head.bias, torch.tensor([1 / 3, 2.0]))


@pytest.mark.parametrize("unlabelled", [False, True], ids=["labels", "and texts without"])
def test_a_head_that_stayed_behind_is_solved_again(unlabelled: bool, reader_folder: Path, tmp_path: Path) -> None:
    """A head that names every row the other way round is put right, also where it would name texts wrong."""
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    prepared = prepare(recipe_for(data, model=str(reader_folder), settings={"choose.enabled": True}))
    rows = [row for row in prepared.repeated if row.target is not None]
    if unlabelled:
        prepared = replace(prepared, repeated=[*rows, replace(rows[0], target=None)])
    built = build(prepared)
    vectors = torch.from_numpy(embeddings(built.policy, rows, built.collate)).float()
    wanted = torch.tensor([row.target for row in rows])
    solution = fit_probe(vectors, wanted, 10.0, classes=2)
    before = float(losses(-solution.logits(vectors), wanted).mean())
    put(built.policy.module, Probe(-solution.weight, -solution.bias))
    end(built)
    head = built.policy.module.classifier
    after = float(losses(vectors @ head.weight.T + head.bias, wanted).detach().mean())
    assert after < before
    assert unlabelled or torch.allclose(head.weight.detach(), solution.weight / 3, rtol=1e-2, atol=1e-3)


def test_runs_and_trials_end_with_the_averaged_head(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its place a head that answers the first class whatever it reads."""
    blind = Probe(torch.zeros(2, 32), torch.tensor([1.0, 0.0]))
    monkeypatch.setattr(heads, "averaged", lambda *_: blind)
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    built = build(prepare(recipe_for(data, model=str(reader_folder), settings={})))
    rows = built.prepared.rows("train")
    wanted = torch.tensor([row.target for row in rows])
    (found,) = tuned(Trial(built, rows, wanted, folds(wanted.tolist(), 2)), Beside())
    torch.testing.assert_close(found.logits, blind.bias.expand(24, 2))
    settings = {"choose": "none", "objective.pooling": "mean", "schedule.steps": 2, "evaluate.forgetting": False}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    assert set(run.load().classify([row["text"] for row in moods(24)])) == {"glad"}


@pytest.mark.parametrize(("count", "steps"), [(640, 40), (1280, 60)], ids=["at least", "three epochs"])
def test_how_long_few_labels_are_learned(count: int, steps: int, reader_folder: Path, tmp_path: Path) -> None:
    """In updates of 64 rows."""
    data = write_rows(tmp_path / "moods.jsonl", moods(count))
    recipe = {"data": str(data), "model": str(reader_folder), "choose": {"enabled": True}}
    assert check(recipe).resolved.steps == steps


def pooled(folder: Path) -> tuple[Loaded, dict[str, Tensor], list[str]]:
    loaded = load(str(folder), labels=MOODS)
    loaded.module.eval()
    texts = ["sunny warm", "grey", "cold dark gloomy bitter"]
    encoded = [loaded.processor.text(text, limit=64) for text in texts]
    rows = [Row(Example(Place("x", 1), text=text), e.ids, e.learn, target=0)
            for text, e in zip(texts, encoded, strict=True)]  # fmt: skip
    return loaded, dict(Collator(Layout.LABELS)(rows).inputs), texts


def test_a_head_over_means_is_read_packed_as_the_module_computes_it(reader_folder: Path) -> None:
    loaded, inputs, texts = pooled(reader_folder)
    assert loaded.network.packed
    assert not loaded.network.one_token_head
    with torch.no_grad():
        found = loaded.network.class_logits(loaded.module, loaded.network.hidden(loaded.module, inputs), inputs)
        given = loaded.processor.tokenizer(texts, padding=True, return_tensors="pt")
        with loaded.network.natively(loaded.module):
            states = loaded.module.body(given["input_ids"], given["attention_mask"]).last_hidden_state
    real = given["attention_mask"][..., None].float()
    mean = torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)
    head = loaded.module.classifier
    torch.testing.assert_close(found, mean @ head.weight.T + head.bias, rtol=1e-4, atol=1e-4)


def test_a_saved_head_over_means_is_loaded_by_us_and_by_sentence_transformers(
    reader_folder: Path, tmp_path: Path
) -> None:
    loaded, inputs, texts = pooled(reader_folder)
    loaded.module.save_pretrained(tmp_path)
    loaded.processor.save(str(tmp_path))
    again, _, _ = pooled(tmp_path)
    with torch.no_grad():
        logits = [one.network.class_logits(one.module, one.network.hidden(one.module, inputs), inputs)
                  for one in (loaded, again)]  # fmt: skip
    torch.testing.assert_close(*logits)
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(theirs.encode(texts), logits[0].numpy(), rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "glad", "1": "sad"}


def test_a_head_with_other_classes_is_not_taken_over(reader_folder: Path, tmp_path: Path) -> None:
    loaded, _, _ = pooled(reader_folder)
    loaded.module.save_pretrained(tmp_path)
    loaded.processor.save(str(tmp_path))
    three = load(str(tmp_path), labels=Labels(("a", "b", "c"), "single_label_classification", pooled=True)).module
    assert isinstance(three, SentenceForSequenceClassification)
    assert three.classifier.weight.shape[0] == 3


def test_names_become_texts_of_their_class(reader_folder: Path) -> None:
    examples = [Example(Place("x", n), text="t", label=name) for n, name in enumerate(["late_parcel", "7"])]
    labels = label_set(examples, "class")
    processor: TextProcessor = load(str(reader_folder), labels=MOODS).processor
    (row,) = name_rows(labels, processor, 32)
    assert (row.example.text, labels.names[row.target]) == ("late parcel", "late_parcel")


@pytest.fixture
def few_run(reader_folder: Path, tmp_path: Path) -> tuneful.Run:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    return tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run")


def test_with_few_labels_ways_are_tried_and_all_rows_are_learned(few_run: tuneful.Run) -> None:
    report = few_run.report
    assert report["data"]["rows"] == {"train": 24, "validation": 0, "test": 0}
    ways = report["choice"]["ways"]
    assert [(way["way"], way["label_names"]) for way in ways][:2] == [("probe", False), ("probe", True)]
    assert ways[2]["way"] == "tune"
    (taken,) = [way for way in ways if way["taken"]]
    assert taken["accuracy"] == max(way["accuracy"] for way in ways)
    assert report["quality"]["accuracy"]["n"] == 24
    assert report["quality"]["accuracy"]["base"] == pytest.approx(ways[0]["accuracy"], abs=1e-3)
    assert report["cost"]["choosing_seconds"] == pytest.approx(sum(way["seconds"] for way in ways), abs=0.1)
    assert report["quality"]["accuracy"]["tuned"] == pytest.approx(taken["accuracy"], abs=1e-3)
    assert "sentence_transformers" in (few_run.path / "README.md").read_text(encoding="utf-8")
    assert few_run.load().classify("sunny warm bright") in ("glad", "sad")


def test_every_fold_begins_with_the_encoder_as_it_was(reader_folder: Path, tmp_path: Path) -> None:
    """So a second trial answers as the first, and afterwards no weight has moved."""
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    built = build(prepare(recipe_for(data, model=str(reader_folder), settings={})))
    rows = built.prepared.rows("train")
    before = {name: tensor.clone() for name, tensor in built.policy.attached.state().items()}
    parts = folds([row.target for row in rows], 3)
    trial = Trial(built, rows, torch.tensor([row.target for row in rows]), parts)
    first, second = (tuned(trial, Beside())[0].logits for _ in range(2))
    torch.testing.assert_close(first, second)
    for name, tensor in built.policy.attached.state().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_further_adapters_are_tried_and_the_best_is_run(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What all layers answered is made right about every row, and what others answered is made wrong."""
    from tuneful.run import choose as room

    def flattered(trial: Trial, beside: Beside) -> list[Tried]:
        (found,) = tuned(trial, beside)
        right = F.one_hot(trial.wanted, 2).float()
        return [replace(found, logits=right if isinstance(found.adapter, Full) else -right)]

    monkeypatch.setattr(room, "tuned", flattered)
    noise = [{**row, "label": ("glad", "sad")[number // 2 % 2]} for number, row in enumerate(moods(12))]
    data = write_rows(tmp_path / "moods.jsonl", noise)
    settings = {"choose.adapters": ["full"], "evaluate.forgetting": False}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    ways = {way["adapter"]["kind"]: way for way in run.report["choice"]["ways"] if way["adapter"]}
    assert ways["full"]["taken"]
    assert not ways["top_layers"]["taken"]
    assert ways["full"]["seconds"] > 0
    assert run.report["provenance"]["recipe"]["adapter"] == {"kind": "full"}


def test_a_head_is_tried_anyway(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    with pytest.raises(RecipeError, match="a solved head is tried anyway; leave adapter out"):
        prepare(recipe_for(data, model=str(reader_folder), settings={"adapter": "head", "choose.enabled": True}))


@pytest.mark.parametrize(("adapters", "enabled", "words"), [
    (["lora"], "auto", "name full or top_layers"), (["head"], "auto", "a solved head is tried anyway"),
    (["full"], False, "nothing is chosen here"),
])  # fmt: skip
def test_adapters_that_cannot_be_tried_are_refused(
    adapters: list[str], enabled: Any, words: str, reader_folder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    settings = {"choose.adapters": adapters, "choose.enabled": enabled}
    with pytest.raises(RecipeError, match=words):
        prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def test_stopping_while_ways_are_tried_leaves_nothing_behind(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    recipe = recipe_for(data, model=str(reader_folder), settings={})
    with pytest.raises(Interrupted):
        list(run(recipe, tmp_path / "run", should_stop=lambda: True))
    assert not RunFolder(tmp_path / "run").exists()
    again = run(recipe, tmp_path / "run")  # the folder is free
    assert next(iter(again)).kind == "plan"


def test_the_lock_holds_what_was_taken_and_repeats_it(few_run: tuneful.Run, tmp_path: Path) -> None:
    again = tuneful.fit(few_run.path / "recipe.lock.json", out=tmp_path / "again")
    assert again.report["choice"] == {}
    texts = ["sunny warm", "grey cold", "sweet dreary"]
    np.testing.assert_allclose(few_run.load().scores(texts), again.load().scores(texts), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", [
    {"choose": "none"}, {"objective": "classify"}, {"adapter": "full"}, {"schedule.epochs": 2}, {"choose.few": 5},
])  # fmt: skip
def test_whoever_says_how_is_not_asked_twice(settings: dict[str, Any], reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    prepared = prepare(recipe_for(data, model=str(reader_folder), settings=settings))
    assert not prepared.pooled
    assert len(prepared.rows("test")) > 0


def test_many_labels_numbers_and_pairs_are_learned_as_before(reader_folder: Path, tmp_path: Path) -> None:
    many = write_rows(tmp_path / "many.jsonl", moods(120))
    numbers = write_rows(
        tmp_path / "n.jsonl", [{"text": row["text"], "label": n / 7} for n, row in enumerate(moods(30))]
    )
    pairs = write_rows(tmp_path / "p.jsonl", [
        {"sentence1": row["text"], "sentence2": "x", "label": row["label"]} for row in moods(30)
    ])  # fmt: skip
    for data in (many, numbers, pairs):
        assert not check(data, model=str(reader_folder)).pooled


def test_a_head_over_means_is_no_part_of_an_adapter(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    settings = {"objective.pooling": "mean", "adapter": "lora"}
    with pytest.raises(RecipeError, match="use full, top_layers or head"):
        prepare(recipe_for(data, model=str(reader_folder), settings=settings))


def test_a_choice_that_cannot_be_made_is_refused(reader_folder: Path, tmp_path: Path) -> None:
    numbers = write_rows(
        tmp_path / "n.jsonl", [{"text": row["text"], "label": n / 7} for n, row in enumerate(moods(30))]
    )
    with pytest.raises(RecipeError, match="learn one label a text"):
        check({"data": str(numbers), "model": str(reader_folder), "choose": {"enabled": True}})


def test_of_a_handful_of_rows_nothing_is_sure() -> None:
    """Eleven of eleven right against none: the bootstrap's interval has no width, and still says nothing."""
    truth, wrong = ["a", "b"] * 6, ["b", "a"] * 6
    few = score(METRICS["accuracy"], truth[:11], {"tuned": truth[:11], "base": wrong[:11]})
    enough = score(METRICS["accuracy"], truth, {"tuned": truth, "base": wrong})
    assert (judge(few).helped, judge(few).reason) == ("unclear", "too_few_rows")
    assert judge(enough).helped == "yes"


def fit_rows(rows: list[dict[str, str]], folder: Path, model: Path, **data: Any) -> tuneful.Run:
    source = write_rows(folder / "rows.jsonl", rows)
    recipe = {"data": {"source": str(source), **data}, "model": str(model), "evaluate": {"forgetting": False}}
    return tuneful.fit(recipe, out=folder / "run")


def test_one_row_a_class_is_learned(reader_folder: Path, tmp_path: Path) -> None:
    run = fit_rows(intents(0, 1), tmp_path, reader_folder)
    assert run.report["data"]["rows"]["train"] == 6
    assert run.report["quality"]["accuracy"]["n"] == 6
    assert run.load().classify("where is my package right now") == "track_parcel"


def test_one_row_a_class_without_words_is_learned_though_nothing_can_be_measured(
    reader_folder: Path, tmp_path: Path
) -> None:
    rows = [{**row, "label": str(number)} for number, row in enumerate(intents(0, 1))]
    run = fit_rows(rows, tmp_path, reader_folder)
    assert run.report["quality"]["accuracy"]["tuned"] == 0  # no fold has seen the class that is asked about
    assert run.helped != "yes"
    assert run.load().classify("where is my package right now") == "1"


def test_three_rows_for_many_named_classes(reader_folder: Path, tmp_path: Path) -> None:
    names = [f"kind of thing {chr(97 + n)}" for n in range(20)]
    rows = [{"text": f"a text about {name}", "label": name} for name in names[:3]]
    run = fit_rows(rows, tmp_path, reader_folder, labels=names)
    assert run.report["data"]["balance"][names[19]] == 0
    assert run.load().scores(["a text"]).shape == (1, 20)


def test_equal_labels_and_far_too_many_classes(reader_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a classifier needs at least two different labels"):
        fit_rows([{**row, "label": "same"} for row in intents(0, 2)], tmp_path, reader_folder)
    many = write_rows(tmp_path / "many.jsonl", [{"text": f"text {n}", "label": f"class {n}"} for n in range(5000)])
    assert not check({"data": {"source": str(many), "test": 0, "validation": 0}, "model": str(reader_folder)}).pooled
    with pytest.raises(RecipeError, match="5,000 classes of 5,000 rows are too many"):
        check({"data": str(many), "model": str(reader_folder), "choose": {"enabled": True}})


def test_a_solved_head_alone_is_a_run_of_no_updates(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(60))
    settings = {"objective.pooling": "mean", "adapter": "head"}
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    assert run.report["cost"]["steps"] == 0
    assert run.report["quality"]["accuracy"]["tuned"] > 0.7
    assert run.report["cost"]["seconds"] > 0


def test_rows_that_belong_together_are_in_one_fold() -> None:
    classes = [number % 3 for number in range(60)]
    units = [number // 2 for number in range(60)]
    found = folds(classes, 4, 1, units)
    assert all(found[number] == found[number + 1] for number in range(0, 60, 2))
    assert np.bincount(found).tolist() == [16, 16, 14, 14]
    assert folds(classes, 4, 1, range(60)).tolist() == folds(classes, 4, 1).tolist()


def test_of_rows_that_are_there_twice_noise_is_not_learned(reader_folder: Path, tmp_path: Path) -> None:
    """Labels are noise. A row learned beside its twin would be told."""
    noise = np.random.default_rng(0).permutation(20) % 2
    rows = [{"text": f"{row['text']} item number {number} of the long list", "label": "ab"[noise[number]]}
            for number, row in enumerate(moods(20))]  # fmt: skip
    run = fit_rows([*rows, *({**row, "text": row["text"] + "!"} for row in rows)], tmp_path, reader_folder)
    assert max(way["accuracy"] for way in run.report["choice"]["ways"]) < 0.65
    assert run.helped != "yes"


def test_a_single_row_with_named_classes_is_learned(reader_folder: Path, tmp_path: Path) -> None:
    run = fit_rows(moods(1), tmp_path, reader_folder, labels=["glad", "sad"])
    assert run.load().classify("sunny warm bright cheerful 0") in ("glad", "sad")


def test_what_is_said_of_missing_test_rows(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    """Cross-validation stands for them where ways are tried, and nowhere else."""
    data, asked = str(write_rows(tmp_path / "moods.jsonl", moods(24))), {"enabled": True}

    def said(source: str, model: Path, **more: Any) -> set[str]:
        notes = check({"data": {"source": source, "test": 0}, "model": str(model), **more}).xray.notes
        return {note.key for note in notes} & {"by_folds", "no_test"}

    assert said(data, reader_folder) == {"by_folds"}
    assert said(data, reader_folder, choose="none") == {"no_test"}
    texts = [{"prompt": row["text"], "completion": row["label"]} for row in moods(24)]
    source = str(write_rows(tmp_path / "asked.jsonl", texts))
    made = str(write_rows(tmp_path / "made.jsonl", [{**row, "prompt": row["prompt"] + " again"} for row in texts]))
    notes = check({"data": {"source": source, "generated": made, "test": 0}, "model": str(generator_folder),
                   "choose": asked}).xray.notes  # fmt: skip
    assert {note.key for note in notes} & {"by_folds", "no_test"} == {"no_test"}


def test_ways_are_not_tried_on_shared_out_weights(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(12))
    with pytest.raises(RecipeError, match="ways are tried on whole weights"):
        check({"data": str(data), "model": str(reader_folder), "sharded": True, "choose": {"enabled": True}})


@pytest.mark.real
def test_tuning_with_few_labels_beats_the_frozen_encoder_and_both_beat_chance(minilm: Path, tmp_path: Path) -> None:
    """Three rows a kind to learn from, seven to be asked about."""
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", intents(0, 3))
    write_rows(data / "test.jsonl", intents(3, 10))
    floor = tuneful.fit(data, model=str(minilm), out=tmp_path / "floor",
                        settings={"objective.pooling": "mean", "adapter": "head"})  # fmt: skip
    run = tuneful.fit(data, model=str(minilm), out=tmp_path / "run")
    frozen, tuned = (one.report["quality"]["accuracy"]["tuned"] for one in (floor, run))
    assert frozen > 0.5
    assert tuned >= frozen
