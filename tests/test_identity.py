"""Which groups of people a text mentions, and who occurs in a data set."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from tuneful.core.errors import DataError
from tuneful.data.identity import Group, census, known_groups, mentioned, mentions
from tuneful.data.identity.census import diversity, exact, holm, wilson
from tuneful.data.identity.lexicon import LANGUAGES, NAME_AXIS, lexicon
from tuneful.data.identity.trie import pattern

DATA = Path(os.environ.get("TUNEFUL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

FOUND = [
    ("She lost her card.", "gender: female"),
    ("Ask him, he knows.", "gender: male"),
    ("My mother and I", "gender: female"),
    ("My mother-in-law", "gender: female"),
    ("the waiter, two waitresses", "gender: male, gender: female"),
    ("Emily's card", "gender: female, name_origin: anglo"),
    ("Maria paid", "gender: female"),
    ("JAMAL PAID", "gender: male, name_origin: black"),
    ("Mr. Will Smith", "gender: male"),
    ("ask Miss Lee", "gender: female"),
    ("The King and his son", "gender: male"),
    ("a trans woman", "gender_identity: transgender, gender: female"),
    ("I am nonbinary", "gender_identity: nonbinary"),
    ("white people", "ethnicity: white"),
    ("black and brown women", "ethnicity: black, gender: female"),
    ("I'm black.", "ethnicity: black"),
    ("Aki is a happy white", "ethnicity: white"),
    ("an African-American teacher", "ethnicity: black"),
    ("Native Americans", "ethnicity: indigenous"),
    ("a Mexican and two Canadians", "nationality: mexican, nationality: canadian"),
    ("i love mexican people", "nationality: mexican"),
    ("the Chinese woman", "nationality: chinese, gender: female"),
    ("Polish workers", "nationality: polish"),
    ("He met a Turk.", "gender: male, nationality: turkish"),
    ("people from Turkey", "nationality: turkish"),
    ("she was born in Spain", "gender: female, nationality: spanish"),
    ("a Frenchwoman", "gender: female, nationality: french"),
    ("the Muslim community", "religion: muslim"),
    ("Jews and Sikhs", "religion: jewish, religion: sikh"),
    ("a christian family", "religion: christian"),
    ("I am Christian", "religion: christian"),
    ("Mr Christian called", "gender: male"),
    ("Islam and Buddhism", "religion: muslim, religion: buddhist"),
    ("an old man", "age: old, gender: male"),
    ("a 4-year-old boy", "gender: male"),
    ("she will groom six dogs", "gender: female"),
    ("older people", "age: old"),
    ("teenagers", "age: teenage"),
    ("a blind person", "disability: blind"),
    ("being deaf is fine", "disability: deaf"),
    ("disabled users", "disability: disabled"),
    ("people with disabilities", "disability: disabled"),
    ("a gay couple", "orientation: gay"),
    ("a straight guy", "orientation: heterosexual, gender: male"),
    ("LGBTQ+ rights", "orientation: queer"),
    ("fat people", "body: fat"),
    ("the poor are many", "class: poor"),
    ("middle class and working-class", "class: middle_class, class: working_class"),
    ("an asylum seeker", "migration: refugee"),
    ("ma’am, it’s me", "gender: female"),
    ("他們的爸爸", "gender: male"),
    ("她和媽媽", "gender: female"),
    ("王小姐与李先生", "gender: female, gender: male"),
    ("陳志明先生", "gender: male"),
    ("黑人和白人", "ethnicity: black, ethnicity: white"),
    ("維吾爾族", "ethnicity: uyghur"),
    ("维吾尔族人", "ethnicity: uyghur"),
    ("我是美国人", "nationality: american"),
    ("我來自日本", "nationality: japanese"),
    ("他是猶太人", "gender: male, religion: jewish"),
    ("穆斯林去清真寺", "religion: muslim"),
    ("青少年不是老人", "age: teenage, age: old"),
    ("视障人士", "disability: blind"),
    ("女同性戀", "gender: female, orientation: lesbian"),
    ("上海人", "region: shanghai"),
    ("窮人与有钱人", "class: poor, class: rich"),
    ("My friend Anna 是台灣人", "gender: female, nationality: taiwanese"),
]
NOTHING = [
    "the white wall", "black coffee", "a straight line", "black friday", "white paper, black ink", "it is black",
    "The card is white.", "blind spot", "double-blind study", "my account is disabled", "deaf ears", "tone deaf",
    "trans fat", "old card", "an old friend", "4 years old", "a 4-year-old phone", "how old is it", "poor quality",
    "rich text", "a short time", "tall buildings", "fat-free milk", "young at heart",
    "Turkey is closed", "polish the table", "Polish the table", "nail polish", "the china cup", "Chinese food",
    "a Swiss bank account", "say it in French", "do you speak Spanish", "translate to German", "american express",
    "a transfer from Spain", "I am in China", "British Airways", "Australian dollars", "European transfers",
    "Christian Dior", "Will May come in April?", "may I", "will you", "mark it", "a rose",
    "mankind", "manpower", "man-made", "ready to man a desk", "oh boy", "hi guys", "no man's land", "Spider-Man",
    "Burger King", "Rodney King", "King Street", "king size bed", "Lady Gaga", "mother tongue",
    "Father Christmas", "founding fathers", "female connector", "20 ms", "I miss you", "M&Ms",
    "3 bags of M&Ms. The first", "an African elephant", "I am short of money", "You are straight up lying",
    "The service was poor.", "my friend will pay", "Hi, mark it", "my landlord", "the host",
    "St. James Street", "San Diego", "emily", "sister company", "Church Street", "human", "theme", "history",
    "mail anna@sue.org or @Emily", "see http://man.org/women", "Dear {her_name}", "", "42", "?!",
    "其他", "吉他", "維他命", "男女", "先生成一份報告", "中國人民銀行", "美国人口", "日本人均", "寄到日本", "明白人",
    "孫子兵法", "祖父母", "兄弟姊妹", "同志們", "長大成人", "他國",
]  # fmt: skip


@pytest.mark.parametrize(("text", "groups"), FOUND)
def test_who_is_mentioned(text: str, groups: str) -> None:
    assert {str(group) for group in mentioned(text)} == set(groups.split(", "))


@pytest.mark.parametrize("text", NOTHING)
def test_words_that_mean_something_else(text: str) -> None:
    assert mentioned(text) == frozenset()


def test_where_it_stands() -> None:
    found = mentions("Anna 是台灣人, a Frenchman")
    assert [(one.start, one.end, one.axis, one.group, one.term) for one in found] == [
        (0, 4, "gender", "female", "Anna"),
        (6, 9, "nationality", "taiwanese", "台灣人"),
        (13, 22, "gender", "male", "Frenchman"),
        (13, 22, "nationality", "french", "Frenchman"),
    ]


def test_the_longest_term_counts() -> None:
    assert [one.term for one in mentions("a middle eastern man")] == ["middle eastern", "man"]
    assert [one.term for one in mentions("青少年")] == ["青少年"]


def test_a_family_name_is_no_given_name() -> None:
    assert [one.term for one in mentions("Henry James, Emily")] == ["Henry", "Henry", "Emily", "Emily"]


class TestLists:
    def test_axes_and_groups(self) -> None:
        known = known_groups()
        assert {"gender", "ethnicity", "nationality", "religion", "age", "disability", "orientation", "body",
                "class", NAME_AXIS} <= known.keys()  # fmt: skip
        assert sum(len(names) for names in known.values()) > 100
        assert "region" not in known_groups(["en"])

    @pytest.mark.parametrize(("language", "least"), [("en", 60), ("zh", 30)])
    def test_names_of_both_genders(self, language: str, least: int) -> None:
        words = lexicon(language)
        names = Counter(
            reading.group.name for name in words.names for reading in words.readings[name]
            if reading.group.axis == "gender"
        )  # fmt: skip
        assert names["male"] >= least
        assert names["female"] >= least

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_no_term_says_two_groups_in_one_form(self, language: str) -> None:
        for term, readings in lexicon(language).readings.items():
            once = {(reading.group.axis, reading.form, reading.group) for reading in readings}
            assert len({(axis, form) for axis, form, _ in once}) == len(once), term

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_name_is_listed_once(self, language: str) -> None:
        """Or it would stand for two others."""
        words = lexicon(language)
        for name in words.names:
            assert len([one for one in words.readings[name] if one.group.axis == "gender" and "/" in one.form]) == 1, (
                name
            )

    def test_both_scripts_differ_where_it_is_said(self) -> None:
        traditional, simplified = lexicon("zh").scripts
        assert not traditional & simplified
        assert lexicon("zh").is_simplified("他们的妈妈")
        assert not lexicon("zh").is_simplified("他們的媽媽")


def test_words_with_common_beginnings() -> None:
    import re

    made = re.compile(pattern(["a", "abc", "abd", "b c", "it's"]))
    assert [match[0] for match in made.finditer("abcabdabx b-c it’s")] == ["abc", "abd", "a", "b-c", "it’s"]


def test_fast_enough() -> None:
    """5,000 short texts a second are wanted; the best of five, as others may use the machine."""
    texts = [
        "My daughter says she lost her white card in Spain, can you help?",
        "How long does a transfer to another bank usually take?",
        "I still have not received my new card, I ordered it over a week ago.",
        "我的信用卡還沒有到，可以幫我查一下嗎？",
    ] * 250
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        for text in texts:
            mentioned(text)
        best = min(best, time.process_time() - start)
    assert best < 0.2


class TestCensus:
    TEXTS = ("He paid.", "She paid.", "She left.", "Hello.", "Muslims and Jews", "his Muslim friend")

    def test_counts(self) -> None:
        found = census(self.TEXTS)
        assert (found.rows, found.mentioning) == (6, 5)
        gender, religion = found.axes["gender"], found.axes["religion"]
        assert {name: one.rows for name, one in gender.groups.items()} == {"female": 2, "male": 2}
        assert gender.rows == 4
        assert gender.share == pytest.approx(4 / 6)
        assert gender.missing == ()
        assert gender.diversity == pytest.approx(1.0)
        assert list(religion.groups) == ["muslim", "jewish"]
        assert religion.rows == 2
        assert "hindu" in religion.missing
        assert "muslim" not in religion.missing
        assert found.axes["disability"].diversity is None
        assert "region" not in found.axes  # no text is Chinese

    def test_rare_is_below_a_tenth(self) -> None:
        texts = ["He left."] * 21 + ["She left."] * 2
        assert census(texts).axes["gender"].rare == ("female",)
        assert census(texts[1:]).axes["gender"].rare == ()  # 2 of 20 are a tenth

    def test_spread(self) -> None:
        """3 and 1 of four groups: (0.75 ln 4/3 + 0.25 ln 4) / ln 4 = 0.4056."""
        assert diversity([3, 1], 4) == pytest.approx(0.4056, abs=1e-4)
        assert diversity([5], 2) == 0
        assert diversity([5], 1) == 0
        assert diversity([], 3) is None
        assert diversity([2, 2, 2], 3) == pytest.approx(1)

    def test_labels_of_those_who_mention_a_group(self) -> None:
        """Of 20 rows half are bad; of the 8 that mention women 6 are. Fisher's p, summed by hand from the numbers of
        ways, is 2 * (C(8,6)C(12,4) + C(8,7)C(12,3) + C(8,8)C(12,2)) / C(20,10)."""
        texts = ["She came."] * 8 + ["Somebody came."] * 12
        labels = ["bad"] * 6 + ["good"] * 2 + ["bad"] * 4 + ["good"] * 8
        (bad, good) = census(texts, labels=labels).axes["gender"].groups["female"].labels
        assert (bad.label, bad.rows, bad.rate, good.label, good.rows) == ("bad", 6, 0.75, "good", 2)
        assert bad.difference == pytest.approx(0.25)
        assert good.difference == pytest.approx(-0.25)
        ways = sum(math.comb(8, hits) * math.comb(12, 10 - hits) for hits in (6, 7, 8))
        assert bad.p == pytest.approx(2 * ways / math.comb(20, 10))
        assert bad.p_adjusted == pytest.approx(min(1, 2 * bad.p))
        assert bad.low < 0.75 < bad.high

    def test_rows_without_a_label_are_of_no_rate(self) -> None:
        (only,) = census(["She", "She", "it"], labels=["a", None, "a"]).axes["gender"].groups["female"].labels
        assert (only.rows, only.rate, only.difference, only.p) == (1, 1.0, 0.0, 1.0)

    def test_a_group_with_no_labelled_row_has_no_rates(self) -> None:
        assert census(["She", "it"], labels=[None, "a"]).axes["gender"].groups["female"].labels == ()

    def test_wilson_solves_its_equation(self) -> None:
        """Its ends are the rates that lie 1.96 standard errors of their own from the share."""
        for hits, rows in ((1, 10), (7, 9), (50, 1000)):
            for end in wilson(hits, rows):
                assert abs(hits / rows - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / rows), rel=1e-6)
        assert wilson(0, 5)[0] == 0
        assert wilson(5, 5)[1] == 1

    def test_holm_by_hand(self) -> None:
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([]) == []
        assert holm([0.9, 0.8]) == [1.0, 1.0]

    def test_fisher_of_a_known_table(self) -> None:
        """Fisher's lady tasting tea: three of four right, p = 0.4857 on both sides."""
        assert exact([[3, 1], [1, 3]]) == pytest.approx(34 / 70)

    def test_fisher_of_many_tables_is_scipys(self) -> None:
        """Small ones, ones that are likely twice over by symmetry, and ones of many rows."""
        rng = np.random.default_rng(0)
        tables = [rng.integers(0, size, (2, 2)).tolist() for size in (3, 8, 8, 400) for _ in range(20)]
        for table in [*tables, [[8, 2], [2, 8]], [[0, 5], [0, 7]], [[0, 0], [3, 4]], [[500, 20], [900, 12_000]]]:
            assert exact(table) == pytest.approx(fisher_exact(table)[1], rel=1e-7, abs=1e-300), table

    def test_several_labels_of_one_text(self) -> None:
        """Of four texts three are rude and two of these loud; both that mention women are rude, one loud."""
        labels = [frozenset({"rude", "loud"}), frozenset({"rude"}), frozenset({"rude", "loud"}), frozenset[str]()]
        loud, rude = census(["She", "She", "it", "it"], labels=labels).axes["gender"].groups["female"].labels
        assert (loud.label, loud.rows, loud.rate, loud.difference) == ("loud", 1, 0.5, 0.0)
        assert (rude.label, rude.rows, rude.rate, rude.difference) == ("rude", 2, 1.0, 0.25)

    def test_only_the_most_frequent_groups_are_tested(self) -> None:
        """And p is adjusted for what was tested alone: two labels of one group."""
        texts = ["She came."] * 4 + ["He came."] * 2 + ["It came."] * 6
        labels = ["bad"] * 4 + ["good"] * 8
        gender = census(texts, labels=labels, tested=1).axes["gender"].groups
        assert gender["male"].labels == ()
        bad, good = gender["female"].labels
        assert bad.p == pytest.approx(1 / math.comb(12, 4))
        assert bad.p_adjusted == good.p_adjusted == pytest.approx(2 * bad.p)

    def test_groups_known_otherwise(self) -> None:
        groups = [[Group("gender", "female")], [Group("team", "red")], []]
        found = census(["x", "y", "z"], groups)
        assert found.axes["team"].groups["red"].rows == 1
        assert found.axes["team"].diversity == 0
        assert census(["x", "y", "z"], groups, axes=["team"]).mentioning == 1

    def test_some_axes(self) -> None:
        found = census(self.TEXTS, axes=["religion"])
        assert list(found.axes) == ["religion"]
        assert found.mentioning == 2

    def test_nothing(self) -> None:
        found = census([])
        assert (found.rows, found.mentioning, found.axes) == (0, 0, {})

    def test_it_is_plain_json(self) -> None:
        given = census(self.TEXTS, labels=[0, 1, 1, 0, 1, None]).to_dict()
        assert json.loads(json.dumps(given, allow_nan=False)) == given
        assert given["axes"]["gender"]["groups"]["female"]["labels"][1]["rate"] == 1.0

    def test_refusals(self) -> None:
        with pytest.raises(DataError, match="2 labels for 1 texts"):
            census(["x"], labels=[1, 2])
        with pytest.raises(DataError, match="Did you mean 'gender'"):
            census(["x"], axes=["gendre"])


def rows_of(*path: str) -> list[dict[str, str]]:
    file = DATA.joinpath(*path)
    if not file.exists():
        pytest.skip(f"needs {'/'.join(path)} in the folder that TUNEFUL_TEST_DATA names")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


TERMS = (
    "african american", "middle eastern", "middle aged", "african", "american", "asian", "bisexual", "black", "blind",
    "buddhist", "canadian", "catholic", "chinese", "christian", "deaf", "elderly", "european", "female", "gay",
    "heterosexual", "hispanic", "homosexual", "indian", "japanese", "jewish", "latina", "latino", "latinx", "lesbian",
    "lgbt", "lgbtq", "male", "mexican", "millenial", "muslim", "nonbinary", "old", "older", "paralyzed", "protestant",
    "queer", "sikh", "straight", "taoist", "teenage", "trans", "transgender", "white", "young", "younger",
)  # fmt: skip


def test_terms_of_the_madlibs_are_found() -> None:
    """All 50 of them; what is missed are ambiguous ones as bare objects ("hug black")."""
    rows = rows_of("bias_madlibs", "bias_madlibs_77k.csv")
    hits, every = Counter[str](), Counter[str]()
    for row in rows[::7]:
        text = f" {row['Text'].lower().rstrip('.')} "
        term = next((term for term in TERMS if f" {term} " in text), None)
        if term is not None:
            every[term] += 1
            hits[term] += any(one.term.lower() == term for one in mentions(row["Text"]))
    assert len(every) == len(TERMS)
    assert sum(hits.values()) >= 0.95 * sum(every.values())
    assert all(hits[term] >= 0.8 * count for term, count in every.items())


def test_chinese_madlibs() -> None:
    rows = [
        row for row in rows_of("bias_madlibs", "zh-cn_sentence_templates.csv") if row["template"] == "hate_identity"
    ]
    assert {row["phrase"] for row in rows if not mentioned(row["phrase"])} == {
        "我讨厌成年人", "我讨厌成人", "我讨厌信徒",
    }  # fmt: skip


def test_customers_of_a_bank_seldom_mention_anybody() -> None:
    rows = rows_of("banking77", "train.csv") + rows_of("banking77", "test.csv")
    found = [mentions(row["text"]) for row in rows]
    share = sum(any(one.axis in ("gender", "ethnicity", "religion") for one in row) for row in found) / len(found)
    assert 0.005 < share < 0.01  # 103 rows, each of which was looked at: kin and pronouns
    others = {one.term.lower() for row in found for one in row if one.axis in ("ethnicity", "religion")}
    assert others == set()
