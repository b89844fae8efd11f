"""Variants of texts that a model makes before training: by a masked model, by one that writes, and which are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from endpoints import Server, lines
from tuneful.core.device import prepare_process
from tuneful.core.errors import EndpointError, RecipeError
from tuneful.core.types import Example, Place
from tuneful.data.augment import Masked, Paraphrase
from tuneful.data.augment.masked import filled, with_holes
from tuneful.data.augment.paraphrase import rewordings, said
from tuneful.evaluation.settings import Evaluate, Reworded
from tuneful.recipe import Recipe
from tuneful.run import variants
from tuneful.run.api import recipe_for
from tuneful.run.build import build
from tuneful.run.folder import RunFolder
from tuneful.run.judge import Judged, Known, near, of_its_class
from tuneful.run.prepare import prepare
from tuneful.run.reworded import with_reworded
from tuneful.run.session import run
from tuneful.run.variants import is_sound, with_variants
from tuneful.run.vary import varied
from tuneful.testing import tiny_tokenizer
from work import moods, typed, write_rows

PLANE = {  # texts as points of a plane
    "a": (1.0, 0.0), "a near": (0.8, 0.6), "a far": (0.0, 1.0), "b": (0.0, 1.0), "b near": (0.6, 0.8), "odd": (0.1, 0.995),
}  # fmt: skip


def read(texts: Any) -> torch.Tensor:
    return torch.tensor([PLANE[text] for text in texts])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(variants, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "variants"


def filler(folder: Path) -> Path:
    """A random BERT that names masked tokens."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(3)
    model = BertForMaskedLM(BertConfig(
        vocab_size=272, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, pad_token_id=0,
    ))  # fmt: skip
    model.save_pretrained(folder)
    tiny_tokenizer(None).save_pretrained(folder)
    return folder


def recipe(folder: Path, reader: Path, *augment: dict[str, Any], **more: Any) -> Recipe:
    data = write_rows(folder / "rows.jsonl", moods())
    settings = {"augment": json.dumps(augment), "choose": "none", "schedule.steps": 4, **more}
    return recipe_for(data, model=str(reader), settings=settings)


class TestJudge:
    def test_far_ones_are_left_out(self) -> None:
        """Cosines with (1, 0) are 0.8 and 0."""
        pool = {"a": ("a near", "a far"), "b": ()}
        assert near(pool, 0.7, read) == Judged({"a": ("a near",), "b": ()}, far=1)
        assert near(pool, 0.81, read).pool == {"a": (), "b": ()}
        assert near(pool, 0.0, read).far == 0

    def test_those_of_another_class_are_left_out(self) -> None:
        """The head that has not seen the first `a` has seen the second, which is the same text."""
        texts = ["a", "a near", "b", "b near"]
        known = Known(texts, torch.tensor([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2)
        found = of_its_class(Judged({"a": ("a far", "a near"), "b": ("a", "odd")}), known, read)
        assert found.pool == {"a": ("a near",), "b": ("odd",)}
        assert found.other == 2

    def test_a_head_that_is_wrong_about_the_text_is_asked_whether_anything_changed(self) -> None:
        texts = ["a", "a near", "b", "b near", "odd"]  # `odd` is of class 0, and looks like one of class 1
        known = Known(texts, torch.tensor([0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1]), 2)
        assert of_its_class(Judged({"odd": ("b", "a")}), known, read).pool == {"odd": ("b", "a")}
        known = Known(texts, torch.tensor([0, 0, 1, 1, 1]), np.array([0, 0, 0, 0, 1]), 2)
        assert of_its_class(Judged({"odd": ("b", "a")}), known, read).pool == {"odd": ("b",)}

    def test_a_row_does_not_judge_its_own_variants(self) -> None:
        """Near-duplicates are in one fold, so no fold knows the label of its like."""
        examples = [Example(Place("x", n), text=f"this is the very same text {'!' * n}", label="l") for n in range(4)]
        known = Known.of(examples, [0, 0, 0, 0], 2, 0)
        assert len(set(known.folds.tolist())) == 1


def test_numbers_and_negations_have_to_be_kept() -> None:
    assert is_sound("pay 5 euro", "5 euro have to be paid")
    assert not is_sound("pay 5 euro", "pay 6 euro")
    assert not is_sound("it works", "it does not work")
    assert not is_sound("it is not here", "it is here")
    assert not is_sound("hello there", "  ")
    assert not is_sound("hi", "a very long answer about everything")


def test_holes_are_filled() -> None:
    text = with_holes("the old house fell", 0.5, np.random.default_rng(0), "[MASK]")
    assert text.count("[MASK] ") == 2
    assert text.replace("[MASK] ", "") == "the old house fell"
    assert filled("[MASK] a [MASK] b", "[MASK]", ["x", "y"]) == "x a y b"


def test_a_masked_model_puts_in_what_it_finds_likely(tmp_path: Path) -> None:
    """Its bias says that hidden tokens are `q`, by far."""
    from transformers import BertForMaskedLM

    folder = filler(tmp_path / "filler")
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.cls.predictions.bias[tiny_tokenizer().convert_tokens_to_ids("q")] += 100
    model.save_pretrained(folder)
    prepare_process()
    prepared = prepare(recipe(tmp_path, folder, {"kind": "masked", "variants": 2, "keep_label": None}))
    found = with_variants(prepared).variants[0]
    for text, new in found.items():
        assert len(new) >= 1
        for one in new:
            assert one.split() != text.split()
            assert [word for word in one.split() if word != "q"] == text.split()


def test_variants_are_learned_and_the_report_counts_them(tmp_path: Path, reader_folder: Path) -> None:
    masked = {
        "kind": "masked",
        "model": str(filler(tmp_path / "filler")),
        "share": 1,
        "keep_label": {"similar": -1, "encoder": str(reader_folder)},
    }
    prepared = with_variants(prepare(recipe(tmp_path, reader_folder, masked)))
    pool, vary = prepared.variants[0], varied(prepared)
    assert vary is not None
    for number, row in enumerate(prepared.repeated):
        new = vary(row, [0, 0, number])
        read_as = [prepared.processor.text(text, limit=256).ids.tolist() for text in pool[str(row.example.text)]]
        assert new.ids.tolist() in (read_as or [row.ids.tolist()])
    (note,) = [note for note in prepared.xray.notes if note.key == "variants"]
    assert note.facts["kind"] == "masked"
    assert note.facts["n"] == sum(map(len, pool.values())) > 0
    again = with_variants(prepare(recipe(tmp_path, reader_folder, masked)))
    assert again.variants == prepared.variants
    assert again.data_sha256 == prepared.data_sha256 != prepare(recipe(tmp_path, reader_folder, masked)).data_sha256
    built = build(prepared)
    assert len(list(built.schedule.steps(built.policy))) == 4


def test_a_model_that_names_nothing_is_refused(tmp_path: Path, reader_folder: Path) -> None:
    with pytest.raises(RecipeError, match="has not learned to name hidden words"):
        with_variants(prepare(recipe(tmp_path, reader_folder, {"kind": "masked"})))


def test_variants_none_of_which_is_kept_are_refused(tmp_path: Path, reader_folder: Path) -> None:
    strict = {
        "kind": "masked",
        "model": str(filler(tmp_path / "filler")),
        "keep_label": {"similar": 1, "encoder": str(reader_folder)},
    }
    with pytest.raises(RecipeError, match=r"augment\.0: none of \d+ variants of \d+ texts is kept"):
        with_variants(prepare(recipe(tmp_path, reader_folder, strict)))


class TestParaphrase:
    def asks(self, server: Server, **more: Any) -> dict[str, Any]:
        return {
            "kind": "paraphrase",
            "model": "writer",
            "endpoint": server.url,
            "variants": 2,
            "keep_label": None,
            **more,
        }

    def test_asked_once_and_kept(self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path) -> None:
        server.answer = lambda body: (
            f'"well {body["messages"][0]["content"].splitlines()[-1]} {"really" * body["seed"]}"'
        )
        found = prepare(recipe(tmp_path, reader_folder, self.asks(server)))
        texts = {str(row.example.text) for row in found.repeated}
        pool = with_variants(found).variants[0]
        assert pool == {text: (f"well {text}", f"well {text} really") for text in texts}
        assert len(server.asked) == 2 * len(texts)
        assert with_variants(found).variants[0] == pool
        assert len(server.asked) == 2 * len(texts)
        (file,) = cache.glob("*.jsonl")
        assert len(lines(file)) == 2 * len(texts)

    def test_there_and_back(self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path) -> None:
        def answer(body: dict[str, Any]) -> str:
            asked = body["messages"][0]["content"]
            text = asked.splitlines()[-1]
            return f"fr {text}" if "into French" in asked else text.replace("fr ", "back ")

        server.answer = answer
        found = prepare(recipe(tmp_path, reader_folder, self.asks(server, via="French", variants=1)))
        pool = with_variants(found).variants[0]
        assert all(new == (f"back {text}",) for text, new in pool.items())
        assert sum("into English" in body["messages"][0]["content"] for body in server.asked) == len(pool)

    def test_only_training_rows_are_sent(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        server.answer = lambda body: "something else"
        found = prepare(recipe(tmp_path, reader_folder, self.asks(server)))
        held = {str(row.example.text) for part in ("validation", "test") for row in found.rows(part)}
        with pytest.raises(RecipeError, match="none of 0 variants"):  # the answer has no number
            with_variants(found)
        asked = {body["messages"][0]["content"].splitlines()[-1] for body in server.asked}
        assert asked == {str(row.example.text) for row in found.repeated}
        assert not asked & held

    def test_check_asks_about_a_few_rows_alone(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        server.answer = lambda body: f"well {body['messages'][0]['content'].splitlines()[-1]}"
        write_rows(tmp_path / "rows.jsonl", moods(200))
        given = (
            "check",
            "rows.jsonl",
            "--model",
            reader_folder,
            "--set",
            "choose=none",
            "--set",
            f"augment={json.dumps(self.asks(server, variants=1))}",
        )
        assert typed(*given, cwd=tmp_path).exit_code == 0
        assert server.asked == []
        done = typed(*given, "--augment", "--json", cwd=tmp_path)
        assert len(server.asked) == variants.FEW
        assert all(row["after"] == f"well {row['before']}" for row in json.loads(done.stdout)["augmented"])

    def test_check_asks_once_a_row_says_so_and_foretells_no_run(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        """Of three variants a text one is made; that none of these few is kept does not refuse a run of all rows."""
        server.answer = lambda body: body["messages"][0]["content"].splitlines()[-1]
        write_rows(tmp_path / "rows.jsonl", moods(200))
        settings = ("--set", "choose=none", "--set", f"augment={json.dumps(self.asks(server, variants=3))}")
        done = typed("check", "rows.jsonl", "--model", reader_folder, *settings, "--augment", cwd=tmp_path)
        assert len(server.asked) == variants.FEW
        assert f"to say {variants.FEW} texts in other words, 1 times each" in " ".join(done.stderr.split())
        assert done.exit_code == 0
        with pytest.raises(RecipeError, match="none of 0 variants of 8 texts is kept"):
            with_variants(variants.some(prepare(recipe(tmp_path, reader_folder, self.asks(server, variants=3)))))

    def test_a_server_that_says_nothing(self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path) -> None:
        server.answer = lambda body: 500
        with pytest.raises(EndpointError, match="answers 500"):
            with_variants(prepare(recipe(tmp_path, reader_folder, self.asks(server))))

    def test_a_run_goes_from_rows_to_report(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        server.answer = lambda body: f"well {body['messages'][0]['content'].splitlines()[-1]}"
        found = recipe(tmp_path, reader_folder, self.asks(server, variants=1, share=1), {"kind": "typos"})
        for _ in run(found, tmp_path / "run"):
            pass
        folder = RunFolder(tmp_path / "run")
        notes = {note["key"]: note for note in folder.read_json(folder.report)["data"]["notes"]}
        assert notes["variants"]["left_out"] == 0
        assert notes["augmented"]["how"] == "paraphrase, typos"

    def test_test_rows_in_other_words(self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path) -> None:
        """They are asked for before training, once, and measured at the end."""
        server.answer = lambda body: f"well {body['messages'][0]['content'].splitlines()[-1]}"
        asks = {"model": "writer", "endpoint": server.url, "similar": -1.0, "encoder": str(reader_folder)}
        found = recipe(tmp_path, reader_folder)
        found = found.model_copy(update={"evaluate": Evaluate(paraphrase=Reworded(**asks))})
        first = next(run(found, tmp_path / "one"))
        assert first.kind == "plan"
        texts = {str(row.example.text) for row in prepare(found).rows("test")}
        assert {body["messages"][0]["content"].splitlines()[-1] for body in server.asked} == texts
        for _ in run(found, tmp_path / "run"):
            pass
        assert len(server.asked) == len(texts)
        folder = RunFolder(tmp_path / "run")
        ways = folder.read_json(folder.report)["generalisation"]["robustness"]["ways"]
        assert ways["paraphrase"]["changed"] == ways["paraphrase"]["n"] == len(prepare(found).rows("test"))
        assert "In other words" in folder.page.read_text(encoding="utf-8")

    def test_other_words_outlast_what_is_chosen_by_trying(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        """Few labels: how they are learned is found out first, and the rows are then prepared anew."""
        server.answer = lambda body: f"well {body['messages'][0]['content'].splitlines()[-1]}"
        asks = {"model": "writer", "endpoint": server.url, "similar": -1.0, "encoder": str(reader_folder)}
        (data := tmp_path / "data").mkdir()
        write_rows(data / "train.jsonl", moods(20))
        write_rows(data / "test.jsonl", [{**row, "text": f"{row['text']}, they said"} for row in moods(30)])
        given = {"data": str(data), "model": str(reader_folder), "evaluate": {"paraphrase": asks}}
        for _ in run(Recipe.model_validate(given), tmp_path / "run"):
            pass
        report = RunFolder(tmp_path / "run").read_json(RunFolder(tmp_path / "run").report)
        assert report["choice"], "something was tried"
        assert report["generalisation"]["robustness"]["ways"]["paraphrase"]["n"] == 30

    def test_other_words_that_say_something_else_are_refused(
        self, server: Server, tmp_path: Path, reader_folder: Path, cache: Path
    ) -> None:
        server.answer = lambda body: "1 2 3"
        asks = Reworded(model="writer", endpoint=server.url)
        found = recipe(tmp_path, reader_folder).model_copy(update={"evaluate": Evaluate(paraphrase=asks)})
        with pytest.raises(RecipeError, match=r"evaluate\.paraphrase: none of"):
            with_reworded(prepare(found))
        blind = found.evaluate.model_copy(update={"robustness": False})
        with pytest.raises(RecipeError, match="or that is off"):
            prepare(found.model_copy(update={"evaluate": blind}))
        few = {"data": {"source": str(write_rows(tmp_path / "few.jsonl", moods(20)))}, "model": str(reader_folder)}
        with pytest.raises(RecipeError, match="no test rows"):  # few labels: all are learned
            prepare(Recipe.model_validate({**few, "evaluate": found.evaluate.model_dump(exclude_unset=True)}))

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"endpoint": "http://x/v1"}, "say which of its models"),
            ({"endpoint": "localhost:8000", "model": "m"}, "expected an address"),
            ({"key_from": "KEY"}, "takes no key"),
            ({"language": "German"}, "name the other one with `via`"),
            ({"temperature": 0}, "would be the same"),
            ({"variants": 0}, "greater than 0"),
        ],
    )
    def test_settings_that_mean_nothing(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Paraphrase(**given)

    def test_what_is_no_text(self) -> None:
        assert said(' "Say it\nagain" ', cut=False) == "Say it again"
        assert said("half a sente", cut=True) == ""
        assert said("...", cut=False) == ""

    def test_every_variant_is_a_question_of_its_own(self) -> None:
        asked = rewordings(["one", "two"], 3)
        assert len({one.key("m", 0.9) for one in asked}) == 6


def test_rows_that_are_not_held(tmp_path: Path, reader_folder: Path) -> None:
    given = recipe(tmp_path, reader_folder, {"kind": "masked"}, **{"data.streaming": "true"})
    with pytest.raises(RecipeError, match=r"data\.streaming=false"):
        prepare(given)


def test_a_variant_is_of_the_text_as_it_stands(
    tmp_path: Path, reader_folder: Path, server: Server, cache: Path
) -> None:
    """Whatever their order in the recipe, a typo is made in a variant, not a variant looked up for a typo."""
    server.answer = lambda body: f"well {body['messages'][0]['content'].splitlines()[-1]}"
    asked = {"kind": "paraphrase", "model": "w", "endpoint": server.url, "variants": 1, "keep_label": None, "share": 1}
    prepared = with_variants(
        prepare(recipe(tmp_path, reader_folder, {"kind": "case", "styles": "capitals", "share": 1}, asked))
    )
    vary = varied(prepared)
    assert vary is not None
    row = prepared.repeated[0]
    assert vary.example(row, [0, 0, 0]).text == f"WELL {str(row.example.text).upper()}"


def test_masked_reads_back() -> None:
    assert Masked(keep_label=True) == Masked()  # type: ignore[arg-type]
    assert Masked(keep_label="none").keep_label is None  # type: ignore[arg-type]
    assert Masked.model_validate(json.loads(Masked(keep_label=None).model_dump_json())).keep_label is None
