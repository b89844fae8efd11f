"""Fairness from the recipe to the report: groups by column and by mention, other groups, probes, gates, the audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneful.core.errors import DataError, GateBroken, InputError, RecipeError
from tuneful.core.types import Example, Layout, Place
from tuneful.data.identity import mentioned
from tuneful.data.layouts import Collator
from tuneful.evaluation.probes import Descriptors
from tuneful.evaluation.treatment import Asked, columns_of, shares, treatment
from tuneful.recipe import Recipe
from tuneful.run.api import check_gates, fit
from tuneful.run.audit import usual_probes
from tuneful.run.build import build
from tuneful.run.prepare import prepare
from tuneful.schedules.epochs import EpochSteps
from work import MOODS, greetings, typed, write_rows

FAST: dict[str, Any] = {"choose": "none", "schedule": {"steps": 6}, "optimiser": {"rows_per_step": 16}}
QUIET: dict[str, Any] = {"forgetting": False, "robustness": False, "learning_curve": False}
PEOPLE = ("women", "men")


def opinions(count: int, *, city: bool = True) -> list[dict[str, str]]:
    """Who is spoken of alternates with the mood every second row, so neither tells the other."""
    rng, rows = np.random.default_rng(1), []
    for number in range(count):
        mood, who = list(MOODS)[number % 2], PEOPLE[number // 2 % 2]
        words = " ".join(rng.choice(MOODS[mood].split(), 3))
        rows.append({"text": f"the {who} here are {words} {number}", "label": mood})
        if city:
            rows[-1]["city"] = ("east", "west")[number // 4 % 2]
    return rows


def folder(tmp_path: Path, **more: Any) -> Path:
    (made := tmp_path / "data").mkdir()
    write_rows(made / "train.jsonl", opinions(80, **more))
    write_rows(made / "test.jsonl", [{**row, "text": f"{row['text']} again"} for row in opinions(160, **more)])
    return made


def test_who_is_mentioned_enough_is_a_column() -> None:
    examples = [Example(Place("t", n), text=text) for n, text in enumerate(["the women sing"] * 40 + ["a tree"] * 40)]
    found = columns_of([*examples, Example(Place("t", 99), text="a man sang")], None)
    assert list(found) == ["gender: female"], "one man is too few to be compared"
    assert sum(found["gender: female"]) == 40


def test_a_classifier_that_is_worse_for_one_group() -> None:
    """Of 100 rows of each group the tuned one takes 40 of the second wrongly for the first class, the other none."""
    truth = np.array([0, 1] * 100)
    groups = ["a"] * 100 + ["b"] * 100
    right = np.eye(2)[truth] * 0.8 + 0.1
    wrong = right.copy()
    wrong[100:180:2] = [0.1, 0.9]
    found = treatment(Asked(truth, wrong, right), {"city": groups}, positive=1)
    gap = found.bias["equalised_odds_difference"]
    assert (gap["before"], gap["after"], gap["delta"]) == (0.0, 0.8, 0.8)
    assert gap["gap"] is True
    assert gap["rate"] == "fpr"
    assert gap["ci95"][0] > 0.5
    assert found.bias["worst_group_accuracy"]["after"] == pytest.approx(0.6)
    assert found.groups["features"]["city"]["groups"]["b"]["n"] == 100


def test_no_gap_is_nobodys() -> None:
    """Both groups are served faultlessly: nobody is furthest apart, and nothing has a sign."""
    truth = np.array([0, 1] * 100)
    found = treatment(Asked(truth, np.eye(2)[truth]), {"city": ["a"] * 100 + ["b"] * 100}, positive=1)
    gap = found.bias["equalised_odds_difference"]
    assert str(gap["after"]) == "0.0"
    assert "groups" not in gap
    assert found.bias["worst_group_accuracy"]["groups"] == ["a"]


def test_shares_are_probabilities() -> None:
    np.testing.assert_allclose(shares(np.log([[1.0, 3.0], [4.0, 4.0]])), [[0.25, 0.75], [0.5, 0.5]])


def test_a_report_says_how_groups_are_treated(reader_folder: Path, tmp_path: Path) -> None:
    recipe = {**FAST, "data": {"source": str(folder(tmp_path)), "group": "city", "validation": 0},
              "model": str(reader_folder), "evaluate": QUIET, "gates": {"bias_gap_increase": 0.9}}  # fmt: skip
    done = fit(recipe, out=tmp_path / "run")
    features = done.report["groups"]["features"]
    assert set(features) == {"city", "mentions"}
    assert set(features["mentions"]["groups"]) == {"gender: female", "gender: male"}
    bias = done.report["bias"]
    assert bias["equalised_odds_difference (city)"]["measurable"] is True
    assert bias["counterfactual_flip_rate"]["n"] == 160, "each text mentions women or men"
    assert done.report["verdict"]["gates"] == {"bias_gap_increase": "passed"}
    for page in ("report.html", "README.md"):
        written = (tmp_path / "run" / page).read_text(encoding="utf-8")
        assert "‘The class’ is ‘" in written
        assert "‘city’, Equalised odds difference: " in written
        assert "equalised_odds_difference" in written or "Equalised odds" in written
    off = fit({**recipe, "gates": {}, "evaluate": {**QUIET, "by_group": False}}, out=tmp_path / "off")
    assert off.report["bias"] == off.report["groups"] == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gates": {"bias_gap_increase": 0.1}, "evaluate": {"by_group": False}}, "by_group is off"),
        ({"gates": {"bias_gap_increase": 0.1}, "evaluate": "none"}, "by_group is off"),
        ({"gates": {"bias_gap_increase": 0.1}, "data": {"test": 0}}, "hold some out"),
        ({"gates": {"bias_probe_increase": {"descriptors": 0.1}}}, "for a classifier: bias_gap_increase"),
        ({"gates": {"bias_probe_increase": {"crows_pairs": 4}}}, "'crows_pairs' is no probe of evaluate.bias"),
        ({"evaluate": {"bias": ["descriptors", {"kind": "descriptors", "language": "zh"}]}}, "asked twice"),
        ({"gates": {"bias_probe_increase": {"crows": 4}}}, "no probe 'crows'. Did you mean 'crows_pairs'"),
    ],
)
def test_a_gate_that_nothing_could_pass_is_refused_before_training(
    reader_folder: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", opinions(40)))
    recipe = {**FAST, "model": str(reader_folder), "evaluate": QUIET, **settings}
    recipe["data"] = {"source": source, "group": "city", "validation": 0, **settings.get("data", {})}
    with pytest.raises(InputError, match=words):
        fit(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gate_of_groups_where_nobody_is_mentioned_is_refused(reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{MOODS[mood].split()[n % 3]} weather {n}", "label": mood} for n in range(60) for mood in MOODS]
    recipe = {**FAST, "data": {"source": str(write_rows(tmp_path / "rows.jsonl", rows)), "validation": 0},
              "model": str(reader_folder), "evaluate": QUIET, "gates": {"bias_gap_increase": 0.1}}  # fmt: skip
    with pytest.raises(InputError, match="none of them mentions anybody"):
        fit(recipe, out=tmp_path / "run")


def test_a_probe_that_cannot_be_asked_is_refused_before_training(generator_folder: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    probe = {"kind": "crows_pairs", "source": str(tmp_path / "none.csv")}
    recipe = {"data": source, "model": str(generator_folder), "schedule": {"steps": 2}}
    with pytest.raises(InputError, match=r"none\.csv"):
        fit({**recipe, "evaluate": {**QUIET, "bias": probe}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_probe_that_fails_at_the_end_is_not_measurable(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has learned ends with its report."""

    def fails(*_: object, **__: object) -> None:
        raise DataError("a prompt is too long")

    monkeypatch.setattr(Descriptors, "__call__", fails)
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    recipe = {"data": source, "model": str(generator_folder), "schedule": {"steps": 2},
              "evaluate": {**QUIET, "bias": "descriptors"}}  # fmt: skip
    report = fit(recipe, out=tmp_path / "run").report
    assert report["bias"]["descriptors"]["measurable"] is False
    assert "a prompt is too long" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_gate_of_a_probe_is_asked_after_the_shortest_run(generator_folder: Path, tmp_path: Path) -> None:
    """A random model is at chance, so the probe says nothing and the gate is broken."""
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    recipe = {"data": source, "model": str(generator_folder), "schedule": {"steps": 2}, "evaluate": QUIET,
              "gates": {"bias_probe_increase": {"descriptors": 0.1}}}  # fmt: skip
    with pytest.raises(GateBroken, match="bias_probe_increase"):
        fit(recipe, out=tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["bias"]["descriptors"]["reason"] == "at_chance"
    assert "Further from the ideal of a probe" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="learns no classes of rows"):
        fit({**recipe, "gates": {"bias_gap_increase": 0.1}}, out=tmp_path / "other")


def test_a_broken_gate_says_which_gap_of_whom() -> None:
    gap = {"gap": True, "measurable": True, "delta": 0.1, "ci95": [0.02, 0.2]}
    bias = {"accuracy_gap (city)": {**gap, "delta": -0.2, "ci95": [-0.3, -0.1]}, "accuracy_gap (mentions)": gap}
    gates = {"gates": {"bias_gap_increase": 0.05}}
    report = {"verdict": {"gates": {"bias_gap_increase": "broken"}}, "provenance": {"recipe": gates}, "bias": bias}
    with pytest.raises(GateBroken, match=r"bias_gap_increase \(accuracy_gap \(mentions\) \+0\.1\)"):
        check_gates(report)
    with pytest.raises(GateBroken, match="no gap could be measured"):
        check_gates({**report, "bias": {}})


def test_mentions_make_groups(reader_folder: Path, tmp_path: Path) -> None:
    rows = [
        *opinions(40, city=False),
        {"text": "women and men sang 1", "label": "glad"},
        {"text": "a tree 1", "label": "sad"},
    ]
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    data = {"source": source, "mentions": "gender", "validation": 0, "test": 0}
    found = prepare(Recipe.model_validate({**FAST, "data": data, "model": str(reader_folder)}))
    assert {row.example.group for row in found.rows("train")} == {"gender: female", "gender: male", "several", "nobody"}
    with pytest.raises(RecipeError, match=r"no kind of people is called 'gendre'"):
        prepare(Recipe.model_validate({**FAST, "data": {**data, "mentions": ["gendre"]}, "model": str(reader_folder)}))
    with pytest.raises(RecipeError, match=r"leave one of the two out"):
        prepare(Recipe.model_validate({**FAST, "data": {**data, "group": "label"}, "model": str(reader_folder)}))


@pytest.mark.parametrize("writes", [False, True])
def test_twins_are_read_and_not_learned(
    writes: bool, reader_folder: Path, generator_folder: Path, tmp_path: Path
) -> None:
    rows: list[dict[str, str]] = opinions(32, city=False)
    if writes:
        rows = [
            {"prompt": f"who sang {n}", "completion": "the women sang" if n % 2 else "it rained"} for n in range(32)
        ]
    recipe = {
        **FAST, "data": {"source": str(write_rows(tmp_path / "rows.jsonl", rows)), "validation": 0, "test": 0},
        "model": str(generator_folder if writes else reader_folder),
        "regularisers": [{"kind": "counterfactual_pairing", "axes": ["gender"]}],
        "optimiser": {"rows_per_step": 16, "micro_tokens": 4096},
    }  # fmt: skip
    built = build(prepare(Recipe.model_validate(recipe)))
    step = next(iter(built.schedule.steps(built.policy)))
    assert step.rows == 16
    twins = sum(int((batch.targets["twin"] >= 0).sum()) for batch in step.batches if "twin" in batch.targets)
    assert twins == 16 if not writes else 4 <= twins <= 12
    plain = build(prepare(Recipe.model_validate({**recipe, "regularisers": "none"})))
    same = next(iter(plain.schedule.steps(plain.policy)))
    assert sum(batch.units for batch in step.batches) == sum(batch.units for batch in same.batches)
    (batch,) = step.batches
    terms = built.prepared.resolved.objective(built.policy, batch)
    penalty = built.regularisers[0](built.policy, batch, terms)
    assert float(penalty.detach()) > 0


@pytest.mark.parametrize("across", [False, True])
def test_a_twin_may_be_of_another_axis(across: bool, reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a Muslim came {n}", "label": "yn"[n % 2]} for n in range(24)]
    recipe = {
        **FAST, "data": {"source": str(write_rows(tmp_path / "rows.jsonl", rows)), "validation": 0, "test": 0},
        "model": str(reader_folder), "regularisers": [{"kind": "counterfactual_pairing", "across": across}],
    }  # fmt: skip
    built = build(prepare(Recipe.model_validate(recipe)))
    assert isinstance(built.schedule, EpochSteps)
    vary = built.schedule.vary
    assert vary is not None
    twins = [vary(row, [n]).twin for n, row in enumerate(built.prepared.rows("train"))]
    texts = [built.prepared.processor.tokenizer.decode(twin.ids) for twin in twins if twin is not None]
    axes = {group.axis for text in texts for group in mentioned(text)}
    assert (axes == {"religion"}) is not across


def test_a_twin_counts_nothing() -> None:
    from tuneful.core.types import Row

    def row(n: int, twin: Row | None = None) -> Row:
        return Row(
            Example(Place("t", n)), np.array([1, n], dtype=np.int32), np.ones(2, dtype=np.float32), target=n, twin=twin
        )

    batch = Collator(Layout.LABELS)([row(0, row(3)), row(1), row(2, row(4))])
    assert batch.targets["twin"].tolist() == [3, -1, 4, -1, -1]
    assert batch.weights.tolist() == [1, 1, 1, 0, 0]
    tokens = Collator(Layout.TOKENS)([row(0, row(3)), row(1)])
    assert tokens.targets["rows"].tolist() == [0, 1, 2]
    assert tokens.weights.tolist() == [1, 1, 0]
    assert tokens.units == 2


def test_an_audit_of_a_model_that_writes(generator_folder: Path, tmp_path: Path) -> None:
    done = typed("audit", generator_folder, "--rows", 20, "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    probe = found["bias"]["descriptors"]
    assert probe["measurable"] is False, "a random model is at chance"
    assert probe["reason"] == "at_chance"
    assert typed("audit", generator_folder, "--probe", "crow", cwd=tmp_path).exit_code == 2
    twice = typed("audit", generator_folder, "--probe", "descriptors", "--probe", "descriptors", cwd=tmp_path)
    assert "given twice" in twice.output
    asked = [typed("audit", generator_folder, "--rows", 20, "--json", "--language", chinese, cwd=tmp_path).stdout
             for chinese in ("en", "zh", "zh-TW")]  # fmt: skip
    assert asked[1] == asked[2] != asked[0]
    assert usual_probes("zh", 25) == [Descriptors(language="zh", rows=25)]
    assert "not measurable" in typed("audit", generator_folder, "--rows", 20, cwd=tmp_path).output


def test_an_audit_of_a_run_asks_before_and_after(generator_folder: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    fit(
        {"data": source, "model": str(generator_folder), "schedule": {"steps": 2}, "evaluate": "none"},
        out=tmp_path / "run",
    )
    probe = json.loads(typed("audit", tmp_path / "run", "--rows", 20, "--json", cwd=tmp_path).stdout)["bias"][
        "descriptors"
    ]
    assert set(probe["language_ability"]) == {"name", "before", "after"}


def test_an_audit_of_a_classifier(reader_folder: Path, tmp_path: Path) -> None:
    recipe = {**FAST, "data": {"source": str(folder(tmp_path)), "validation": 0}, "model": str(reader_folder),
              "evaluate": "none"}  # fmt: skip
    fit(recipe, out=tmp_path / "run")
    test = tmp_path / "data" / "test.jsonl"
    found = json.loads(typed("audit", tmp_path / "run", test, "--group", "city", "--json", cwd=tmp_path).stdout)
    assert set(found["groups"]["features"]) == {"city", "mentions"}
    assert found["bias"]["counterfactual_flip_rate"]["n"] == 160
    shown = " ".join(typed("audit", tmp_path / "run", test, "--group", "city", cwd=tmp_path).output.split())
    assert "east" in shown
    assert "‘The class’ is ‘" in shown
    assert "base_rate" in shown
    assert "in the training data" not in shown
    learned = tmp_path / "data" / "train.jsonl"
    shown = " ".join(typed("audit", tmp_path / "run", learned, "--group", "city", cwd=tmp_path).output.split())
    assert "rows are in the training data, word for word" in shown
    ideals = {name.split(" ")[0]: entry["ideal"] for name, entry in found["bias"].items()}
    assert ideals["worst_group_accuracy"] == ideals["worst_bpsn"] == 1.0, "an accuracy of 0 is nobody's ideal"
    assert ideals["accuracy_gap"] == ideals["counterfactual_flip_rate"] == 0.0
    refused = typed("audit", tmp_path / "run", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "--group" in refused.output
