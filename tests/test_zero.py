"""Classes known by name alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tuneful
from intents import INTENTS
from intents import rows as intents
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Example, Message, Place
from tuneful.data.labels import LabelSet
from tuneful.models import anchors
from tuneful.models.anchors import DOUBT, PER_CLASS, correction, named, refined
from tuneful.run import named as room
from tuneful.run.api import check
from tuneful.run.named import WRITE, calibrated, likelihoods
from tuneful.run.tuned import open_model
from work import MOODS, moods, typed, write_rows

CLASSES = {"data.labels": '["glad", "sad"]'}


def test_calibration_takes_back_what_draws_every_text() -> None:
    """Worked by hand: three texts surely of the first of two classes, ten of each believed in before, so shares of 13
    and 10 in 23 where a half each was expected."""
    assert DOUBT == 10
    found = correction(torch.tensor([[50.0, 0]] * 3))
    torch.testing.assert_close(found, torch.tensor([math.log(11.5 / 13), math.log(11.5 / 10)]))


def test_a_prior_is_what_calibration_aims_at() -> None:
    """Where the texts fall as the prior says, it asks for nothing more than itself."""
    logits = torch.cat([torch.tensor([[50.0, 0]] * 900), torch.tensor([[0.0, 50]] * 300)])
    torch.testing.assert_close(correction(logits, torch.tensor([0.75, 0.25])), torch.zeros(2), atol=1e-4, rtol=0)
    assert correction(logits)[0] < -0.1


def test_without_texts_a_name_is_still_nearest_to_itself() -> None:
    names = F.normalize(torch.tensor([[1.0, 0.2, 0], [0.9, 0, 0.3], [1, 0.1, 0.4]]), dim=-1)
    assert named(names, torch.zeros(0, 3)).logits(names).argmax(1).tolist() == [0, 1, 2]


def test_what_all_vectors_share_says_nothing() -> None:
    """An encoder whose vectors all lie near one direction (cosines from 0.9 on) decides as one whose do not."""
    generator = torch.Generator().manual_seed(0)
    names = torch.eye(4)
    texts = names[torch.arange(80) % 4] + 0.25 * torch.randn(80, 4, generator=generator)
    wide = [F.normalize(part - part.mean(), dim=-1) for part in (names, texts)]
    narrow = [
        F.normalize(torch.cat([part * 0.2, torch.full((len(part), 1), 2.0)], 1), dim=-1) for part in (names, texts)
    ]
    assert (narrow[1] @ narrow[0].T).min() > 0.9
    answers = [named(*pair).logits(pair[1]).argmax(1) for pair in (wide, narrow)]
    truth = torch.arange(80) % 4
    assert (answers[1] == truth).float().mean() >= 0.9
    sure = named(*narrow).logits(narrow[1]).softmax(1).max(1).values.mean()
    assert 0.6 < sure < 0.99


def test_names_move_to_where_texts_lie_and_are_held_back() -> None:
    """Two tight clouds 20 degrees from their names: the anchors end between name and cloud, half-way with keep 1."""
    turn = math.radians(20)
    names = torch.eye(2)
    clouds = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    moved = refined(names, clouds.repeat(20, 1), 20.0)
    half = torch.tensor([[math.cos(turn / 2), math.sin(turn / 2)], [-math.sin(turn / 2), math.cos(turn / 2)]])
    torch.testing.assert_close(moved, half, atol=2e-2, rtol=0)


def test_few_texts_never_move_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "refined", lambda *_: pytest.fail("moved"))
    texts = F.normalize(torch.randn(2 * PER_CLASS - 1, 2), dim=-1)
    named(torch.eye(2), texts)


def test_texts_and_names_of_classes_make_a_model(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in moods(40)])
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=CLASSES)
    assert run.helped == "unclear"
    assert run.report["data"]["rows"]["train"] == 40
    assert run.report["cost"]["steps"] == 0
    model = run.load()
    assert model.labels is not None
    assert model.labels.names == ("glad", "sad")
    assert set(model.classify(["sunny warm", "grey cold"])) <= {"glad", "sad"}


def test_a_labelled_test_file_measures_it_against_the_bare_names(reader_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", [{"text": row["text"]} for row in moods(40)])
    write_rows(data / "test.jsonl", [{"text": f"{row['text']} now", "label": row["label"]} for row in moods(30)])
    run = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=CLASSES)
    found = run.report["quality"]["accuracy"]
    assert found["n"] == 30
    assert found["trivial"] == 0.5
    assert set(found["against"]) == {"base", "trivial"}


def test_a_prior_beside_labels_is_refused(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    prior = {"glad": 1.0, "sad": 2.0}
    with pytest.raises(RecipeError, match="is for classes known by name alone"):
        check({"data": {"source": str(data), "labels": list(prior), "prior": prior}, "model": str(reader_folder)})


def test_a_prior_moves_a_model_of_names(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in moods(40)])
    texts, leaning = [row["text"] for row in moods(40)], []
    for number, prior in enumerate(({"glad": 1.0, "sad": 9.0}, {"glad": 9.0, "sad": 1.0})):
        recipe = {"data": {"source": str(data), "labels": list(prior), "prior": prior}, "model": str(reader_folder)}
        scores = tuneful.fit(recipe, out=tmp_path / f"run{number}").load().scores(texts)
        leaning.append(float((scores[:, 0] - scores[:, 1]).mean()))
    assert leaning[1] > leaning[0] + 1


def test_names_beside_labels_say_what_may_occur(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "moods.jsonl", moods(24))
    prepared = check({"data": {"source": str(data), "labels": [*MOODS, "angry"]}, "model": str(reader_folder)})
    assert prepared.labels is not None
    assert prepared.labels.names == ("glad", "sad", "angry")
    assert prepared.xray.balance["angry"] == 0
    wrong = check({"data": {"source": str(data), "labels": ["glad", "sat"], "drop": True}, "model": str(reader_folder)})
    assert "the label 'sad' is none of those given. Did you mean 'sat'?" in wrong.xray.dropped[0].reason


def test_classes_without_words_are_refused_unless_described(reader_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in moods(40)])
    recipe = {"data": {"source": str(data), "labels": ["1", "2"]}, "model": str(reader_folder)}
    with pytest.raises(DataError, match="the label '1' holds no word"):
        check(recipe)
    recipe["data"] = {"source": str(data), "labels": {"1": "a glad text", "2": "a sad text"}}
    assert [row.example.text for row in check(recipe).repeated[-2:]] == ["a glad text", "a sad text"]


@pytest.mark.parametrize(("data", "words"), [
    ({"labels": ["one"]}, "at least two names"),
    ({"labels": ["a", "a"]}, "all different"),
    ({"labels": ["a", "b"], "prior": {"a": 1}}, "'b' is on one side only"),
])  # fmt: skip
def test_names_that_cannot_be_meant_are_refused(data: dict[str, object], words: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in moods(4)])
    with pytest.raises(RecipeError, match=words):
        check({"data": {"source": str(source), **data}})


def test_predict_by_names_alone(reader_folder: Path, tmp_path: Path) -> None:
    command = ["predict", reader_folder, "-", "--labels"]
    done = typed(*command, "glad,sad", cwd=tmp_path, keys="sunny\ngrey\n")
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["input"] for line in lines] == ["sunny", "grey"]
    assert {line["prediction"] for line in lines} <= {"glad", "sad"}
    none = typed(*command[:-1], cwd=tmp_path, keys="x\n")
    assert none.exit_code == 2
    assert "name the classes: --labels" in none.stderr
    one = typed(*command, "glad", cwd=tmp_path, keys="x\n")
    assert one.exit_code == 2
    assert "at least two names" in one.stderr


def test_both_texts_of_a_pair_are_read(reader_folder: Path, tmp_path: Path) -> None:
    """Pairs that differ in the second text alone lie apart."""
    pairs = [{"sentence1": "it is so", "sentence2": text} for text in ("sunny warm bright", "grey cold dark")]
    source = write_rows(tmp_path / "pairs.jsonl", pairs)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        known = room.named_model
        patch.setattr(room, "named_model", lambda *given: seen.extend(given[2]) or known(*given))
        assert typed("predict", reader_folder, source, "--labels", "glad,sad", cwd=tmp_path).exit_code == 0
    assert seen == ["it is so\nsunny warm bright", "it is so\ngrey cold dark"]


def test_rows_with_labels_and_texts_without_are_named_apart(reader_folder: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", moods(12))
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"] + " indeed"} for row in moods(20)])
    for sources in ([rows, texts], [texts, rows]):
        with pytest.raises(RecipeError, match=r"data\.unlabelled"):
            check({"data": {"source": [{"path": str(one)} for one in sources], "labels": ["glad", "sad"]},
                   "model": str(reader_folder)})  # fmt: skip


@pytest.mark.usefixtures("exact")
def test_a_generators_score_is_the_likelihood_of_the_text_after_the_name(generator_folder: Path) -> None:
    """Against transformers' own forward pass; a text that is too long is cut for all names alike."""
    tuned = open_model(str(generator_folder))
    labels = LabelSet.of_names(["glad", "sad"])
    examples = [Example(Place("x", 1), text=text) for text in ("sunny warm", "grey " * 5000, "grey " * 5001)]
    found = likelihoods(tuned, examples, labels)
    module = tuned.policy.attached.merged().eval()
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(found[1], found[2])
    for place, word in enumerate(labels.names):
        turns = [Message("user", WRITE.format(name=word)), Message("assistant", "sunny warm")]
        (encoded,) = tuned.processor.conversation(turns)
        ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
        with torch.no_grad():
            logprobs = module(ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        learned = torch.from_numpy(encoded.learn[1:] > 0)
        assert found[0, place] == pytest.approx(float(logprobs[learned].sum()), abs=5e-2)


def test_calibrated_likelihoods_lean_to_no_name() -> None:
    """400 texts of which five in eight lean to the first name: fewer afterwards, by the log of its mean share, whatever the
    size of the scores, which grows with the length of a text. One text alone keeps its answer."""
    lean = np.linspace(-1, 1, 400)
    raw = np.stack([lean + 0.5, -lean], 1)
    assert (raw.argmax(1) == 0).mean() == pytest.approx(0.625, abs=0.01)
    told = calibrated(raw)
    assert (told.argmax(1) == 0).mean() < 0.62
    around = raw - raw.mean(1, keepdims=True)
    logits = 3 * around / around.std(1, ddof=1).mean()
    shares = 10 + (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).sum(0)
    np.testing.assert_allclose(told, logits + np.log(210 / shares), atol=1e-6)
    np.testing.assert_allclose(calibrated(100 * raw - 7), told, atol=1e-6)
    assert calibrated(raw[-1:]).argmax() == 0
    assert calibrated(raw[:1]).argmax() == 1


@pytest.mark.real
def test_texts_without_labels_make_names_mean_more(minilm: Path, tmp_path: Path) -> None:
    """The base takes the nearest name as it stands; six kinds, six texts each said in two ways, four to be asked."""
    data = tmp_path / "data"
    data.mkdir()
    said = [text for row in intents(0, 6) for text in (f"hello, {row['text']}", f"{row['text']}, thank you")]
    write_rows(data / "train.jsonl", [{"text": text} for text in said])
    write_rows(data / "test.jsonl", intents(6, 10))
    hints = dict(zip(INTENTS, ("stop", "parcel", "money", "house", "login", "card"), strict=True))
    recipe = {"data": {"source": str(data), "labels": hints}, "model": str(minilm)}
    run = tuneful.fit(recipe, out=tmp_path / "run")
    found = run.report["quality"]["accuracy"]
    assert found["base"] > 0.4
    assert found["tuned"] >= found["base"] + 0.15
