"""What a run of several tasks shows: a table, a heat map that needs no colour, and sentences, in both languages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from test_page import EVIL, SOURCE, Document, generator_report, text_of
from tuneful.cli.fitting import _facts
from tuneful.cli.show import tasks_table
from tuneful.evaluation.card import card
from tuneful.evaluation.page import page
from tuneful.evaluation.phrases import filled
from tuneful.evaluation.tasks import DEEPEST, each_task, heat, lessons
from tuneful.evaluation.transfer import summary
from tuneful.evaluation.words import LANGUAGES, words

NEWS, JOKES, LETTERS = "news", "jokes <b>", "letters"
SCORES: dict[str, dict[str, float | None]] = {
    NEWS: {NEWS: 0.5, JOKES: 0.25, LETTERS: None},
    JOKES: {NEWS: 0.375, JOKES: 0.75, LETTERS: None},
    LETTERS: {NEWS: 0.625, JOKES: 0.5625, LETTERS: 0.875},
}


def report_of_tasks() -> dict[str, Any]:
    report = generator_report()
    report["forgetting"] |= {"tasks": SCORES, "transfer": summary(SCORES, {NEWS: 0.125, JOKES: 0.125, LETTERS: 0.125})}
    report["tasks"] = {
        NEWS: gained(0.125, 0.625, (0.25, 0.75)), JOKES: gained(0.625, 0.5625, (-0.125, -0.03125)),
        LETTERS: {"n": 0, "rows": 300},
    }  # fmt: skip
    return report


def gained(base: float, tuned: float, ci95: tuple[float, float]) -> dict[str, Any]:
    return {"metric": "accuracy", "higher_is_better": True, "n": 150, "base": base, "trivial": 0.0625, "tuned": tuned,
            "delta": tuned - base, "ci95": list(ci95), "rows": 1500}  # fmt: skip


def tones(found: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [cell["tone"] for cell in cells] for name, cells in found["rows"].items()}


# The table


def test_each_task_has_a_row() -> None:
    text = text_of(page(report_of_tasks(), "en"))
    assert "Task Metric Base Constant Tuned Difference 95% interval Test rows Training rows" in text
    assert "news Accuracy 0.125 0.0625 0.625 +0.5 +0.25 to +0.75 150 1,500" in text
    assert "letters – – – – – – 0 300" in text
    row = "| jokes &lt;b> | Accuracy | 0.625 | 0.0625 | 0.562 | \u22120.0625 | \u22120.125 to \u22120.0312 | 150 | 1,500 |"
    assert row in card(report_of_tasks(), "en")


def test_what_is_surely_better_or_worse_is_counted() -> None:
    say, report = words("en"), filled(report_of_tasks())
    wanted = "Surely better than the base: 1 of 2 tasks. Surely worse: ‘jokes <b>’."
    assert each_task(report, say)["sentence"] == wanted
    for found in report["tasks"].values():
        found["higher_is_better"] = False
    wanted = "Surely better than the base: 1 of 2 tasks. Surely worse: ‘news’."
    assert each_task(report, say)["sentence"] == wanted
    report["tasks"][NEWS]["ci95"] = [-0.5, 0.25]
    wanted = "Surely better than the base: 1 of 2 tasks; none is surely worse."
    assert each_task(report, say)["sentence"] == wanted
    assert each_task({**report, "tasks": {LETTERS: {"n": 0, "rows": 3}}}, say)["sentence"] == ""


# The heat map


def test_a_cell_is_compared_with_its_task_when_it_was_learned() -> None:
    found = heat(filled(report_of_tasks()), words("en"))
    assert found["columns"] == [NEWS, JOKES, LETTERS]
    assert tones(found) == {
        NEWS: ["own", "before", ""], JOKES: ["lost", "own", ""], LETTERS: ["gained", "lost", "own"],
    }  # fmt: skip
    lost, gained = found["rows"][JOKES][0], found["rows"][LETTERS][0]
    assert (lost["value"], lost["told"], gained["told"]) == ("0.375", "lost 0.125", "gained 0.125")
    # A quarter of the score is half of what is as deep as it gets: 8 + 37 / 2.
    assert lost["depth"] == gained["depth"] == round(26.5)


def test_depth_grows_with_the_share_that_was_lost() -> None:
    report = filled(
        {"forgetting": {"tasks": {"a": {"a": 0.8}, **{str(score): {"a": score} for score in (0.79, 0.6, 0.4, 0.0)}}}}
    )
    depths = [cells[0]["depth"] for cells in heat(report, words("en"))["rows"].values()]
    assert depths == sorted(depths)
    assert (depths[0], depths[-2], depths[-1]) == (0, DEEPEST, DEEPEST)
    report = filled({"forgetting": {"tasks": {"a": {"a": 0.0}, "b": {"a": 0.25}, "c": {"a": 0.0}}}})
    cells = [row[0] for row in heat(report, words("en"))["rows"].values()]
    assert [(cell["tone"], cell["depth"]) for cell in cells] == [("own", 0), ("gained", DEEPEST), ("kept", 0)]


def test_where_less_is_better_a_rise_is_red() -> None:
    scores = {"a": {"a": 4.0}, "b": {"a": 6.0, "b": 2.0}}
    report = filled({"forgetting": {"tasks": scores, "transfer": summary(scores, higher_is_better=False)}})
    assert tones(heat(report, words("en"))) == {"a": ["own", ""], "b": ["lost", "own"]}
    told = lessons(report, words("en"))
    assert told[0] == "‘a’ lost most by what was learned later: 4 right after it was learned, 6 in the end (2 lost)."
    assert "\u22122 in the mean (backward transfer" in told[2]


def test_a_task_that_comes_back_keeps_its_column() -> None:
    scores = {"a": {"a": 0.5}, "b": {"a": 0.25, "b": 0.5}, "a (2)": {"a": 0.75, "b": 0.5}}
    found = heat(filled({"forgetting": {"tasks": scores}}), words("en"))
    assert found["columns"] == ["a", "b"]
    assert tones(found) == {"a": ["own", ""], "b": ["lost", "own"], "a (2)": ["gained", "kept"]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_coloured_cell_says_in_words_what_its_colour_says(language: str) -> None:
    html = page(report_of_tasks(), language)
    say = words(language)
    cells = re.findall(r'<td class="num (lost|gained)" style="--depth:\d+%">([\d.]+)<small>([^<]+)</small>', html)
    told = {"lost": say["heat_lost"], "gained": say["heat_gained"]}
    assert cells == [
        ("lost", "0.375", told["lost"].format(by="0.125")), ("gained", "0.625", told["gained"].format(by="0.125")),
        ("lost", "0.562", told["lost"].format(by="0.188")),
    ]  # fmt: skip
    assert f'<caption id="heat-c">{say["forgot_matrix_caption"]}</caption>' in unescape(html)


def brightness(colour: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("tone", ["good", "bad"])
def test_numbers_are_readable_on_the_deepest_colour(scheme: int, tone: str) -> None:
    css = (SOURCE / "evaluation/assets/report.css").read_text(encoding="utf-8")
    block = re.findall(r":root {(.*?)}", css, flags=re.DOTALL)[scheme]
    found = {name: tuple(int(hexa[i : i + 2], 16) / 255 for i in (0, 2, 4))
             for name, hexa in re.findall(r"--(\w+): #(\w{6})", block)}  # fmt: skip
    part = DEEPEST / 100
    cell = tuple(part * ours + (1 - part) * theirs for ours, theirs in zip(found[tone], found["paper"], strict=True))
    dark, light = sorted((brightness(cell), brightness(found["ink"])))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


# Sentences


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        ("en", ["‘jokes <b>’ lost most by what was learned later: 0.75 right after it was learned, 0.562 in the end "
                "(0.188 lost).",
                "In the end the mean score of the tasks is 0.688; had each kept what it had right after it was learned, "
                "it would be 0.708.",
                "What was learned later changed earlier tasks by \u22120.0312 in the mean (backward transfer; above zero "
                "it helped, below zero it made them forget).",
                "What was learned before a task had changed it by +0.125 in the mean when its own turn came (forward "
                "transfer; above zero it had helped).",
                "From the best it ever was, an earlier task lost 0.0312 in the mean (forgetting)."]),
        ("zh-TW", ["「jokes <b>」因後來所學而退步最多：剛學完時為 0.75，最後為 0.562（退步 0.188）。",
                   "最後各任務的平均分數為 0.688；若每個任務都保有剛學完時的分數，則為 0.708。",
                   "後來所學使先前的任務平均變化 \u22120.0312（反向遷移；大於零是有幫助，小於零是遺忘）。",
                   "輪到學習某任務之前，先前所學已使它平均變化 +0.125（正向遷移；大於零是有幫助）。",
                   "與曾經最好的時候相比，先前的任務平均退步 0.0312（遺忘）。"]),
    ],
)  # fmt: skip
def test_sentences_tell_what_was_kept_and_lost(language: str, wanted: list[str]) -> None:
    report = report_of_tasks()
    assert lessons(filled(report), words(language)) == wanted
    for made in (page(report, language), card(report, language)):
        assert "jokes <b>" not in made
        assert "jokes &lt;b" in made
        assert all(sentence in made for sentence in wanted[1:])


def test_nothing_lost_is_said_to_be_so() -> None:
    scores = {"a": {"a": 0.5}, "b": {"a": 0.5, "b": 0.75}}
    report = filled({"forgetting": {"tasks": scores, "transfer": summary(scores)}})
    assert lessons(report, words("en"))[0] == "No task lost anything by what was learned later."


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_task_shows_nothing_of_this(language: str) -> None:
    say = words(language)
    html = unescape(page(generator_report(), language) + card(generator_report(), language))
    for key in ("tasks_heading", "forgot_matrix_heading", "forgot_matrix_caption", "tasks_lost_none", "card_matrix"):
        assert say[key] not in html
    assert 'class="narrow heat"' not in html


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_well_formed_whatever_tasks_are_called(language: str) -> None:
    report = report_of_tasks()
    scores = {EVIL: {EVIL: 0.5}, '"|': {EVIL: 0.25, '"|': 0.5}}
    report["forgetting"] |= {"tasks": scores, "transfer": summary(scores)}
    report["tasks"] = {EVIL: gained(0.5, 0.25, (-0.5, -0.125))}
    html = page(report, language)
    found = Document(html)
    assert "script" not in {tag for tag, _ in found.tags}
    assert set(found.values("aria-labelledby")) <= set(found.values("id"))
    assert "<script" not in card(report, language).split("```")[0]
    assert '| "\\| |' in card(report, language)


def test_the_tile_tells_of_earlier_tasks() -> None:
    assert "What did it forget? earlier tasks \u22120.0312" in text_of(page(report_of_tasks(), "en"))
    assert "忘了什麼？ 先前任務 \u22120.0312" in text_of(page(report_of_tasks(), "zh-TW"))
    report = report_of_tasks()
    report["forgetting"]["transfer"]["backward_transfer"] = 0.25
    assert "earlier tasks +0.25" in text_of(page(report, "en"))


# The terminal


def test_the_terminal_has_a_table_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    tasks_table("Each task", report_of_tasks()["tasks"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["news", "accuracy", "0.125", "0.625", "0.5", "+0.25", "to", "+0.75", "150", "1,500"] in lines
    assert ["letters", "–", "–", "–", "–", "–", "0", "300"] in lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_terminal_has_one_line_of_earlier_tasks(language: str) -> None:
    report = filled(report_of_tasks())
    report["cost"] |= {"choosing_seconds": 0, "tokens_shared": 0, "utilisation": 0.5}
    told = dict(_facts(report, language))
    assert told["earlier tasks"] == words(language)["between_sentences"].join(lessons(report, words(language)))
    report["forgetting"] = {}
    assert "earlier tasks" not in dict(_facts(report, language))
