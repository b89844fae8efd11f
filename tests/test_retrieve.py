"""Queries that find their documents: what is learned, by hand and by effect."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from topics import asked
from tuneful.core.errors import DataError, InputError, RecipeError
from tuneful.core.types import Example, Layout, Place, Row, Step
from tuneful.data.layouts import Collator
from tuneful.data.rows import build
from tuneful.evaluation import reading
from tuneful.evaluation.reading import embeddings
from tuneful.evaluation.settings import Evaluate
from tuneful.models.load import Loaded
from tuneful.models.prompts import Prompts, prompts_in, write_prompts
from tuneful.objectives import Retrieve
from tuneful.run.api import check
from tuneful.run.assess import _opened, _rows, assess
from tuneful.run.build import Built, build_on
from tuneful.run.losses import by_part, looked_at, validation_metrics
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy
from work import moods, write_rows

SMALL = {"evaluate": {"forgetting": False}}
PAIRS = [("red", "colour", ()), ("blue", "colour", ("wrong", "colours")), ("red", "paint", ()), ("two", "number", ())]


def rows_of(loaded: Loaded, pairs: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[Row]:
    examples = [Example(Place("pairs", n), text=q, positive=p, negatives=o) for n, (q, p, o) in enumerate(pairs)]
    return build(examples, Layout.PAIRS, loaded.processor, 64).rows


def test_what_is_right_for_a_query_is_told_by_all_rows(reader_folder: Path) -> None:
    _, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    batch = Collator(Layout.PAIRS)(rows_of(loaded, PAIRS))
    assert batch.targets["queries"].tolist() == [0, 2, 6, 8]
    assert batch.targets["documents"].tolist() == [1, 3, 4, 5, 7, 9]  # colour, colour, wrong, colours, paint, number
    assert batch.targets["positives"].tolist() == [0, 1, 4, 5]
    assert batch.targets["right"].long().tolist() == [
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert batch.units == 4


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_worked_out_by_hand(symmetric: bool, reader_folder: Path) -> None:
    """Red, blue, red, two ask for colour, colour, paint, number: no right document is a wrong one."""
    policy, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    policy.module.eval()
    batch = Collator(Layout.PAIRS)(rows_of(loaded, PAIRS))
    terms = Retrieve(temperature=0.5, symmetric=symmetric)(policy, batch)
    texts = policy(batch).embeddings().detach().numpy()
    queries, documents = texts[[0, 2, 6, 8]], texts[[1, 3, 4, 5, 7, 9]]
    others = [[2, 3, 5], [2, 3, 4, 5], [2, 3, 5], [0, 1, 2, 3, 4]]  # wrong documents of each query
    own = [0, 1, 4, 5]
    wrong_queries = [[3], [3], [1, 3], [0, 1, 2]]  # of colour, colour, paint, number
    for row, loss in enumerate(terms.losses.tolist()):
        scores = [float(queries[row] @ documents[place]) / 0.5 for place in [own[row], *others[row]]]
        expected = math.log(sum(map(math.exp, scores))) - scores[0]
        if symmetric:
            scores = [float(documents[own[row]] @ queries[place]) / 0.5 for place in [row, *wrong_queries[row]]]
            expected = (expected + math.log(sum(map(math.exp, scores))) - scores[0]) / 2
        assert loss == pytest.approx(expected, abs=1e-4)


def test_a_text_of_a_row_is_read_as_if_it_stood_alone(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    policy.module.eval()
    rows = rows_of(loaded, PAIRS)
    together = policy(Collator(Layout.PAIRS)(rows)).embeddings().detach().numpy()
    alone = [Row(row.example, ids, np.zeros(len(ids))) for row in rows for ids in row.texts]
    np.testing.assert_allclose(together, embeddings(policy, alone, Collator(Layout.LABELS)), atol=1e-5)


def distinct(count: int) -> list[dict[str, str]]:
    """Pairs of which no two have a text in common."""
    return [{"query": f"why {n * 7919} so", "document": f"because {n * 104729} it"} for n in range(count)]


def begun(folder: Path, reader: Path, count: int, **changes: Any) -> Built:
    """A run before its first step, over so many pairs of which no two are alike. All documents are as likely."""
    recipe = {"data": str(write_rows(folder / "distinct.jsonl", distinct(count))), "model": str(reader),
              "objective": {"kind": "retrieve", "temperature": 1e6}, **changes}  # fmt: skip
    return build_on(tiny_policy(reader, layout=Layout.PAIRS)[0], check(recipe))


def test_a_pair_without_a_wrong_document_counts_nothing(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    policy.module.eval()
    alone = Collator(Layout.PAIRS)(rows_of(loaded, [("red", "colour", ())]))
    assert (alone.units, alone.weights.tolist()) == (0, [0])
    assert rows_units(loaded, [("red", "colour", ("blue",))]) == 1
    assert rows_units(loaded, [("red", "colour", ()), ("red", "paint", ())]) == 0  # each is right for the other
    assert rows_units(loaded, [("red", "colour", ()), ("red", "paint", ()), ("two", "number", ())]) == 3
    twins = Collator(Layout.PAIRS)(rows_of(loaded, [("red", "colour", ()), ("two", "colour", ())]))
    assert Retrieve()(policy, twins).metrics["found"] == 0  # nothing was asked


def rows_units(loaded: Loaded, pairs: Sequence[tuple[str, str, tuple[str, ...]]]) -> float:
    return Collator(Layout.PAIRS)(rows_of(loaded, pairs)).units


def test_a_look_tells_pairs_apart_however_long_they_are(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by tokens that are read at once elsewhere: one pair at once has a loss of nothing."""
    monkeypatch.setattr(reading, "TOGETHER", 1)
    built = begun(tmp_path, reader_folder, 80)
    rows = looked_at(built)
    assert len(rows) == 8
    assert validation_metrics(built, rows)["loss"] == pytest.approx(math.log(8), abs=1e-4)
    one = begun(tmp_path, reader_folder, 14)
    assert len(one.prepared.rows("validation")) == 1
    assert looked_at(one) == []  # nothing could be better than another, so all steps are made


def test_losses_of_the_parts_are_over_as_many_documents(reader_folder: Path, tmp_path: Path) -> None:
    built = begun(tmp_path, reader_folder, 120)
    sizes = [len(built.prepared.rows(part)) for part in ("train", "validation", "test")]
    assert sizes[0] > 64 > sizes[1]
    assert list(by_part(built).values()) == pytest.approx([math.log(min(sizes))] * 3, abs=1e-4)
    none = by_part(begun(tmp_path, reader_folder, 14))
    assert none["validation"] is None  # one pair
    assert none["train"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_step_that_does_not_fit_is_cut_in_halves(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    rows = rows_of(loaded, [(f"why {n + 100}", f"because {n + 100}", ()) for n in range(10)])
    (size,) = {len(row) for row in rows}
    for room, cut in (
        (10 * size, [10]),
        (9 * size, [5, 5]),
        (4 * size, [4, 3, 3]),
        (3 * size, [3, 3, 2, 2]),
        (size, [1] * 10),
    ):
        steps = EpochSteps(rows, Collator(Layout.PAIRS), Cut(10, room, even=True), total=1).steps(policy)
        first = next(steps)
        assert isinstance(first, Step)
        assert sorted((len(batch.weights) for batch in first.batches), reverse=True) == cut


def test_rows_of_mean_length_leave_room_in_a_step(reader_folder: Path, tmp_path: Path) -> None:
    built = begun(tmp_path, reader_folder, 80, data={"source": str(
        write_rows(tmp_path / "long.jsonl", [{"query": f"{n} " + "ab " * 60, "document": f"cd {n} " * 20} for n in
                                             range(80)]))})  # fmt: skip
    rows, resolved = built.prepared.repeated, built.prepared.resolved
    mean = sum(map(len, rows)) / len(rows)
    assert resolved.rows_per_step < 64
    assert resolved.rows_per_step == int(0.8 * 8192 / mean)
    steps = list(built.schedule.steps(built.policy))
    assert {len(step.batches) for step in steps if isinstance(step, Step)} == {1}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("adapter", ["full", "lora", "top_layers"])
def test_queries_learn_to_find_their_documents(adapter: str, reader_folder: Path, tmp_path: Path) -> None:
    """Other tools read the same vectors from the run, and search by what the card says."""
    source = write_rows(tmp_path / "asked.jsonl", asked(240))
    recipe = {"data": str(source), "model": str(reader_folder), "adapter": adapter, **SMALL,
              "schedule": {"epochs": 12}, "optimiser": {"learning_rate": 3e-3, "rows_per_step": 24}}  # fmt: skip
    run = tuneful.fit(recipe, out=tmp_path / "run")
    found = run.report["quality"]["ndcg_at_10"]
    assert found["tuned"] > max(found["base"], found["trivial"]) + 0.1
    assert run.report["verdict"]["primary"] == "ndcg_at_10"
    assert (tmp_path / "run" / "adapter").exists() is (adapter == "lora")
    words = ["bread spoon oven 999", "race goal team"]
    tuned = run.load()
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(run.path / "model"), device="cpu")
    for ours, name in ((tuned.queries, "query"), (tuned.documents, "document")):
        np.testing.assert_allclose(theirs.encode(words, prompt_name=name), ours(words).numpy(), atol=1e-4)
    card = (run.path / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace('"model"', repr(str(run.path / "model")))
    exec(code, {})


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_is_one_of_the_encoder_for_any_tool(reader_folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    data = {"source": str(write_rows(tmp_path / "asked.jsonl", asked(64))), "validation": 20, "test": 6}
    recipe = {"data": data, "model": str(reader_folder), **SMALL, "adapter": "lora", "schedule": {"steps": 3}}
    run = tuneful.fit(recipe, out=tmp_path / "run")
    assert run.report["generalisation"]["judged_by"] == "validation", "six test queries tell less than twenty others"
    plain = PeftModel.from_pretrained(AutoModel.from_pretrained(reader_folder), str(run.path / "adapter")).eval()
    tuned = run.load()
    ids = torch.tensor([tuned.processor.query("bread soup", limit=64)[0].ids.tolist()])
    with torch.no_grad():
        mean = plain(input_ids=ids).last_hidden_state[0].mean(0)
    theirs = torch.nn.functional.normalize(mean, dim=0)
    torch.testing.assert_close(theirs, tuned.queries(["bread soup"])[0], atol=1e-4, rtol=1e-3)


def test_negatives_are_learned_from(reader_folder: Path, tmp_path: Path) -> None:
    """One row a step has nothing to tell its document from but its own negatives, which fall behind."""
    rows = [{"anchor": row["query"], "positive": row["document"], "negative": "page 9 OTHER"} for row in asked(48)]
    recipe = {"data": str(write_rows(tmp_path / "rows.jsonl", rows)), "model": str(reader_folder), **SMALL,
              "optimiser": {"rows_per_step": 1, "learning_rate": 1e-3}, "schedule": {"epochs": 2}}  # fmt: skip
    run = tuneful.fit(recipe, out=tmp_path / "run").load()
    policy, loaded = tiny_policy(reader_folder, layout=Layout.PAIRS)
    told = [run.queries([rows[0]["anchor"]]), run.documents([rows[0]["positive"], "page 9 OTHER"])]
    asked_of = Example(Place("", 1), text=rows[0]["anchor"], positive=rows[0]["positive"], negatives=("page 9 OTHER",))
    batch = Collator(Layout.PAIRS)(build([asked_of], Layout.PAIRS, loaded.processor, 64).rows)
    before = policy(batch).embeddings().detach()
    gap = [float(query @ (right - wrong)) for query, right, wrong in (before, (*told[0], *told[1]))]
    assert gap[1] > gap[0] + 0.05


def test_what_stands_before_texts_is_learned_with_and_kept(reader_folder: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "e5"
    shutil.copytree(reader_folder, model)
    write_prompts(model, Prompts("query: "))
    source = str(write_rows(tmp_path / "asked.jsonl", asked(40)))
    recipe = {"data": source, "model": str(model), "schedule": {"steps": 1}, "evaluate": "none"}
    run = tuneful.fit(recipe, out=tmp_path / "run")
    shown = "".join(text for text, _ in run.report["data"]["shown"][0]["pieces"])
    assert shown.startswith("query: ")
    assert "\n→ passage: page" in shown
    assert prompts_in(run.path / "model") == Prompts("query: ", "query: ", "passage: ")
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(run.path / "model"), device="cpu")
    ours = run.load()
    for read, name in ((ours.queries, "query"), (ours.documents, "document")):
        np.testing.assert_allclose(theirs.encode(["bread"], prompt_name=name), read(["bread"]).numpy(), atol=1e-4)
    own = {**recipe, "objective": {"kind": "retrieve", "query_prompt": "find: ", "document_prompt": ""}}
    assert prompts_in(tuneful.fit(own, out=tmp_path / "own").path / "model") == Prompts("query: ", "find: ", "")


def test_a_run_is_gone_on_from(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "asked.jsonl", asked(64))
    short = {"schedule": {"steps": 2}, **SMALL}
    first = tuneful.fit({"data": str(source), "model": str(reader_folder), **short}, out=tmp_path / "first")
    again = tuneful.fit({"data": str(source), "model": str(first.path), **short}, out=tmp_path / "again")
    assert again.report["quality"]["ndcg_at_10"]["base"] == pytest.approx(
        first.report["quality"]["ndcg_at_10"]["tuned"], abs=1e-6
    )
    few = tuneful.fit({"data": str(write_rows(tmp_path / "moods.jsonl", moods(24))), "model": str(first.path)},
                      out=tmp_path / "few")  # fmt: skip
    assert few.report["choice"]["ways"]
    assert few.load().classify("sunny warm") in ("glad", "sad")


def test_data_that_is_not_held_is_learned_from(reader_folder: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "asked.jsonl", asked(80))
    recipe = {"data": {"source": str(source), "streaming": True, "test": 10, "validation": 8},
              "model": str(reader_folder), "schedule": {"steps": 4}, **SMALL}  # fmt: skip
    assert "searched_sample" in [note.key for note in check(recipe).xray.notes]
    report = tuneful.fit(recipe, out=tmp_path / "run").report
    assert report["quality"]["ndcg_at_10"]["n"] == 10
    assert report["cost"]["steps"] == 4


def test_rows_of_one_query_stay_on_one_side(reader_folder: Path, tmp_path: Path) -> None:
    """A query may ask for several documents: that is no duplicate, and no way for the answer to leak."""
    rows = [{"query": f"{row['query']}", "passage": f"{row['document']} {part}"}
            for row in asked(60) for part in ("as the manual has it", "a letter somebody wrote")]  # fmt: skip
    found = check({"data": str(write_rows(tmp_path / "rows.jsonl", rows)), "model": str(reader_folder)})
    sides = {part: {row.example.text for row in found.rows(part)} for part in ("train", "validation", "test")}
    assert sides["test"]
    assert not sides["test"] & (sides["train"] | sides["validation"])
    assert found.xray.duplicates == 0
    assert check(str(write_rows(tmp_path / "twice.jsonl", asked(40) * 2)), model=str(reader_folder)).xray.duplicates


def test_refusals(reader_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "asked.jsonl", asked(40)))
    told = write_rows(tmp_path / "told.jsonl", [{"question": f"why {n}", "answer": f"so {n}"} for n in range(20)])
    one = write_rows(tmp_path / "one.jsonl", [{"query": f"why {n} {n * 7}", "document": "so"} for n in range(20)])
    ours = {"data": source, "model": str(reader_folder)}
    for recipe, words in (
        ({**ours, "model": str(generator_folder)}, "documents are found by an encoder"),
        ({**ours, "adapter": "head"}, "there is no head here"),
        ({**ours, "regularisers": ["reference_kl"]}, "gives none"),
        ({**ours, "objective": "classify"}, "needs a text and a label"),
        ({**ours, "objective": "next_token"}, "from which 'retrieve' learns"),
        ({**ours, "objective": "masked"}, "learns from plain texts"),
        ({**ours, "data": str(told), "objective": "retrieve"}, "--set data.query=... --set data.positive=..."),
        ({**ours, "data": {"source": source, "labels": ["a", "b"]}}, "have no labels"),
        ({**ours, "data": {"source": source, "learn": "all"}}, "leave it out"),
        ({**ours, "optimiser": {"rows_per_step": 1}}, "two rows or more"),
        ({**ours, "optimiser": {"micro_tokens": 20}}, "100% of the pairs have no other beside them"),
        ({**ours, "evaluate": {"primary": "accuracy"}}, "not measured for queries and documents"),
        ({**ours, "schedule": "selftrain"}, "leave schedule out"),
        ({**ours, "data": {"source": source, "unlabelled": source}}, "data.unlabelled: goes with labels"),
        ({**ours, "data": {"source": source, "generated": source}}, "data.generated: goes with labels"),
        ({**ours, "data": {"source": source, "teacher": str(reader_folder)}}, "data.teacher: goes with labels"),
    ):
        with pytest.raises(RecipeError, match=words):
            check(recipe)
    few = [{**row, "document": "x" if n < 2 else f"{row['document']} and so on and on"} for n, row in
           enumerate(distinct(40))]  # fmt: skip
    with pytest.raises(RecipeError, match="of the pairs have no other beside them in the 60 tokens"):
        check({**ours, "data": str(write_rows(tmp_path / "few.jsonl", few)), "optimiser": {"micro_tokens": 60}})
    with pytest.raises(DataError, match="one and the same document"):
        check({**ours, "data": str(one)})
    named = {"source": str(told), "query": "question", "positive": "answer"}
    assert check({"data": named, "model": str(reader_folder)}).layout is Layout.PAIRS


def test_an_encoder_that_has_no_decoder_of_its_kind_is_measured(reader_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    AutoTokenizer.from_pretrained(reader_folder).save_pretrained(tmp_path / "distil")
    config = DistilBertConfig(vocab_size=512, dim=16, hidden_dim=24, n_layers=1, n_heads=2, max_position_embeddings=64)
    DistilBertModel(config).save_pretrained(tmp_path / "distil")
    said: list[str] = []
    found = assess(str(tmp_path / "distil"), str(write_rows(tmp_path / "new.jsonl", asked(16))), {}, Evaluate(),
                   said.append)  # fmt: skip
    assert 0 <= found["quality"]["ndcg_at_10"]["tuned"] <= 1
    assert any("searches 8 documents" in words for words in said)


def test_the_layout_of_a_run_is_that_of_what_it_is_measured_on(reader_folder: Path, tmp_path: Path) -> None:
    """A table of texts with labels too, which is what it would be taken for."""
    rows = [{**row, "text": f"a {n}", "category": "xy"[n % 2]} for n, row in enumerate(asked(30))]
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    recipe = {"data": {"source": source, "layout": "pairs"}, "model": str(reader_folder), "schedule": {"steps": 1}}
    tuneful.fit({**recipe, "evaluate": "none"}, out=tmp_path / "run")
    tuned, tables = _opened(str(tmp_path / "run"), source, {}, print)
    assert _rows(tables["train"], {}, tuned, [])[0].example.positive == rows[0]["document"]
    labelled = {**recipe, "data": source, "choose": "none"}
    assert check(labelled).layout is Layout.LABELS


def test_eval_predict_and_compare(reader_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tuneful.cli.main import main

    source = write_rows(tmp_path / "asked.jsonl", asked(120))
    new = write_rows(tmp_path / "new.jsonl", asked(40, seed=5))
    run, other = tmp_path / "run", tmp_path / "other"
    recipe = {"data": str(source), "model": str(reader_folder), **SMALL, "optimiser": {"learning_rate": 3e-3}}
    tuneful.fit({**recipe, "schedule": {"epochs": 8}}, out=run)
    tuneful.fit({**recipe, "schedule": {"steps": 1}}, out=other)

    def told(*words: str) -> dict[str, object]:
        capsys.readouterr()
        assert main([*words, "--json"], standalone_mode=False) in (0, None)
        return dict(json.loads(capsys.readouterr().out))

    ours = told("eval", str(run), str(new))["quality"]["ndcg_at_10"]  # type: ignore[index]
    theirs = told("eval", str(reader_folder), str(new))["quality"]["ndcg_at_10"]  # type: ignore[index]
    assert ours["tuned"] > theirs["tuned"]
    assert ours["base"] == pytest.approx(theirs["tuned"], abs=1e-4)
    found = told("eval", str(reader_folder), str(new))
    assert found["documents"] == 8
    assert len(str(found["corpus"])) == 64
    compared = told("compare", str(run), str(other))["comparisons"][0]  # type: ignore[index]
    assert compared["metric"] == "ndcg_at_10"
    assert compared["values"][0] > compared["values"][1]

    def refused(*words: str) -> str:
        assert main(list(words), standalone_mode=False) == 2
        return capsys.readouterr().err

    assert "finds documents and answers nothing" in refused("predict", str(run), str(new))
    with pytest.raises(InputError, match="finds documents"):
        tuneful.load(run).generate("why")
    plain = write_rows(tmp_path / "plain.jsonl", moods(20))
    assert "--column query=... --column positive=..." in refused("eval", str(run), str(plain))
    assert main(["predict", str(run), str(plain), "--labels", "glad,sad"], standalone_mode=False) in (0, None)
