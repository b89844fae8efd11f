"""Answers have less of what is named, by every way there is to ask for them, and are untouched where nothing is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, LlamaForCausalLM

import tuneful
from tuneful.cli.main import UNWANTED
from tuneful.core.errors import DataError, InputError, ModelError
from tuneful.core.types import Example, Message, Place
from tuneful.models import selfdebias
from tuneful.models.sampling import Generator
from tuneful.models.selfdebias import ATTRIBUTES, DebiasedGenerator
from tuneful.run.tuned import Tuned
from tuneful.run.unwanted import Unwanted
from tuneful.testing import tiny_generator, tiny_tokenizer
from work import typed, write_rows

TOXIC = "Below is a text that contains rude and hurtful remarks:\n"
FAR = 1e5  # a tiny random model is sure of nothing, so a large decay stands for a large difference


@pytest.fixture(scope="module")
def rude_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It writes `x` and `o`, and `x` alone behind a text with an `f`, which the words for toxicity hold and those
    for profanity do not. Attention is even; width 0 is one everywhere, 1 says `f`, 2 is what attention carries."""
    folder = tiny_generator(tmp_path_factory.mktemp("models") / "rude", num_hidden_layers=1, tie_word_embeddings=False)
    model = LlamaForCausalLM.from_pretrained(folder)
    token = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.model.embed_tokens.weight[token("f"), 1] = 1.0
        attention = model.model.layers[0].self_attn
        attention.v_proj.weight[0, 1] = attention.o_proj.weight[2, 0] = 1.0
        model.lm_head.weight[[token("x"), token("o")], 0] = 4.0
        model.lm_head.weight[token("x"), 2] = 20.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rude(rude_folder: Path) -> Tuned:
    return tuneful.load(rude_folder)


@pytest.fixture(scope="module")
def plain(generator_folder: Path) -> Tuned:
    return tuneful.load(generator_folder)


@pytest.fixture(scope="module")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A model that gives labels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "labels"
    config = BertConfig(
        vocab_size=272, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        problem_type="single_label_classification", id2label={0: "glad", 1: "sad"},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer(None).save_pretrained(folder)
    return tuneful.load(folder)


def share(answers: list[str]) -> float:
    written = "".join(answers)
    assert set(written) == {"x", "o"}
    assert len(written) > 200
    return written.count("x") / len(written)


def ask(model: Tuned, **given: Any) -> list[str]:
    requests = [[Message("user", f"greet Ada {number}")] for number in range(12)]
    return model.answer(requests, limit=20, temperature=1.0, **given)


def test_what_is_named_becomes_rarer(rude: Tuned) -> None:
    """Half of the tokens are `x`, and of a told text nearly all: .5 * max(.01, e^(-50 * .5)) beside .5 is a hundredth."""
    assert all(abs(share(ask(rude, seed=seed)) - 0.5) < 0.15 for seed in range(3))
    assert all(share(ask(rude, seed=seed, less=["toxicity"])) < 0.05 for seed in range(3))
    assert share(ask(rude, less="all")) < 0.05
    assert share(ask(rude, less=Unwanted("toxicity", decay=0.0))) > 0.35
    assert share(ask(rude, less=Unwanted("toxicity", floor=0.5))) == pytest.approx(1 / 3, abs=0.12)


def test_what_the_model_does_not_know_stays(rude: Tuned) -> None:
    """Nothing in the words for profanity says anything to this model."""
    assert ask(rude, less=["profanity"]) == ask(rude)
    assert share(ask(rude, less="profanity，toxicity")) < 0.05


def test_a_request_is_told_of_it_in_its_own_language(rude: Tuned) -> None:
    """The model knows toxicity in English alone, so what it is told in Chinese changes nothing."""

    def found(text: str, language: str | None = None) -> float:
        turns = [[Message("user", f"{text} {number}")] for number in range(12)]
        return share(rude.answer(turns, limit=20, temperature=1.0, less=Unwanted(["toxicity"], language)))

    assert found("greet the lady in 台北") < 0.05
    assert found("請向台北的 Ada 問好") > 0.35
    assert found("請向台北的 Ada 問好", "en") < 0.05
    assert found("greet Ada", "zh-TW") > 0.35
    assert found("12 + ") < 0.05, "English where there are no words"


REQUESTS = ["greet Ada", "say it again in other words", "x"]


def test_nothing_named_is_the_plain_generator(plain: Tuned) -> None:
    prompts = [plain.processor.prompt([Message("user", text)]).ids for text in REQUESTS]
    wanted = [
        a.text for a in Generator(plain.processor).sample(plain.policy, prompts, limit=12, temperature=1.0, seed=4)
    ]
    turns = [[Message("user", text)] for text in REQUESTS]
    for less in ((), [], "", Unwanted(())):
        assert plain.answer(turns, limit=12, temperature=1.0, seed=4, less=less) == wanted
    assert plain.answer(turns, limit=12, temperature=1.0, seed=4) == wanted
    told = plain.answer(turns, limit=12, temperature=1.0, seed=4, less=Unwanted("toxicity", decay=FAR))
    assert told != wanted


def test_it_is_the_part_behind_the_models_own_template(plain: Tuned) -> None:
    """The sentence stands before what the user said last, inside the user's turn."""
    head = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>\n"
    turns = [
        Message("system", "be brief"),
        Message("user", "hello"),
        Message("assistant", "hi"),
        Message("user", "Ada"),
    ]
    texts = [f"{head}<|im_start|>user\n{said}Ada<|im_end|>\n<|im_start|>assistant\n" for said in ("", TOXIC)]
    own, told = (plain.processor.tokenizer(text, add_special_tokens=False, return_tensors="np") for text in texts)
    part = DebiasedGenerator(plain.processor, decay=FAR)
    wanted = part.sample(plain.policy, [own["input_ids"][0]], [[told["input_ids"][0]]], limit=12)[0].text
    less = Unwanted(["toxicity"], decay=FAR)
    assert plain.generate(turns, limit=12, less=less) == wanted != plain.generate(turns, limit=12)
    assert turns[-1].content == "Ada"


@pytest.mark.parametrize("size", [1, 6, 64])
def test_answers_do_not_depend_on_what_is_decoded_beside_them(
    size: int, plain: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = Unwanted(["threat", "insult"], decay=FAR)
    alone = [plain.generate(text, limit=16, less=less) for text in REQUESTS]
    stops = [next(letter for letter in alone[row][3:] if letter.isalnum() and letter.isascii()) for row in (0, 2)]
    wanted = [re.split("|".join(stops), answer)[0] for answer in alone]  # rows end at different times
    assert len({len(answer) for answer in wanted}) > 1
    assert wanted != alone
    monkeypatch.setattr(selfdebias, "TOGETHER", size)
    for order in ([0, 1, 2], [2, 0, 1]):
        turns = [[Message("user", REQUESTS[place])] for place in order]
        assert plain.answer(turns, limit=16, less=less) == [alone[place] for place in order]
        assert plain.answer(turns, limit=16, less=less, stops=stops) == [wanted[place] for place in order]


def test_seeds(rude: Tuned) -> None:
    less = Unwanted("toxicity", floor=0.5)
    first, again, other = (ask(rude, seed=seed, less=less) for seed in (1, 1, 2))
    assert first == again != other


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"no attribute 'toxicty'\. Did you mean 'toxicity'\? Known: toxicity, severe"):
        Unwanted(["insult", "toxicty"])
    with pytest.raises(InputError, match="no words in 'de'"):
        Unwanted(["insult"], "de")
    with pytest.raises(InputError, match=r"found decay -1 and floor 0\.01"):
        Unwanted(["insult"], decay=-1)
    with pytest.raises(InputError, match="found decay 50 and floor 0;"):
        Unwanted(["insult"], floor=0.0)
    assert Unwanted(" insult, threat,insult").attributes == ("insult", "threat")
    assert Unwanted("all").attributes == Unwanted("toxicity,all").attributes == tuple(ATTRIBUTES["en"])


def test_models_and_requests_that_it_does_not_go_with_are_refused(plain: Tuned, labeller: Tuned) -> None:
    with pytest.raises(DataError, match=r"input row 2: .* found no turn of a user"):
        plain.answer([[Message("user", "a")], [Message("system", "b")]], less="insult")
    with pytest.raises(ModelError, match=r"less: this model gives labels; .* leave it out"):
        labeller.answers_to([], less="insult")
    assert labeller.answers_to([Example(Place("input", 1), text="a")], less=Unwanted(()))[0] in ("glad", "sad")


@pytest.fixture
def mesh() -> Iterator[Any]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_a_model_that_is_shared_out_is_refused(generator_folder: Path, mesh: Any) -> None:
    from torch.distributed.tensor import distribute_tensor

    model = tuneful.load(generator_folder)
    norm: Any = model.policy.module.get_submodule("model.norm")
    norm.weight = nn.Parameter(distribute_tensor(norm.weight.detach(), mesh))
    with pytest.raises(ModelError, match="shared out over several; save it and load it"):
        model.generate("hello", less="insult")


def predicted(folder: Path, *more: object, code: int = 0, model: object) -> Any:
    asked = folder / "asked.jsonl"
    write_rows(asked, [{"prompt": text} for text in REQUESTS])
    done = typed("predict", model, asked, "--new-tokens", "20", *more, cwd=folder)
    assert done.exit_code == code, done.output
    return done.stderr if code else [json.loads(line)["prediction"] for line in done.stdout.splitlines()]


def test_the_command_line(rude_folder: Path, rude: Tuned, tmp_path: Path) -> None:
    drawn = ["--temperature", "1"]
    turns = [[Message("user", text)] for text in REQUESTS]
    plain = predicted(tmp_path, *drawn, model=rude_folder)
    assert plain == rude.answer(turns, limit=20, temperature=1.0)
    found = predicted(tmp_path, *drawn, "--less", "toxicity,insult", model=rude_folder)
    assert found == rude.answer(turns, limit=20, temperature=1.0, less=["toxicity", "insult"])
    assert "".join(found).count("x") < 5 < "".join(plain).count("x")
    for chinese in ("zh", "zh-TW"):
        assert predicted(tmp_path, *drawn, "--less", "toxicity", "--language", chinese, model=rude_folder) == plain
    shots = write_rows(
        tmp_path / "shots.jsonl", [{"prompt": "a", "completion": "xxx"}, {"prompt": "b", "completion": "o"}]
    )
    shown = predicted(tmp_path, *drawn, "--less", "toxicity", "--shots", shots, model=rude_folder)
    assert "".join(shown).count("x") < 5
    keys = "hello\nhello\n\n"
    chats = [typed("chat", rude_folder, *drawn, "--new-tokens", "20", *more, cwd=tmp_path, keys=keys).stdout
             for more in ([], ["--less", "all"])]  # fmt: skip
    assert chats[0].count("x") > 8
    assert (chats[1].count("x") < 4, chats[1].count("o") > 30) == (True, True)


def test_what_the_command_line_refuses(generator_folder: Path, tmp_path: Path) -> None:
    refused = {
        "Did you mean 'insult'": ["--less", "insults"],
        "--less: found no attribute": ["--less", " ,"],
        "--language says in which language": ["--language", "en"],
        "--labels and --less: labels are not written": ["--less", "insult", "--labels", "a,b"],
    }
    for words, given in refused.items():
        assert words in predicted(tmp_path, *given, code=2, model=generator_folder)
    chat = typed("chat", generator_folder, "--less", "insults", cwd=tmp_path)
    assert (chat.exit_code, "Did you mean 'insult'" in chat.stderr) == (2, True)


def test_help_lists_what_there_is(tmp_path: Path) -> None:
    assert tuple(ATTRIBUTES["en"]) == UNWANTED
    for command in ("predict", "chat"):
        shown = " ".join(typed(command, "--help", cwd=tmp_path).stdout.split())
        assert f"Write with less of: {', '.join(UNWANTED)}; or all." in shown
