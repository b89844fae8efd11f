"""From a file of data to a report: the whole way, in Python, on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tuneful
from tuneful.adapters.used import UsedRows
from tuneful.core.errors import CheckpointError, DataError, Diverged, GateBroken, RecipeError, RunFolderError
from tuneful.evaluation.settings import Evaluate
from tuneful.models.below import NetworkAbove
from tuneful.recipe import Recipe
from tuneful.run.api import check, recipe_for
from tuneful.run.assess import assess
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted
from tuneful.run.prepare import prepare
from tuneful.run.session import run
from tuneful.run.watch import Watch
from work import greetings, moods, write_rows

FAST: dict[str, Any] = {
    "schedule.steps": 12,
    "optimiser.learning_rate": 0.02,
    "evaluate.generate": 4,
    "evaluate.every": 4,
}


@pytest.fixture
def generator_run(generator_folder: Path, tmp_path: Path) -> tuneful.Run:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    return tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=FAST)


@pytest.fixture
def reader_run(reader_folder: Path, tmp_path: Path) -> tuneful.Run:
    data = write_rows(tmp_path / "moods.jsonl", moods())
    settings = {**FAST, "schedule.steps": 60, "optimiser.learning_rate": 0.005}
    return tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)


def test_a_generator_from_data_to_report(generator_run: tuneful.Run) -> None:
    report = generator_run.report
    assert report["schema_version"] == 1
    assert set(report["quality"]) == {"exact_match", "rouge_l", "token_f1", "perplexity"}
    perplexity = report["quality"]["perplexity"]
    assert perplexity["tuned"] < perplexity["base"]
    assert perplexity["delta"] == pytest.approx(perplexity["tuned"] - perplexity["base"])
    assert perplexity["ci95"][0] <= perplexity["delta"] <= perplexity["ci95"][1]
    assert set(perplexity["against"]) == {"base", "kshot", "trivial"}
    assert report["data"]["rows"] == {"train": 30, "validation": 4, "test": 6}
    assert report["data"]["stop_token"] == {"token": "<|im_end|>", "learned_in": 30}
    assert report["forgetting"]["kl_from_base"] > 0
    assert report["cost"]["tokens"] > 0
    assert report["cost"]["predicted"]["seconds"] > 0
    assert 0 < report["cost"]["tokens_shared"] < report["cost"]["tokens"], "all rows begin with the template"
    assert 0 < report["cost"]["utilisation"] < 1
    assert {"train", "validation", "test", "gap", "stopped_at_step", "reason"} <= report["generalisation"].keys()
    assert report["provenance"]["recipe"]["adapter"]["kind"] == "lora"
    assert report["answers"][0].keys() >= {"asked", "expected", "base", "tuned", "kshot"}


def test_a_reader_from_data_to_report(reader_run: tuneful.Run) -> None:
    report = reader_run.report
    accuracy = report["quality"]["accuracy"]
    assert accuracy["trivial"] == pytest.approx(0.5, abs=0.2)
    assert accuracy["tuned"] >= 0.8
    assert report["provenance"]["recipe"]["adapter"]["kind"] == "full"
    assert 0 < report["forgetting"]["embedding_similarity"] < 1


def test_the_folder_holds_what_the_design_says(generator_run: tuneful.Run) -> None:
    names = {path.name for path in generator_run.path.iterdir()}
    assert {
        "recipe.yaml", "recipe.lock.json", "records.jsonl", "checkpoints", "adapter",
        "report.json", "report.html", "README.md", "answers.jsonl",
    } <= names  # fmt: skip
    adapter = {path.name for path in (generator_run.path / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= adapter
    records = RunFolder(generator_run.path).read_records()
    assert [r.step for r in records if r.kind == "train"] == list(range(1, 13))
    assert [r.step for r in records if r.kind == "validation"] == [4, 8, 12]


def test_a_loaded_run_answers_as_the_report_says(generator_run: tuneful.Run) -> None:
    answers = [json.loads(line) for line in (generator_run.path / "answers.jsonl").read_text().splitlines()]
    tuned = generator_run.load()
    found = {answer["asked"]: tuned.generate(answer["asked"], limit=60) for answer in answers}
    for answer in answers:  # one that did not stop was cut earlier in the report
        assert found[answer["asked"]].startswith(answer["tuned"])
    assert any(found[answer["asked"]] == answer["tuned"] for answer in answers)
    asked, whole = next((asked, text) for asked, text in found.items() if len(text) > 3)
    assert tuned.generate(asked, limit=60, stops=[whole[2]]) == whole.split(whole[2])[0]


def test_a_loaded_reader_gives_the_labels_of_the_report(reader_run: tuneful.Run) -> None:
    answers = [json.loads(line) for line in (reader_run.path / "answers.jsonl").read_text().splitlines()]
    assert reader_run.load().classify([answer["asked"] for answer in answers]) == [a["tuned"] for a in answers]


def test_the_lock_reproduces_the_run(generator_run: tuneful.Run, tmp_path: Path) -> None:
    again = tuneful.fit(generator_run.path / "recipe.lock.json", out=tmp_path / "again")
    for name in ("quality", "generalisation", "forgetting"):
        assert again.report[name] == generator_run.report[name], name
    one, other = (json.loads((run.path / "recipe.lock.json").read_text())["recipe"] for run in (generator_run, again))
    assert one == other
    assert Recipe.model_validate(one) == Recipe.model_validate(other)


def stopped_after(step: int) -> Callable[[], bool]:
    """Says stop once that many updates have been asked about."""
    asked = iter(range(10_000))
    return lambda: next(asked) // 2 + 1 >= step


@pytest.mark.parametrize("name", ["generator", "reader"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    name: str, generator_folder: Path, reader_folder: Path, tmp_path: Path
) -> None:
    rows, folder = (greetings(), generator_folder) if name == "generator" else (moods(), reader_folder)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    recipe = recipe_for(data, model=str(folder), settings={**FAST, "adapter": "lora", "adapter.dropout": 0.1})
    for _ in run(recipe, tmp_path / "whole"):
        pass
    with pytest.raises(Interrupted):
        for _ in run(recipe, tmp_path / "parts", should_stop=stopped_after(5)):
            pass
    assert not (tmp_path / "parts" / "report.json").exists()
    for _ in run(recipe, tmp_path / "parts", resume=True):
        pass
    whole, parts = (RunFolder(tmp_path / which) for which in ("whole", "parts"))
    losses = [
        [(r.step, r.metrics["loss"]) for r in folder.read_records() if r.kind in ("train", "validation")]
        for folder in (whole, parts)
    ]
    assert losses[0] == losses[1]
    assert whole.read_json(whole.report)["quality"] == parts.read_json(parts.report)["quality"]


def test_going_on_after_a_kill_drops_what_was_not_saved(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    recipe = recipe_for(data, model=str(generator_folder), settings={**FAST, "checkpoint.every": 5})
    records = run(recipe, tmp_path / "run")
    for record in records:
        if record.kind == "train" and record.step == 8:
            break
    records.close()
    folder = RunFolder(tmp_path / "run")
    with folder.records.open("a") as stream:
        stream.write('{"step": 9, "kind": "tr')  # what a kill in the middle of a line leaves
    for _ in run(recipe, tmp_path / "run", resume=True):
        pass
    assert [r.step for r in folder.read_records() if r.kind == "train"] == list(range(1, 13))


def test_changed_data_is_not_gone_on_with(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    recipe = recipe_for(data, model=str(generator_folder), settings=FAST)
    with pytest.raises(Interrupted):
        list(run(recipe, tmp_path / "run", should_stop=stopped_after(5)))
    write_rows(data, greetings(39))
    with pytest.raises(CheckpointError, match="the data has changed"):
        list(run(recipe, tmp_path / "run", resume=True))


def test_two_runs_do_not_share_a_folder(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    recipe = recipe_for(data, model=str(generator_folder), settings=FAST)
    first = run(recipe, tmp_path / "run")
    next(first)
    with pytest.raises(RunFolderError, match="holds a run already"):
        list(run(recipe, tmp_path / "run"))
    with pytest.raises(RunFolderError, match="another run is at work"):
        list(run(recipe, tmp_path / "run", resume=True))
    first.close()


def test_training_stops_when_nothing_gets_better(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings(20))
    settings = {
        **FAST,
        "schedule.steps": 200,
        "optimiser.learning_rate": 0.3,
        "evaluate.patience": 2,
        "evaluate.every": 2,
    }
    done = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    found = done.report["generalisation"]
    assert found["stopped_at_step"] < 200
    assert found["best_step"] <= found["stopped_at_step"] - 4
    assert found["reason"]["key"] == "no_better"
    looks = {r.step: r.metrics["loss"] for r in RunFolder(done.path).read_records() if r.kind == "validation"}
    assert found["validation"] == pytest.approx(min(looks.values()), rel=1e-4), "the best weights are the ones kept"


def test_a_run_that_diverges_is_saved_and_explained(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    settings = {**FAST, "optimiser.learning_rate": 1e30, "optimiser.clip": 0}
    with pytest.raises(Diverged, match=r"step \d+.*lower optimiser.learning_rate"):
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_broken_gate_ends_with_its_name_after_the_report(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    settings = {**FAST, "gates.forgetting_kl": 1e-9}
    with pytest.raises(GateBroken, match="forgetting_kl"):
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=settings)
    assert json.loads((tmp_path / "run" / "report.json").read_text())["verdict"]["gates"] == {"forgetting_kl": "broken"}


def test_nothing_is_measured_when_nobody_asks(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    done = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings={**FAST, "evaluate": "none"})
    assert done.helped == "unclear"
    assert done.report["quality"] == {}
    assert not [r for r in RunFolder(done.path).read_records() if r.kind == "validation"]


@pytest.mark.parametrize("count", [2, 5])
def test_very_few_rows_train(count: int, generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings(count))
    assert (
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=FAST).report["cost"]["steps"] > 0
    )


@pytest.mark.parametrize(
    ("labels", "settings", "metrics"),
    [
        ("many", {}, {"macro_f1", "accuracy"}),
        ("number", {}, {"rmse", "mae", "pearson", "spearman"}),
        ("number", {"adapter": "lora"}, {"rmse", "mae", "pearson", "spearman"}),
        ("one", {"adapter": "head"}, {"accuracy", "macro_f1", "mcc"}),
        ("one", {"adapter": "top_layers"}, {"accuracy", "macro_f1", "mcc"}),
    ],
)
def test_every_kind_of_label(
    labels: str, settings: dict[str, Any], metrics: set[str], reader_folder: Path, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = list(moods(80))
    for number, row in enumerate(rows):
        if labels == "many":
            row["label"] = [row["label"], *(["odd"] if number % 4 < 2 else [])]
        elif labels == "number":
            row["label"] = 1000.0 + (50.5 if row["label"] == "glad" else -50.5)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    more = {**FAST, "schedule.steps": 40, **settings}
    done = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=more)
    quality = done.report["quality"]
    assert set(quality) == metrics
    if labels == "number":
        assert quality["rmse"]["tuned"] < quality["rmse"]["trivial"]
        loaded = done.load()
        texts = [row["text"] for row in rows[:4]]
        assert all(800 < value < 1200 for value in loaded.classify(texts)), "the saved head answers in the own unit"


def test_other_layouts_with_next_token(generator_folder: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"say {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(20)]
    data = write_rows(tmp_path / "pairs.jsonl", pairs)
    rewards = write_rows(tmp_path / "rewards.jsonl", [{"prompt": f"say {n}", "reward": n} for n in range(20)])
    with pytest.raises(RecipeError, match=r"no objective made for it"):
        tuneful.fit(rewards, model=str(generator_folder), out=tmp_path / "refused", settings=FAST)
    assert not (tmp_path / "refused").exists()
    done = tuneful.fit(
        data, model=str(generator_folder), out=tmp_path / "run", settings={**FAST, "objective": "next_token"}
    )
    assert all(answer["expected"].startswith("yes") for answer in done.report["answers"])


def test_plain_text(generator_folder: Path, tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {n} says that {n} is a number. " * 20 for n in range(12))
    (tmp_path / "book.txt").write_text(text)
    done = tuneful.fit(tmp_path / "book.txt", model=str(generator_folder), out=tmp_path / "run", settings=FAST)
    assert set(done.report["quality"]) == {"perplexity"}
    assert done.report["data"]["rows"]["train"] > 9, "long paragraphs become several rows"


def test_weights_of_sources(generator_folder: Path, tmp_path: Path) -> None:
    rows = greetings(60)
    one, other = write_rows(tmp_path / "one.jsonl", rows[:30]), write_rows(tmp_path / "other.jsonl", rows[30:])
    from tuneful.run.prepare import prepare

    given = {"data": {"source": [{"path": str(one), "weight": 3}, {"path": str(other), "weight": 0.5}], "test": 0, "validation": 0},
             "model": str(generator_folder)}  # fmt: skip
    prepared = prepare(recipe_for(given, model=None, settings={}))
    counts = {"one.jsonl": 0, "other.jsonl": 0}
    for row in prepared.repeated:
        counts[row.example.place.source] += 1
    assert counts["one.jsonl"] == 90
    assert counts["other.jsonl"] == pytest.approx(15, abs=7)


def test_the_xray_refuses_what_would_go_wrong(generator_folder: Path, tmp_path: Path) -> None:
    rows = [*greetings(40), *({"prompt": "no answer here", "completion": " "} for _ in range(3))]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match=r"3 of 43 rows cannot be used; the first: rows.jsonl line 41: 'completion' is empty"
    ):
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings=FAST)
    assert not (tmp_path / "run").exists()
    done = tuneful.fit(data, model=str(generator_folder), out=tmp_path / "run", settings={**FAST, "data.drop": True})
    assert [item["row"] for item in done.report["data"]["dropped"]] == [f"rows.jsonl line {n}" for n in (41, 42, 43)]


def test_seeds_make_runs_equal_or_different(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        recipe = recipe_for(data, model=str(generator_folder), settings={**FAST, "seed": seed, "evaluate": "none"})
        records = [r.metrics["loss"] for r in run(recipe, tmp_path / str(number)) if r.kind == "train"]
        losses.append(records)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_training_leaves_the_callers_random_numbers_to_the_caller(generator_run: tuneful.Run) -> None:
    tuned = generator_run.load()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tuned.generate("greet Ada", limit=5, temperature=1.0)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_with_other_things_in_it_is_left_alone(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "weights").write_text("precious")
    with pytest.raises(RunFolderError, match="not empty and not a run"):
        tuneful.fit(data, model=str(generator_folder), out=tmp_path / "mine", settings=FAST)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["model"]


def test_a_run_killed_before_its_first_checkpoint_begins_again(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    recipe = recipe_for(
        data, model=str(generator_folder), settings={**FAST, "evaluate": "none", "checkpoint.every": 10}
    )
    records = run(recipe, tmp_path / "run")
    assert [next(records).kind for _ in range(3)] == ["plan", "train", "train"]
    records.close()
    for _ in run(recipe, tmp_path / "run", resume=True):
        pass
    for _ in run(recipe, tmp_path / "whole"):
        pass
    assert records_of(tmp_path / "run") == records_of(tmp_path / "whole")


def records_of(path: Path) -> list[tuple[int, str, float | None]]:
    return [(r.step, r.kind, r.metrics.get("loss")) for r in RunFolder(path).read_records()]


def test_a_run_stopped_while_measuring_does_not_train_on(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had stopped early; going on measures, and makes no further update."""
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    settings = {
        **FAST,
        "schedule.steps": 40,
        "optimiser.learning_rate": 0.5,
        "evaluate.every": 1,
        "evaluate.patience": 2,
    }
    recipe = recipe_for(data, model=str(generator_folder), settings=settings)
    measuring = iter([True])
    stop = {"now": False}

    def say(words: str) -> None:
        stop["now"] = stop["now"] or (words.startswith("measuring") and next(measuring, False))

    with pytest.raises(Interrupted):
        for _ in run(recipe, tmp_path / "run", say=say, should_stop=lambda: stop["now"]):
            pass
    before = records_of(tmp_path / "run")
    for _ in run(recipe, tmp_path / "run", resume=True):
        pass
    assert [r for r in records_of(tmp_path / "run") if r[1] == "train"] == [r for r in before if r[1] == "train"]
    report = tuneful.Run(tmp_path / "run").report
    assert report["generalisation"]["reason"]["key"] == "no_better"
    assert report["quality"]


def test_sources_of_one_file_name_keep_their_own_weights(generator_folder: Path, tmp_path: Path) -> None:
    for name in ("support", "general"):
        (tmp_path / name).mkdir()
        rows = [{"prompt": f"{name} {row['prompt']}", "completion": row["completion"]} for row in greetings(20)]
        write_rows(tmp_path / name / "train.jsonl", rows)
    sources = [{"path": str(tmp_path / "support"), "weight": 3}, {"path": str(tmp_path / "general"), "weight": 1}]
    prepared = check({"model": str(generator_folder), "data": {"source": sources, "validation": 0, "test": 0}})
    asked = [row.example.messages[0].content.split()[0] for row in prepared.repeated]
    assert (asked.count("support"), asked.count("general")) == (60, 20)


def test_the_constant_rival_of_a_number_is_the_mean(reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "label": 3.0 + (n % 7) / 10} for n in range(60)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    settings = {**FAST, "adapter": "lora", "adapter.rank": 1}
    done = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings=settings)
    assert done.report["quality"]["mae"]["trivial"] < 0.3
    again = assess(str(done.path), str(data), {}, Evaluate(), lambda _: None)["quality"]["mae"]
    assert again["trivial"] < 0.3, "a loaded run knows no mean: it comes from the training rows"
    texts = [row["text"] for row in rows]
    answers = [json.loads(line) for line in (done.path / "answers.jsonl").read_text().splitlines()]
    said = dict(zip(texts, done.load().classify(texts), strict=True))
    for answer in answers:
        assert said[answer["asked"]] == pytest.approx(answer["tuned"], abs=0.01), "what is saved answers the same"


LOOKS = {  # accuracy and loss of each look at 100 rows -> the look that is kept
    "more right by more than chance": ([(0.5, 1.0), (0.7, 1.2)], 2),
    "as right within chance, less loss": ([(0.90, 0.50), (0.89, 0.40)], 2),
    "as right within chance, more loss": ([(0.90, 0.40), (0.91, 0.50)], 1),
    "less right by more than chance": ([(0.90, 0.50), (0.80, 0.40)], 1),
    "equal but for rounding": ([(0.892857147, 0.456), (0.892857130, 0.420)], 2),
}


@pytest.mark.parametrize("looks", LOOKS)
def test_which_look_is_the_best(looks: str) -> None:
    module: Any = torch.nn.Linear(1, 1)
    policy: Any = SimpleNamespace(attached=SimpleNamespace(state=lambda: dict(module.named_parameters())))
    watch = Watch(0, rows=100)
    seen, kept = LOOKS[looks]
    for number, (accuracy, loss) in enumerate(seen, 1):
        watch.look(number, {"accuracy": accuracy, "loss": loss}, policy)
    assert watch.best_step == kept


def built(data: Path, folder: Path, settings: dict[str, Any]) -> Built:
    return build(prepare(recipe_for(data, model=str(folder), settings={**settings, "schedule.steps": 2})))


def test_a_run_keeps_what_lies_below_the_cut(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    whole = built(data, generator_folder, {"adapter": "lora"})
    top = built(data, generator_folder, {"adapter": "lora", "adapter.top_layers": 1})
    assert not isinstance(whole.policy.network, NetworkAbove)
    assert isinstance(top.policy.network, NetworkAbove)
    assert top.policy.network.depth == 1
    assert 0 < len(top.policy.trainable()) < len(whole.policy.trainable())
    computed: list[int] = []
    original = NetworkAbove._read

    def counting(self: NetworkAbove, *given: Any) -> torch.Tensor:
        computed.append(1)
        return original(self, *given)

    monkeypatch.setattr(NetworkAbove, "_read", counting)
    for expected in (2, 2):  # two batches are computed the first time, none the second
        for step in top.schedule.steps(top.policy):
            for batch in step.batches:
                top.policy(batch)
        assert len(computed) == expected


@pytest.mark.parametrize(("decay", "narrow"), [("0", True), ("0.1", False)])
def test_full_tuning_learns_the_rows_that_occur(decay: str, narrow: bool, reader_folder: Path, tmp_path: Path) -> None:
    """With weight decay every row moves, so every row learns."""
    data = write_rows(tmp_path / "moods.jsonl", moods())
    run = built(data, reader_folder, {"adapter": "full", "optimiser.weight_decay": decay})
    assert isinstance(run.policy.module.get_input_embeddings(), UsedRows) == narrow
