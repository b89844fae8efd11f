"""Writing with less of what a model itself knows to be unwanted: it reads each prompt twice, the second time told that
the text contains some attribute, and tokens that become likelier by that are made less likely.

Self-debiasing of Schick, Udupa and Schütze 2021, "Self-diagnosis and self-debiasing" (arXiv:2103.00453, equations
2-5; several attributes at once as in their code):

    delta(w) = min over attributes y of p(w | x) - p(w | sdb(x, y))
    p'(w | x) ~ alpha(delta(w)) p(w | x),   alpha(d) = 1 where d >= 0, else max(floor, exp(decay d))

No weight changes. It costs a row more an attribute, and only knows what the model does: small models hardly tell the
attributes apart. Fluency falls with it, and talk about a group may be avoided where talk against it was meant, so
perplexity and what is said of groups are to be measured beside what was wanted. `run/unwanted.py` switches it on.

Shapes: B rows, K attributes, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tuneful.core.errors import InputError, ModelError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.sharded import is_sharded
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Completion, Message
from tuneful.models.writing import Writing, write

DECAY, FLOOR = 50.0, 0.01  # the paper's
TOGETHER = 64  # rows decoded at once, those of attributes included

SAYING = {"en": "Below is a text that contains {what}:\n", "zh-TW": "以下這段文字含有{what}：\n"}
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "toxicity": "rude and hurtful remarks",
        "severe_toxicity": "extreme hatred and aggression",
        "insult": "insults that belittle a person",
        "identity_attack": "contempt for people because of their origin, religion, sex or another part of who they are",
        "threat": "threats to do somebody harm",
        "profanity": "swearing and vulgar words",
        "sexual": "explicit descriptions of sex",
        "stereotype": "prejudices about a group of people",
    },
    "zh-TW": {
        "toxicity": "粗魯、傷人的言語",
        "severe_toxicity": "極端的仇恨與攻擊",
        "insult": "貶低他人的侮辱",
        "identity_attack": "因為出身、宗教、性別或其他身分而輕蔑他人的言語",
        "threat": "揚言傷害他人的威脅",
        "profanity": "髒話與粗俗的字眼",
        "sexual": "露骨的性描寫",
        "stereotype": "對某個群體的偏見",
    },
}


def debiased(logits: Tensor, biased: Tensor, *, decay: float = DECAY, floor: float = FLOOR) -> Tensor:
    """(..., V) log-probabilities of the next token, from its logits after the plain prompt, (..., V), and after each
    of K prompts that say what is unwanted, (K, ..., V). They serve as logits: a temperature comes after."""
    plain = logits.float().log_softmax(-1)
    if not len(biased):
        return plain
    shares = biased.float().softmax(-1).amax(0)
    return (plain + (decay * (plain.exp() - shares)).clamp(min=math.log(floor), max=0.0)).log_softmax(-1)


def told(text: str, language: str = "en", attributes: Sequence[str] | None = None) -> list[str]:
    """K texts: the same behind a sentence for each attribute that says the text contains it. All attributes where none
    are named. Raises InputError for a language or attribute that has no words here."""
    if language not in SAYING:
        raise InputError(f"self-debiasing has no words in '{language}'; known: {', '.join(SAYING)}")
    words = ATTRIBUTES[language]
    names = list(words) if attributes is None else attributes
    if unknown := [name for name in names if name not in words]:
        near = did_you_mean(unknown[0], words)
        raise InputError(f"self-debiasing knows no attribute '{unknown[0]}'.{near} Known: {', '.join(words)}")
    return [SAYING[language].format(what=words[name]) + text for name in names]


def told_of(messages: Sequence[Message], language: str, attributes: Sequence[str]) -> list[list[Message]]:
    """K conversations: the same, the sentence before what the user said last, whatever the template then makes of it.
    Raises InputError as `told`, and where no user speaks."""
    place = max((at for at, message in enumerate(messages) if message.role == "user"), default=None)
    if place is None:
        raise InputError("self-debiasing puts its sentence before what the user says; found no turn of a user")
    return [
        [*messages[:place], replace(messages[place], content=text), *messages[place + 1 :]]
        for text in told(messages[place].content, language, attributes)
    ]


@dataclass(frozen=True, slots=True)
class DebiasedGenerator:
    """Writes as `sampling.Generator` does, each token drawn from the debiased probabilities."""

    processor: Processor
    decay: float = DECAY
    floor: float = FLOOR

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[np.ndarray],
        biased: Sequence[Sequence[np.ndarray]],
        *,
        limit: int,
        temperature: float = 0.0,
        seed: int = 0,
        original: bool = False,
        stops: Sequence[str] = (),
    ) -> list[Completion]:
        """One answer a prompt. `biased` holds the K prompts that stand beside each (`told`, in the same template); all
        have as many. Other settings as `sampling.Generator.sample`. Raises InputError where numbers differ, and
        ModelError where the model is shared out."""
        beside = _attributes(prompts, biased)
        _check_whole(policy)
        random = torch.Generator(policy.device).manual_seed(seed)
        writing = Writing(self.processor, limit, temperature, random, tuple(filter(None, stops)))
        groups = [[own, *others] for own, others in zip(prompts, biased, strict=True)]
        count = max(1, TOGETHER // (1 + beside))
        return write(policy, groups, writing, mix=self._mixed, count=count, original=original)

    def _mixed(self, logits: Tensor) -> Tensor:
        """(1 + K, B, V) -> (B, V)"""
        return debiased(logits[0], logits[1:], decay=self.decay, floor=self.floor)


def _check_whole(policy: Policy) -> None:
    if any(map(is_sharded, policy.module.parameters())):
        raise ModelError("self-debiasing needs the whole model in one process, and this one is shared out over "
                         "several; save it and load it: tuneful.load(run)")  # fmt: skip


def _attributes(prompts: Sequence[np.ndarray], biased: Sequence[Sequence[np.ndarray]]) -> int:
    """How many prompts stand beside each."""
    counts = {len(others) for others in biased}
    if len(biased) != len(prompts) or len(counts) > 1:
        raise InputError(f"self-debiasing: found {len(prompts)} prompts and {len(biased)} lists of prompts beside "
                         f"them, of {sorted(counts)} each; expected one list a prompt, all of one length")  # fmt: skip
    return next(iter(counts), 0)
