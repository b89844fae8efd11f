"""One validated value: faults all at once, helpful; other tools' words; overrides; and it reads back equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneful.adapters import ADAPTERS, Head, Lora, TopLayers
from tuneful.core.errors import RecipeError
from tuneful.data.augment import AUGMENTATIONS
from tuneful.data.balance import BALANCES
from tuneful.data.select import SELECTORS
from tuneful.objectives import OBJECTIVES
from tuneful.recipe import Recipe, from_mapping, from_yaml, schema
from tuneful.regularisers import REGULARISERS
from tuneful.repairs import REPAIRS
from tuneful.schedules import SCHEDULES
from tuneful.testing import check_table


def recipe(given: dict[str, object], *overrides: str) -> Recipe:
    return from_mapping(given, overrides)[0]


def problems(given: dict[str, object], *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        from_mapping(given, overrides)
    return error.value.problems


@pytest.mark.parametrize(
    "table",
    [ADAPTERS, AUGMENTATIONS, BALANCES, OBJECTIVES, REGULARISERS, REPAIRS, SCHEDULES, SELECTORS],
    ids=lambda table: table.noun,
)
def test_every_component_says_what_it_is(table: object) -> None:
    check_table(table)


def test_every_setting_says_what_it_means() -> None:
    def walk(part: dict[str, object], path: str) -> None:
        for name, field in part.get("properties", {}).items():
            if name != "kind":
                assert field.get("description") or "$ref" in field, f"{path}.{name} does not say what it means"

    made = schema()
    walk(made, "recipe")
    for name, part in made["$defs"].items():
        walk(part, name)


def test_the_smallest_recipe() -> None:
    made = recipe({"data": "d.csv"})
    assert made.task.data.source == "d.csv"
    assert made.adapter is None


def test_all_faults_at_once_with_what_was_meant() -> None:
    found = problems(
        {
            "data": {"source": "d.csv", "lable": "x"},
            "objective": "next_tokn",
            "optimiser": {"learnin_rate": 1},
            "schedule": {"epochs": -1},
            "adapter": {"kind": "lora", "rank": 0, "dropuot": 0.1},
            "seeed": 1,
        }
    )
    assert len(found) == 7
    text = "\n".join(found)
    for expected in (
        "tasks.0.data.lable: no such setting. Did you mean 'label'?",
        "tasks.0.objective: there is no objective 'next_tokn'. Did you mean 'next_token'? Known: classify, contrast, denoise, dpo, grpo, kto, masked, next_token, on_policy_distil, orpo, prototype",
        "optimiser.learnin_rate: no such setting. Did you mean 'learning_rate'?",
        "schedule.epochs: should be greater than 0; found -1",
        "adapter.rank: should be greater than 0; found 0",
        "adapter.dropuot: no such setting. Did you mean 'dropout'?",
        "seeed: no such setting. Did you mean 'seed'?",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "data: is needed"),
        ({"data": 7}, "tasks.0.data: "),
        ({"data": "d", "precision": "fp8"}, "precision: 'fp8' is not one of"),
        (
            {"data": "d", "regularisers": [{"kind": "r_drop", "strength": -1}]},
            "regularisers.0.strength: should be greater than 0",
        ),
        ({"data": "d", "interpolate": 2}, "interpolate: should be less than 1; found 2"),
        ({"data": "d", "adapter": {"kind": "lora", "dropout": 1.5}}, "adapter.dropout: should be less than 1"),
        ({"data": "d", "seed": "x"}, "seed: should be a valid integer"),
        ({"data": "d", "seed": -1}, "seed: should be greater than or equal to 0"),
        ({"data": "d", "adapter": 5}, "adapter: "),
        ({"data": "d", "optimiser": {"decay": "cosinus"}}, "Did you mean 'cosine'"),
        ({"data": {"source": [{"path": "a", "weight": 0}]}}, "tasks.0.data.source.0.weight"),
        ({"data": "d", "tasks": [{"data": "a"}, {"data": "b"}]}, "each with a source of its own"),
        ({"data": "d", "evaluate": {"primary": "acuracy"}}, "Did you mean 'accuracy'"),
        ({"data": "d", "use_unsloth": True}, "use_unsloth: no such setting"),
    ],
)
def test_faults(given: dict[str, object], expected: str) -> None:
    assert any(expected in line for line in problems(given)), problems(given)


def test_words_of_other_tools() -> None:
    made, notes = from_mapping(
        {
            "model_name_or_path": "m", "dataset": "d.csv", "cutoff_len": 512, "finetuning_type": "lora", "lora_r": 8,
            "lora_alpha": 16, "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 8,
            "lr_scheduler_type": "cosine", "val_set_size": 0.05, "train_on_inputs": True, "packing": True, "bf16": True,
        }
    )  # fmt: skip
    assert made.model == "m"
    assert made.adapter == Lora(rank=8, alpha=16)
    assert made.optimiser.rows_per_step == 32
    assert (made.schedule.epochs, made.precision) == (2.0, "bf16")
    data = made.task.data
    assert (data.source, data.max_tokens, data.validation, data.learn) == ("d.csv", 512, 0.05, "all")
    assert "lora_r is called adapter.rank here" in notes
    assert any(note.startswith("packing is not needed") for note in notes)


@pytest.mark.parametrize("turned", [False, True], ids=["ours first", "theirs first"])
@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ({"data": ["a.jsonl", "b.jsonl"], "cutoff_len": 512}, "tasks.0.data.max_tokens", 512),
        ({"data": "a.jsonl", "cutoff_len": 512}, "tasks.0.data.max_tokens", 512),
        ({"tasks": [{"data": "a"}], "cutoff_len": 512}, "tasks.0.data.max_tokens", 512),
        ({"tasks": [{"data": {"source": "a", "max_tokens": 9}}], "cutoff_len": 512}, "tasks.0.data.max_tokens", 9),
        ({"data": {"source": "a", "max_tokens": 9}, "cutoff_len": 512}, "tasks.0.data.max_tokens", 9),
        ({"data": "a", "dataset": "b"}, "tasks.0.data.source", "a"),
        ({"data": "a", "optimiser": {"learning_rate": 0.5}, "lr": 0.25}, "optimiser.learning_rate", 0.5),
        ({"data": "a", "optimiser": {"clip": 2}, "lr": 0.25}, "optimiser.learning_rate", 0.25),
        ({"data": "a", "model": "m", "base_model": "n"}, "model", "m"),
        ({"data": "a", "adapter": "lora", "finetuning_type": "full"}, "adapter.kind", "lora"),
        ({"data": "a", "adapter": "lora", "lora_r": 3}, "adapter.rank", 3),
        ({"data": "a", "precision": "bf16", "bf16": False}, "precision", "bf16"),
        ({"data": "a", "evaluate": "none", "eval_steps": 5}, "evaluate.enabled", False),
    ],
)
def test_our_words_win_in_any_order(given: dict[str, Any], path: str, expected: Any, turned: bool) -> None:
    made, notes = from_mapping(dict(reversed(given.items())) if turned else given)
    found: Any = made.model_dump()
    for name in path.split("."):
        found = found[int(name)] if name.isdigit() else found[name]
    assert found == expected
    assert len(notes) == 1


def test_a_list_of_sources_keeps_its_sources() -> None:
    sources = recipe({"data": ["a.jsonl", "b.jsonl"], "cutoff_len": 512}, "data.label=x").task.data.sources
    assert [source.path for source in sources] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("given", "precision"),
    [({"bf16": True}, "bf16"), ({"bf16": False}, "fp32"), ({"bf16": "auto"}, "auto"), ({"bf16": False, "fp16": True}, "auto")],
)  # fmt: skip
def test_bf16_of_other_tools(given: dict[str, Any], precision: str) -> None:
    made, notes = from_mapping({"data": "d", **given})
    assert made.precision == precision
    assert any(note.startswith("bf16 is called precision here") for note in notes)


@pytest.mark.parametrize(
    ("given", "overrides", "rows", "said"),
    [
        ({"gradient_accumulation_steps": 8}, [], None, "has no effect without a batch size"),
        ({"gradient_accumulation_steps": 8, "batch_size": "auto"}, [], "refused", ""),
        ({"gradient_accumulation_steps": 8, "batch_size": 4}, [], 32, "rows_per_step is the whole update: 8 x 4 = 32"),
        ({"batch_size": 4, "gradient_accumulation_steps": 8}, [], 32, "8 x 4 = 32"),
        ({"gradient_accumulation_steps": 8, "optimiser": {"rows_per_step": 5}}, [], 5, "has no effect without"),
        ({}, ["gradient_accumulation_steps=8"], None, "has no effect without a batch size"),
        ({}, ["gradient_accumulation_steps=8", "batch_size=4"], 32, "8 x 4 = 32"),
        ({"batch_size": 4}, ["gradient_accumulation_steps=8"], 4, "has no effect without a batch size"),
    ],
)
def test_accumulation_says_what_became_of_it(
    given: dict[str, Any], overrides: list[str], rows: int | str | None, said: str
) -> None:
    if rows == "refused":
        assert problems({"data": "d", **given}) == ["optimiser.rows_per_step: " + ANY_INTEGER]
        return
    made, notes = from_mapping({"data": "d", **given}, overrides)
    assert made.optimiser.rows_per_step == rows
    assert any(said in note for note in notes), notes


ANY_INTEGER = "should be a valid integer, unable to parse string as an integer; found 'auto'"


def test_words_of_other_tools_on_something_that_is_no_recipe() -> None:
    assert any("tasks.0.data" in line for line in problems({"data": 7, "cutoff_len": 512}))
    assert problems({"tasks": [], "cutoff_len": 512})
    assert problems({"data": "d", "adapter": 5, "lora_r": 3})


def test_overrides() -> None:
    made = recipe({"data": "d.csv", "adapter": "lora"}, "adapter.rank=4", "data.test=0", "evaluate=none", "seed=3")
    assert made.adapter == Lora(rank=4)
    assert made.task.data.test == 0
    assert not made.evaluate.enabled
    assert made.seed == 3
    assert recipe({"data": "d"}, "adapter=head").adapter == Head()
    assert recipe({"data": "d"}, "adapter.layers=3").adapter == TopLayers(layers=3)
    assert recipe({"data": "d"}, "lora_r=4").adapter == Lora(rank=4)
    assert recipe({"tasks": [{"data": "d"}]}, "data.label=x", "objective=classify").task.data.label == "x"
    assert recipe({"data": "d"}, "data.source=e").task.data.source == "e"
    assert (
        recipe({"data": "d", "regularisers": ["reference_kl"]}, "regularisers.0.strength=2").regularisers[0].strength
        == 2
    )


@pytest.mark.parametrize("override", ["schedule.epochs=2", "num_train_epochs=2"])
def test_epochs_asked_for_count_beside_the_steps_of_a_lock_file(override: str) -> None:
    locked: dict[str, Any] = {"data": "d", "schedule": {"epochs": 1.0, "steps": 30}}
    made = recipe(locked, override).schedule
    assert (made.epochs, made.steps) == (2.0, None)
    assert recipe(locked, override, "schedule.steps=5").schedule.steps == 5
    assert recipe(locked, "schedule.steps=5", override).schedule.steps == 5


def test_overrides_that_lead_nowhere() -> None:
    assert "expected dotted.path=value" in problems({"data": "d"}, "rank")[0]
    assert "there is nothing at" in problems({"data": "d"}, "tasks.4.name=x")[0]


def test_it_reads_back_equal(tmp_path: Path) -> None:
    made = recipe({"data": ["a.csv", {"path": "b.csv#5", "weight": 0.5}], "adapter": {"kind": "top_layers", "layers": 3},
                   "objective": {"kind": "classify", "target": "labels"}, "regularisers": ["reference_kl"]})  # fmt: skip
    assert Recipe.model_validate(json.loads(made.model_dump_json())) == made
    lock = tmp_path / "recipe.lock.json"
    lock.write_text(json.dumps({"recipe": made.model_dump(mode="json"), "versions": {}}))
    assert from_yaml(lock)[0] == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: [", "line 1"),
        ("- a\n- b\n", "holds list"),
        ("", "holds NoneType"),
        ("data: d\n\tseed: 1", "is not YAML"),
    ],
)
def test_files_that_are_no_recipe(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=expected):
        from_yaml(file)
    with pytest.raises(RecipeError, match="cannot be read"):
        from_yaml(tmp_path / "missing.yaml")


def test_the_schema_knows_the_shorthand_and_every_kind() -> None:
    made = schema()
    assert {"data", "tasks", "objective", "adapter"} <= made["properties"].keys()
    kinds = {
        part["properties"]["kind"].get("const")
        for part in made["$defs"].values()
        if "kind" in part.get("properties", {})
    }
    for table in (ADAPTERS, OBJECTIVES, REGULARISERS, REPAIRS, SCHEDULES):
        assert set(table.kinds()) <= kinds


def fits(value: Any, part: dict[str, Any], whole: dict[str, Any]) -> bool:
    """As much of JSON Schema as the recipe's schema uses."""
    if "$ref" in part:
        return fits(value, whole["$defs"][part["$ref"].rsplit("/", 1)[1]], whole)
    kinds = {"string": str, "integer": int, "number": int | float, "boolean": bool, "array": list, "object": dict}
    if "type" in part and part["type"] != "null":
        right = isinstance(value, kinds[part["type"]])
        if not right or (isinstance(value, bool) and part["type"] != "boolean"):
            return False
    if part.get("type") == "null" and value is not None:
        return False
    if "anyOf" in part and not any(fits(value, option, whole) for option in part["anyOf"]):
        return False
    if "oneOf" in part and sum(fits(value, option, whole) for option in part["oneOf"]) != 1:
        return False
    if ("const" in part and value != part["const"]) or ("enum" in part and value not in part["enum"]):
        return False
    if isinstance(value, list) and "items" in part:
        return len(value) >= part.get("minItems", 0) and all(fits(item, part["items"], whole) for item in value)
    if isinstance(value, dict):
        known = part.get("properties", {})
        strict = part.get("additionalProperties") is False
        return (
            set(part.get("required", ())) <= value.keys()
            and not (strict and value.keys() - known.keys())
            and all(fits(item, known[name], whole) for name, item in value.items() if name in known)
        )
    return True


SHORTHAND: list[dict[str, Any]] = [
    {"data": "d.csv"},
    {"data": ["a.csv", {"path": "b.csv", "weight": 2}]},
    {"data": {"source": ["a.csv", "b.csv"], "max_tokens": 9}},
    {"data": "d", "objective": "next_token"},
    {"data": "d", "objective": {"kind": "classify", "target": "labels"}},
    {"data": "d", "objective": {"target": "labels"}},
    {"data": "d", "adapter": "head"},
    {"data": "d", "adapter": {"rank": 4}},
    {"data": "d", "adapter": {}},
    {"data": "d", "adapter": None},
    {"data": "d", "evaluate": "none"},
    {"data": "d", "evaluate": "off"},
    {"data": "d", "evaluate": False},
    {"data": "d", "evaluate": None},
    {"data": "d", "evaluate": {"primary": "accuracy"}},
    {"data": "d", "schedule": "epochs"},
    {"data": "d", "regularisers": ["reference_kl", {"kind": "reference_kl", "strength": 2}]},
    {"tasks": [{"data": "d", "objective": "classify"}]},
]
FAULTY: list[dict[str, Any]] = [
    {},
    {"data": 7},
    {"data": [7]},
    {"data": "d", "objective": "next_tokn"},
    {"data": "d", "adapter": "lorra"},
    {"data": "d", "adapter": {"kind": "lora", "layers": 3}},
    {"data": "d", "evaluate": "nothing"},
    {"data": "d", "schedule": "epoch"},
    {"data": "d", "seeed": 1},
]


@pytest.mark.parametrize("given", SHORTHAND, ids=json.dumps)
def test_the_schema_takes_what_a_recipe_takes(given: dict[str, Any]) -> None:
    assert recipe(given)
    assert fits(given, schema(), schema())


@pytest.mark.parametrize("given", FAULTY, ids=json.dumps)
def test_the_schema_refuses_what_a_recipe_refuses(given: dict[str, Any]) -> None:
    assert problems(given)
    assert not fits(given, schema(), schema())
