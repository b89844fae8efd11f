"""Runs of one model become one: what is added up, what the result is worth, and what cannot be merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tuneful
from intents import INTENTS
from tuneful.adapters import Lora
from tuneful.adapters.lowrank import quiet
from tuneful.adapters.merging import WAYS, Way, merged_head, merged_model, merged_updates, merged_weights
from tuneful.core.errors import GateBroken, InputError, RecipeError, RunFolderError
from tuneful.core.types import Example, Place
from tuneful.evaluation.merged import figures, lost, table, told
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.models.load import load
from tuneful.recipe import from_mapping
from tuneful.run.folder import RunFolder
from tuneful.run.merging import Asked, merge_runs, way_of
from tuneful.run.parents import Lesson, Parent, _names, parents_of, told_apart
from tuneful.run.tuned import open_model
from work import greetings, typed, write_rows

KINDS = list(INTENTS)
QUICK: dict[str, Any] = {
    "evaluate.robustness": False, "evaluate.forgetting": False, "evaluate.learning_curve": False, "choose": "none",
    "evaluate.generate": 2, "evaluate.shots": 0, "evaluate.memorisation": 0, "evaluate.bias": "none",
    "evaluate.by_group": False, "data.validation": 0, "data.test": 0.3, "schedule.steps": 6, "precision": "fp32",
    "optimiser.learning_rate": 0.005,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, reader_folder: Path, generator_folder: Path) -> Path:
    """Runs `orders` and `money` tell kinds of request apart, by all weights; `orders-lora` the first by LoRA; `greet`
    and `leave` write, with ranks 2 and 3."""
    place = tmp_path_factory.mktemp("merging")
    for name, kinds in (("orders", KINDS[:2]), ("money", KINDS[2:4])):
        rows = ({"text": text, "label": kind} for kind in kinds for text in INTENTS[kind])
        data = write_rows(place / f"{name}.jsonl", rows)
        tuneful.fit(data, model=str(reader_folder), out=place / name, settings=QUICK)
    lora = {"adapter": json.dumps({"kind": "lora", "rank": 3}), "optimiser.rows_per_step": 4}
    tuneful.fit(place / "orders.jsonl", model=str(reader_folder), out=place / "orders-lora", settings={**QUICK, **lora})
    for name, rank in (("greet", 2), ("leave", 3)):
        rows = ({"prompt": f"{name} {row['prompt']}", "completion": f"{name[0]}{row['completion']}"}
                for row in greetings())  # fmt: skip
        data = write_rows(place / f"{name}.jsonl", rows)
        lora = {"adapter": json.dumps({"kind": "lora", "rank": rank, "alpha": 8.0}), "optimiser.rows_per_step": 8}
        tuneful.fit(data, model=str(generator_folder), out=place / name, settings={**QUICK, **lora})
    return place


@pytest.fixture(scope="module")
def writers(place: Path) -> RunFolder:
    """Those that write, as one, the second counted half."""
    folder = RunFolder(place / "writers")
    merge_runs([place / "greet", place / "leave"], folder.path, Asked(weights=(1.0, 0.5)))
    return folder


def change_of(module: nn.Module, name: str, adapter: str = "default") -> Tensor:
    """What the adapter adds to a layer, as PEFT reads it."""
    return module.get_submodule(name).get_delta_weight(adapter).detach()  # type: ignore[operator, no-any-return]


def layers_of(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_modules() if hasattr(child, "lora_A")]


def saved_adapters(model: Path, folder: Path, *, ranks: tuple[int, ...]) -> list[Path]:
    """LoRA adapters with numbers by chance, each of another scale."""
    folders = []
    for number, rank in enumerate(ranks):
        attached = Lora(rank=rank, alpha=4.0 + number).attach(load(str(model)).module, labels=False)
        with torch.no_grad():
            for parameter in attached.trainable().values():
                parameter.copy_(torch.randn_like(parameter) / 10)
        folders.append(folder / f"adapter-{number}")
        attached.save(str(folders[-1]))
    return folders


def changes(model: Path, folder: Path) -> dict[str, Tensor]:
    from peft import PeftModel

    module = load(str(model)).module
    with quiet():
        PeftModel.from_pretrained(module, folder)  # type: ignore[arg-type]
    return {name: change_of(module, name) for name in layers_of(module)}


def products(model: Path, folders: list[Path], way: Way) -> dict[str, Tensor]:
    """By layer, B A of what the adapters become."""
    found = merged_updates(load(str(model)).module, [str(folder) for folder in folders], way)
    names = {name.split(".lora_")[0] for name in found}
    return {name: found[f"{name}.lora_B.default.weight"] @ found[f"{name}.lora_A.default.weight"] for name in names}


def test_a_sum_of_adapters_is_the_sum_of_what_they_change(tmp_path: Path, generator_folder: Path) -> None:
    """Of ranks 2 and 3; A and B added up by themselves would be something else."""
    folders = saved_adapters(generator_folder, tmp_path, ranks=(2, 3))
    one, other = (changes(generator_folder, folder) for folder in folders)
    merged = products(generator_folder, folders, Way("linear", (0.7, 0.4), None))
    assert merged.keys() == one.keys()
    for name, found in merged.items():
        assert torch.allclose(found, 0.7 * one[name] + 0.4 * other[name], atol=1e-5)
    alone = products(generator_folder, folders[:1] * 2, Way("linear", (0.5, 0.5), None))
    assert all(torch.allclose(alone[name], one[name], atol=1e-5) for name in one)


def test_svd_keeps_what_the_largest_rank_holds(tmp_path: Path, generator_folder: Path) -> None:
    folders = saved_adapters(generator_folder, tmp_path, ranks=(2, 3))
    one, other = (changes(generator_folder, folder) for folder in folders)
    merged = products(generator_folder, folders, Way("svd", (0.5, 0.5), None))
    for name, found in merged.items():
        left, sizes, right = torch.linalg.svd((one[name] + other[name]) / 2)
        assert torch.allclose(found, left[:, :3] * sizes[:3] @ right[:3], atol=1e-5)


@pytest.mark.parametrize("how", [how for how in WAYS if how not in ("linear", "svd")])
def test_what_is_thinned_by_nothing_is_the_mean(how: str, tmp_path: Path, generator_folder: Path) -> None:
    folders = saved_adapters(generator_folder, tmp_path, ranks=(2,)) * 2
    weights = (0.5, 0.5) if how == "dare_linear" else (1.0, 1.0)
    merged = products(generator_folder, folders, Way(how, weights, 1.0))
    one = changes(generator_folder, folders[0])
    assert all(torch.allclose(merged[name], one[name], atol=1e-5) for name in one)


def test_ties_by_hand() -> None:
    """Two of three changes stay, [3, -1, 0] and [2, 2, 0]; their sums 5 and 1 are positive, so the second number has
    one that agrees. The start comes back on top."""
    start, found = torch.tensor([1.0, 1.0, 1.0]), [torch.tensor([4.0, 0.0, 1.5]), torch.tensor([3.0, 3.0, 0.9])]
    merged = merged_weights(start, found, Way("ties", (1.0, 1.0), 0.67))
    assert merged.tolist() == pytest.approx([1 + 2.5, 1 + 2, 1])
    heavier = merged_weights(start, found, Way("ties", (2.0, 1.0), 0.67))
    assert heavier.tolist() == pytest.approx([1 + (2 * 3 + 2) / 2, 1 + 2, 1])
    linear = merged_weights(start, found, Way("linear", (0.5, 0.5), None))
    assert linear.tolist() == pytest.approx([3.5, 1.5, 1.2])


def test_dare_keeps_a_share_by_chance_and_what_it_comes_to() -> None:
    start, after = {"w": torch.zeros(200, 100)}, {"w": torch.ones(200, 100)}
    way = Way("dare_linear", (1.0,), 0.25, seed=3)
    found = merged_model(start, [after], ["w"], way)["w"]
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(found, merged_model(start, [after], ["w"], way)["w"])
    assert not torch.equal(found, merged_model(start, [after], ["w"], Way("dare_linear", (1.0,), 0.25, seed=4))["w"])


def test_heads_by_hand() -> None:
    """Class 1 of the second run is class 0 of the first, and they meet; the others stand alone."""
    one, other = torch.tensor([[2.0, 0.0], [4.0, 4.0]]), torch.tensor([[6.0, 6.0], [4.0, 8.0]])
    found = merged_head([one, other], [[0, 1], [2, 0]], 3, (0.25, 0.75))
    assert found.tolist() == [[0.25 * 2 + 0.75 * 4, 0.75 * 8], [4.0, 4.0], [6.0, 6.0]]
    of_no_class = merged_head([torch.ones(5), 3 * torch.ones(5)], [[0, 1], [2, 3]], 4, (0.5, 0.5))
    assert of_no_class.tolist() == [2.0] * 5


@pytest.mark.parametrize(
    ("run", "how", "density"),
    [
        ("orders", "linear", None),
        ("orders", "ties", 1.0),
        ("orders-lora", "svd", None),
        ("orders-lora", "linear", None),
    ],
)
def test_a_run_merged_with_itself_is_itself(
    run: str, how: str, density: float | None, place: Path, tmp_path: Path
) -> None:
    done = tuneful.merge([place / run, place / run], out=tmp_path / "both", how=how, density=density)
    texts = [text for kind in KINDS[:3] for text in INTENTS[kind]]
    assert done.load().scores(texts) == pytest.approx(open_model(str(place / run)).scores(texts), abs=1e-5)
    found = done.report["forgetting"]["merged"]["tasks"]
    assert list(found) == ["orders"]  # the same data is one task
    assert found["orders"]["best"]["delta"] == found["orders"]["worst"]["delta"] == 0
    given, now = (RunFolder(path).read_json(path / "report.json")["quality"] for path in (place / run, done.path))
    assert now["accuracy"] == given["accuracy"]  # on the same rows, against the same base


def test_heads_of_different_labels_stand_side_by_side(place: Path, tmp_path: Path) -> None:
    """Heads as they were, over the mean of the encoders; and it is a model that transformers reads."""
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    folder = RunFolder(tmp_path / "both")
    merge_runs([place / "orders", place / "money"], folder.path, Asked())
    assert folder.read_json(folder.lock)["labels"] == [*sorted(KINDS[:2]), *sorted(KINDS[2:4])]
    both, *own = (
        load_file(path / "model" / "model.safetensors") for path in (folder.path, place / "orders", place / "money")
    )
    for name, weight in both.items():
        mean = (own[0][name] + own[1][name]) / 2 if own[0][name].shape == weight.shape else None
        joined = torch.cat([one[name] for one in own]) if name.startswith("classifier") else mean
        assert torch.allclose(
            weight, joined if joined is not None and joined.shape == weight.shape else mean, atol=1e-6
        ), name
    read = AutoModelForSequenceClassification.from_pretrained(folder.model)
    assert read.config.num_labels == 4
    report = folder.read_json(folder.report)
    found = report["forgetting"]["merged"]
    assert list(found["tasks"]) == ["orders", "money"]
    assert found["tasks"]["orders"]["runs"]["money"] == 0  # it knows none of these labels
    assert found["tasks"]["orders"]["worst"]["run"] == found["tasks"]["orders"]["best"]["run"] == "orders"
    assert report["generalisation"]["reason"]["key"] == "merged"
    assert "Merged, and the runs it was made of" in folder.page.read_text()
    assert "Against the best run" in (folder.path / "README.md").read_text()


def test_each_figure_is_what_that_run_is_worth(place: Path, writers: RunFolder) -> None:
    """A run's own report and the one of the merger agree where they measure the same rows."""
    report = writers.read_json(writers.report)
    tasks = report["forgetting"]["merged"]["tasks"]
    for run in ("greet", "leave"):
        own = RunFolder(place / run).read_json(place / run / "report.json")["quality"]["perplexity"]
        assert tasks[run]["runs"][run] == pytest.approx(own["tuned"], rel=1e-4)
        assert tasks[run]["base"] == pytest.approx(own["base"], rel=1e-4)
        assert tasks[run]["n"] == own["n"]
    whole = report["quality"]["perplexity"]["tuned"]
    ends = sorted(found["merged"] for found in tasks.values())
    assert ends[0] <= whole <= ends[1]


def test_writers_become_an_adapter_that_peft_reads(
    place: Path, writers: RunFolder, tmp_path: Path, generator_folder: Path
) -> None:
    """And that learns on."""
    paths = (place / "greet", place / "leave", writers.path)
    one, other, both = (changes(generator_folder, path / "adapter") for path in paths)
    assert any(float(change.abs().max()) > 1e-4 for change in one.values())
    for name, found in both.items():
        assert torch.allclose(found, one[name] + 0.5 * other[name], atol=1e-5)
    assert open_model(str(writers.path)).generate("greet Ada", limit=2) is not None
    more = write_rows(tmp_path / "more.jsonl", [{"prompt": f"again {n}", "completion": "yes"} for n in range(8)])
    tuneful.learn(writers.path, more, settings={"schedule.steps": 1, "data.test": 2})
    kept = writers.read_json(writers.memory / "memory.json")["tasks"]
    assert [task["name"] for task in kept] == ["greet", "leave", "more"]


def test_from_the_command_line_to_answers(place: Path, tmp_path: Path) -> None:
    done = typed(
        "merge", place / "orders", place / "money", "--out", "both", "--how", "ties", "--density", "0.5", cwd=tmp_path
    )
    assert done.exit_code in (0, 3), done.output  # tiny models may be harmed
    assert "orders" in done.output
    said = typed("predict", "both", place / "money.jsonl", "--out", "said.jsonl", cwd=tmp_path)
    assert said.exit_code == 0
    assert len((tmp_path / "said.jsonl").read_text().splitlines()) == 20
    assert typed("eval", "both", place / "money.jsonl", cwd=tmp_path).exit_code == 0
    assert typed("compare", "both", place / "money", cwd=tmp_path).exit_code == 0
    again = typed("merge", place / "orders", place / "money", "--out", "both", cwd=tmp_path)
    assert again.exit_code == 2
    assert "holds a run already" in again.output
    assert not list(tmp_path.glob(".both*"))
    told = typed("merge", place / "orders", place / "orders", "--out", "same", "--json", cwd=tmp_path)
    assert told.exit_code == 0
    assert json.loads(told.stdout)["forgetting"]["merged"]["how"] == "linear"


def test_what_went_wrong_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuneful.run.merging.finish", fails)
    with pytest.raises(KeyboardInterrupt):
        merge_runs([place / "orders", place / "money"], tmp_path / "both", Asked())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not a run"):
        merge_runs([place / "orders", place / "money"], tmp_path / "notes", Asked())


def test_rows_that_are_gone_are_measured_by_those_that_are_kept(place: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    away = (place / "greet.jsonl").rename(place / "away.jsonl")
    try:
        report = merge_runs([place / "greet", place / "leave"], tmp_path / "both", Asked(), say=heard.append)
    finally:
        away.rename(place / "greet.jsonl")
    assert any("greet is not what it was" in words for words in heard)
    assert report["forgetting"]["merged"]["tasks"]["greet"]["n"] == 12  # as many as it held out, 200 at most


def test_no_row_that_any_run_learned_is_asked_about() -> None:
    """By hand: the runs of one file have one task, and ask about what neither learned; another task of the same name
    gets the name of its run."""

    def parent(name: str, sha256: str) -> Parent:
        return Parent(Path(name), name, {"data_sha256": sha256}, recipe)

    def lesson(train: str, test: str) -> Lesson:
        one, other = ([Example(Place("rows", n), text=text, label="x") for n, text in enumerate(part.split())]
                      for part in (train, test))  # fmt: skip
        return Lesson(recipe.task, one, other)

    recipe, _ = from_mapping({"data": {"source": "rows.jsonl"}}, [])
    found = told_apart(
        [
            (parent("one", "1"), {"mail": lesson("a b", "c d e")}),
            (parent("two", "1"), {"mail": lesson("a c", "b d f")}),
            (parent("three", "2"), {"mail": lesson("E g", "h A")}),  # case makes no other row
        ]
    )
    assert list(found) == ["mail", "mail (three)"]
    assert [example.text for example in found["mail"].train] == ["a", "b", "c"]
    assert [example.text for example in found["mail"].test] == ["d", "f"]
    assert [example.text for example in found["mail (three)"].test] == ["h"]
    urgent, _ = from_mapping({"data": {"source": "rows.jsonl", "label": "urgent"}}, [])
    another = replace(lesson("a c", "b"), task=urgent.task)  # another column of the same texts is another task
    found = told_apart([(parent("one", "1"), {"mail": lesson("a b", "c d")}), (parent("two", "1"), {"mail": another})])
    assert list(found) == ["mail", "mail (two)"]


def test_runs_are_told_from_what_figures_are_called(tmp_path: Path) -> None:
    assert _names([tmp_path / "merged", tmp_path / "base", tmp_path / "mine"]) == ["merged (run)", "base (run)", "mine"]


def changed(run: Path, target: Path, **lock: Any) -> Path:
    """A copy of a run that says something else of itself; `recipe` is of its recipe."""
    target.mkdir()
    for name in ("recipe.lock.json", "report.json"):
        (target / name).write_bytes((run / name).read_bytes())
    read = json.loads((target / "recipe.lock.json").read_text())
    read["recipe"].update(lock.pop("recipe", {}))
    (target / "recipe.lock.json").write_text(json.dumps({**read, **lock}))
    return target


def test_what_cannot_be_merged_is_said_all_at_once(place: Path, tmp_path: Path) -> None:
    other = changed(
        place / "orders", tmp_path / "other", model_sha256="another", recipe={"adapter": {"kind": "top_layers"}}
    )
    with pytest.raises(RunFolderError) as error:
        parents_of([place / "orders", other])
    assert "their weights differ" in str(error.value)
    assert "adapter top_layers, and" in str(error.value)
    with pytest.raises(RunFolderError, match=r"objective next_token, and .* has classify"):
        parents_of([place / "orders", place / "greet"])
    quantised = changed(place / "greet", tmp_path / "quantised", recipe={"quantise": "int8"})
    with pytest.raises(RunFolderError, match=r"tuned over int8 weights, and .* over whole ones"):
        parents_of([place / "greet", quantised])
    dora = changed(place / "greet", tmp_path / "dora", recipe={"adapter": {"kind": "lora", "rank": 2, "dora": True}})
    with pytest.raises(RunFolderError, match="dora learns directions"):
        parents_of([place / "greet", dora])
    (dora / "report.json").unlink()
    with pytest.raises(RunFolderError, match="has not ended"):
        parents_of([place / "greet", dora])
    head = changed(place / "orders", tmp_path / "head", recipe={"adapter": {"kind": "head"}})
    with pytest.raises(RunFolderError, match="changed nothing but its head"):
        parents_of([head, head])
    numbers = changed(place / "orders", tmp_path / "numbers", label_kind="number")
    with pytest.raises(RunFolderError, match="one class a row"):
        parents_of([numbers, numbers])
    with pytest.raises(InputError, match="at least two runs"):
        parents_of([place / "orders"])
    with pytest.raises(RunFolderError, match="not the folder of a run"):
        parents_of([place / "orders", tmp_path])


def test_labels_that_only_some_have_in_common(place: Path, tmp_path: Path) -> None:
    overlaps = changed(place / "orders", tmp_path / "overlaps", labels=[KINDS[0], "another"])
    with pytest.raises(RecipeError, match="--labels shared"):
        merge_runs([place / "orders", overlaps], tmp_path / "both", Asked())
    assert not (tmp_path / "both").exists()


def test_ways_that_cannot_be(place: Path, tmp_path: Path) -> None:
    assert way_of(Asked("svd"), 4).weights == (0.25,) * 4
    assert way_of(Asked("ties"), 2) == Way("ties", (1.0, 1.0), 0.2)
    for asked, said in (
        (Asked("tie"), "Did you mean 'ties'"), (Asked(weights=(1.0,)), "each of the 2 runs"),
        (Asked(weights=(1.0, -1.0)), "above zero"), (Asked("svd", density=0.5), "leave it out"),
        (Asked("ties", density=0.0), "above 0"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            way_of(asked, 2)
    with pytest.raises(InputError, match="take --how linear"):
        merge_runs([place / "orders", place / "money"], tmp_path / "both", Asked("svd"))
    assert typed("merge", place / "orders", place / "money", "--weights", "1,x", cwd=tmp_path).exit_code == 2


def test_harm_is_said_and_ends_with_code_3(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 rows the first run knows 20, the second 15, the merger 5: surely worse than either."""
    right = np.array(["a"] * 20)
    said = {"base": ["b"] * 20, "one": right, "two": ["a"] * 15 + ["b"] * 5, "merged": ["a"] * 5 + ["b"] * 15}
    found = figures(METRICS["accuracy"], list(right), said, {"one": True, "two": True})
    assert (found["base"], found["runs"], found["merged"]) == (0.0, {"one": 1.0, "two": 0.75}, 0.25)
    assert (found["worst"]["run"], found["worst"]["delta"], found["worst"]["surely"]) == ("two", -0.5, "worse")
    assert (found["best"]["run"], found["best"]["delta"]) == ("one", -0.75)
    assert lost({"task": found}) == ["task"]
    alone = figures(METRICS["accuracy"], list(right), said, {"one": True, "two": False})
    assert alone["worst"]["run"] == "one"
    nobody = figures(METRICS["accuracy"], list(right), said, {"one": False, "two": False})
    assert lost({"task": nobody}) == []
    for language in LANGUAGES:
        say = words(language)
        assert len(told({"tasks": {"task": found}}, say)) == 2
        assert len(told({"tasks": dict.fromkeys("abcd", found)}, say)) == 2  # counted, and the harm
        assert told({"tasks": {}}, say) == [say["merged_unmeasured"]]
        rows = table({"forgetting": {"merged": {"tasks": {"task": found}}}}, say)["rows"]
        assert rows[0][2:7] == ["0", "1", "0.75", "0.25", "−0.75"]
    monkeypatch.setattr("tuneful.run.merging.beside", lambda *_: {"task": found})
    with pytest.raises(GateBroken, match="surely worse"):
        tuneful.merge([place / "orders", place / "orders"], out=tmp_path / "both")
    assert (tmp_path / "both" / "report.json").exists()
