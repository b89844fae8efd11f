"""The report page and the model card: every number is there, nothing is let in from outside, nothing is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tuneful
from tuneful.adapters import Full, Lora
from tuneful.core.protocols import Adapter
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation import fairness, probes
from tuneful.evaluation.card import card
from tuneful.evaluation.charts import PAINTS, Bar, bars, curves
from tuneful.evaluation.fairness.gaps import GAUGES, POWER_MEANS, WORST_BPSN
from tuneful.evaluation.page import page
from tuneful.evaluation.phrases import BLOCKS, duration, memory, number, said, signed
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import FLIPS
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.testing import tiny_policy

SOURCE = Path(tuneful.__file__).parent
EVIL = '<script>alert("&")</script>'
ALWAYS_OPEN = {"meta", "wbr"}


def generator_report() -> dict[str, Any]:
    """A LoRA of a text generator, with every block filled."""
    return {
        "schema_version": 1,
        "name": "capitals",
        "verdict": {
            "helped": "yes",
            "primary": "exact_match",
            "sentence": "Tuning helped.",
            "sentences": {"en": "Tuning helped.", "zh-TW": "微調有幫助。"},
            "gates": {"helped": "passed", "generalisation_gap": "broken"},
        },
        "quality": {
            "exact_match": metric(0.0625, 0.125, 0.0, 0.875, (0.7, 0.9), 64),
            "perplexity": metric(8.25, 6.5, 1234.5, 2.125, (-7.0, -5.5), 80, higher=False),
        },
        "generalisation": {
            "train": 0.5, "validation": 0.75, "test": 0.8125, "gap": 0.25, "best_step": 20, "stopped_at_step": 30,
            "reason": {"key": "no_better", "step": 20},
        },
        "cost": {
            "seconds": 45.5, "steps": 30, "tokens": 12000, "tokens_per_second": 263.7, "peak_memory_mb": 2048,
            "trainable_parameters": 500, "parameters": 20000, "predicted": {"seconds": 150, "memory_mb": 512},
        },
        "bias": {},
        "forgetting": {"kl_from_base": 0.03125, "own_text_perplexity": {"before": 5.5, "after": 6.75}, "tokens": 99},
        "data": {
            "layout": "alpaca", "rows": {"train": 100, "validation": 10, "test": 80}, "tokens": 4000,
            "learned_tokens": 1000, "lengths": {"shortest": 5, "median": 40, "longest": 90},
            "stop_token": {"token": "<|im_end|>", "learned_in": 100}, "truncated": 2,
            "dropped": [{"row": "a.json item 7", "reason": "'output' is empty"}], "dropped_count": 1,
            "duplicates": 3, "leaked": 1, "diversity": 0.5, "balance": {}, "template": "{{ messages }}",
            "leaked_rows": [
                {"row": "a.json item 9", "reason": "says the same as a.json item 4, which is for test"}
            ],
            "shown": [
                {"row": "a.json item 1", "pieces": [["capital of France?", False], ["Paris<|im_end|>", True]],
                 "tokens": 12, "learned": 3, "label": None}
            ],
            "problems": [], "notes": [{"key": "no_test"}],
        },
        "provenance": provenance("lora", "next_token"),
        "curves": {"train": [[step, 2.0 / step] for step in range(1, 31)], "validation": [[10, 0.9], [20, 0.75]]},
        "answers": [
            {"row": "a.json item 3", "asked": "capital of Italy?", "expected": "Rome", "base": "I do not know",
             "kshot": "Milan", "tuned": "Rome", "trivial": "Paris"}
        ],
    }  # fmt: skip


def reader_report() -> dict[str, Any]:
    """A classifier all of whose weights were tuned."""
    report = generator_report()
    report["quality"] = {"accuracy": {**metric(0.5, None, 0.25, 0.75, (-0.1, 0.6), 8), "against": {}}}
    report["verdict"] |= {"primary": "accuracy", "helped": "unclear", "gates": {}}
    report["forgetting"] = {"kl_from_base": None, "embedding_similarity": 0.375}
    balance = {f"label_{n}": 100 - n for n in range(30)}
    report["data"] |= {
        "layout": "labelled",
        "balance": balance,
        "template": "",
        "stop_token": {"token": None},
    }
    report["data"]["shown"] = [
        {"row": "a.csv line 2", "pieces": [["hello", False]], "tokens": 3, "learned": 0, "label": "label_1"}
    ]
    report["provenance"] = provenance("full", "classify")
    report["answers"] = [
        {
            "row": "b",
            "asked": "hi",
            "expected": "label_1",
            "base": "label_1",
            "tuned": "label_2",
            "trivial": "x",
        }
    ]
    return report


def metric(
    base: float | None,
    kshot: float | None,
    trivial: float,
    tuned: float,
    ci95: Any,
    n: int,
    *,
    higher: bool = True,
) -> dict[str, Any]:
    delta = None if base is None else tuned - base
    return {
        "base": base, "kshot": kshot, "trivial": trivial, "tuned": tuned, "delta": delta, "ci95": list(ci95), "n": n,
        "higher_is_better": higher, "against": {"base": {"delta": delta, "ci95": list(ci95)}},
    }  # fmt: skip


def provenance(adapter: str, objective: str) -> dict[str, Any]:
    return {
        "recipe_sha256": "a" * 64, "data_sha256": "b" * 64, "model_sha256": "c" * 64, "model": "owner/tiny",
        "versions": {"python": "3.11.7", "tuneful": "0.1.0"}, "seed": 7,
        "machine": {"device": "cpu", "name": "x86_64", "cores": 2, "memory_mb": 8192},
        "command": "/home/someone/bin/tuneful fit a.json",
        "recipe": {
            "name": "capitals", "model": "owner/tiny", "adapter": {"kind": adapter}, "seed": 7,
            "tasks": [{"name": "main", "data": {"source": "/home/someone/a.json"}, "objective": {"kind": objective, **({"target": "class"} if objective == "classify" else {})}}],
            "evaluate": {"shots": 4}, "gates": {"helped": True, "generalisation_gap": 0.125},
        },
    }  # fmt: skip


REPORTS = {"generator": generator_report, "reader": reader_report}


class Document(HTMLParser):
    """What a browser would make of a page, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ALWAYS_OPEN:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> is in the wrong place"

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def text_of(html: str) -> str:
    """What is read: no style, no pictures, no tags."""
    bare = re.sub(r"<(style|svg).*?</\1>|<wbr>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


# Words


def test_languages_have_the_same_keys_and_places() -> None:
    first, *others = (words(language) for language in LANGUAGES)
    for other in others:
        assert first.keys() == other.keys()
        for key, text in first.items():
            assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", other[key])), key


def test_every_word_is_a_text() -> None:
    for language in LANGUAGES:
        assert all(isinstance(key, str) and isinstance(text, str) for key, text in words(language).items())


def test_traditional_characters_alone() -> None:
    # Big5 holds no simplified character that is not a traditional one as well.
    for key, text in words("zh-TW").items():
        for character in re.findall(r"[\u4e00-\u9fff]", text):
            assert character.encode("big5", "ignore"), f"{key}: {character}"


def test_the_template_asks_only_for_words_there_are() -> None:
    template = (SOURCE / "evaluation/assets/report.html.jinja").read_text(encoding="utf-8")
    assert set(re.findall(r"\bsay\.(\w+)", template)) <= words("en").keys()


def test_every_sentence_the_project_says_is_in_the_word_lists() -> None:
    """Keys of `Said(...)` and of reasons, wherever they are written."""
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    keys = set(re.findall(r"""Said\("(\w+)"|"reason": \{"key": "(\w+)"\}""", source))
    used = {key for pair in keys for key in pair if key}
    assert {"schedule_ended", "no_better", "encoder", "duplicates"} <= used
    assert {f"said_{key}" for key in used} == {key for key in words("en") if key.startswith("said_")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_is_said_with_its_facts(language: str) -> None:
    found = said({"key": "no_better", "step": 12}, words(language))
    assert "12" in found
    assert "{" not in found


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.90422, "0.904"), (441.97, "442"), (4884480, "4,884,480"), (1234.5, "1,234"), (-1.11, "\u22121.11"),
     (0, "0"), (None, "–"), (float("nan"), "–"), (True, "–")],
)  # fmt: skip
def test_numbers(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_signs_and_units() -> None:
    say = words("en")
    assert [signed(0.16), signed(-0.5), signed(0.0), signed(None)] == ["+0.16", "\u22120.5", "0", "–"]
    assert [duration(s, say) for s in (22.48, 230.85, 7200)] == ["22.5\u00a0s", "3.8\u00a0min", "2.0\u00a0h"]
    assert [memory(512), memory(2836)] == ["512\u00a0MB", "2.8\u00a0GB"]


# The page


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_the_quality_table_is_there(language: str) -> None:
    report, say = generator_report(), words(language)
    text = text_of(page(report, language))
    to, better = say["from_to"].format(low="", high="").strip(), say["judged_better"]
    assert f"0.0625 0.125 0 0.875 +0.812 +0.7 {to} +0.9 64 {better}" in text
    assert f"8.25 6.5 1,234 2.12 \u22126.12 \u22127 {to} \u22125.5 80 {better}" in text


def test_the_interval_decides_what_is_sure() -> None:
    report = generator_report()
    judged = {"worse": [0.5, 2.0], "better": [-2.0, -0.5], "unsure": [-2.0, 0.5]}
    for word, ci95 in judged.items():
        report["quality"] = {"perplexity": metric(8.0, None, 9.0, 7.0, ci95, 80, higher=False)}
        _, _, row = text_of(page(report, "en")).partition("lower is better")
        assert words("en")[f"judged_{word}"] in row[:120]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("report", REPORTS)
def test_a_page_is_well_formed_and_reachable(report: str, language: str) -> None:
    html = page(REPORTS[report](), language)
    found = Document(html)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("h1") == 1
    assert dict(found.tags[0][1]) == {"lang": {"en": "en", "zh-TW": "zh-Hant-TW"}[language]}
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    repeated = [name for name, count in Counter(found.values("id")).items() if count > 1]
    assert not repeated
    pointed = [*found.values("aria-labelledby"), *(link[1:] for link in found.values("href"))]
    assert set(pointed) <= set(found.values("id"))
    assert all(title in html for title in (words(language)[key] for key in ("helped", "fairer", "forgot")))


@pytest.mark.parametrize("report", REPORTS)
def test_a_page_needs_nothing_from_outside(report: str) -> None:
    html = page(REPORTS[report](), "en")
    found = Document(html)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "base", "form"}
    for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
        assert all(value.startswith("#") for value in found.values(name))
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert "@import" not in html


def test_what_comes_from_data_is_escaped() -> None:
    report = generator_report()
    report["name"] = EVIL
    report["answers"][0] |= {"asked": EVIL, "expected": EVIL, "base": EVIL, "tuned": EVIL * 20, "row": EVIL}
    report["data"]["shown"][0]["pieces"] = [[EVIL, True], [EVIL, False]]
    report["data"] |= {
        "balance": {EVIL: 3},
        "template": EVIL,
        "notes": [{"key": "uneven", "rare": EVIL, "few": 1, "many": 99}],
        "problems": [EVIL],
        "layout": EVIL,
    }
    report["data"]["dropped"][0]["reason"] = EVIL
    report["quality"][EVIL] = report["quality"]["exact_match"]
    report["provenance"]["command"] = report["provenance"]["recipe"]["name"] = EVIL
    html = page(report, "en")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 12
    Document(html)
    assert "<script" not in card(report, "en").split("```")[0]


@pytest.mark.parametrize("empty", [{}, None])
@pytest.mark.parametrize("block", [*BLOCKS, "answers", "name"])
@pytest.mark.parametrize("report", REPORTS)
def test_any_block_may_be_empty(report: str, block: str, empty: Any) -> None:
    given = REPORTS[report]() | {block: empty}
    for language in LANGUAGES:
        Document(page(given, language))
        assert yaml.safe_load(card(given, language).split("---\n")[1])["tags"] == ["tuneful"]


def test_an_empty_report_says_so_five_times() -> None:
    text = text_of(page({}, "en"))
    assert text.count("Not measured in this run.") == 3
    assert "Nothing was measured" in text
    assert "Bias was not measured" in text


@pytest.mark.parametrize("block", ["quality", "generalisation", "cost", "forgetting", "data", "provenance"])
def test_any_value_may_be_missing(block: str) -> None:
    report = generator_report()
    for name in report[block]:
        if not isinstance(report[block][name], dict) or block != "quality":
            Document(page(report | {block: {**report[block], name: None}}, "en"))


def test_probes_and_tasks_are_shown_when_they_are_there() -> None:
    report = generator_report()
    ability = {"before": 0.9375, "after": 0.8125}
    report["bias"] = {
        "tone": {"before": 0.625, "after": 0.6875, "delta": 0.0625, "ci95": [-0.01, 0.07], "n": 1508,
                 "measurable": True, "language_ability": ability},
        "equalised_odds_difference (sect)": {"before": None, "after": None, "measurable": False,
                                             "reason": "few_rows"},
    }  # fmt: skip
    report["forgetting"]["tasks"] = {"news": {"news": 0.875}, "jokes": {"news": 0.75, "jokes": 0.5}}
    text = text_of(page(report, "en"))
    assert "tone 0.625 0.688 +0.0625 \u22120.01 to +0.07 – 1,508 0.938 → 0.812" in text
    assert "Equalised odds difference (sect) not measurable: fewer than 30 rows" in text
    assert "Equalised odds difference (sect): not measurable: fewer than 30 rows" in card(report, "en")
    assert "jokes 0.75 lost 0.125 0.5" in text


def test_every_reason_and_every_gap_has_words() -> None:
    """The code names both; a person reads neither key."""
    files = [path for room in (fairness, probes) for path in Path(str(room.__file__)).parent.glob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    reasons = set(re.findall(r"\"(few_\w+|one_class|group_is_label|at_chance|too_small|unwritten|undefined)\"", source))
    assert {"few_rows", "few_groups", "at_chance", "too_small", "unwritten"} <= reasons
    gaps = {*GAUGES, WORST_BPSN, *POWER_MEANS, FLIPS, *probes.PROBES.kinds()}
    for language in LANGUAGES:
        say = words(language)
        assert [key for key in reasons if f"why_{key}" not in say] == []
        assert [name for name in gaps if f"probe_{name}" not in say] == []


def test_right_and_wrong_are_words() -> None:
    report = reader_report()
    assert "label_1 label_1 ✓ right label_2 ✗ wrong" in text_of(page(report, "en"))
    report["answers"][0] |= {"expected": ["a", "b"], "tuned": ["a", "b"], "base": []}
    assert "a, b (nothing) ✗ wrong a, b ✓ right" in text_of(page(report, "en"))
    report["answers"][0] |= {"expected": 3.5, "tuned": 3.25, "base": 2.0}
    assert "3.5 2 ± off by 1.5 3.25 ± off by 0.25" in text_of(page(report, "en"))


def test_other_words_are_not_called_wrong() -> None:
    report = generator_report()
    assert "✗ wrong" in text_of(page(report, "en"))
    report["verdict"]["primary"] = "perplexity"
    text = text_of(page(report, "en"))
    assert "✗ wrong" not in text
    assert "≠ differs" in text


def test_learned_text_is_marked() -> None:
    html = page(generator_report(), "en")
    assert "<span>capital of France?</span><mark>Paris<b>&lt;|im_end|&gt;</b></mark>" in html


def test_common_and_rare_labels_are_not_folded() -> None:
    before, _, after = page(reader_report(), "en").partition("The 18 labels between")
    text = text_of(before + after)
    assert "label_0 100" in text
    assert "label_29 71" in text
    assert text.count("label_15") == 1


@pytest.mark.parametrize("report", REPORTS)
def test_the_same_report_gives_the_same_bytes(report: str, tmp_path: Path) -> None:
    given = REPORTS[report]()
    (tmp_path / "report.json").write_text(json.dumps(given), encoding="utf-8")
    code = (
        "import json, sys; from tuneful.evaluation.page import page; "
        "sys.stdout.buffer.write(page(json.load(open('report.json', encoding='utf-8')), 'zh-TW').encode())"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(SOURCE.parent), "PYTHONHASHSEED": seed},
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert made[0] == made[1] == page(given, "zh-TW").encode()


def test_importing_the_page_brings_no_matplotlib() -> None:
    heavy = "{'matplotlib', 'torch'}"
    code = f"import tuneful.evaluation.page, sys; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Pictures


def widths(svg: str, paint: str) -> list[float]:
    """Of the rectangles in one colour, left to right."""
    shapes = [path for path in ET.fromstring(svg).iter() if path.get("style") == f"fill: var(--{paint})"]
    corners = [[float(x) for x in re.findall(r"[ML] ([-\d.]+)", str(shape.get("d")))] for shape in shapes]
    return [max(found) - min(found) for found in corners]


def test_bars_are_as_long_as_their_values() -> None:
    given = [Bar("base", "Base", 0.25, "0.25"), Bar("tuned", "微調後", 0.75, "0.75", (0.5, 0.9))]
    svg = bars(given, label="a < b", key="one")
    assert widths(svg, "tuned")[0] == pytest.approx(3 * widths(svg, "base")[0], rel=1e-3)


def test_a_bar_a_hundred_times_as_long_does_not_hide_the_others() -> None:
    given = [
        Bar("base", "Base", 4.0, "4"),
        Bar("trivial", "Constant", 400.0, "400"),
        Bar("tuned", "Tuned", 2.0, "2"),
    ]
    svg = bars(given, label="x", key="one")
    assert widths(svg, "base")[0] > 150
    assert len(widths(svg, "trivial")) == 2, "a cut bar has a gap"


@pytest.mark.parametrize(
    "lines",
    [
        {"train": [[step, 1 / step] for step in range(1, 200)], "validation": [[100, 0.5]]},
        {"train": [[1, float("nan")], [2, 0.5]]},
        {"validation": []},
    ],
    ids=["long", "nan", "nothing"],
)
def test_curves_are_xml_in_the_pages_colours(lines: Any) -> None:
    svg = curves(lines, 100, words("zh-TW"), label='損失 "&" <1>', key="two")
    root = ET.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", '損失 "&" <1>')
    assert all(name.startswith("two-") for element in root.iter() if (name := element.get("id")))
    assert not any(colour in svg for colour in PAINTS)
    assert "font-family" not in svg
    assert "metadata" not in svg
    assert "保留：100" in svg


# The card


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_head_of_a_card(language: str) -> None:
    heads = {name: yaml.safe_load(card(make(), language).split("---\n")[1]) for name, make in REPORTS.items()}
    assert heads == {
        "generator": {
            "library_name": "peft",
            "base_model": "owner/tiny",
            "pipeline_tag": "text-generation",
            "tags": ["tuneful"],
        },
        "reader": {
            "library_name": "transformers",
            "base_model": "owner/tiny",
            "pipeline_tag": "text-classification",
            "tags": ["tuneful"],
        },
    }


def test_a_card_tells_no_folder_of_the_person() -> None:
    report = generator_report()
    report["provenance"]["model"] = report["provenance"]["recipe"]["model"] = "/home/someone/models/secret"
    text = card(report, "en")
    assert "home" not in text
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == "secret"


def test_a_card_holds_the_table() -> None:
    row = "| `exact_match` (higher is better) | 0.0625 | 0.125 | 0 | 0.875 | +0.812 | +0.7 to +0.9 | 64 |"
    assert row in card(generator_report(), "en")


@pytest.mark.parametrize("adapter", [Lora(rank=4), Full()], ids=["lora", "full"])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # it is a person's program; transformers warns of itself
def test_the_code_on_a_readers_card_gives_the_models_own_label(
    adapter: Adapter, reader_folder: Path, run_card: Any, tmp_path: Path
) -> None:
    policy, loaded = tiny_policy(reader_folder, adapter, layout=Layout.LABELS)
    stir(policy.trainable().values())
    save(policy, loaded, tmp_path / ("adapter" if adapter.freezes else "model"))
    lock = json.dumps({"labels": ["no", "yes", "maybe"]})
    (tmp_path / "recipe.lock.json").write_text(lock, encoding="utf-8")
    encoded = loaded.processor.text(words("en")["card_example_label"], limit=64)
    row = Row(Example(Place("card", 1)), encoded.ids, encoded.learn, target=0)
    wanted = ("no", "yes", "maybe")[int(class_logits(policy, [row], Collator(Layout.LABELS)).argmax())]
    assert run_card(reader_report(), adapter) == wanted


@pytest.mark.parametrize("layout", ["alpaca", "text"])
@pytest.mark.parametrize("adapter", [Lora(rank=4), Full()], ids=["lora", "full"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_code_on_a_generators_card_runs(
    adapter: Adapter, layout: str, generator_folder: Path, run_card: Any, tmp_path: Path
) -> None:
    policy, loaded = tiny_policy(generator_folder, adapter)
    save(policy, loaded, tmp_path / ("adapter" if adapter.freezes else "model"))
    report = generator_report()
    report["data"]["layout"] = layout
    assert isinstance(run_card(report, adapter), str)


@pytest.fixture
def run_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the code of a card in the run folder; what it printed."""

    def run(report: dict[str, Any], adapter: Any) -> str:
        report["provenance"]["recipe"]["adapter"]["kind"] = adapter.kind
        code = re.search(r"```python\n(.*?)```", card(report, "en"), flags=re.DOTALL)
        assert code is not None
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        exec(compile(code[1], "README.md", "exec"), {})
        return capsys.readouterr().out.strip()

    return run


def stir(parameters: Any) -> None:
    """New adapters change nothing until they have learned."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.3 * torch.randn_like(parameter))


def save(policy: Any, loaded: Any, folder: Path) -> None:
    policy.attached.save(str(folder))
    loaded.processor.save(str(folder))


def test_the_card_says_what_was_done_to_rows_and_weights_and_names_no_folder() -> None:
    report = reader_report()
    recipe = report["provenance"]["recipe"]
    recipe |= {"augment": [{"kind": "masked", "model": "/home/someone/bert", "endpoint": "http://10.0.0.1/v1"}],
               "average": {"kind": "ema"}, "soup": 3, "interpolate": 0.5, "regularisers": []}  # fmt: skip
    recipe["tasks"][0]["data"] = {"source": "/home/someone/rows.csv", "patch": "mine/patch.jsonl", "balance": None,
                                  "select": {"kind": "rds", "keep": 0.1, "target": "/home/someone/wanted.jsonl"}}  # fmt: skip
    text = card(report, "en")
    told = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert told["augment"] == [{"kind": "masked", "model": "bert"}]
    assert (told["average"], told["soup"], told["interpolate"]) == ({"kind": "ema"}, 3, 0.5)
    assert told["data"] == {"patch": "patch.jsonl", "select": {"kind": "rds", "keep": 0.1, "target": "wanted.jsonl"}}
    assert "regularisers" not in told
    assert "someone" not in text
    assert "10.0.0.1" not in text


def test_the_page_lists_the_rows_that_were_chosen() -> None:
    report = reader_report()
    report["data"]["selection"] = {"learned": [f"a.csv line {n}" for n in range(60)]}
    text = text_of(page(report, "en"))
    assert "Rows that were chosen and learned (60)" in text
    assert "a.csv line 0, a.csv line 1, " in text
    assert "a.csv line 50" not in text
    assert "and 10 more, in report.json" in text
    assert "chosen and learned" not in text_of(page(reader_report(), "en"))
