"""The same text about another group: what moves, what stays, and that it is still English or Chinese."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tuneful.core.errors import DataError, RecipeError
from tuneful.data.augment import AUGMENTATIONS
from tuneful.data.augment.counterfactual import Counterfactual
from tuneful.data.identity import known_groups, mentioned, mentions, swapped, swapped_together
from tuneful.data.identity.english import sounds_open, with_article
from tuneful.data.identity.lexicon import LANGUAGES, NAME_AXIS, lexicon
from tuneful.data.rows import NAMES
from tuneful.run.api import recipe_for
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.vary import samples, varied
from tuneful.testing import check_augmentation
from work import write_rows


def chance(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


def other_gender(text: str) -> str | None:
    return swapped(text, chance(), ["gender"])


HER_IS_HIM = """
I saw her. | I told her that it was late. | I gave it to her yesterday. | They met her at the station.
I know her and like her. | Let her go home. | We saw her leave the house. | You made her cry.
I heard her singing upstairs. | They kept her waiting. | I gave her two books. | I sent her 20 dollars.
The money was sent to her last week. | They thanked her warmly. | I asked her why. | I drove her home.
It is hard for her to pay. | I believe her! | I sent her the money. | Everyone who knows her says so.
I will call her again. | I made her happy. | Nobody behind her shouted. | I'm helping her move. | I gave her money.
Is it her? | What did you tell her, and when? | This is about her (again). | I owe her | I showed her my card.
You cannot charge her twice. | Please add her as a user. | I want her to have one. | They called her repeatedly.
With her gone we left. | I sent it to her, not to you. | We will pay her back. | That hurt her deeply.
Give her some time. | They charged her $20. | I haven't heard from her since. | I left her alone. | I never met her before.
"""
HER_IS_HIS = """
Her card is lost. | I found her wedding ring. | I met her two friends. | I like her newly bought car.
We love her lovely dog. | Her home is far. | I like her happy dog. | We need her help. | That isn't her fault.
It belongs to her "best friend". | Her first account | It came with her early payment. | I saw her meeting notes.
What is her address? | Can I use her 5 cards? | Her, my and your names: her name comes first.
It is in her bed. | Her own idea | I lost her recently opened account. | In her new house | her PIN
They read her mind. | We watched her show. | All her money is gone. | Both her cards work. | I keep her savings.
Her daily limit | I sent her mother's card. | Her very old phone
Half of her $100 | I love her cooking. | I found her happy dog. | It is within her $400 budget.
"""


def listed(sentences: str) -> list[str]:
    return [one.strip() for one in re.split(r"[|\n]", sentences) if one.strip()]


@pytest.mark.parametrize("text", listed(HER_IS_HIM))
def test_her_is_him(text: str) -> None:
    assert other_gender(text) == re.sub(r"\bher\b", "him", text)


@pytest.mark.parametrize("text", [one for one in listed(HER_IS_HIS) if "mother" not in one and "my" not in one])
def test_her_is_his(text: str) -> None:
    assert other_gender(text) == re.sub(r"\bHer\b", "His", re.sub(r"\bher\b", "his", text))


@pytest.mark.parametrize(("text", "new"), [
    ("The book is his.", "The book is hers."),
    ("The book is hers.", "The book is his."),
    ("I lost his, not mine.", "I lost hers, not mine."),
    ("A friend of his called.", "A friend of hers called."),
    ("His own idea", "Her own idea"),
    ("his book and hers", "her book and his"),
    ("Ask him or her about it.", "Ask her or him about it."),
    ("his or her account", "her or his account"),
    ("his/her account", "her/his account"),
    ("He/she pays.", "She/he pays."),
    ("She hurt herself; he's fine, she'd say.", "He hurt himself; she's fine, he'd say."),
    ("I sent her mother's card.", "I sent his father's card."),
    ("SHE LOST HER CARD", "HE LOST HIS CARD"),
    ("she lost her card and her husband found it for her.", "he lost his card and his wife found it for him."),
])  # fmt: skip
def test_pronouns(text: str, new: str) -> None:
    assert other_gender(text) == new


@pytest.mark.parametrize(("text", "new"), [
    ("An actor met a waitress.", "An actress met a waiter."),
    ("He is an uncle and a father.", "She is an aunt and a mother."),
    ("The heiress is an heiress.", "The heir is an heir."),
    ("Her landlady", "His landlord"),
    ("Mr. Smith, Mrs Jones and Miss Lee", "Ms. Smith, Mr Jones and Mr Lee"),
    ("Dear Sir or Madam", "Dear Madam or Sir"),
    ("two policemen, one policewoman", "two policewomen, one policeman"),
    ("My mother-in-law and my ex-wife", "My father-in-law and my ex-husband"),
    ("Ladies and gentlemen!", "Gentlemen and ladies!"),
    ("Prince Arthur and Queen Anna", "Princess Martha and King Daniel"),
    ("the King and his queen", "the Queen and her king"),
    ("maternity leave", "paternity leave"),
    ("Moms’ cards", "Dads’ cards"),
    ("John met Emily; John left, Emily's card stayed.", "Emily met John; Emily left, John's card stayed."),
    ("JOHN AND HIS WIFE", "EMILY AND HER HUSBAND"),
    ("Henry James wrote it.", "Catherine James wrote it."),
    ("Ahmed and Olga", "Aisha and Dmitri"),
    ("Mr Will Smith said it will rain in May", "Ms May Smith said it will rain in May"),
    ("mankind and his wife", "mankind and her husband"),
    ("a Frenchwoman", "a Frenchman"),
    ("他和他的爸爸", "她和她的媽媽"),
    ("他们的妈妈", "她们的爸爸"),
    ("王先生和李小姐", "王女士和李先生"),
    ("陳志明愛淑芬", "陳淑芬愛志明"),
    ("我兒子的女朋友", "我女兒的男朋友"),
    ("她問其他人他在哪", "他問其他人她在哪"),
    ("爷爷和奶奶来了", "奶奶和爷爷来了"),
    ("女同性戀", "男同性戀"),
    ("Anna 是我妹妹", "Daniel 是我弟弟"),
])  # fmt: skip
def test_words_and_names_of_gender(text: str, new: str) -> None:
    assert other_gender(text) == new


@pytest.mark.parametrize("text", [
    "", "Hello there.", "mankind", "you guys", "an heir", "Will May come?", "The Burger King near King Street", "其他人",
    "She is pregnant and her husband knows.", "his prostate", "他的前列腺", "這位孕婦和她先生", "mail her@home.org",
    "The lesbian and her mother",
])  # fmt: skip
def test_nothing_to_exchange(text: str) -> None:
    assert other_gender(text) is None


def test_biology_keeps_gender_alone() -> None:
    """What else is mentioned moves, and a word in one of several texts is enough."""
    assert swapped("A pregnant Muslim woman", chance(), ["gender", "religion"]).endswith(" woman")  # type: ignore[union-attr]
    assert swapped_together(["She called.", "She is pregnant."], chance(), ["gender"]) is None


@pytest.mark.parametrize(("text", "article"), [
    ("actress", "an"), ("European", "a"), ("Ukrainian", "a"), ("Ugandan", "a"), ("heir", "an"), ("uncle", "an"),
    ("unhoused man", "an"), ("Uzbek", "an"), ("LGBT person", "an"), ("Muslim", "a"), ("one-eyed man", "a"),
    ("honest man", "an"), ("hero", "a"), ("Indian", "an"), ("unit", "a"), ("underweight man", "an"), ("user", "a"),
])  # fmt: skip
def test_articles_by_sound(text: str, article: str) -> None:
    assert sounds_open(text) is (article == "an")
    for before in ("a ", "an "):
        assert with_article(f"It is {before}", text) == f"It is {article} "
        assert with_article(before.capitalize(), text) == f"{article.capitalize()} "
    assert with_article("It is the ", text) == "It is the "
    assert with_article("Canada ", text) == "Canada "


def one_to_one(language: str) -> list[tuple[str, str]]:
    """Terms and names of gender that stand for one another, and are right in any sentence."""
    words = lexicon(language)
    found = []
    for (axis, form), written in words.written.items():
        if axis == "gender" and form not in ("him/her", "his/her", "his/hers"):
            male, female = (written[name][0].text for name in ("male", "female"))
            own = [[one for one in words.readings.get(term.lower().replace(" ", "-"), []) if one.group.axis == "gender"]
                   for term in (male, female)]  # fmt: skip
            if all(len(one) == 1 and one[0].form == form and one[0].rule in ("", "name") for one in own):
                found += [(male, female), (female, male)]
    return found


ENGLISH, CHINESE = one_to_one("en"), one_to_one("zh")
FRAMES = (
    "The {0} met the {1} and lost his card.", "{0} saw {1}, and she thanked him.", "Is a {0} here? The {1} said: {0}!",
    "her friend, the {0}, paid himself for the {1}.", "He is older than the {0}; the {1} is his.",
)  # fmt: skip


def test_many_terms_are_one_to_one() -> None:
    assert len(ENGLISH) > 350
    assert len(CHINESE) > 200


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FRAMES), st.sampled_from(ENGLISH), st.sampled_from(ENGLISH), st.booleans())
def test_twice_is_the_text_again(frame: str, one: tuple[str, str], other: tuple[str, str], title: bool) -> None:
    words = [word[0] if not title or word[0][0].isupper() else word[0].capitalize() for word in (one, other)]
    text = frame.format(*words)
    text = re.sub(r"\ba (\w+)", lambda match: f"{'an' if sounds_open(match[1]) else 'a'} {match[1]}", text)
    once = other_gender(text)
    assert once is not None
    assert one[1].lower() in once.lower()
    assert other_gender(once) == text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CHINESE), st.sampled_from(CHINESE))
def test_twice_is_the_text_again_in_chinese(one: tuple[str, str], other: tuple[str, str]) -> None:
    text = f"這裡有「{one[0]}」和「{other[0]}」，她問他們。"
    assert other_gender(other_gender(text) or "") == text


class TestOtherAxes:
    def test_forms_follow(self) -> None:
        """One person, several, what they believe and where they go: all of one other religion."""
        seen = set()
        for seed in range(60):
            new = swapped("A Muslim went to a mosque; Muslims there were Muslim.", chance(seed), ["religion"])
            assert new is not None
            seen.add(new)
        assert seen == {
            "A Jew went to a synagogue; Jews there were Jewish.",
            "A Christian went to a church; Christians there were Christian.",
            "A Catholic went to a Catholic church; Catholics there were Catholic.",
            "A Hindu went to a Hindu temple; Hindus there were Hindu.",
            "A Buddhist went to a Buddhist temple; Buddhists there were Buddhist.",
            "A Sikh went to a gurdwara; Sikhs there were Sikh.",
            "A Taoist went to a Taoist temple; Taoists there were Taoist.",
        }

    def test_adjective_or_person(self) -> None:
        """Said of Jews the two differ."""
        for text, new in (
            ("a Muslim man", "a Jewish man"), ("a Muslim met us", "a Jew met us"), ("he is a Muslim", "he is a Jew"),
            ("she is Muslim", "she is Jewish"), ("You are a nice muslim", "You are a nice jew"),
            ("being muslim is fine", "being jewish is fine"), ("every Muslim and", "every Jew and"),
        ):  # fmt: skip
            assert new in {swapped(text, chance(seed), ["religion"]) for seed in range(60)}, text

    def test_several(self) -> None:
        made = {swapped("The Chinese are here.", chance(seed), ["nationality"]) for seed in range(200)}
        assert "The Mexicans are here." in made
        assert all("person" not in str(one) for one in made)

    def test_two_groups_stay_two(self) -> None:
        for seed in range(50):
            new = swapped("Jews, Muslims and Hindus; Jews", chance(seed), ["religion"])
            groups = [one.group for one in mentions(new or "")]
            assert len(set(groups[:3])) == 3
            assert groups[0] == groups[3]
            assert (groups[0], groups[1], groups[2]) != ("jewish", "muslim", "hindu")
            assert all(new_one != old for new_one, old in zip(groups, ("jewish", "muslim", "hindu"), strict=False))

    def test_every_group_is_drawn(self) -> None:
        drawn = Counter(swapped("a blind man", chance(seed), ["disability"]) for seed in range(300))
        assert len(drawn) == len(known_groups(["en"])["disability"]) - 1

    def test_children_stay_children(self) -> None:
        assert swapped("my kids and a child", chance(), ["age"]) is None
        assert {swapped("a young man", chance(seed), ["age"]) for seed in range(40)} == {
            "a teenage man", "a middle-aged man", "an elderly man",
        }  # fmt: skip

    def test_nobody_becomes_a_child(self) -> None:
        assert not any("child" in str(swapped("a teenager", chance(seed), ["age"])) for seed in range(40))

    def test_names_of_another_origin(self) -> None:
        """The same name is always the same other name, two names are two, and the gender stays."""
        for seed in range(30):
            new = swapped("Emily and Lauren met Emily", chance(seed), [NAME_AXIS])
            assert new is not None
            one, _, other, _, again = new.split()
            assert one == again
            assert one != other
            found = mentioned(new)
            assert {str(group) for group in found if group.axis == "gender"} == {"gender: female"}
            assert not {str(group) for group in found} & {"name_origin: anglo"}

    def test_capital_letters(self) -> None:
        made = {
            swapped("blind people. Blind people. BLIND PEOPLE.", chance(seed), ["disability"]) for seed in range(60)
        }
        assert "deaf people. Deaf people. DEAF PEOPLE." in made
        assert "i am jewish" in {swapped("i am muslim", chance(seed), ["religion"]) for seed in range(60)}
        assert "Atheists came." in {swapped("Jews came.", chance(seed), ["religion"]) for seed in range(60)}

    def test_the_script_stays(self) -> None:
        simplified = {swapped("我们是美国人", chance(seed), ["nationality"]) for seed in range(300)}
        traditional = {swapped("我們是美國人", chance(seed), ["nationality"]) for seed in range(300)}
        assert "我们是中国人" in simplified
        assert "我們是中國人" in traditional
        assert not any("國" in str(one) for one in simplified)
        assert not any("国" in str(one) for one in traditional)

    def test_both_languages_of_a_text_move_alike(self) -> None:
        for seed in range(40):
            new = swapped("He is a Sikh，錫克教徒。", chance(seed), ["religion"])
            groups = {one.group for one in mentions(new or "") if one.axis == "religion"}
            assert len(groups) == 1
            assert groups != {"sikh"}

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_what_is_written_is_found_again(self, language: str) -> None:
        """Every group in every form that says one person or several: or a swap would end where nothing is mentioned."""
        words = lexicon(language)
        frames = {"person": "I met a {} here.", "people": "I met {} here.", "adjective": "I met a {} man here."}
        frames = dict.fromkeys(frames, "我認識{}。") if language == "zh" else frames
        for (axis, form), groups in words.written.items():
            for name, (term, *_) in groups.items():
                if form in frames and axis != NAME_AXIS:
                    found = {(one.axis, one.name) for one in mentioned(frames[form].format(term.text))}
                    assert (axis, name) in found, (form, term)

    @pytest.mark.parametrize("axis", [axis for axis in known_groups() if axis not in ("gender", "region")])
    def test_another_group_of_the_axis(self, axis: str) -> None:
        words = lexicon("en")
        for name in words.groups[axis]:
            for form, frame in (("person", "I met a {} here."), ("people", "I met {} here.")):
                if term := words.written.get((axis, form), {}).get(name):
                    text = frame.format(term[0].text)
                    for seed in range(3):
                        new = swapped(text, chance(seed), [axis])
                        groups = {one.name for one in mentioned(new or text) if one.axis == axis}
                        assert len(groups) == 1, (text, new)
                        assert (groups == {name}) is (name == "child"), (text, new)


class TestMapping:
    def test_all_axes(self) -> None:
        for seed in range(20):
            found = {one.axis: one.group for one in mentions(swapped("An old Muslim woman", chance(seed)) or "")}
            assert found["gender"] == "male"
            assert found["age"] != "old"
            assert found["religion"] != "muslim"

    def test_only_these_axes(self) -> None:
        assert swapped("a Muslim woman", chance(), ["gender"]) == "a Muslim man"
        assert swapped("a Muslim woman", chance(), []) is None

    def test_texts_that_belong_together(self) -> None:
        """A mapping for both, of groups that have the forms of both: an atheist has no mosque."""
        for seed in range(30):
            made = swapped_together(["Emily is Muslim.", "The Muslims like Emily and her mosque."], chance(seed))
            assert made is not None
            first, second = made
            name = first.split()[0]
            assert name in second
            assert name != "Emily"
            groups = [{one.name for one in mentioned(text) if one.axis == "religion"} for text in (first, second)]
            assert groups[0] == groups[1]
            assert not groups[0] & {"muslim", "atheist"}

    def test_across_axes(self) -> None:
        """A religion may become a nationality; gender and names are told by each other, and stay apart."""
        axes = set()
        origin = next(one.name for one in mentioned("Emily is here.") if one.axis == "name_origin")
        for seed in range(60):
            made = swapped("Emily is Muslim and she likes Muslims.", chance(seed), across=True)
            assert made is not None
            told = {one.axis: one.name for one in mentioned(made)}
            assert told.pop("gender") == "male"
            assert told.pop("name_origin") != origin, "a name changes its origin as well, as without `across`"
            (axis, name), *others = told.items()
            assert not others, "one group stands for one, in both places"
            assert name != "muslim"
            axes.add(axis)
        assert {"religion", "nationality", "orientation"} <= axes
        within = {axis for seed in range(60)
                  for axis in [one.axis for one in mentioned(swapped("I am Muslim.", chance(seed)) or "")]}  # fmt: skip
        assert within == {"religion"}

    def test_across_only_these_axes(self) -> None:
        found = set()
        for seed in range(40):
            text = swapped("a gay Muslim", chance(seed), ["religion", "disability"], across=True)
            assert text is not None
            assert "gay" in text
            found |= {one.axis for one in mentioned(text)} - {"orientation"}
        assert found == {"religion", "disability"}

    @pytest.mark.parametrize("across", [False, True])
    def test_the_setting_goes_across(self, across: bool) -> None:
        change = Counterfactual(across=across)
        texts = [change.over(())("I am Muslim.", chance(seed)) for seed in range(40)]
        texts += [change.together(["I am Muslim."], chance(seed))[0] for seed in range(40)]
        for half in (texts[:40], texts[40:]):
            axes = {one.axis for text in half for one in mentioned(text)}
            assert (axes == {"religion"}) is not across

    def test_what_is_kept(self) -> None:
        assert swapped("Prince William and his wife", chance(), ["gender"], keep=["prince william"]) == (
            "Prince William and her husband"
        )
        assert swapped("The woman and other women", chance(), ["gender"], keep=["woman"]) == "The woman and other men"
        assert swapped("女王和她", chance(), ["gender"], keep=["女王"]) == "女王和他"

    def test_the_same_chance_is_the_same_text(self) -> None:
        made = {swapped("Two Mexicans met Jamal.", chance(7)) for _ in range(5)}
        assert len(made) == 1

    def test_unknown_axis(self) -> None:
        with pytest.raises(DataError, match="Did you mean 'religion'"):
            swapped("x", chance(), ["religions"])


class TestAugmentation:
    TEXTS = ("Is it really 3 days until she gets her new card?", "hello", "我先生的信用卡還沒有到，要等 3 天嗎？")

    def test_contract(self) -> None:
        check_augmentation(Counterfactual(), self.TEXTS)
        assert Counterfactual().share == 0.5
        assert AUGMENTATIONS.classes["counterfactual"] is Counterfactual

    def test_change(self) -> None:
        change = Counterfactual(axes="gender", keep="Mr Bean").over(())
        assert change("Mr Bean and her mother, a Muslim", chance()) == "Mr Bean and his father, a Muslim"
        assert change("hello", chance()) == "hello"

    def test_settings_that_mean_nothing(self) -> None:
        with pytest.raises(ValidationError, match="Did you mean 'gender'"):
            Counterfactual(axes=("gendre",))
        with pytest.raises(ValidationError, match="at least 1 item"):
            Counterfactual(axes=())

    def test_rows_of_a_run(self, tmp_path: Path, reader_folder: Path) -> None:
        """Half of the visits of rows that mention somebody; the others and the labels stay."""
        rows = [{"text": text, "label": label} for number in range(20)
                for text, label in ((f"She lost card {number}.", "bad"), (f"All {number} cards came.", "good"))]  # fmt: skip
        data = write_rows(tmp_path / "rows.jsonl", rows)
        augment = {"kind": "counterfactual", "axes": "gender"}
        prepared = prepare(recipe_for(data, model=str(reader_folder), settings={"augment": augment}))
        changed = list(samples(prepared, 100))
        assert changed
        for before, after in changed:
            assert (before.text or "").replace("She", "He") == after.text
            assert before.label == after.label == "bad"
        learned = sum("She" in (row.example.text or "") for row in prepared.repeated)
        assert 0.2 * learned < len(changed) < 0.8 * learned


def test_answers_change_with_their_requests(generator_folder: Path, tmp_path: Path) -> None:
    """By one mapping: whoever is asked about is whoever the answer names, and that is what is learned."""
    rows = [
        {"prompt": f"What did the woman in room {n} say?", "completion": f"She said {n}, and left her key."}
        for n in range(40)
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"augment": '[{"kind": "counterfactual", "axes": ["gender"], "share": 1.0}]'}
    prepared = prepare(recipe_for(data, model=str(generator_folder), settings=settings))
    vary = varied(prepared)
    assert vary is not None
    for place, row in enumerate(prepared.repeated):
        asked, said = (turn.content for turn in vary.example(row, [0, 0, place]).messages)
        assert (" man " in asked) == said.startswith("He said"), (asked, said)
        assert (" man " in asked) == said.endswith("left his key."), (asked, said)
    changed = [
        (row, seen) for place, row in enumerate(prepared.repeated) if (seen := vary(row, [0, 0, place])) is not row
    ]
    assert changed
    for row, seen in changed:
        learned = prepared.processor.decode(seen.ids[seen.learn > 0].tolist())
        assert learned != prepared.processor.decode(row.ids[row.learn > 0].tolist())


def test_texts_to_write_change_as_wholes(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"text": f"He lost his card {n} times."} for n in range(40)])

    def prepared(augment: str) -> Prepared:
        return prepare(recipe_for(data, model=str(generator_folder), settings={"augment": augment}))

    changed = [after.text for _, after in samples(prepared('{"kind": "counterfactual", "share": 1.0}'), 5)]
    assert changed
    assert all(text.startswith("She lost her card") for text in changed if text)
    with pytest.raises(RecipeError, match="only text that is learned"):
        prepared('["counterfactual", "typos"]')


def test_names_of_classes_stay(reader_folder: Path, tmp_path: Path) -> None:
    """A class that is called by a group is learned by its own name."""
    rows = [{"text": f"{word} number {n}", "label": f"{who} shoes"} for n in range(30)
            for word, who in (("high heels", "women"), ("brown brogues", "men"))]  # fmt: skip
    settings = {"augment": '[{"kind": "counterfactual", "share": 1.0}]', "objective.label_names": "true", "choose": "none",
                "objective.pooling": "mean"}  # fmt: skip
    rows[0]["text"] = "for my wife"
    prepared = prepare(
        recipe_for(write_rows(tmp_path / "rows.jsonl", rows), model=str(reader_folder), settings=settings)
    )
    vary = varied(prepared)
    assert vary is not None
    names = [row for row in prepared.repeated if row.example.place.source == NAMES]
    assert len(names) == 2
    assert all(vary(row, [0, 0, place]) is row for place, row in enumerate(names))


def test_queries_are_not_changed_without_their_documents(reader_folder: Path, tmp_path: Path) -> None:
    rows = [{"query": f"why is my wife tired {n}", "positive": f"A wife may be tired {n}"} for n in range(20)]
    with pytest.raises(RecipeError, match="belong together"):
        prepare(recipe_for(write_rows(tmp_path / "rows.jsonl", rows), model=str(reader_folder),
                           settings={"augment": "counterfactual"}))  # fmt: skip


def test_what_would_never_change_together_is_refused(generator_folder: Path, tmp_path: Path) -> None:
    """A word of biology in the answer keeps the gender of the request as well."""
    rows = [{"prompt": f"My wife is tired {n}", "completion": "She is pregnant."} for n in range(20)]
    with pytest.raises(RecipeError, match="changes none"):
        prepare(recipe_for(write_rows(tmp_path / "rows.jsonl", rows), model=str(generator_folder),
                           settings={"augment": '[{"kind": "counterfactual", "axes": ["gender"]}]'}))  # fmt: skip
