"""For plug-in authors and for Tuneful's own tests: tiny models, and checks that a component keeps its contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuneful.adapters import Full
from tuneful.core.environment import Environment, MakesExamples
from tuneful.core.policy import Policy
from tuneful.core.protocols import Adapter, Attached, Augmentation, Begins, Objective, Regulariser
from tuneful.core.spec import Table, kind_of
from tuneful.core.types import Batch, Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.played import Played
from tuneful.data.rows import build
from tuneful.environments.running import Play
from tuneful.models.heads import REWARD, Labels, headless
from tuneful.models.load import Loaded, load

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MASK = "<|mask|>"  # last, so that the numbers of the others are those they always had
SAID = ("Is it really 3 days until my new card comes?", "hello", "我的信用卡還沒有到，要等 3 天嗎？")
SPECIALS = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|cls|>", "<|sep|>")


def tiny_tokenizer(template: str | None = CHATML) -> Any:
    """Bytes and a few special tokens: any text in any script, 261 tokens, no download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *alphabet, MASK])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*SPECIALS, MASK])
    pairs = [(token, vocabulary[token]) for token in ("<|cls|>", "<|sep|>")]
    core.post_processor = processors.TemplateProcessing(
        single="<|cls|> $A <|sep|>", pair="<|cls|> $A <|sep|> $B <|sep|>", special_tokens=pairs
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>", cls_token="<|cls|>", sep_token="<|sep|>",
        mask_token=MASK,
    )  # fmt: skip
    made.chat_template = template
    return made


def tiny_generator(folder: Path, *, template: str | None = CHATML, seed: int = 0, **config: Any) -> Path:
    """A random Llama of 2 layers that writes text, saved like any model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 272, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    return _save(LlamaForCausalLM(LlamaConfig(**settings | config)), folder, template)


def tiny_reader(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A random BERT of 2 layers that reads text."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 272, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 256, "pad_token_id": 0,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return _save(BertModel(BertConfig(**settings | config)), folder, None)


def _save(model: Any, folder: Path, template: str | None) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # large enough that every part of the model matters to the answer
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    tiny_tokenizer(template).save_pretrained(folder)
    return folder


def tiny_policy(
    folder: Path, adapter: Adapter | None = None, *, layout: Layout = Layout.TOKENS
) -> tuple[Policy, Loaded]:
    """A tiny model with an adapter, on the CPU in float32."""
    labels = Labels(("no", "yes", "maybe"), "single_label_classification") if layout is Layout.LABELS else None
    labels = REWARD if layout.rates else labels
    wanted = headless(layout) if layout.vectors else labels
    loaded = load(str(folder), labels=wanted, fills=layout is Layout.MASKED)
    attached = (adapter or Full()).attach(loaded.module, labels=labels is not None)
    return Policy(loaded.network, attached), loaded


def tiny_rows(loaded: Loaded, layout: Layout, count: int = 6) -> list[Row]:
    """Rows of different length; those of a generator share a prefix."""
    if layout.prefers or layout.rates:
        return build([_answered(number, layout) for number in range(count)], layout, loaded.processor, 64).rows
    rows = []
    for number in range(count):
        text = "ab" * (number + 1)
        if layout.alone:
            encoded = loaded.processor.pieces(text, limit=64)[0]
            rows.append(Row(Example(Place("tiny", number)), encoded.ids, encoded.learn))
        elif layout is Layout.PAIRS:
            example = Example(Place("tiny", number), text=text, positive="cd" * (6 - number), negatives=(f"e{number}",))
            rows += build([example], layout, loaded.processor, 64).rows
        elif layout.plays:
            rows.append(_as_drawn(loaded, number, text))
        elif layout.labelled:
            encoded = loaded.processor.text(text, limit=64)
            rows.append(Row(Example(Place("tiny", number)), encoded.ids, encoded.learn, target=number % 3))
        else:
            turns = [Message("user", f"say {text}"), Message("assistant", text)]
            encoded = loaded.processor.conversation(turns)[0]
            rows.append(Row(Example(Place("tiny", number)), encoded.ids, encoded.learn))
    return rows


def _as_drawn(loaded: Loaded, number: int, text: str) -> Row:
    """An answer as if the model had drawn it, better or worse than expected."""
    turns = [Message("user", f"say {text}"), Message("assistant", text)]
    encoded = loaded.processor.conversation(turns)[0]
    written = int((encoded.learn > 0).sum())
    advantages = np.full(written, 1.0 if number % 2 else -0.5, dtype=np.float32)
    drawn = np.full(written, -5.0, dtype=np.float32)
    return Played(Example(Place("tiny", number)), encoded.ids, encoded.learn, advantages=advantages, drawn=drawn,
                  units=float(written))  # fmt: skip


def _answered(number: int, layout: Layout) -> Example:
    """A request with two answers, or with one that is wanted or not."""
    place, asked = Place("tiny", number), Message("user", f"say {number}")
    good, bad = Message("assistant", "ab" * (number + 1)), Message("assistant", "cd" * (6 - number))
    if layout is Layout.JUDGED:
        return Example(place, messages=(asked, good), label=number % 2 == 0)
    return Example(place, messages=(asked,), chosen=(good,), rejected=(bad,))


def check_table(table: Table[Any]) -> None:
    """Every component says what it is: its kind, a docstring, and a meaning under each setting."""
    for component in table:
        kind = kind_of(component)
        assert table.classes[kind] is component, f"{component.__name__} is not found under '{kind}'"
        assert component.__doc__, f"{component.__name__} has no docstring"
        for name, field in component.model_fields.items():
            assert name == "kind" or field.description, f"{component.__name__}.{name} does not say what it means"
        made = component()
        again = component.model_validate(json.loads(made.model_dump_json()))
        assert again == made, f"{component.__name__} does not read back equal"
        assert made.model_config["frozen"], f"{component.__name__} can be changed"
        assert made.model_config["extra"] == "forbid", f"{component.__name__} takes settings it does not know"


def check_objective(objective: Objective, policy: Policy, batch: Batch) -> None:
    """Losses are unreduced, finite, differentiable, and a unit of weight 0 is no part of any sum."""
    policy.module.eval()
    terms = objective(policy, batch)
    assert terms.losses.shape == batch.weights.shape, "losses are not one a unit"
    assert bool(torch.isfinite(terms.losses).all()), "losses are not finite"
    assert terms.losses.requires_grad, "nothing learns from these losses"
    (terms.losses * batch.weights).sum().backward()
    moved = [name for name, p in policy.trainable().items() if p.grad is not None and float(p.grad.abs().sum()) > 0]
    assert moved, "no weight gets a gradient"
    for parameter in policy.trainable().values():
        parameter.grad = None
    policy.forget()


def check_regulariser(regulariser: Regulariser, objective: Objective, policy: Policy, batch: Batch) -> None:
    """A finite scalar that leaves the losses alone; of one that keeps something, as it begins a run."""
    policy.module.eval()
    if isinstance(regulariser, Begins):
        regulariser = regulariser.begin(np.ones((2, 3), dtype=np.int64))
    terms = objective(policy, batch)
    before = terms.losses.detach().clone()
    penalty = regulariser(policy, batch, terms)
    assert penalty.shape == (), "a penalty is one number"
    assert bool(torch.isfinite(penalty)), "the penalty is not finite"
    assert torch.equal(before, terms.losses.detach()), "the losses were changed"
    policy.forget()


def check_augmentation(augmentation: Augmentation, texts: Sequence[str] = SAID) -> None:
    """A function of text and chance that changes something and leaves something; numbers stay as they are."""
    change = augmentation.over(texts)
    assert 0 < augmentation.share <= 1, "share is no share of the visits"
    changed = 0
    for seed, text in enumerate([*texts] * 20):
        new = change(text, np.random.default_rng(seed))
        assert new == change(text, np.random.default_rng(seed)), "the same chance changes a text in two ways"
        assert new.strip(), f"nothing is left of {text!r}"
        numbers = [sorted(filter(str.isdigit, one)) for one in (text, new)]
        assert numbers[0] == numbers[1], f"{text!r} has other numbers as {new!r}"
        changed += new != text
    assert changed, "no text is changed"


def check_environment(environment: Environment, examples: Sequence[Example] = ()) -> None:
    """The same example and seed give the same episode, whatever is replied; it ends within its turns, with rewards that
    are finite numbers. One that makes its own examples makes the same ones of the same seed."""
    assert environment.turns > 0, "an episode needs a turn"
    assert environment.patience > 0, "a reply needs time to be judged"
    if isinstance(environment, MakesExamples):
        assert environment.examples(5, 3) == environment.examples(5, 3), "the same seed makes other examples"
        assert len(environment.examples(5, 3)) == 5, "it makes not as many examples as it is asked for"
        examples = [*examples, *environment.examples(5, 3)]
    assert examples, "give it examples to be tried with"
    for number, example in enumerate(examples):
        for seed in (0, 1):
            chance = np.random.default_rng([number, seed])
            replies = [REPLIES[place] for place in chance.integers(len(REPLIES), size=environment.turns)]
            games = [_episode(environment, example, seed, replies) for _ in range(2)]
            assert games[0] == games[1], "the same example, seed and replies give another episode"


REPLIES = ("", "yes", "3", "north", "I do not know.\n" * 50, "{}", '{"name": 1}', "<b>", "１２", "\x00\ud800")


def _episode(environment: Environment, example: Example, seed: int, replies: Sequence[str]) -> list[Any]:
    """All that an episode says."""
    held = Play(environment, [(example, seed)])
    [game] = held.games
    found: list[Any] = [list(game.messages), list(game.tools)]
    for text in replies:
        if game.open:
            found.append(held.reply({0: text})[0])
    assert not game.broken, f"it breaks: {game.broken}"
    assert not game.open, f"it is not over after its {environment.turns} turns"
    assert not game.cut, f"it does not end by itself within its {environment.turns} turns"
    return found


def check_adapter(adapter: Adapter, folder: Path, layout: Layout) -> None:
    """Attached but untrained it changes nothing; state survives a round trip; the original stays; merging is exact."""
    plain, loaded = tiny_policy(folder, layout=layout)
    policy, _ = tiny_policy(folder, adapter, layout=layout)
    batch = Collator(layout)(tiny_rows(loaded, layout))
    for p in (plain, policy):
        p.module.eval()
    before = policy(batch).hidden.detach().clone()
    policy.forget()
    torch.testing.assert_close(before, plain(batch).hidden.detach(), msg="an untrained adapter changes the model")
    assert policy.trainable(), "nothing learns"
    _disturb(policy.attached)
    after = policy(batch).hidden.detach().clone()
    policy.forget()
    torch.testing.assert_close(policy.reference(batch).hidden, before, msg="the original is lost")
    state = {name: tensor.clone() for name, tensor in policy.attached.state().items()}
    fresh, _ = tiny_policy(folder, adapter, layout=layout)
    fresh.attached.load(state)
    fresh.module.eval()
    torch.testing.assert_close(fresh(batch).hidden.detach(), after, msg="state does not survive a round trip")
    _check_merged(policy, batch, after)


def _check_merged(policy: Policy, batch: Batch, hidden: torch.Tensor) -> None:
    """The merged model, read by transformers alone."""
    merged: Any = policy.attached.merged()
    table = batch.inputs["segments"].tolist()
    for start, end, _ in table:
        ids = batch.inputs["input_ids"][:, start:end]
        with torch.no_grad():
            states = merged.base_model(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(states, hidden[start:end], rtol=1e-4, atol=1e-4, msg="the merged model differs")


def _disturb(attached: Attached) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
