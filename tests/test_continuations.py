"""What a model writes of groups and what a classifier says of it, against numbers worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from test_fairness import FAST
from tuneful.core.errors import DataError, InputError, ModelError
from tuneful.evaluation.probes import Continuations, Scorer, compared, continuations, descriptors
from tuneful.evaluation.probes.continuations import Told, find
from tuneful.evaluation.probes.findings import Finding
from tuneful.evaluation.probes.items import Measured
from tuneful.evaluation.probes.judge import Judge, answers
from tuneful.evaluation.probes.means import Shuffled, means, rows_of, spread
from tuneful.evaluation.probes.prompts import Prompt, built_in, prompts_of, some
from tuneful.evaluation.probes.written import Written
from tuneful.models.heads import labels_in
from tuneful.run.api import fit
from tuneful.run.audit import probe_of
from tuneful.testing import tiny_policy, tiny_tokenizer
from work import greetings, typed, write_rows

NEXT = {"a": "x", "x": "y", "y": "z", "z": "<|im_end|>", "b": "p", "p": "q", "q": "<|im_end|>", "c": "<|im_end|>"}
SAYS = {"a": "xyz", "b": "pq", "c": ""}  # what follows a prompt that ends so


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose layers add nothing, so that each token alone says which one follows; others repeat."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, size, tokenizer = tmp_path_factory.mktemp("models") / "chain", 272, tiny_tokenizer()
    config = LlamaConfig(vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=None,
                         eos_token_id=2, tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(torch.eye(size))
        for token, follower in NEXT.items():
            now, then = (tokenizer.convert_tokens_to_ids(name) for name in (token, follower))
            model.lm_head.weight[now, now], model.lm_head.weight[then, now] = 0.0, 1.0
        model.lm_head.weight *= 5.0  # the norm makes 16.5 of 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def classifier(folder: Path, labels: Sequence[str], **config: Any) -> Path:
    """A random BERT that tells these labels apart."""
    from transformers import BertConfig, BertForSequenceClassification

    settings: dict[str, Any] = {
        "vocab_size": 272, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 256, "pad_token_id": 0,
    }  # fmt: skip
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    torch.manual_seed(3)
    model = BertForSequenceClassification(BertConfig(**settings, **named, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    tiny_tokenizer(None).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("models") / "judge", ["fine", "RUDE", "odd"])


def reference(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """(R, C) logits by transformers alone, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.array([model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in texts])


def softmax(logits: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return shares


def of_groups(count: int, groups: str) -> list[Prompt]:
    """Prompts that differ in nothing but the group."""
    return [Prompt(f"opening {number} {group}", group, str(number)) for number in range(count) for group in groups]


def prose(count: int) -> list[Written]:
    return [Written("it was so", " was so", (1, 2, 3))] * count


def found_of(prompts: Sequence[Prompt], bad: Any, alone: Any = None, axes: dict[str, str] | None = None) -> Finding:
    """One continuation of each prompt."""
    told = Told(prompts, np.array(bad)[:, None], np.zeros(len(prompts)) if alone is None else np.array(alone))
    return find("continuations", told, prose(len(prompts)), axes or {}, {}, seed=0)


# ---- the score


def test_means_and_their_spread_are_worked_out_by_hand() -> None:
    prompts = of_groups(20, "abc")
    bad = [[0.0, 0.2, 0.4], [0.2, 0.6, 0.0]] * 10  # means 0.1, 0.4 and 0.2
    found = found_of(prompts, np.ravel(bad), np.ravel([[0.1, 0.1, 0.3]] * 20), {"a": "x", "b": "x", "c": "y"})
    assert found.score == pytest.approx(30.0)
    assert (found.n, found.ideal, found.unit) == (20, 0.0, "points")
    assert {name: cell["score"] for name, cell in found.by_group.items()} == pytest.approx({"a": 10, "b": 40, "c": 20})
    assert {name: cell["axis"] for name, cell in found.by_group.items()} == {"a": "x", "b": "x", "c": "y"}
    assert found.details["mean"] == pytest.approx(100 * 0.7 / 3)
    assert found.details["standard_deviation"] == pytest.approx(float(np.std([10, 40, 20])))
    assert found.details["by_axis"] == pytest.approx({"x": 30, "y": 0})
    assert found.details["prompts_alone"] == pytest.approx(20.0)
    assert found.language_ability == {"name": "written", "value": 100.0, "least": 50.0}


def test_samples_of_a_prompt_are_one_number() -> None:
    prompts = of_groups(20, "ab")
    told = Told(prompts, np.array([[0.2, 0.4], [0.9, 0.5]] * 20), np.zeros(40))
    found = find("continuations", told, prose(80), {}, {}, seed=0)
    assert found.score == pytest.approx(40.0)  # 30 and 70
    assert found.n == 20


def test_prompts_from_a_file_are_items_of_their_own() -> None:
    counts = {"a": 20, "b": 40, "few": 19}
    prompts = [Prompt("it", name, f"{name} {number}") for name, count in counts.items() for number in range(count)]
    found = found_of(prompts, [0.1] * 20 + [0.5, 0.7] * 20 + [1.0] * 19)
    assert found.score == pytest.approx(50.0), "a group of 19 prompts has no part in it"
    assert found.p == pytest.approx(1 / 2001), "no shuffle puts all the low ones into one group"
    assert found.n == 60
    assert found.by_group["few"]["reason"] == "too_small"
    assert found.by_group["few"]["p_adjusted"] is None
    assert found.by_group["b"]["score"] == pytest.approx(60.0)
    alone = found_of([prompt for prompt in prompts if prompt.group != "a"], [0.5] * 59)
    assert (alone.score, alone.reason, alone.p) == (None, "too_small", None)


def test_shuffling_is_the_exact_test() -> None:
    rows = rows_of("ab")
    within = rows([Measured(str(n), "all", {"a": float(n), "b": n + 1.0}) for n in range(5)])
    assert Shuffled.of(within, 0).p() == pytest.approx(2 / 32, abs=0.015)
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0]
    over = rows([Measured(str(v), "ab"[v > 3], {"ab"[v > 3]: v}) for v in values])
    splits = [np.array(part) for part in itertools.combinations(values, 3)]
    apart = [abs(part.mean() - (30 - part.sum()) / 4) for part in splits]
    exact = np.mean([one >= 4.0 - 1e-9 for one in apart])  # 2 and 6 are the means
    shuffled = Shuffled.of(over, 0)
    assert shuffled.p() == pytest.approx(exact, abs=0.02)
    assert shuffled.p_of_groups() == pytest.approx([exact, exact], abs=0.02)
    assert shuffled.by_chance == pytest.approx(np.mean(apart), rel=0.05)


def test_a_group_without_values_has_no_mean() -> None:
    sums = rows_of("abc")([Measured("1", "a", {"a": 4.0}), Measured("2", "c", {"c": 1.0})]).sum(0)
    assert means(sums).tolist() == pytest.approx([4.0, math.nan, 1.0], nan_ok=True)
    assert spread(sums) == 3.0
    assert math.isnan(spread(np.zeros(4)))


def drawn(worse: float, seed: int) -> Finding:
    """24 openings of uneven badness, eight groups; of one the model writes worse."""
    rng = np.random.default_rng(seed)
    bad = np.clip(0.3 + rng.normal(scale=0.15, size=(24, 1)) + rng.normal(scale=0.05, size=(24, 8)), 0, 1)
    bad[:, 2] = np.clip(bad[:, 2] + worse, 0, 1)
    return found_of(of_groups(24, "abcdefgh"), bad.ravel())


def test_a_group_that_is_written_worse_of_is_found_and_noise_is_not() -> None:
    found = drawn(0.2, 0)
    assert found.p is not None
    assert found.p < 0.001
    adjusted = {name: cell["p_adjusted"] for name, cell in found.by_group.items()}
    assert adjusted["c"] < 0.01
    assert adjusted["c"] == min(adjusted.values())
    assert found.ci95 is not None
    assert found.ci95[0] > found.details["by_chance"]
    even = [drawn(0.0, seed) for seed in range(8)]
    assert sum((one.p or 0) < 0.05 for one in even) <= 1
    # Eight means of 24 numbers with deviation 5: the range of eight normal numbers is 2.85 deviations.
    assert even[0].details["by_chance"] == pytest.approx(2.85 * 5 / math.sqrt(24), rel=0.3)
    assert compared(even[0], found)["ci95"][0] > 0
    assert compared(even[0], even[0])["delta"] == 0.0


# ---- what is written


@pytest.mark.parametrize(
    ("continuation", "ids", "said"),
    [
        (" was here", (1, 2, 3), True),
        ("", (), False),
        (" \n", (5, 6), False),
        ("!", (7,), True),
        ("so so so so", (1, 1, 1, 1), False),  # one different pair of three
        ("ab ab", (1, 2, 1, 2, 1), True),  # two of four
        ("ab ab a", (1, 2, 1, 2, 1, 2), False),  # two of five
    ],
)
def test_what_is_blank_or_repeats_itself_says_nothing(continuation: str, ids: tuple[int, ...], said: bool) -> None:
    assert Written(continuation, continuation, ids).said is said


def test_a_model_goes_on_until_its_end_token(chain: Path) -> None:
    policy, loaded = tiny_policy(chain)
    scorer = Scorer(policy, loaded.processor)
    found = scorer.write(["the a", "她是 b", "nobody c", "the a"], limit=9, seed=0)
    assert [one.text for one in found] == ["the axyz", "她是 bpq", "nobody c", "the axyz"]
    assert [one.continuation for one in found] == ["xyz", "pq", "", "xyz"]
    assert [len(one.ids) for one in found] == [3, 2, 0, 3]
    assert scorer.write(["the a"], limit=2, seed=0)[0].continuation == "xy"
    with pytest.raises(DataError, match=r"reads 128 tokens; this prompt has 120, and 9 more"):
        scorer.write(["n" * 119], limit=9, seed=0)  # and a start token
    assert scorer.write(["n" * 118], limit=9, seed=0)[0].continuation == "n" * 9


def test_a_seed_writes_the_same_and_another_does_not(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder)
    scorer = Scorer(policy, loaded.processor)
    once = scorer.write(["the woman"] * 3, limit=8, seed=1)
    assert once == scorer.write(["the woman"] * 3, limit=8, seed=1)
    assert once != scorer.write(["the woman"] * 3, limit=8, seed=2)
    assert len(set(once)) == 3, "each is drawn by itself"
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(1.5)
    before = Scorer(policy, loaded.processor, original=True).write(["the woman"] * 3, limit=8, seed=1)
    assert before == once != scorer.write(["the woman"] * 3, limit=8, seed=1)


# ---- the judge


def test_a_judge_says_what_transformers_says(judge: Path) -> None:
    texts = ["you are kind", "go away", "你很好", "go away"]
    asked = Judge.open(str(judge))
    assert asked.bad == ["RUDE"]
    expected = softmax(reference(judge, texts))
    assert asked(texts) == pytest.approx(expected[:, 1], abs=1e-5)
    assert Judge.open(str(judge), ["odd", "rude"])(texts) == pytest.approx(expected[:, 1:].sum(1), abs=1e-5)
    assert expected[:3, 1].std() > 0.01, "the judge tells these texts apart"


def test_a_judge_that_gives_several_labels_counts_the_likeliest(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "j", ["toxic", "threat", "fine"], problem_type="multi_label_classification")
    texts = ["you are kind", "go away"]
    expected = 1 / (1 + np.exp(-reference(folder, texts)))
    assert Judge.open(str(folder))(texts) == pytest.approx(expected[:, 0], abs=1e-5)
    assert Judge.open(str(folder), ["threat", "toxic"])(texts) == pytest.approx(expected[:, :2].max(1), abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "bad", "words"),
    [
        (["fine", "not toxic"], [], "it has fine, not toxic. Name them"),
        (["rude", "hateful", "fine"], [], "it has rude, hateful, fine. Name them"),
        (["fine", "rude"], ["ruda"], "has no label 'ruda'. Did you mean 'rude'"),
        (["fine", "rude"], ["fine", "rude"], "all labels of the judge"),
    ],
)
def test_a_judge_whose_bad_label_is_not_clear_is_refused(
    labels: list[str], bad: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        answers(str(classifier(tmp_path / "j", labels)), bad)


def test_what_tells_no_classes_apart_is_no_judge(generator_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no head for labels"):
        answers(str(generator_folder))
    with pytest.raises(ModelError, match="answers with a number"):
        answers(str(classifier(tmp_path / "j", ["score"])))
    unnamed = classifier(tmp_path / "k", ["LABEL_0", "LABEL_1"])  # transformers does not write these names down
    found = labels_in(unnamed)
    assert found is not None
    assert found.names == ("LABEL_0", "LABEL_1")


# ---- prompts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_openings_are_whole(language: descriptors.Language) -> None:
    known = descriptors.lexicon(language)
    assert len(known.openings) == len(set(known.openings)) == 24
    assert all("{subject}" in opening and opening == opening.strip() for opening in known.openings)
    ends = {word for _, good, bad in known.frames for word in (good.strip(" 。."), bad.strip(" 。."))}
    assert [opening for opening in known.openings if any(end in opening for end in ends if len(end) > 1)] == []
    found = built_in(known, language)
    assert len(found) == 24 * len(known.groups)
    assert found[0].text == known.openings[0].format(subject=known.subjects[0])
    assert Counter(prompt.group for prompt in found) == dict.fromkeys(known.groups, 24)


def test_a_sample_has_as_many_of_each_group() -> None:
    paired = of_groups(30, "abc")
    drawn = some(paired, 50, 1)
    assert Counter(prompt.group for prompt in drawn) == {"a": 16, "b": 16, "c": 16}
    assert len({prompt.item for prompt in drawn}) == 16
    assert drawn == some(paired, 50, 1) != some(paired, 50, 2)
    single = [Prompt(str(n), "abc"[n % 7 % 3], str(n)) for n in range(70)]  # 30, 20 and 20
    assert Counter(prompt.group for prompt in some(single, 75, 0)) == {"a": 25, "b": 20, "c": 20}
    assert some(single, 90, 0) == single
    with pytest.raises(DataError, match=r"2 prompts cannot be of each of 3 groups; .* 60"):
        some(single, 2, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,group\nhe,a\nshe,a\n", "all are of 'a'"),
        ("prompt,who\nhe,a\n", "'group' is not there"),
        ("prompt,group\n,a\n", "'prompt' is ''"),
    ],
)
def test_prompts_that_cannot_be_read_are_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        prompts_of(str(file))
    with pytest.raises(DataError, match="there is no file"):
        prompts_of(str(tmp_path / "none.csv"))


# ---- the probe


def prompts_file(folder: Path, count: int = 20, ends: str = "abc") -> Path:
    rows = [{"prompt": f"在 {n} {end}", "group": f"of {end}"} for end in ends for n in range(count)]
    return write_rows(folder / "prompts.jsonl", rows)


def test_the_score_is_what_the_judge_says_of_what_the_model_writes(chain: Path, judge: Path, tmp_path: Path) -> None:
    policy, loaded = tiny_policy(chain)
    probe = Continuations(judge=str(judge), source=str(prompts_file(tmp_path)), samples=1)
    found = probe(Scorer(policy, loaded.processor))
    texts = {end: [f"在 {n} {end}{SAYS[end]}" for n in range(20)] for end in SAYS}
    expected = {f"of {end}": 100 * softmax(reference(judge, own))[:, 1].mean() for end, own in texts.items()}
    assert {name: cell["score"] for name, cell in found.by_group.items()} == pytest.approx(expected, abs=1e-3)
    assert found.score == pytest.approx(max(expected.values()) - min(expected.values()), abs=1e-3)
    alone = [softmax(reference(judge, [f"在 {n} {end}" for n in range(20)]))[:, 1].mean() for end in SAYS]
    assert found.details["prompts_alone"] == pytest.approx(100 * (max(alone) - min(alone)), abs=1e-3)
    assert found.language_ability["value"] == pytest.approx(200 / 3), "those of c are blank"
    assert (found.n, found.details["judge"], found.details["bad"]) == (60, str(judge), ["RUDE"])
    assert found.as_json() == probe(Scorer(policy, loaded.processor)).as_json()
    before = probe(Scorer(policy, loaded.processor, original=True))
    assert compared(before, found)["delta"] == 0.0


def test_a_model_that_says_nothing_has_no_score(chain: Path, judge: Path, tmp_path: Path) -> None:
    """Half of what it writes is blank, which is not more than half that says something."""
    policy, loaded = tiny_policy(chain)
    probe = Continuations(judge=str(judge), source=str(prompts_file(tmp_path, ends="ac")))
    found = probe(Scorer(policy, loaded.processor))
    assert (found.score, found.p, found.reason) == (None, None, "unwritten")
    assert {cell["reason"] for cell in found.by_group.values()} == {"unwritten"}
    assert found.language_ability["value"] == 50.0
    assert "prompts_alone" not in found.details


def test_who_does_not_know_the_language_is_not_asked_to_write(
    generator_folder: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, loaded = tiny_policy(generator_folder)
    scorer, probe = Scorer(policy, loaded.processor), Continuations(judge=str(judge), language="zh", new_tokens=4)
    random = probe(scorer)
    assert (random.n, random.reason, random.by_group, random.language_ability["value"]) == (0, "at_chance", {}, None)
    known = descriptors.lexicon("zh")
    easy = tuple(
        pair if scorer([pair[0]])[0].total > scorer([pair[1]])[0].total else pair[::-1] for pair in known.ability
    )
    two = replace(known, ability=easy, groups=known.groups[:2], subjects=known.subjects[:2], axes=known.axes[:2])
    monkeypatch.setattr(continuations, "lexicon", lambda language: two)
    found = probe(scorer, seed=4)
    assert found.measurable
    assert (found.n, list(found.by_group)) == (24, ["女性", "男性"])
    one, other = (cell["score"] for cell in found.by_group.values())
    assert found.score == pytest.approx(abs(one - other)) == pytest.approx(found.details["by_axis"]["gender"])


def test_a_masked_model_writes_nothing(reader_folder: Path, judge: Path, tmp_path: Path) -> None:
    from tuneful.core.types import Layout

    policy, loaded = tiny_policy(reader_folder, layout=Layout.MASKED)
    probe = Continuations(judge=str(judge), source=str(prompts_file(tmp_path)))
    with pytest.raises(ModelError, match="writes no text"):
        probe(Scorer(policy, loaded.processor))


# ---- in reports and at the command line


def test_a_report_says_what_is_written_of_groups(chain: Path, judge: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    asked = {"kind": "continuations", "judge": str(judge), "source": str(prompts_file(tmp_path)), "samples": 1}
    recipe = {"data": source, "model": str(chain), "schedule": {"steps": 2}, "adapter": "full",
              "evaluate": {"forgetting": False, "memorisation": 0, "shots": 0, "generate": 1, "bias": [asked]}}  # fmt: skip
    fit(recipe, out=tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    found = report["bias"]["continuations"]
    assert found["measurable"]
    assert found["n"] == 60
    assert found["delta"] == pytest.approx(found["after"] - found["before"], abs=1e-3)
    assert found["chance"] == found["details"]["by_chance"]
    assert set(found["language_ability"]) == {"name", "before", "after"}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Written of groups, widest difference in points" in page
    printed = typed("audit", tmp_path / "run", "--probe", f"continuations={judge},source={asked['source']}", "--json",
                    cwd=tmp_path)  # fmt: skip
    again = json.loads(printed.stdout)["bias"]["continuations"]
    assert again["before"] == pytest.approx(found["before"], abs=0.1)


def test_a_recipe_without_a_judge_is_refused_before_training(chain: Path, tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", greetings(30)))
    recipe = {**FAST, "data": source, "model": str(chain)}
    with pytest.raises(InputError, match="no judge, and none is shipped"):
        fit({**recipe, "evaluate": {"bias": "continuations"}}, out=tmp_path / "run")
    with pytest.raises(InputError, match="has no head for labels"):
        fit({**recipe, "evaluate": {"bias": {"judge": str(chain)}}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    refused = typed("audit", chain, "--probe", "continuations", cwd=tmp_path)
    assert (refused.exit_code, "none is shipped" in refused.output) == (2, True)


def test_a_probe_is_written_in_one_word(tmp_path: Path) -> None:
    found = probe_of("continuations=runs/mine,bad=rude,bad=hateful,new_tokens=5", 90, "zh")
    assert found == Continuations(judge="runs/mine", bad=["rude", "hateful"], new_tokens=5, rows=90, language="zh")
    assert probe_of("continuations=a,b/c=d,bad=rude", None, None) == Continuations(judge="a,b/c=d", bad=["rude"])
    assert probe_of("crows_pairs=pairs, new.csv", 5, "zh").source == "pairs, new.csv"
    assert probe_of("crows_pairs", None, None).source is None
    assert probe_of("continuations=j,rows=7", 90, None).rows == 7
    with pytest.raises(DataError, match=r"no setting 'new_token'\. Did you mean 'new_tokens'"):
        probe_of("continuations=j,new_token=5", None, None)
    with pytest.raises(DataError, match=r"new_tokens.*greater than 0"):
        probe_of("continuations=j,new_tokens=0", None, None)
    with pytest.raises(DataError, match="source: no such setting"):
        probe_of("descriptors=pairs.csv", None, None)


@pytest.mark.parametrize(("rows", "fits"), [(100, False), (419, False), (420, True)])
def test_too_few_prompts_to_tell_groups_apart_are_refused_at_once(judge: Path, rows: int, fits: bool) -> None:
    """21 groups, 20 prompts each: what gives less would be written, judged, and then not measurable."""
    probe = Continuations(judge=str(judge), bad=["RUDE"], rows=rows)
    if fits:
        probe.check()
        return
    with pytest.raises(DataError, match=f"{rows} prompts tell nothing, .* 420"):
        probe.check()
