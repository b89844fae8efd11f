"""Rows that are said otherwise while they are learned: what is done to a text, when, and what never changes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneful.core.errors import RecipeError
from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.augment import AUGMENTATIONS, Case, Typos, Words
from tuneful.data.augment.case import styled
from tuneful.data.augment.homophones import ALIKE
from tuneful.data.augment.pieces import free, is_fixed, pieces
from tuneful.data.augment.reread import Reader, asked_texts, with_texts
from tuneful.data.augment.typos import mistyped, slipped
from tuneful.data.augment.words import rearranged
from tuneful.data.keyboard import NEAR
from tuneful.data.rows import build as encode_rows
from tuneful.evaluation.reading import class_logits
from tuneful.models.below import NetworkAbove
from tuneful.recipe import Recipe
from tuneful.run.api import recipe_for
from tuneful.run.build import Built, build
from tuneful.run.loop import updates
from tuneful.run.losses import validation_metrics
from tuneful.run.prepare import prepare
from tuneful.run.vary import samples, tokens_seen, varied
from tuneful.schedules.epochs import Cut
from work import losses_of, moods, typed, whole_and_parts, write_rows

TEN = "alpha bravo charlie delta echoes foxtrot golfing hotels indigo juliet"


def chance(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


class TestTypos:
    def test_as_many_words_as_the_strength_says(self) -> None:
        """0.3 of ten words are three, each one letter longer; 0.01 of them is one all the same."""
        for strength, words in ((0.3, 3), (0.01, 1), (0.5, 5)):
            for seed in range(20):
                new = mistyped(TEN, strength, chance(seed), slips=["double"])
                longer = [len(b) - len(a) for a, b in zip(TEN.split(), new.split(), strict=True)]
                assert Counter(longer) == {1: words, 0: 10 - words}

    def test_keys_that_lie_beside_one_another(self) -> None:
        assert {key: "".join(sorted(NEAR[key])) for key in "aqgp"} == {"a": "qswz", "q": "aw", "g": "bfhtvy", "p": "lo"}

    @pytest.mark.parametrize("slip", ["neighbour", "swap", "drop", "double"])
    def test_each_slip_does_what_it_is_called(self, slip: Any) -> None:
        for seed in range(50):
            new = slipped("planet", chance(seed), (slip,))
            if slip == "neighbour":
                (place,) = [n for n in range(6) if new[n] != "planet"[n]]
                assert new[place] in NEAR["planet"[place]]
            elif slip == "swap":
                assert sorted(new) == sorted("planet")
                assert new != "planet"
            elif slip == "drop":
                assert new in {"planet"[:n] + "planet"[n + 1 :] for n in range(6)}
            else:
                assert new in {"planet"[: n + 1] + "planet"[n:] for n in range(6)}

    def test_words_that_sound_alike(self) -> None:
        assert {mistyped("Their car", 0.9, chance(n), slips=["homophone"]) for n in range(40)} == {
            "There car", "They're car",
        }  # fmt: skip
        for seed in range(20):
            new = mistyped("我的信用卡", 0.2, chance(seed))
            assert len(new) == 5
            (place,) = [n for n in range(5) if new[n] != "我的信用卡"[n]]
            assert new[place] in ALIKE["我的信用卡"[place]]

    def test_the_table_turns_no_meaning_round_and_names_no_number(self) -> None:
        assert [word for word, others in ALIKE.items() for other in others if is_fixed(other)] == []
        assert all(one in ALIKE[other] for one, others in ALIKE.items() for other in others)

    def test_numbers_names_addresses_and_not_stay(self) -> None:
        text = "Pay 1200 to Anna or x9 at http://bank.example/abc, mail me@home.org, not {name} don't"
        kept = ["1200", "Anna", "x9", "http://bank.example/abc", "me@home.org", "not", "{name}", "don't"]
        for seed in range(100):
            new = mistyped(text, 0.9, chance(seed))
            assert new != text
            assert all(word in new for word in kept), new

    def test_names_may_be_touched_if_asked(self) -> None:
        assert all("Anna" in mistyped("ask Anna", 0.9, chance(n)) for n in range(30))
        assert any("Anna" not in mistyped("ask Anna", 0.9, chance(n), keep_names=False) for n in range(30))

    def test_nothing_to_change_stays(self) -> None:
        assert mistyped("42 17", 0.5, chance()) == "42 17"
        assert mistyped("", 0.5, chance()) == ""


class TestWords:
    def test_each_operation_by_itself(self) -> None:
        text = "one apple fell down"
        for seed in range(30):
            swapped = rearranged("aa bb cc dd", 0.1, chance(seed), operations=["swap"])
            assert swapped in {"bb aa cc dd", "aa cc bb dd", "aa bb dd cc", "aa bb cc dd"}
            fewer = rearranged(text, 0.1, chance(seed), operations=["delete"])
            assert fewer in {"apple fell down", "one fell down", "one apple down", "one apple fell"}
            more = rearranged(text, 0.1, chance(seed), operations=["insert"], stock=["extra"])
            assert sorted(more.split()) == sorted([*text.split(), "extra"])
            own = rearranged(text, 0.1, chance(seed), operations=["insert"])
            assert len(own.split()) == 5
            assert set(own.split()) == set(text.split())

    def test_share_of_the_words(self) -> None:
        """0.5 of ten words are five, which leaves five, and a single space between any two."""
        for seed in range(20):
            left = rearranged(TEN, 0.5, chance(seed), operations=["delete"])
            assert len(left.split()) == 5
            assert "  " not in left

    def test_a_word_is_left(self) -> None:
        for seed in range(20):
            assert rearranged("hello", 0.9, chance(seed), operations=["delete"]) == "hello"
            assert rearranged("卡 卡", 0.9, chance(seed), operations=["delete"]).strip()

    def test_chinese_by_the_character(self) -> None:
        for seed in range(20):
            assert len(rearranged("我要查餘額", 0.2, chance(seed), operations=["delete"])) == 4
            assert len(rearranged("我要查餘額", 0.2, chance(seed), operations=["insert"])) == 6

    def test_what_is_said_is_not_turned_round(self) -> None:
        for seed in range(50):
            new = rearranged("the card is not 5 days late, 我不要卡", 0.9, chance(seed), operations=["delete"])
            assert "not" in new
            assert "5" in new
            assert "不" in new

    def test_words_of_the_rows(self) -> None:
        change = Words(operations="insert", insert_from="rows").over(["zebra"])
        assert "zebra" in change("one apple fell", chance())


class TestCase:
    @pytest.mark.parametrize(
        ("style", "text", "new"),
        [
            ("lower", "Hello World, see http://A.b/C", "hello world, see http://A.b/C"),
            ("upper", "hello", "Hello"),
            ("capitals", "Hello, you@Home.org", "HELLO, you@Home.org"),
            ("bare", "Well, it is 3.5 a day!", "Well it is 3.5 a day"),
            ("width", "好的，謝謝！", "好的,謝謝!"),
            ("width", "好的,謝謝!", "好的，謝謝！"),
        ],
    )
    def test_styles(self, style: Any, text: str, new: str) -> None:
        assert styled(text, chance(), [style]) == new

    def test_more_punctuation(self) -> None:
        assert {styled("Is it?", chance(n), ["marked"]) for n in range(40)} == {
            "Is it!",
            "Is it?",
            "Is it...",
            "Is it!!",
        }
        assert styled("可以嗎", chance(), ["marked"])[-1] in "。！…"

    def test_only_styles_that_change_the_text_are_drawn(self) -> None:
        assert {styled("hello", chance(n), ["lower", "bare", "upper"]) for n in range(20)} == {"Hello"}
        assert styled("!!!", chance(), ["bare"]) == "!!!"  # it would be empty


def test_a_text_is_its_pieces() -> None:
    for text in ("", "a", " a  b, c!", "我的 card 卡。x", "don't-stop 3.5%", "e\u0301tude"):
        assert "".join(pieces(text)) == text
    assert [pieces("Is it Bob? It IS. ok")[n] for n in free(pieces("Is it Bob? It IS. ok"))] == ["Is", "it", "It", "ok"]


class TestExamples:
    def test_requests_change_and_answers_stay(self) -> None:
        turns = (
            Message("system", "Be kind"), Message("user", "first"), Message("assistant", "answer"),
            Message("user", "again"), Message("user", "learned", train=True),
        )  # fmt: skip
        new = with_texts(Example(Place("x", 1), messages=turns), lambda text, _: text.upper(), chance())
        assert [turn.content for turn in new.messages] == ["Be kind", "FIRST", "answer", "AGAIN", "learned"]

    def test_texts_change_and_documents_and_labels_stay(self) -> None:
        example = Example(Place("x", 1), text="a", second="b", label="l", positive="p", negatives=("n",))
        new = with_texts(example, lambda text, _: text.upper(), chance())
        assert new == replace(example, text="A", second="B")

    def test_a_text_that_is_learned_whole_stays(self, generator_folder: Path) -> None:
        """A plain text among requests and answers: a canary, for one."""
        from tuneful.models.load import load_processor

        processor = load_processor(str(generator_folder), generator_folder, writes=True)
        reader = Reader(Layout.TOKENS, processor, 100)
        plain = encode_rows([Example(Place("x", 1), text="all of it")], Layout.TOKENS, processor, 100).rows[0]
        turns = (Message("user", "a request"), Message("assistant", "an answer"))
        asks = encode_rows([Example(Place("x", 2), messages=turns)], Layout.TOKENS, processor, 100).rows[0]
        assert not reader.varies(plain)
        assert reader.varies(asks)

    def test_what_would_be_empty_stays(self) -> None:
        example = Example(Place("x", 1), text="a", label="l")
        assert with_texts(example, lambda *_: "  ", chance()) == example


def recipe(folder: Path, reader: Path, augment: Any, rows: list[dict[str, str]] | None = None, **more: Any) -> Recipe:
    data = write_rows(folder / "rows.jsonl", rows or moods())
    settings = {"augment": json.dumps(augment), "choose": "none", "schedule.steps": 6, **more}
    return recipe_for(data, model=str(reader), settings=settings)


class TestVisits:
    def test_the_share_of_the_visits(self, tmp_path: Path, reader_folder: Path) -> None:
        """A quarter of 2,000 visits, within four standard deviations of a coin."""
        prepared = prepare(recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 0.25}]))
        vary, row = varied(prepared), prepared.repeated[0]
        assert vary is not None
        changed = sum(vary(row, [0, epoch, 0]) is not row for epoch in range(2000))
        assert abs(changed - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5

    def test_a_visit_is_a_function_of_seed_epoch_and_place(self, tmp_path: Path, reader_folder: Path) -> None:
        vary, rows = _vary(tmp_path, reader_folder)
        first = [vary(row, [0, 1, n]).ids.tolist() for n, row in enumerate(rows)]
        assert first == [vary(row, [0, 1, n]).ids.tolist() for n, row in reversed(list(enumerate(rows)))][::-1]
        for key in ([1, 1], [0, 2]):
            assert first != [vary(row, [*key, n]).ids.tolist() for n, row in enumerate(rows)]

    def test_only_the_text_is_another(self, tmp_path: Path, reader_folder: Path) -> None:
        vary, rows = _vary(tmp_path, reader_folder)
        for number, row in enumerate(rows):
            new = vary(row, [0, 0, number])
            assert new.example is row.example
            assert new.target == row.target
            assert len(new.learn) == len(new.ids)

    def test_every_epoch_says_it_anew(self, tmp_path: Path, reader_folder: Path) -> None:
        """Six steps are three epochs; a row that is always changed has three forms, or two by chance."""
        given = recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 1}], **{"optimiser.rows_per_step": 23})
        schedule = build(prepare(given)).schedule
        assert len(schedule.rows) == 45  # type: ignore[union-attr]
        forms: dict[Any, set[bytes]] = {}
        for rows in schedule.visits(schedule.rows):  # type: ignore[union-attr]
            for row in rows:
                forms.setdefault(row.example.place, set()).add(row.ids.tobytes())
        assert np.mean([len(found) for found in forms.values()]) > 2.5

    def test_hidden_states_of_frozen_layers_are_not_kept(self, tmp_path: Path, reader_folder: Path) -> None:
        """They would be kept for texts that never come again."""
        for augment, kept in (([], True), (["typos"], False)):
            given = recipe(tmp_path, reader_folder, augment, adapter="{kind: top_layers, layers: 1}")
            assert isinstance(build(prepare(given)).policy.network, NetworkAbove) is kept

    def test_a_resumed_run_sees_the_same(self, tmp_path: Path, reader_folder: Path) -> None:
        schedule = build(prepare(recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 1}]))).schedule
        whole, later = [[_ids(step) for step in schedule.steps(None, start)] for start in (0, 4)]  # type: ignore[arg-type]
        assert whole[4:] == later
        assert len({str(step) for step in whole}) == len(whole)

    def test_every_token_that_is_learned_from_is_known_before(self, tmp_path: Path, reader_folder: Path) -> None:
        """Of the embedding only rows of tokens that occur learn; some occur in what rows are said as alone."""
        prepared = prepare(recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 1}], **{"schedule.steps": 12}))
        seen = set(tokens_seen(prepared).tolist())  # type: ignore[union-attr]
        schedule = build(prepared).schedule
        learned = {token for step in schedule.steps(None) for row in _ids(step) for token in row}  # type: ignore[arg-type]
        as_they_stand = {token for row in prepared.repeated for token in row.ids.tolist()}
        assert learned - as_they_stand
        assert learned <= seen

    def test_two_ranks_learn_what_one_does(self, tmp_path: Path, reader_folder: Path) -> None:
        schedule = build(prepare(recipe(tmp_path, reader_folder, [{"kind": "words", "share": 1}]))).schedule
        one = [sorted(_texts(step)) for step in schedule.steps(None)]  # type: ignore[arg-type]
        cut: Cut = schedule.cut
        both = zip(
            *[replace(schedule, cut=replace(cut, ranks=2, rank=rank)).steps(None) for rank in (0, 1)], strict=True
        )  # type: ignore[arg-type]
        assert one == [sorted(_texts(first) + _texts(second)) for first, second in both]

    def test_equal_queries_are_changed_alike(self, tmp_path: Path, reader_folder: Path) -> None:
        rows = [{"query": f"where is room {n // 2} of the house", "positive": f"document {n}"} for n in range(40)]
        prepared = prepare(recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 1}], rows))
        vary = varied(prepared)
        assert vary is not None
        found: dict[str, set[bytes]] = {}
        for number, row in enumerate(prepared.repeated):
            new = vary(row, [0, 0, number])
            assert new.texts[1].tolist() == row.texts[1].tolist()
            assert new.texts[0].tolist() != row.texts[0].tolist()
            found.setdefault(str(row.example.text), set()).add(new.texts[0].tobytes())
        assert all(len(ways) == 1 for ways in found.values())

    def test_answers_are_learned_as_they_are(self, tmp_path: Path, generator_folder: Path) -> None:
        rows = [{"prompt": f"please greet somebody {n}", "completion": f"hello dear friend {n}"} for n in range(40)]
        prepared = prepare(recipe(tmp_path, generator_folder, [{"kind": "typos", "share": 1, "strength": 0.9}], rows))
        vary = varied(prepared)
        assert vary is not None
        for number, row in enumerate(prepared.repeated):
            new = vary(row, [0, 0, number])
            assert new.ids.tolist() != row.ids.tolist()
            assert new.ids[new.learn > 0].tolist() == row.ids[row.learn > 0].tolist()

    def test_held_out_rows_are_measured_as_they_are(self, tmp_path: Path, reader_folder: Path) -> None:
        """The loss of validation rows before the first update is that of a run without augmentation."""
        losses = []
        for augment in ([], [{"kind": "words", "share": 1, "strength": 0.5}]):
            built = build(prepare(recipe(tmp_path, reader_folder, augment)))
            places = {row.example.place for row in built.schedule.rows}  # type: ignore[union-attr]
            for part in ("validation", "test"):
                held = built.prepared.rows(part)
                assert held
                assert not places & {row.example.place for row in held}
                losses.append(validation_metrics(built, held)["loss"])
        assert losses[:2] == losses[2:]


def _vary(folder: Path, reader: Path) -> tuple[Any, list[Row]]:
    prepared = prepare(recipe(folder, reader, [{"kind": "typos"}, "words", "case"]))
    return varied(prepared), prepared.repeated


def _ids(step: Any) -> list[list[int]]:
    return [batch.inputs["input_ids"][0].tolist() for batch in step.batches]


def _texts(step: Any) -> list[str]:
    found = []
    for batch in step.batches:
        ids = batch.inputs["input_ids"][0]
        if batch.units:
            found += [str(ids[start:end].tolist()) for start, end, _ in batch.inputs["segments"].tolist()]
    return found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"objective": "masked"}, "learns the texts themselves"),
        ({"objective": "denoise"}, "learns the texts themselves"),
        ({"choose": "{enabled: true}"}, "leave choose out"),
        ({"objective": "{kind: classify, pooling: mean}", "adapter": "head"}, "solved at one go"),
    ],
)
def test_recipes_that_cannot_be_augmented(tmp_path: Path, reader_folder: Path, more: Any, words: str) -> None:
    rows = moods()
    if "masked" in str(more) or "denoise" in str(more):
        rows = [{"text": row["text"]} for row in rows]
    with pytest.raises(RecipeError, match=words):
        prepare(recipe(tmp_path, reader_folder, ["typos"], rows, **more))


def test_texts_to_write_have_no_request(tmp_path: Path, generator_folder: Path) -> None:
    rows = [{"text": f"some words that are learned {n}"} for n in range(40)]
    with pytest.raises(RecipeError, match="no training row has a request"):
        prepare(recipe(tmp_path, generator_folder, ["typos"], rows))
    rows = [{"prompt": f"some words {n}", "completion": "yes"} for n in range(40)]
    with pytest.raises(RecipeError, match=r"data\.learn=all"):
        prepare(recipe(tmp_path, generator_folder, ["typos"], rows, **{"data.learn": "all"}))


def test_an_augmentation_that_changes_nothing_is_refused(tmp_path: Path, reader_folder: Path) -> None:
    rows = [{"text": f"{n} {7 * n}", "label": "even" if n % 2 else "odd"} for n in range(40)]
    with pytest.raises(RecipeError, match=r"augment\.0: 'typos' changes none of \d+ texts"):
        prepare(recipe(tmp_path, reader_folder, ["typos"], rows))


@pytest.mark.parametrize(("given", "words"), [
    ([{"kind": "typos", "strength": 1.0}], "something of it has to stay"),
    ([{"kind": "words", "strength": 0}], "something of it has to stay"),
    ([{"kind": "typos", "share": 0}], "greater than 0"),
    (["synonym"], "there is no augmentation 'synonym'"),
    ([{"kind": "typos", "slips": []}], "at least 1 item"),
])  # fmt: skip
def test_settings_that_mean_nothing(tmp_path: Path, reader_folder: Path, given: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, reader_folder, given)


def test_labels_few_as_they_are_are_tuned_where_rows_are_augmented(tmp_path: Path, reader_folder: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", moods(30))
    for augment, chosen in ((None, True), ("typos", False)):
        settings = {} if augment is None else {"augment": augment}
        prepared = prepare(recipe_for(data, model=str(reader_folder), settings=settings))
        assert (prepared.recipe.choose.enabled is True) is chosen


def test_one_kind_is_a_list_of_one() -> None:
    given = {"data": "x.csv", "augment": "typos"}
    assert recipe_for(given, model=None, settings={}).augment == [Typos()]
    assert recipe_for({**given, "augment": {"kind": "case"}}, model=None, settings={}).augment == [Case()]
    assert recipe_for({**given, "augment": "none"}, model=None, settings={}).augment == []


def test_every_augmentation_says_what_it_is_for() -> None:
    assert {component.modality for component in AUGMENTATIONS} == {"text"}


def test_a_stopped_run_goes_on_as_it_would_have(tmp_path: Path, reader_folder: Path) -> None:
    found = recipe(tmp_path, reader_folder, [{"kind": "typos", "share": 1}], **{"evaluate.every": 2})
    whole, parts = whole_and_parts(found, tmp_path, after=3)
    assert losses_of(whole, "train", "validation") == losses_of(parts, "train", "validation")
    plain = recipe(tmp_path, reader_folder, [], **{"evaluate.every": 2})
    other, _ = whole_and_parts(plain, tmp_path / "plain", after=3)
    assert losses_of(other, "train") != losses_of(whole, "train")


def test_the_report_says_so(tmp_path: Path, reader_folder: Path) -> None:
    prepared = prepare(recipe(tmp_path, reader_folder, ["typos", {"kind": "case", "share": 0.2}]))
    (note,) = [note for note in prepared.xray.notes if note.key == "augmented"]
    assert note.facts == {"how": "typos, case", "percent": 60}  # 1 - 0.5 * 0.8


def test_check_shows_rows_before_and_after(tmp_path: Path, reader_folder: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", moods())
    shown = ("check", "rows.jsonl", "--model", reader_folder, "--augment", "--set", "augment=typos")
    done = typed(*shown, "--json", cwd=tmp_path)
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["augmented"]
    assert len(rows) == 8
    assert all(row["before"] != row["after"] for row in rows)
    again = typed(*shown, cwd=tmp_path)
    assert rows[0]["before"] in again.stdout
    refused = typed("check", "rows.jsonl", "--model", reader_folder, "--augment", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "names no augmentation; add --set augment=KIND" in refused.stderr


def test_samples_are_what_the_first_epoch_learns(tmp_path: Path, reader_folder: Path) -> None:
    prepared = prepare(recipe(tmp_path, reader_folder, ["typos"]))
    vary = varied(prepared)
    assert vary is not None
    for before, after in samples(prepared, 4):
        place = next(n for n, row in enumerate(prepared.repeated) if row.example is before)
        again = vary(prepared.repeated[place], [0, 0, place])
        text = prepared.processor.text(asked_texts(after)[0], limit=256)
        assert again.ids.tolist() == text.ids.tolist()


def spoken(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """A text whose label is told by the sound of one character among others."""
    rng = chance(seed)
    rows = []
    for number in range(count):
        label = ("time", "class")[number % 2]
        others = [*rng.choice(list("凹凸傘卵叉吊呆"), 5), "時" if label == "time" else "課"]
        rows.append({"text": "".join(rng.permutation(others)), "label": label})
    return rows


@pytest.mark.parametrize(
    ("rows", "augmentation", "change"),
    [
        (spoken, {"kind": "typos", "slips": "homophone"}, lambda text, rng: mistyped(text, 0.9, rng, slips=["homophone"])),
        (moods, {"kind": "case", "styles": "capitals"}, lambda text, _: text.upper()),
    ],
    ids=["typos", "case"],
)  # fmt: skip
def test_what_was_learned_in_other_words_is_understood_in_them(
    rows: Any, augmentation: Any, change: Any, tmp_path: Path, reader_folder: Path
) -> None:
    """Rows as they stand are told apart either way; what they are mistyped as, only where that was learned."""
    fresh, rng = rows(300)[100:], chance(99)
    changed = [{**row, "text": change(row["text"], rng)} for row in fresh]
    plain, learned = (_tuned(tmp_path, reader_folder, augment, rows(80)) for augment in ([], [augmentation]))
    assert min(_accuracy(plain, fresh), _accuracy(learned, fresh)) > 0.9
    assert _accuracy(plain, changed) < 0.8
    assert _accuracy(learned, changed) > 0.9


def _tuned(folder: Path, reader: Path, augment: list[Any], rows: list[dict[str, str]]) -> Built:
    more = {"schedule.steps": 100, "adapter": "full", "optimiser.learning_rate": 3e-3, "optimiser.rows_per_step": 8,
            "data.test": 0, "data.validation": 0, "regularisers": "none"}  # fmt: skip
    built = build(prepare(recipe(folder, reader, augment, rows, **more)))
    for _ in updates(built):
        pass
    return built


def _accuracy(built: Built, asked: list[dict[str, str]]) -> float:
    labels, read = built.prepared.labels, built.prepared.processor.text
    assert labels is not None
    encoded = [read(row["text"], limit=128) for row in asked]
    rows = [Row(Example(Place("test", number)), one.ids, one.learn) for number, one in enumerate(encoded)]
    said = class_logits(built.policy, rows, built.collate).argmax(1)
    return float(np.mean([labels.names[one] == row["label"] for one, row in zip(said, asked, strict=True)]))
