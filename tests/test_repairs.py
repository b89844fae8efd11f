"""Repairs of a trained classifier: a head solved over even cells, the group taken out of what it reads, thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tuneful.adapters import Full, Lora
from tuneful.core.errors import DataError, InputError, ModelError, RecipeError, RunFolderError
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.fairness import examine_groups
from tuneful.evaluation.phrases import filled
from tuneful.evaluation.reading import class_logits, read_last
from tuneful.evaluation.repaired import repaired
from tuneful.evaluation.standing import standing
from tuneful.evaluation.treatment import FLIPS, Asked, Exchanged, flipped, treated
from tuneful.evaluation.words import words
from tuneful.models.last import last_of, listening, put
from tuneful.models.probe import fit_probe
from tuneful.recipe import Recipe, from_mapping
from tuneful.repairs import BalancedHead, Erase, Thresholds
from tuneful.repairs.cells import spread
from tuneful.repairs.settings import Seen
from tuneful.repairs.thresholds import Cut, Mixture, Rule
from tuneful.run.api import fit, load
from tuneful.run.build import Built, build
from tuneful.run.decisions import Decisions, read_decisions
from tuneful.run.folder import RunFolder
from tuneful.run.loop import undone, updates
from tuneful.run.objections import check_start
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.repaired import Repaired, in_order, repair
from tuneful.run.saving import save_weights
from tuneful.testing import tiny_policy, tiny_rows
from work import typed, whole_and_parts, write_rows

QUIET: dict[str, Any] = {"forgetting": False, "robustness": False, "learning_curve": False}
SIDES, LABELS = ("east", "west"), ("no", "yes")


def measured(built: Built) -> Repaired:
    """What a run does after training, told on its test rows."""
    return repair(built, lambda _: None, built.prepared.rows("test"))


def planted(count: int, agree: float, seed: int) -> list[dict[str, str]]:
    """x or y tells the label, of nine rows in ten; p or q tells the side, which goes with the label in `agree`."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        label = number % 2
        side = label if rng.random() < agree else 1 - label
        shown = label if rng.random() < 0.9 else 1 - label
        letters = [*rng.choice(list("aeiou"), 3), "xy"[shown], *("pq"[side] * 3)]
        rng.shuffle(letters)
        rows.append({"text": f"{''.join(letters)} {number:04d}", "label": LABELS[label], "side": SIDES[side]})
    return rows


def data_in(folder: Path, *, train: int = 960, validation: int = 480, test: int = 400, agree: float = 0.85) -> Path:
    """What is learned and looked at goes with the side, what is tested does not."""
    folder.mkdir()
    write_rows(folder / "train.jsonl", planted(train, agree, 0))
    if validation:
        write_rows(folder / "validation.jsonl", planted(validation, agree, 1))
    write_rows(folder / "test.jsonl", planted(test, 0.5, 2))
    return folder


def recipe_of(model: Path, source: Path, *parts: Any, **more: Any) -> dict[str, Any]:
    data = {"source": str(source), "group": "side", **more.pop("data", {})}
    return {
        "data": data, "model": str(model), "choose": "none", "precision": "fp32", "regularisers": "none",
        "schedule": {"steps": 40}, "optimiser": {"rows_per_step": 32, "learning_rate": 1e-3}, "evaluate": QUIET,
        "repair": list(parts), **more,
    }  # fmt: skip


def prepared_of(model: Path, source: Path, *parts: Any, **more: Any) -> Prepared:
    return prepare(from_mapping(recipe_of(model, source, *parts, **more))[0])


@pytest.fixture(scope="module")
def learned(reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An encoder that learned the side instead of the label."""
    source = data_in(tmp_path_factory.mktemp("planted") / "data")
    built = build(prepared_of(reader_folder, source))
    for _ in updates(built):
        pass
    return built


@pytest.fixture
def trained(learned: Built) -> Iterator[Built]:
    with undone(learned.policy):
        yield learned


def asking(built: Built, *parts: Any) -> Built:
    """The same with these repairs."""
    recipe = Recipe.model_validate({**built.recipe.model_dump(), "repair": list(parts)})
    return replace(built, prepared=replace(built.prepared, resolved=replace(built.prepared.resolved, recipe=recipe)))


def test_the_planted_run_took_the_short_cut(trained: Built) -> None:
    rows = trained.prepared.rows("test")
    said = class_logits(trained.policy, rows, trained.collate).argmax(1)
    found = standing(np.array([row.target for row in rows]), said, [row.example.group for row in rows], 2)
    assert found["equalised_odds_difference"] > 0.8
    assert found["accuracy"] < 0.65


def test_a_balanced_head_lifts_the_worst_group(trained: Built) -> None:
    (part,) = measured(asking(trained, "balanced_head")).facts["parts"]
    changed = part["changed"]
    assert changed["worst_group_accuracy"]["after"] > changed["worst_group_accuracy"]["before"] + 0.15
    assert changed["equalised_odds_difference"]["after"] < changed["equalised_odds_difference"]["before"] - 0.4
    assert part["part"] == "train"
    assert part["rows"] == 960
    counts = np.unique([f"{row['label']}{row['side']}" for row in planted(960, 0.85, 0)], return_counts=True)[1]
    assert part["rows_of_each_cell"] == counts.min()
    assert 0.5 < part["worst_cell_by_folds"] <= 1


def side_told_by(vectors: Tensor, sides: Tensor) -> float:
    """By a reader that learned from half of the rows, share of the other half."""
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    half = len(vectors) // 2
    reader = fit_probe(vectors[:half], sides[:half], 1.0, classes=2)
    return float((reader.logits(vectors[half:]).argmax(1) == sides[half:]).float().mean())


def test_what_the_head_reads_no_longer_tells_the_group(trained: Built) -> None:
    """Of rows that were not learned. A layer that passes on what it reads is what a mended one reads."""
    rows, built = trained.prepared.rows("train"), trained
    layer, vectors = read_last(built.policy, rows, built.collate)
    labels = torch.tensor([int(row.target) for row in rows])
    sides = torch.tensor([SIDES.index(str(row.example.group)) for row in rows])
    passing = nn.Linear(vectors.shape[1], vectors.shape[1])
    with torch.no_grad():
        passing.weight.copy_(torch.eye(vectors.shape[1]))
        passing.bias.zero_()
    seen = Seen(vectors, labels, sides, range(len(rows)), 2, built.recipe.seed)
    reads = Erase().mend(passing, seen).layer

    test = built.prepared.rows("test")
    _, asked = read_last(built.policy, test, built.collate)
    told = torch.tensor([SIDES.index(str(row.example.group)) for row in test])
    with torch.no_grad():
        erased = reads(asked)
        assert side_told_by(asked, told) > 0.95
        assert side_told_by(erased, told) < 0.62
        expected = layer(erased)

    (part,) = measured(asking(built, "erase")).facts["parts"]
    torch.testing.assert_close(
        torch.from_numpy(class_logits(built.policy, test, built.collate)), expected, atol=1e-4, rtol=1e-4
    )
    assert part["directions"] == 1
    assert (
        part["changed"]["equalised_odds_difference"]["after"] < part["changed"]["equalised_odds_difference"]["before"]
    )
    assert part["changed"]["accuracy"]["after"] > part["changed"]["accuracy"]["before"]


def test_erasure_keeps_the_label(trained: Built) -> None:
    """By all rows a label that goes with the group would go with it; by even ones it stays."""
    rows, built = trained.prepared.rows("train"), trained
    _, vectors = read_last(built.policy, rows, built.collate)
    labels = torch.tensor([int(row.target) for row in rows])
    passing = nn.Linear(vectors.shape[1] + 1, vectors.shape[1] + 1)
    with torch.no_grad():
        passing.weight.copy_(torch.eye(len(passing.weight)))
        passing.bias.zero_()
    told = torch.cat([vectors, labels[:, None].float()], 1)  # a column that is the label
    sides = torch.tensor([SIDES.index(str(row.example.group)) for row in rows])
    with torch.no_grad():
        column = Erase().mend(passing, Seen(told, labels, sides, range(len(rows)), 2, 0)).layer(told)[:, -1]
    assert float(torch.corrcoef(torch.stack([column, labels.float()]))[0, 1]) > 0.97


def test_thresholds_treat_groups_alike(trained: Built) -> None:
    before = class_logits(trained.policy, trained.prepared.rows("test"), trained.collate)
    done = measured(asking(trained, "thresholds"))
    (part,) = done.facts["parts"]
    gap = part["changed"]["equalised_odds_difference"]
    assert gap["before"] > 0.8
    assert gap["after"] < 0.15
    assert (part["part"], part["rows"], part["groups"]) == ("validation", 480, ["east", "west"])
    np.testing.assert_array_equal(
        before, class_logits(trained.policy, trained.prepared.rows("test"), trained.collate), "the model stays"
    )


def test_repairs_are_done_in_one_order_and_each_says_what_it_changed(trained: Built) -> None:
    built = asking(trained, {"kind": "thresholds", "constraint": "demographic_parity"}, "erase", "balanced_head")
    assert [part.kind for part in in_order(built.recipe)] == ["balanced_head", "erase", "thresholds"]
    done = measured(built)
    parts = done.facts["parts"]
    assert [part["kind"] for part in parts] == ["balanced_head", "erase", "thresholds"]
    for name in parts[0]["changed"]:
        assert parts[0]["changed"][name]["after"] == parts[1]["changed"][name]["before"]
        assert parts[1]["changed"][name]["after"] == parts[2]["changed"][name]["before"]
    assert done.decisions is not None
    said = {
        part: done.decisions.of_rows(rows, class_logits(built.policy, rows, built.collate))
        for part in ("validation", "test") for rows in [built.prepared.rows(part)]
    }  # fmt: skip
    right = [row.target for row in built.prepared.rows("test")]
    assert np.mean(said["test"] == right) == pytest.approx(parts[2]["changed"]["accuracy"]["after"])
    east = np.array([row.example.group == "east" for row in built.prepared.rows("validation")])
    assert abs(said["validation"][east].mean() - said["validation"][~east].mean()) < 0.06, "asked of these rows"


def test_the_smallest_cells_are_kept_whole() -> None:
    """Of 5, 40 and 100 rows 45 are asked for: 5, then 20 of each."""
    cells = np.repeat([0, 1, 2], [5, 40, 100])
    kept = spread(cells, 45, np.random.default_rng(0))
    assert np.bincount(cells[kept]).tolist() == [5, 20, 20]
    assert kept.tolist() == sorted(set(kept.tolist())), "none twice, in their order"
    assert kept.max() > 120, "drawn, and not the first"
    np.testing.assert_array_equal(kept, spread(cells, 45, np.random.default_rng(0)))
    np.testing.assert_array_equal(spread(cells, 145, np.random.default_rng(0)), np.arange(145))


def test_no_more_rows_are_read_than_may_be_held(trained: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneful.run.repaired.MOST", 400)
    (part,) = measured(asking(trained, "balanced_head")).facts["parts"]
    counts = np.unique([f"{row['label']}{row['side']}" for row in planted(960, 0.85, 0)], return_counts=True)[1]
    assert counts.min() < 100
    assert part["rows_of_each_cell"] == counts.min(), "of the smallest all"
    assert 398 <= part["rows"] <= 400


def test_numbers_are_those_of_the_report_by_hand() -> None:
    """Of 40 rows of each class and group: a is right in 40 and 30, b in 20 and 40."""
    truth = np.repeat([0, 1, 0, 1], 40)
    said = truth.copy()
    said[40:50], said[80:100] = 0, 1
    groups = [*"a" * 80, *"b" * 80]
    found = standing(truth, said, groups, 2)
    assert found["accuracy"] == pytest.approx(130 / 160, abs=1e-5)
    assert found["worst_group_accuracy"] == pytest.approx(60 / 80)
    assert found["accuracy_gap"] == pytest.approx(10 / 80)
    assert found["equalised_odds_difference"] == pytest.approx(0.5)  # of the first class: all of a, half of b
    assert found["demographic_parity_difference"] == pytest.approx((60 - 30) / 80)
    theirs = examine_groups(truth, np.eye(2)[truth], {"group": groups}, positive=1, said=said)["group"].gaps
    assert {name: found[name] for name in found if name != "accuracy"} == {
        name: pytest.approx(theirs[name].value, abs=1e-5) for name in found if name != "accuracy"
    }
    assert standing(truth[:8], said[:8], groups[:8], 2).keys() == {"accuracy"}, "too few to be told apart"


def test_answers_that_flip_are_those_of_the_rule() -> None:
    """Scores that never flip, and answers that do in 10 of 40 rows; before there was no rule."""
    rows, still = 40, np.tile([0.2, 0.8], (40, 1))
    said = np.ones(rows, dtype=np.int64)
    turned = np.where(np.arange(rows) < 10, 0, 1)
    exchanged = Exchanged(list(range(rows)), [], [("women", "men")] * rows)
    truth = np.ones(rows, dtype=np.int64)
    asked, twins = (Asked(truth, still, still, answered) for answered in (said, turned))
    found = flipped(asked, twins, exchanged, positive=1)["counterfactual_flip_rate"]
    assert (found["before"], found["after"], found["delta"]) == (0.0, 0.25, 0.25)


# The last layer


def families() -> dict[str, Any]:
    """Class heads of several architectures, tiny and random."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DistilBertConfig,
        DistilBertForSequenceClassification,
        LlamaConfig,
        LlamaForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    size = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "num_labels": 2, "pad_token_id": 0}  # fmt: skip
    tiny = {"vocab_size": 40, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "num_labels": 2}
    return {
        "bert": BertForSequenceClassification(BertConfig(**size)),
        "roberta": RobertaForSequenceClassification(RobertaConfig(**size)),
        "distilbert": DistilBertForSequenceClassification(DistilBertConfig(**tiny)),
        "llama": LlamaForSequenceClassification(LlamaConfig(**size)),
    }


@pytest.mark.parametrize(("family", "layer"), [("bert", "classifier"), ("roberta", "classifier.out_proj"),
                                               ("distilbert", "classifier")])  # fmt: skip
def test_the_last_layer_is_found_whatever_the_head_does(family: str, layer: str) -> None:
    module = families()[family].eval()
    ids = torch.arange(5, 15).view(2, 5)
    with torch.no_grad(), listening(module) as heard:
        logits = module(input_ids=ids).logits
    found, read = last_of(heard, logits)
    assert found is module.get_submodule(layer)
    assert read.shape == (2, 16)
    torch.testing.assert_close(nn.functional.linear(read, found.weight, found.bias), logits)
    new = nn.Linear(16, 2)
    put(found, new)
    torch.testing.assert_close(module(input_ids=ids).logits, new(read))
    with torch.no_grad(), listening(module) as heard:
        pass
    module(input_ids=ids)
    assert not heard, "nobody listens any longer"


def test_other_last_layers_are_refused() -> None:
    module = families()["llama"].eval()
    with torch.no_grad(), listening(module) as heard:
        logits = module(input_ids=torch.arange(5, 10)[None]).logits
    with pytest.raises(ModelError, match="one linear layer"):
        last_of(heard, logits)
    module = families()["bert"].eval()
    with torch.no_grad(), listening(module) as heard:
        logits = module(input_ids=torch.arange(5, 10)[None]).logits
    with pytest.raises(ModelError, match="something done to its answers"):
        last_of(heard, logits * 2)


@pytest.mark.parametrize("adapter", [Full(), Lora(rank=4)], ids=["full", "lora"])
def test_vectors_are_those_the_policy_reads(adapter: Any, reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, adapter, layout=Layout.LABELS)
    rows, collate = tiny_rows(loaded, Layout.LABELS), Collator(Layout.LABELS)
    layer, read = read_last(policy, rows, collate)
    with torch.no_grad():
        answered = layer(read).numpy()
    np.testing.assert_allclose(answered, class_logits(policy, rows, collate), atol=1e-6)
    assert all(parameter.requires_grad for parameter in layer.parameters()), "what learns is what is saved"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("adapter", ["full", "lora", "means", "bf16"])
def test_the_repaired_layer_is_what_is_saved_and_others_load(adapter: str, reader_folder: Path, tmp_path: Path) -> None:
    """By transformers, peft and sentence-transformers alone."""
    source = data_in(tmp_path / "data", train=160, validation=0, test=20, agree=0.6)
    how: dict[str, Any] = {"adapter": adapter}
    if adapter == "means":
        how = {"objective": {"pooling": "mean"}}
    elif adapter == "bf16":
        how = {"precision": "bf16"}
    settings = {"schedule": {"steps": 2}, "data": {"validation": 0}, **how}
    built = build(prepared_of(reader_folder, source, "balanced_head", "erase", **settings))
    for _ in updates(built):
        pass
    rows = built.prepared.rows("test")
    before = class_logits(built.policy, rows, built.collate)
    measured(built)
    after = class_logits(built.policy, rows, built.collate)
    assert np.abs(after - before).max() > 0.05
    save_weights(built, RunFolder(tmp_path / "run"))
    texts = [str(row.example.text) for row in rows]
    theirs = loaded_by_others(adapter, reader_folder, tmp_path / "run", texts)
    np.testing.assert_allclose(theirs, after, atol=2e-4)


def loaded_by_others(adapter: str, base: Path, run: Path, texts: list[str]) -> np.ndarray:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if adapter == "means":
        sentence = pytest.importorskip("sentence_transformers")
        return np.asarray(sentence.SentenceTransformer(str(run / "model"), device="cpu").encode(texts))
    saved = run / ("adapter" if adapter == "lora" else "model")
    model = AutoModelForSequenceClassification.from_pretrained(base if adapter == "lora" else saved, num_labels=2)
    model = PeftModel.from_pretrained(model, saved) if adapter == "lora" else model
    tokenizer = AutoTokenizer.from_pretrained(saved)
    with torch.no_grad():
        found = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    return np.stack(found)


def test_a_head_that_adds_no_constant_is_refused(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, layout=Layout.LABELS)
    with pytest.raises(ModelError, match="adds a constant"):
        read_last(policy, tiny_rows(loaded, Layout.LABELS), Collator(Layout.LABELS))


def test_a_head_that_does_more_is_refused(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    policy.module.classifier = nn.Sequential(nn.Linear(32, 3), nn.Tanh())
    with pytest.raises(ModelError, match="something done to its answers"):
        read_last(policy, tiny_rows(loaded, Layout.LABELS), Collator(Layout.LABELS))


# What is refused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": {"group": None}}, "no training row with a label has one"),
        ({"parts": [{"kind": "thresholds", "positive": "maybe"}]}, "found 'maybe', expected no or yes"),
        ({"parts": ["erase", "erase"]}, "erase is given twice"),
        ({"sharded": True}, "leave out sharded"),
        ({"data": {"streaming": True}}, "data.streaming=false"),
        ({"choose": {"enabled": True}}, "leave repair or choose out"),
        ({"agree": 1.0}, "0 of class 'no' are of group 'west'"),
        ({"agree": 0.99, "parts": ["thresholds"], "train": 480}, "30 validation rows of both classes in every group"),
        ({"parts": ["thresholds"], "validation": 40}, "data.validation=0.3 holds out more"),
    ],
    ids=["nobody", "positive", "twice", "sharded", "streams", "choose", "cells", "rates", "few"],
)  # fmt: skip
def test_what_cannot_be_repaired_is_refused(
    given: dict[str, Any], words: str, reader_folder: Path, tmp_path: Path
) -> None:
    sizes = {name: given.pop(name) for name in ("train", "validation", "agree") if name in given}
    source = data_in(tmp_path / "data", **{"train": 120, "validation": 0, "test": 8, **sizes})
    parts = given.pop("parts", ["balanced_head"])
    with pytest.raises(RecipeError, match=words):
        prepared_of(reader_folder, source, *parts, **given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, row: {**row, "side": "east"}, "all training rows are of one"),
        (lambda n, row: {**row, "side": f"s{n}"}, "at most 50 groups, and found 120"),
        (lambda n, row: {**row, "label": str(n % 3)}, "thresholds are for two classes, and there are 3"),
        (lambda n, row: {"text": row["text"], "label": n / 7, "side": row["side"]}, "gives each row one class"),
        (lambda n, row: {"prompt": row["text"], "completion": "ok", "side": row["side"]}, "gives each row one class"),
    ],
    ids=["one", "many", "three", "number", "writes"],
)
def test_rows_that_cannot_be_repaired_by_are_refused(
    change: Any, words: str, reader_folder: Path, generator_folder: Path, tmp_path: Path
) -> None:
    rows = [change(number, row) for number, row in enumerate(planted(120, 0.5, 0))]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    model = generator_folder if "prompt" in rows[0] else reader_folder
    with pytest.raises(RecipeError, match=words):
        prepared_of(model, source, "thresholds", data={"validation": 0, "test": 0})


def test_a_head_without_a_constant_is_refused(generator_folder: Path, tmp_path: Path) -> None:
    source = data_in(tmp_path / "data", train=120, validation=0, test=8, agree=0.5)
    settings: dict[str, Any] = {"data": {"validation": 0}, "adapter": "lora", "objective": "classify"}
    with pytest.raises(RecipeError, match=r"balanced_head, erase needs a last layer that adds a constant"):
        prepared_of(generator_folder, source, "balanced_head", "erase", **settings)
    write_rows(source / "train.jsonl", planted(200, 0.5, 0))
    found = prepared_of(generator_folder, source, "thresholds", **settings)
    assert found.recipe.repair[0].kind == "thresholds", "these leave the head as it is"


def test_check_refuses_as_well(reader_folder: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", planted(60, 1.0, 0))
    done = typed("check", rows, "--model", reader_folder, "--set", "data.group=side", "--set", "repair=erase",
                 "--set", "choose=none", cwd=tmp_path)  # fmt: skip
    assert done.exit_code == 2
    assert "training rows of every class in every group" in " ".join(done.output.split())


def test_groups_by_mention_that_are_too_small_have_a_way_out(reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"the {('women', 'men')[n // 2 % 2]} are here {n}" if n else "a tree", "label": LABELS[n % 2]}
            for n in range(160)]  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", rows)
    data = {"group": None, "mentions": ["gender"], "validation": 0, "test": 0}
    for part in ("erase", "thresholds"):
        with pytest.raises(RecipeError, match=r"of group 'nobody'.*give the groups in a column instead") as refused:
            prepared_of(reader_folder, source, part, data=data)
        assert "leave the field" not in str(refused.value)


def test_check_asks_the_model_whether_its_last_layer_can_be_replaced(generator_folder: Path, tmp_path: Path) -> None:
    """What only its own code can tell is told before a run. Nothing is asked where the head stays as it is."""
    source = data_in(tmp_path / "data", train=120, validation=0, test=8, agree=0.5)
    found = prepared_of(generator_folder, source, objective="classify", data={"validation": 0})
    check_start(found)
    for part, refused in ((Thresholds(), False), (Erase(), True)):
        recipe = found.recipe.model_copy(update={"repair": [part]})
        asked = replace(found, resolved=replace(found.resolved, recipe=recipe))
        with pytest.raises(ModelError, match="adds a constant") if refused else nullcontext():
            check_start(asked)


def test_few_labels_are_not_chosen_about_where_repairs_are_named(reader_folder: Path, tmp_path: Path) -> None:
    """What is measured is what was repaired: ways are compared before."""
    even = [{**row, "side": SIDES[number // 2 % 2]} for number, row in enumerate(planted(40, 0.5, 0))]
    rows = write_rows(tmp_path / "rows.jsonl", even)
    given = {"data": {"source": str(rows), "group": "side", "validation": 0, "test": 0}, "model": str(reader_folder)}
    assert prepare(from_mapping(given)[0]).recipe.choose.enabled is True
    found = prepare(from_mapping({**given, "repair": "erase"})[0])
    assert (found.recipe.choose.enabled, found.pooled) == ("auto", False)


# Thresholds in use

ALWAYS = Mixture(1.0, Cut(-1.0), 0.0, Cut(-1.0))
NEVER = Mixture(1.0, Cut(2.0), 0.0, Cut(2.0))
RULE = Rule("equalised_odds", "accuracy", {"a": ALWAYS, "b": NEVER}, Cut(0.9))


def examples(*groups: str | None) -> list[Example]:
    return [Example(Place("t", n), text=f"t{n}", group=group) for n, group in enumerate(groups)]


def test_answers_by_hand() -> None:
    """Everybody of a is a yes and nobody of b, a new group by the fallback, and an unknown one as the model says."""
    shares = np.array([[0.9, 0.1], [0.1, 0.9], [0.15, 0.85], [0.05, 0.95], [0.4, 0.6], [0.6, 0.4]])
    decisions = Decisions(RULE, ("no", "yes"), 1, "side")
    given = examples("a", "b", "c", "c", None, None)
    assert decisions.said(given, np.log(shares)).tolist() == [1, 0, 0, 1, 1, 0]
    turned = Decisions(RULE, ("yes", "no"), 0, "side")
    assert turned.said(given, np.log(shares[:, ::-1])).tolist() == [0, 1, 1, 0, 0, 1]
    assert "2 of 6 rows do not say their group" in str(decisions.ignored(given))
    assert "'side'" in str(decisions.ignored(given))
    assert "2 of 4 rows are of groups without thresholds ('c'; known: a, b)" in str(decisions.ignored(given[:4]))
    assert decisions.ignored(given[:2]) is None
    assert (decisions.known(given), decisions.strange(given)) == (2, 2)
    decisions.check(given)
    decisions.check(given[4:])
    with pytest.raises(DataError, match=r"none of 2 rows.*found 'c', expected one of: a, b"):
        decisions.check(given[2:4])


def test_a_twin_is_decided_by_the_coin_of_its_original() -> None:
    """Where score and group are the same, a coin alone makes no two answers."""
    even = Mixture(0.0, Cut(2.0), 0.0, Cut(2.0), 1.0, 0.5)  # a coin for everybody
    decisions = Decisions(Rule("equalised_odds", "accuracy", {"a": even}, Cut(0.5)), ("no", "yes"), 1, "side")
    ids, learned = np.arange(3), np.zeros(3, dtype=bool)
    rows = [Row(example, ids, learned) for example in examples(*"a" * 200)]
    twins = [replace(row, example=replace(row.example, text=f"twin of {row.example.text}")) for row in rows]
    logits = np.zeros((200, 2))
    said = decisions.of_rows(rows, logits)
    assert 60 < said.sum() < 140
    assert (decisions.of_rows(twins, logits) != said).mean() > 0.3, "other texts, other coins"
    np.testing.assert_array_equal(decisions.of_rows(twins, logits, rows), said)


def test_whoever_is_asked_about_others_is_asked_with_the_coin_of_its_original() -> None:
    """However the exchanged rows are ordered: one group, one score, and nobody is answered otherwise."""
    even = Mixture(0.0, Cut(2.0), 0.0, Cut(2.0), 1.0, 0.5)
    decisions = Decisions(Rule("equalised_odds", "accuracy", {"a": even}, Cut(0.5)), ("no", "yes"), 1, "side")
    ids, learned = np.arange(3), np.zeros(3, dtype=bool)
    rows = [Row(example, ids, learned, target=n % 2) for n, example in enumerate(examples(*"a" * 60))]
    places = list(range(60))[::-1]
    twins = [replace(rows[n], example=replace(rows[n].example, text=f"twin {n}")) for n in places]

    def asked(own: list[Row], originals: list[Row]) -> Asked:
        truth, half = np.array([row.target for row in own]), np.full((len(own), 2), 0.5)
        return Asked(truth, half, said=decisions.of_rows(own, np.zeros((len(own), 2)), originals))

    exchanged = Exchanged(places, twins, [("gender: male", "gender: female")] * 60)
    assert treated(rows, {}, exchanged, asked, {0: 40, 1: 20}, ("no", "yes")).bias[FLIPS]["after"] == 0.0


def test_mentions_tell_the_group_of_any_text() -> None:
    decisions = Decisions(
        Rule("equalised_odds", "accuracy", {"gender: female": ALWAYS, "nobody": NEVER}, Cut(2.0)),
        ("no", "yes"), 1, None, frozenset({"gender"}),
    )  # fmt: skip
    given = [Example(Place("t", n), text=text, group="stale") for n, text in enumerate(["the women sing", "a tree"])]
    assert decisions.said(given, np.zeros((2, 2))).tolist() == [1, 0]
    assert decisions.ignored(given) is None


def test_decisions_read_back_equal_and_damage_is_said(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_decisions(folder) is None
    decisions = Decisions(RULE, ("no", "yes"), 1, "side", frozenset(), 7)
    folder.write_json(folder.decisions, decisions.as_json())
    assert read_decisions(folder) == decisions
    folder.write_json(folder.decisions, {**decisions.as_json(), "rule": {}})
    with pytest.raises(InputError, match="rule of thresholds cannot be read"):
        read_decisions(folder)
    folder.write_json(folder.decisions, {"rule": RULE.as_json()})
    with pytest.raises(RunFolderError, match="is damaged"):
        read_decisions(folder)


@pytest.fixture(scope="module")
def cut_run(reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a mended layer and thresholds; some of its test rows have no group."""
    place = tmp_path_factory.mktemp("cut")
    source = data_in(place / "data")
    rows = planted(400, 0.5, 2)
    write_rows(source / "test.jsonl", [{**row, "side": "" if n < 20 else row["side"]} for n, row in enumerate(rows)])
    fit(recipe_of(reader_folder, source, "erase", "thresholds"), out=place / "run")
    return place / "run"


def test_a_report_says_what_thresholds_changed(cut_run: Path) -> None:
    report = json.loads((cut_run / "report.json").read_text())
    mended, part = report["repair"]["parts"]
    assert report["repair"]["n"] == 400
    assert mended["changed"]["equalised_odds_difference"]["before"] > 0.8
    gap, bias = part["changed"]["equalised_odds_difference"], report["bias"]["equalised_odds_difference"]
    assert gap["before"] == mended["changed"]["equalised_odds_difference"]["after"]
    assert gap["after"] < min(0.2, gap["before"])
    assert bias["after"] == pytest.approx(gap["after"], abs=1e-5)
    assert bias["before"] != gap["before"], "the one is before tuning, the other before the repair"
    assert report["quality"]["accuracy"]["tuned"] == pytest.approx(part["changed"]["accuracy"]["after"], abs=1e-5)
    assert part["positive"] in LABELS
    assert "head" not in report["generalisation"], "a head over the encoder has no thresholds, so it is another matter"
    assert report["provenance"]["recipe"]["repair"][1]["constraint"] == "equalised_odds"
    for page in ("report.html", "README.md"):
        written = (cut_run / page).read_text(encoding="utf-8")
        assert "Scores are cut for each group apart" in written
        assert "Equalised odds difference" in written
        assert "Thresholds by group" in written
    weights = cut_run / "model" / "model.safetensors"
    decisions = cut_run / "decisions.json"
    assert decisions.stat().st_mtime_ns < weights.stat().st_mtime_ns, "a folder that answers has its thresholds"
    assert "answers without the thresholds by group" in (cut_run / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_every_repair_is_told_in_both_languages(language: str) -> None:
    facts = {"part": "train", "rows": 7, "rows_of_each_cell": 3, "directions": 1, "constraint": "equalised_odds"}
    parts = [{"kind": part.kind, **facts, "changed": {}} for part in (BalancedHead(), Erase(), Thresholds())]
    found = repaired(filled({"repair": {"n": 0, "parts": parts}}), words(language))
    assert len(found["sentences"]) == 4, "the last says that nothing was measured"
    assert all("7" in sentence for sentence in found["sentences"][:3])
    assert repaired(filled({}), words(language)) == {}


@pytest.mark.parametrize(
    ("language", "shown"),
    [("en", [("Balanced head", "Accuracy"), ("Balanced head", "Equalised odds difference")]),
     ("zh-TW", [("均衡的最後一層", "正確率"), ("均衡的最後一層", "機會均等差異（真、偽陽性率）")])],
)  # fmt: skip
def test_the_table_of_repairs_is_in_words(language: str, shown: list[tuple[str, str]]) -> None:
    change = {"before": 0.5, "after": 0.25}
    facts = {"part": "train", "rows": 7, "rows_of_each_cell": 3}
    part = {"kind": "balanced_head", **facts, "changed": {"accuracy": change, "equalised_odds_difference": change}}
    found = repaired(filled({"repair": {"n": 9, "parts": [part]}}), words(language))["rows"]
    assert [(row["repair"], row["measure"]) for row in found] == shown
    assert all((row["before"], row["after"]) == (0.5, 0.25) for row in found)


def answered(*arguments: object, cwd: Path) -> list[str]:
    done = typed("predict", *arguments, cwd=cwd)
    assert done.exit_code == 0, done.output
    return [json.loads(line)["prediction"] for line in done.stdout.splitlines()]


def test_a_run_answers_by_its_thresholds_wherever_it_is_asked(cut_run: Path, tmp_path: Path) -> None:
    test = cut_run.parent / "data" / "test.jsonl"
    measured = [json.loads(line)["tuned"] for line in (cut_run / "answers.jsonl").read_text().splitlines()]
    assert answered(cut_run, test, cwd=tmp_path) == measured
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    tuned = load(cut_run)
    texts, sides = [row["text"] for row in rows], [row["side"] or None for row in rows]
    assert tuned.classify(texts, groups=sides) == measured
    alone = tuned.classify(texts)
    assert alone[:20] == measured[:20]
    assert sum(one != other for one, other in zip(alone, measured, strict=True)) > 40
    assert tuned.classify(texts[30], groups=sides[30]) == measured[30], "a coin falls alike in any company"
    with pytest.raises(ModelError, match="found the text 'ew', expected a list"):
        tuned.classify(texts[:2], groups="ew")
    with pytest.raises(DataError, match=r"'East'.*expected one of: east, west"):
        tuned.classify(texts[:2], groups=["East", "East"])

    renamed = write_rows(tmp_path / "renamed.jsonl", [{"text": row["text"], "whose": row["side"]} for row in rows])
    assert answered(cut_run, renamed, "--group", "whose", "--column", "text", cwd=tmp_path) == measured
    without = typed("predict", cut_run, renamed, "--column", "text", cwd=tmp_path)
    assert [json.loads(line)["prediction"] for line in without.stdout.splitlines()] == alone
    assert "400 of 400 rows do not say their group" in " ".join(without.output.split())
    missing = typed("predict", cut_run, renamed, "--group", "city", cwd=tmp_path)
    assert missing.exit_code == 2
    assert "no column 'city'" in missing.output


def test_a_run_that_was_stopped_is_repaired_once(reader_folder: Path, tmp_path: Path) -> None:
    source = data_in(tmp_path / "data", train=120, validation=0, test=8, agree=0.5)
    recipe = recipe_of(reader_folder, source, "erase", {"kind": "thresholds"}, data={"validation": 0})
    recipe |= {"schedule": {"steps": 4}, "checkpoint": {"every": 1}, "evaluate": "none"}
    write_rows(source / "train.jsonl", planted(240, 0.5, 0))
    whole, parts = whole_and_parts(from_mapping(recipe)[0], tmp_path, after=2)
    one, other = (load_file(folder.model / "model.safetensors") for folder in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.decisions.read_text() == parts.decisions.read_text()
    assert whole.read_json(whole.report)["repair"]["parts"][0]["changed"] == {}, "nothing was measured"


def test_groups_by_mention_go_into_the_rule(reader_folder: Path, tmp_path: Path) -> None:
    """Beside a regulariser that compares groups."""
    rows = [{"text": f"the {('women', 'men')[n // 2 % 2]} are {('x', 'y')[n % 2] * 3} {n}", "label": LABELS[n % 2]}
            for n in range(160)]  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", rows)
    built = build(
        prepared_of(
            reader_folder,
            source,
            "balanced_head",
            "thresholds",
            regularisers=["group_dro"],
            data={"group": None, "mentions": ["gender"], "validation": 0, "test": 0},
        )
    )
    next(updates(built))
    done = measured(built)
    assert done.decisions is not None
    assert set(done.decisions.rule.groups) == {"gender: female", "gender: male"}
    assert (done.decisions.column, done.decisions.axes) == (None, frozenset({"gender"}))
    assert done.facts["n"] == 0


def test_measuring_a_run_is_by_its_thresholds(cut_run: Path, tmp_path: Path) -> None:
    report = json.loads((cut_run / "report.json").read_text())
    test = cut_run.parent / "data" / "test.jsonl"
    found = json.loads(typed("eval", cut_run, test, "--json", cwd=tmp_path).stdout)
    assert found["quality"]["accuracy"]["tuned"] == report["quality"]["accuracy"]["tuned"]
    assert found["thresholds"] == {"constraint": "equalised_odds", "rows": 380, "unknown": 20, "unfamiliar": 0}
    audit = json.loads(typed("audit", cut_run, test, "--group", "side", "--json", cwd=tmp_path).stdout)
    assert audit["bias"]["equalised_odds_difference"]["after"] == pytest.approx(
        report["bias"]["equalised_odds_difference"]["after"], abs=1e-5
    )
    assert audit["thresholds"]["rows"] == 380


def test_an_audit_by_another_column_asks_the_classifier_that_answers(cut_run: Path, tmp_path: Path) -> None:
    """The groups that are compared are not those the scores are cut by."""
    rows = [json.loads(line) for line in (cut_run.parent / "data" / "test.jsonl").read_text().splitlines()]
    measured = [json.loads(line)["tuned"] for line in (cut_run / "answers.jsonl").read_text().splitlines()]
    both = [{**row, "city": ("here", "there")[n % 4 // 2]} for n, row in enumerate(rows)]
    tables = {
        "both": both, "one": [{**row, "side": None} for row in both],
        "spelt": [{**row, "side": row["side"].title()} for row in both],
    }  # fmt: skip
    files = {name: write_rows(tmp_path / f"{name}.jsonl", table) for name, table in tables.items()}
    audit = json.loads(typed("audit", cut_run, files["both"], "--group", "city", "--json", cwd=tmp_path).stdout)
    assert audit["thresholds"]["rows"] == 380
    found = audit["groups"]["features"]["city"]["groups"]
    alone = load(cut_run).classify([row["text"] for row in rows])
    by_rule, by_model = (
        {city: np.mean([says == row["label"] for says, row in zip(said, both, strict=True) if row["city"] == city])
         for city in ("here", "there")} for said in (measured, alone)
    )  # fmt: skip
    assert by_rule != pytest.approx(by_model, abs=1e-3)
    assert {city: cells["accuracy"]["value"] for city, cells in found.items()} == pytest.approx(by_rule, abs=1e-4)

    without = typed("audit", cut_run, files["one"], "--group", "city", "--json", cwd=tmp_path)
    told = json.loads(without.stdout)
    assert (told["thresholds"]["rows"], told["thresholds"]["unknown"]) == (0, 400)
    shown = {city: cells["accuracy"]["value"] for city, cells in told["groups"]["features"]["city"]["groups"].items()}
    assert shown == pytest.approx(by_model, abs=1e-4)
    for command in ("audit", "predict"):
        refused = typed(command, cut_run, files["spelt"], "--group", "side", cwd=tmp_path)
        assert refused.exit_code == 2
        assert "expected one of: east, west" in " ".join(refused.output.split())


def test_groups_for_a_run_that_has_none_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    source = data_in(tmp_path / "data", train=40, validation=0, test=8, agree=0.5)
    recipe = recipe_of(reader_folder, source, schedule={"steps": 1}, data={"validation": 0})
    done = fit({**recipe, "evaluate": "none"}, out=tmp_path / "run")
    assert not (tmp_path / "run" / "decisions.json").exists()
    with pytest.raises(ModelError, match="a run with repair: thresholds"):
        done.load().classify(["pq"], groups=["east"])
    refused = typed("predict", tmp_path / "run", source / "test.jsonl", "--group", "side", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "has no thresholds by group" in refused.output


def test_without_validation_rows_thresholds_say_what_they_were_fitted_on(reader_folder: Path, tmp_path: Path) -> None:
    source = data_in(tmp_path / "data", train=160, validation=0, test=8, agree=0.5)
    found = prepared_of(reader_folder, source, "thresholds", data={"validation": 0})
    assert any(note.key == "thresholds_learned" and note.facts["n"] == 160 for note in found.xray.notes)
    built = build(found)
    (part,) = measured(built).facts["parts"]
    assert (part["part"], part["rows"]) == ("train", 160)
