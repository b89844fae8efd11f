"""Who is in the data: counts by hand, sentences, pictures, and that nothing is offered which a recipe would not take."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneful.core.types import Example, Message, Place, Said
from tuneful.data.identity import known_groups
from tuneful.data.people import LEAST, LISTED, people, told_in
from tuneful.evaluation.people import group_name, sentences
from tuneful.evaluation.people_chart import AXES, BARS, NAMES, bars, drawn_axis, labels_table, not_drawn, shown
from tuneful.evaluation.words import LANGUAGES, words
from tuneful.recipe import from_mapping
from tuneful.run.looked import look_at
from tuneful.run.people import offers, people_in
from tuneful.run.prepare import Prepared, prepare
from work import typed, write_rows

TEN = (
    "She paid my bill.",  # a woman
    "He paid my bill.",  # a man
    "His mother called.",  # both
    "A Muslim woman asked.",  # a woman, a Muslim
    "Two Jews left.",  # Jews
    "The weather is fine.",
    "A deaf man waved.",  # a man, one who is deaf
    "My aunt and my sister came.",  # a woman, twice in one row
    "Nothing was said.",
    "Muslims pray.",  # Muslims
)


def examples(texts: Sequence[str], labels: Sequence[Any] = (), groups: Sequence[str | None] = ()) -> list[Example]:
    return [Example(Place("rows", number), text=text, label=labels[number] if labels else None,
                    group=groups[number] if groups else None) for number, text in enumerate(texts)]  # fmt: skip


def axis(found: dict[str, Any], name: str, of: str = "words") -> dict[str, Any]:
    (only,) = [one for one in found["axes"] if (one["name"], one["of"]) == (name, of)]
    return only


def counts(one: dict[str, Any]) -> dict[str, int]:
    return {group["name"]: group["rows"] for group in one["groups"]}


class TestCounts:
    def test_ten_texts_by_hand(self) -> None:
        """Each four times. Eight of the ten mention somebody; six a man or woman, four a woman, three a man, one both;
        three are about religion. Of the mentions of gender 4/7 are of women, 3/7 of men."""
        found = people(examples(TEN * 4))
        assert (found["rows"], found["mentioning"]) == (40, 32)
        gender, religion, disability = (axis(found, name) for name in ("gender", "religion", "disability"))
        assert counts(gender) == {"female": 16, "male": 12}
        assert (gender["rows"], gender["share"], gender["count"], gender["missing"]) == (24, 0.6, 2, [])
        assert gender["groups"][0]["share"] == 0.4
        assert gender["diversity"] == pytest.approx(-(4 / 7 * math.log2(4 / 7) + 3 / 7 * math.log2(3 / 7)), abs=1e-4)
        assert counts(religion) == {"muslim": 8, "jewish": 4}
        assert religion["rows"] == 12
        assert set(religion["missing"]) == set(known_groups()["religion"]) - {"muslim", "jewish"}
        assert counts(disability) == {"deaf": 4}
        assert [one["name"] for one in found["axes"]][:3] == ["gender", "religion", "disability"]
        assert axis(found, "age") == {"name": "age", "of": "words", "rows": 0, "share": 0.0, "count": 0, "groups": [],
                                      "missing": ["child", "teenage", "young", "middle_aged", "old"], "rare": [],
                                      "rare_count": 0, "diversity": None}  # fmt: skip
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_few_mentions_are_not_listed(self) -> None:
        """The thirtieth row makes the difference."""
        few = people(examples(["She came."] * (LEAST - 1) + ["It came."] * 20))
        assert (few["mentioning"], few["axes"]) == (LEAST - 1, [])
        assert axis(people(examples(["She came."] * LEAST)), "gender")["rows"] == LEAST

    def test_nobody_and_nothing(self) -> None:
        assert people(examples(["It rains."] * 50))["axes"] == []
        assert people([]) == {"rows": 0, "mentioning": 0, "axes": []}

    def test_question_and_answer_count_and_the_system_does_not(self) -> None:
        turns = (
            Message("system", "You help women."),
            Message("user", "Did he come?"),
            Message("assistant", "A Sikh did."),
        )
        chosen, rejected = (Message("assistant", "The deaf one."),), (Message("assistant", "A rabbi."),)
        row = Example(Place("rows", 1), messages=turns, chosen=chosen, rejected=rejected)
        assert told_in(row) == "Did he come?\nA Sikh did.\nThe deaf one.\nA rabbi."
        found = people([row] * LEAST)
        assert counts(axis(found, "gender")) == {"male": LEAST}
        assert counts(axis(found, "religion")) == {"jewish": LEAST, "sikh": LEAST}
        pair = Example(Place("rows", 1), text="a", second="b", positive="c", negatives=("d", "e"))
        assert told_in(pair) == "a\nb\nc\nd\ne"

    def test_chinese_texts(self) -> None:
        texts = ["她付了帳單。", "他走了。", "一位穆斯林來了。", "天氣很好。"] * 11
        found = people(examples(texts))
        assert found["mentioning"] == 33
        assert counts(axis(found, "gender")) == {"female": 11, "male": 11}
        assert counts(axis(found, "religion")) == {"muslim": 11}
        assert "taipei" in axis(found, "region")["missing"]


class TestLabels:
    TEXTS = ("She came.",) * 30 + ("He came.",) * 30 + ("It came.",) * 60
    LABELS = ("bad",) * 27 + ("good",) * 3 + ("bad", "good") * 15 + ("bad",) * 18 + ("good",) * 42

    def test_a_label_that_goes_with_a_group(self) -> None:
        """Half of 120 rows are bad, 27 of 30 about women and 15 of 30 about men, which is what all have. Fisher's p
        of the women by counting: both tails, as half are bad. Four tests are made, and of the two labels of women either
        is as sure, so Holm takes p four times."""
        found = people(examples(self.TEXTS, self.LABELS), kind="class")
        female, male = axis(found, "gender")["groups"]
        assert (female["name"], male["name"], male["labels"]) == ("female", "male", [])
        bad, good = female["labels"]
        ways = sum(math.comb(30, hits) * math.comb(90, 60 - hits) for hits in range(27, 31))
        assert (bad["label"], bad["rows"], bad["rate"], bad["overall"]) == ("bad", 27, 0.9, pytest.approx(0.5))
        assert bad["p_adjusted"] == pytest.approx(4 * 2 * ways / math.comb(120, 60))
        assert (good["label"], good["rows"], good["difference"]) == ("good", 3, pytest.approx(-0.4))
        for end in (bad["low"], bad["high"]):  # Wilson's: 1.96 of its own standard errors from 0.9
            assert abs(0.9 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 30), rel=1e-6)

    def test_several_labels_and_missing_ones(self) -> None:
        """Rows without a label are of no rate: of the labelled ones all that mention women are loud, and no others."""
        labels = [["loud", "kind"], None] * 20 + [["kind"]] * 40
        found = people(examples(["She came."] * 40 + ["He came."] * 40, labels), kind="labels")
        female, male = axis(found, "gender")["groups"]
        assert [(one["label"], one["rows"], one["rate"]) for one in female["labels"]] == [("loud", 20, 1.0)]
        assert female["labels"][0]["overall"] == pytest.approx(1 / 3)
        assert [(one["label"], one["rate"]) for one in male["labels"]] == [("loud", 0.0)]

    @pytest.mark.parametrize("kind", ["number", None])
    def test_numbers_and_no_labels_go_with_nothing(self, kind: Any) -> None:
        found = people(examples(self.TEXTS, [1.0] * 60 + [2.0] * 60), kind=kind)
        assert all(not group["labels"] for one in found["axes"] for group in one["groups"])


class TestColumn:
    def test_three_hundred_groups(self) -> None:
        """The first has 40 rows, others two, ten rows none: all are counted, the most frequent listed."""
        groups = ["g0"] * 40 + [f"g{number}" for number in range(1, 300) for _ in range(2)] + [None] * 10
        found = people(examples(["It came."] * len(groups), groups=groups), column="team")
        (team,) = found["axes"]
        assert (team["name"], team["of"], team["count"], len(team["groups"])) == ("team", "column", 300, LISTED)
        assert (team["groups"][0]["name"], team["groups"][0]["rows"]) == ("g0", 40)
        assert (team["rows"], found["rows"], found["mentioning"]) == (638, 648, 0)
        assert (team["missing"], team["rare_count"], len(team["rare"])) == ([], 299, LISTED)
        told = sentences(found, [], "en")
        assert told[1] == ("Column ‘team’ has 300 groups; the most frequent: g0 (40), g1 (2), g10 (2). 299 have less than "
                           "a tenth of the rows of the most frequent. 10 rows have none.")  # fmt: skip
        assert "with fewer than 30 no more is said" in told[0]
        assert len(told) == 2
        below = drawn_axis(team, found["rows"], "en")
        assert "Groups not drawn: 288." in below["caption"]
        assert below["title"] == "Column ‘team’"

    def test_labels_go_with_groups_of_a_column(self) -> None:
        found = people(examples(["It came."] * 40, ["a"] * 20 + ["b"] * 20, ["x"] * 20 + ["y"] * 20),
                       kind="class", column="gender")  # fmt: skip
        assert [group["labels"][0]["rate"] for group in axis(found, "gender", "column")["groups"]] == [1.0, 0.0]

    def test_a_column_called_as_an_axis_is_kept_apart(self) -> None:
        found = people(examples(["She came."] * 30 + ["He came."] * 5, groups=["m"] * 35), column="gender")
        assert counts(axis(found, "gender", "column")) == {"m": 35}
        assert counts(axis(found, "gender")) == {"female": 30, "male": 5}
        assert found["axes"][0]["of"] == "column"


class TestSentences:
    def test_in_words(self) -> None:
        found = people(examples(TestLabels.TEXTS, TestLabels.LABELS), kind="class")
        assert sentences(found, [Said("people_offer_counterfactual")], "en") == [
            "60 of 120 training rows mention a group of people that the word lists know.",
            "Most often mentioned, with rows: gender: female (30), male (30).",
            "Never mentioned, so a model learns nothing about them from these rows: all groups of age, build, social "
            "class, disability, ethnicity, gender identity, migration, origin of names, nationality, sexual orientation, "
            "religion. Whether it will be asked about them, you know.",
            "‘bad’ goes with ‘gender: female’: 90% of its rows (95 % interval 74.4% to 96.5%) and 50% of all, surely more "
            "often.",
            "What a recipe can say about it: augment: [counterfactual] (texts speak of other groups while they are "
            "learned).",
            words("en")["people_told_limits"],
        ]

    def test_missing_groups_are_listed_in_part(self) -> None:
        told = sentences(people(examples(TEN * 4)), [], "en")
        assert "religion: atheist, agnostic, Buddhist, Catholic, Christian, Hindu, 4 more; " in told[2]
        assert "gender:" not in told[2]
        assert not re.search("should|must|need", told[2])

    def test_a_label_that_is_rare_with_a_group(self) -> None:
        """Alone, as the others of the group spread over many labels."""
        labels = ["seldom"] + [f"l{number}" for number in range(39)] + ["seldom"] * 60
        told = sentences(people(examples(["She came."] * 40 + ["It came."] * 60, labels), kind="class"), [], "en")
        assert any("‘seldom’ is rare with ‘gender: female’: 2.5% of its rows" in one and "surely less often" in one
                   for one in told)  # fmt: skip

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_eight_at_most_and_one_for_nobody(self, language: str) -> None:
        texts = [*TestLabels.TEXTS, *TEN, "A Thai nurse came."]
        rows = examples(texts, [*TestLabels.LABELS, *["bad"] * 11], ["a"] * 60 + ["b"] * 71)
        offered = [Said("people_offer_mentions", {"axes": "gender"}), Said("people_offer_counterfactual")]
        told = sentences(people(rows, kind="class", column="team"), offered, language)
        assert len(told) == 8
        assert not any("{" in one or "people_" in one for one in told)
        (only,) = sentences(people(examples(["It rains."] * 12 + ["She came."])), [], language)
        assert only == words(language)["people_told_none"].format(n="1", rows="13", least=30)

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_axis_and_group_has_a_name(self, language: str) -> None:
        for name, groups in known_groups().items():
            assert f"people_axis_{name}" in words(language)
            told = [group_name({"name": name, "of": "words"}, group, language) for group in groups]
            assert len(set(told)) == len(groups)
            assert not any("_" in one for one in told)
            if language == "zh-TW":
                assert all(re.fullmatch("[\u3400-\u9fff]+", one) for one in told)
        assert group_name({"name": "gender", "of": "column"}, "male_x", language) == "male_x"


class TestPictures:
    def test_bars_are_as_long_as_there_are_rows(self) -> None:
        found = people(examples(["She came."] * 40 + ["He came."] * 10))
        drawn = ET.fromstring(bars(axis(found, "gender"), "en"))
        assert (drawn.get("role"), drawn.get("aria-label")) == (
            "img",
            "Training rows by gender: female (40), male (10).",
        )
        rects = [one for one in drawn.iter() if one.tag.endswith("rect")]
        long, short = (float(one.get("width") or 0) for one in rects)
        assert short == pytest.approx(long / 4, abs=0.1)
        assert all(float(one.get("x") or 0) == NAMES for one in rects)
        assert [one.text for one in drawn.iter() if one.tag.endswith("text")] == ["female", "40", "male", "10"]

    def test_names_that_are_long_or_would_be_tags(self) -> None:
        groups = ["<b>&\"'"] * 20 + ["w" * 60] * 10 + ["群" * 40] * 5
        (team,) = people(examples(["x"] * 35, groups=groups), column="<i>")["axes"]
        drawn = ET.fromstring(bars(team, "en"))
        texts = [one.text for one in drawn.iter() if one.tag.endswith("text")]
        assert texts[::2] == ["<b>&\"'", "w" * 18 + "…", "群" * 9 + "…"]
        assert drawn.get("aria-label") == f"Training rows by <i>: <b>&\"' (20), {'w' * 60} (10), {'群' * 40} (5)."

    def test_six_axes_are_drawn_and_twelve_bars(self) -> None:
        nations = ("American", "Thai", "French", "German", "Dutch", "Greek", "Irish", "Italian", "Kenyan", "Korean", "Polish",
                   "Swiss", "Turkish")  # fmt: skip
        one = "A {} woman, a deaf man, a Jew, a gay man, an elderly man, a poor man and a refugee"
        found = people(examples([one.format(nation) for nation in nations] * 3 + ["She came."]))
        assert len(shown(found)) == AXES
        assert shown(found)[0]["name"] == "gender"
        assert len(not_drawn(found, "en").split(", ")) == 2
        nationality = axis(found, "nationality")
        assert bars(nationality, "en").count("<rect") == BARS
        assert "Groups not drawn: 1." in drawn_axis(nationality, found["rows"], "en")["caption"]

    def test_the_table_of_labels(self) -> None:
        found = people(examples(TestLabels.TEXTS, TestLabels.LABELS), kind="class")
        bad, good = labels_table(found, "en")
        assert bad == {"group": "gender: female", "label": "bad", "rows": "27", "rate": "90% (74.4% to 96.5%)",
                       "overall": "50%"}  # fmt: skip
        assert good["label"] == "good"


# The whole way. Women go with one label; the tiny encoder need not learn it.


def rows(count: int = 160, **more: Any) -> list[dict[str, Any]]:
    """A quarter each: she is glad, he is sad, and nobody is either."""
    told = [("She met {}.", "glad"), ("He met {}.", "sad"), ("It met {}.", "glad"), ("They met {}.", "sad")]
    return [{"text": told[number % 4][0].format(f"w{number:03}" * 3), "label": told[number % 4][1], **more}
            for number in range(count)]  # fmt: skip


def prepared(given: list[dict[str, Any]], reader: Path, folder: Path, *sets: str, **data: Any) -> Prepared:
    write_rows(folder / "data.jsonl", given)
    mapping = {"model": str(reader), "data": {"source": str(folder / "data.jsonl"), **data}}
    return prepare(from_mapping(mapping, ["choose=none", *sets])[0])


def offered(ready: Prepared, column: str | None = None) -> dict[str, Said]:
    kind = ready.labels.kind if ready.labels else None
    found = people(ready.split.train, kind=kind, column=column)
    return {one.key.removeprefix("people_offer_"): one for one in offers(ready, found)}


def test_what_is_offered(reader_folder: Path, tmp_path: Path) -> None:
    told = offered(prepared(rows(), reader_folder, tmp_path))
    assert set(told) == {"mentions", "group_sampling_too", "counterfactual"}
    assert told["mentions"].facts == {"axes": "gender"}


def test_what_is_offered_is_taken(reader_folder: Path, tmp_path: Path) -> None:
    """All three together pass the check, and then nothing is left to offer."""
    every = "augment=[counterfactual]", "data.mentions=[gender]", "data.balance=group_sampling"
    assert offered(prepared(rows(), reader_folder, tmp_path, *every)) == {}


def test_where_mentions_are_named_the_rest_is_offered(reader_folder: Path, tmp_path: Path) -> None:
    """Sampling by an axis that labels do not go with is not: rows by religion are all alike."""
    named = prepared(rows(), reader_folder, tmp_path, "data.mentions=[gender]")
    assert set(offered(named)) == {"group_sampling", "counterfactual"}
    other = prepared(rows(), reader_folder, tmp_path, "data.mentions=[religion]")
    assert set(offered(other)) == {"counterfactual"}


def test_groups_of_a_column_are_sampled(reader_folder: Path, tmp_path: Path) -> None:
    """Where labels go with its groups, whatever they go with beside; texts that mention nobody cannot speak of others."""
    given = [{**row, "text": f"w{number:03} " * 4, "team": row["label"][0]} for number, row in enumerate(rows())]
    assert set(offered(prepared(given, reader_folder, tmp_path, group="team"), "team")) == {"group_sampling"}
    even = [{**row, "team": "ab"[number // 4 % 2]} for number, row in enumerate(given)]
    assert offered(prepared(even, reader_folder, tmp_path, group="team"), "team") == {}
    mentioning = [{**row, "team": one["team"]} for row, one in zip(rows(), even, strict=True)]
    assert set(offered(prepared(mentioning, reader_folder, tmp_path, group="team"), "team")) == {"counterfactual"}


def test_whoever_is_mentioned_late_in_a_file_counts(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first hundred rows, as many as are tried, none mentions anybody."""
    quiet = [{"text": f"w{number:03} {number % 7} " * 3, "label": ("glad", "sad")[number % 2]} for number in range(140)]
    monkeypatch.setattr("tuneful.run.people.TRIED", 100)
    ready = prepared(quiet + rows(), reader_folder, tmp_path, "data.test=0", "data.validation=0")
    ready = replace(ready, repeated=sorted(ready.repeated, key=lambda row: row.example.place.row))
    assert "group_sampling_too" in offered(ready)


def test_only_axes_that_can_be_compared_are_offered(reader_folder: Path, tmp_path: Path) -> None:
    """Thirty rows that mention one and thirty that do not, as a report wants them."""
    ready = prepared(rows(), reader_folder, tmp_path, "data.test=0", "data.validation=0")
    for some, rest, wanted in ((30, 30, ["mentions"]), (29, 31, []), (31, 29, [])):
        found = people(examples(["She came."] * some + ["A Sikh came."] * 2 + ["It came."] * (rest - 2)))
        assert [one.key.removeprefix("people_offer_") for one in offers(ready, found)] == wanted, some


@pytest.mark.parametrize(
    ("sets", "wanted"),
    [
        ((), ("group", "column")),
        (("data.group=team",), ("team", "column")),
        (("data.mentions=[age]",), ("gender", "words")),
    ],
)
def test_which_column_says_whose_rows_they_are(
    sets: tuple[str, ...], wanted: tuple[str, str], reader_folder: Path, tmp_path: Path
) -> None:
    """One called `group` unless another is named; groups that mentions make are none of a column."""
    ready = prepared(rows(team="red", group="blue"), reader_folder, tmp_path, *sets)
    first, *others = people_in(look_at(ready, str(reader_folder), "en", lambda _: None))["axes"]
    assert (first["name"], first["of"]) == wanted
    assert all(one["of"] == "words" for one in others)


def test_a_head_that_is_solved_is_offered_no_more_than_it_takes(reader_folder: Path, tmp_path: Path) -> None:
    """It sees each row once, and all rows as they are."""
    solved = ("adapter=head", "objective.kind=classify", "objective.pooling=mean")
    assert set(offered(prepared(rows(), reader_folder, tmp_path, *solved))) == {"mentions"}


@pytest.mark.parametrize("kind", ["labels", "number"])
def test_what_are_no_classes_is_offered_nothing(kind: str, reader_folder: Path, tmp_path: Path) -> None:
    given = [{**row, "label": [row["label"], "x"] if kind == "labels" else number % 7 + 0.5}
             for number, row in enumerate(rows())]  # fmt: skip
    ready = prepared(given, reader_folder, tmp_path)
    assert ready.labels is not None
    assert ready.labels.kind == kind
    assert offered(ready) == {}


def test_a_model_that_writes_is_offered_nothing(generator_folder: Path, tmp_path: Path) -> None:
    written = [{"prompt": row["text"], "completion": row["label"]} for row in rows()]
    assert offered(prepared(written, generator_folder, tmp_path)) == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_coach_shows_it(language: str, reader_folder: Path, tmp_path: Path) -> None:
    """In JSON and on the page, the same sentences."""
    given = [*coaching(tmp_path, reader_folder), "--lang", language, "--json", "--page", "c.html"]
    told = typed(*given, cwd=tmp_path)
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)["coach"]["people"]
    assert [one["name"] for one in found["axes"]][:2] == ["team", "gender"]
    assert counts(found["axes"][1]) == {"female": 30, "male": 30}
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert page.count('class="chart people"') == 2
    assert "<b>red" not in page
    assert words(language)["people_title"] in page
    table = page[page.index('id="with-labels"') :]
    table = table[: table.index("</table>")]
    assert table.count("<td>glad</td>") == table.count("<td>sad</td>") == 2
    for sentence in found["sentences"]:
        assert sentence.replace("<", "&lt;").replace(">", "&gt;") in page


def test_the_coach_says_it_in_the_terminal(reader_folder: Path, tmp_path: Path) -> None:
    told = " ".join(typed(*coaching(tmp_path, reader_folder), cwd=tmp_path).stdout.split())
    _, _, told = told.partition("Who is in the data ")
    assert told.startswith("60 of 120 training rows mention a group")
    assert "Column ‘team’ has 1 groups; the most frequent: <b>red</b> (120)." in told
    assert words("en")["people_told_limits"] in told


def coaching(folder: Path, reader: Path) -> list[object]:
    data = write_rows(folder / "data.jsonl", rows(120, team="<b>red</b>"))
    return ["check", data, "--model", reader, "--coach", "--set", "data.group=team", "--set", "choose=none", "--set",
            "data.test=0", "--set", "data.validation=0"]  # fmt: skip


def test_the_coach_of_rows_without_people(reader_folder: Path, tmp_path: Path) -> None:
    """One sentence, no picture."""
    given = [{"text": f"w{number:03} " * 4, "label": "ab"[number % 2]} for number in range(40)]
    data = write_rows(tmp_path / "data.jsonl", given)
    told = typed("check", data, "--model", reader_folder, "--coach", "--json", "--page", "c.html", cwd=tmp_path)
    found = json.loads(told.stdout)["coach"]["people"]
    assert (found["mentioning"], found["axes"], len(found["sentences"])) == (0, [], 1)
    assert "chart people" not in (tmp_path / "c.html").read_text(encoding="utf-8")
