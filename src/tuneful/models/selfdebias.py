"""Writing with less of what a model itself knows to be unwanted: it reads each prompt twice, the second time told that
the text contains some attribute, and tokens that become likelier by that are made less likely.

Self-debiasing of Schick, Udupa and Schütze 2021, "Self-diagnosis and self-debiasing" (arXiv:2103.00453, equations
2-5; several attributes at once as in their code):

    delta(w) = min over attributes y of p(w | x) - p(w | sdb(x, y))
    p'(w | x) ~ alpha(delta(w)) p(w | x),   alpha(d) = 1 where d >= 0, else max(floor, exp(decay d))

No weight changes. It costs a row more an attribute, and only knows what the model does: small models hardly tell the
attributes apart. Fluency falls with it, and talk about a group may be avoided where talk against it was meant, so
perplexity and what is said of groups are to be measured beside what was wanted.

Shapes: B rows, K attributes, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.errors import InputError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Completion
from tuneful.core.vocabulary import Vocabulary
from tuneful.models.cached import PackedRows
from tuneful.models.padded import PaddedRows, RereadRows, remembers

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
        raise InputError(f"self-debiasing knows no attribute '{unknown[0]}'; known: {', '.join(words)}")
    return [SAYING[language].format(what=words[name]) + text for name in names]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How an answer is drawn, and how long it may get."""

    limit: int
    temperature: float
    random: torch.Generator

    def choose(self, logits_BV: Tensor) -> Tensor:
        """(B,) the next token of each answer."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        shares = torch.softmax(logits_BV / self.temperature, -1)
        return torch.multinomial(shares, 1, generator=self.random).squeeze(1)


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
    ) -> list[Completion]:
        """One answer a prompt. `biased` holds the K prompts that stand beside each (`told`, in the same template); all
        have as many. Other settings as `sampling.Generator.sample`. Raises InputError where numbers differ."""
        beside = _attributes(prompts, biased)
        policy.module.eval()
        wanted = _Wanted(limit, temperature, torch.Generator(policy.device).manual_seed(seed))
        scope = policy.attached.original() if original else nullcontext(policy.module)
        produced: list[list[int]] = []
        with scope as module, torch.no_grad(), policy.autocasting():
            vocabulary = policy.network.vocabulary(module).often()
            count = max(1, TOGETHER // (1 + beside))
            for start in range(0, len(prompts), count):
                part = list(prompts[start : start + count])
                rows = part + [others[place] for place in range(beside) for others in biased[start : start + count]]
                produced += self._write(policy.network, module, vocabulary, rows, len(part), wanted)
        return [self._completion(ids) for ids in produced]

    def _write(
        self, network: Any, module: Any, vocabulary: Vocabulary, prompts: list[np.ndarray], count: int, wanted: _Wanted
    ) -> list[list[int]]:
        """Prompts are those of the answers, and behind them those of each attribute in the same order."""

        def decoded(rows: PackedRows | PaddedRows | RereadRows) -> list[list[int]]:
            return self._decode(rows, vocabulary, count, wanted)

        if network.shares and network.reaches(max(map(len, prompts)) + wanted.limit):
            return decoded(PackedRows(network, module, prompts))
        with network.natively(module):
            if remembers(module):
                return decoded(PaddedRows.of(module, prompts, self.processor.pad_id))
            return decoded(RereadRows.of(module, prompts))

    def _decode(
        self, rows: PackedRows | PaddedRows | RereadRows, vocabulary: Vocabulary, count: int, wanted: _Wanted
    ) -> list[list[int]]:
        written: list[Tensor] = []
        at_work = np.ones(count, dtype=bool)
        while at_work.any() and len(written) < wanted.limit:
            if written:
                rows.append(written[-1].repeat(len(rows.owners) // count))
            logits = vocabulary.logits(rows.read()).unflatten(0, (-1, count))  # (1 + K, B, V)
            shares = debiased(logits[0], logits[1:], decay=self.decay, floor=self.floor)
            written.append(wanted.choose(shares))
            at_work &= [token not in self.processor.stop_ids for token in written[-1].tolist()]
        return torch.stack(written, 1).tolist() if written else [[] for _ in range(count)]

    def _completion(self, found: list[int]) -> Completion:
        """An answer ends at its own first stop; others of its batch may have gone on."""
        stops = self.processor.stop_ids
        end = next((place for place, token in enumerate(found) if token in stops), None)
        return Completion(tuple(found[:end]), self.processor.decode(found[:end]), end is not None)


def _attributes(prompts: Sequence[np.ndarray], biased: Sequence[Sequence[np.ndarray]]) -> int:
    """How many prompts stand beside each."""
    counts = {len(others) for others in biased}
    if len(biased) != len(prompts) or len(counts) > 1:
        raise InputError(f"self-debiasing: found {len(prompts)} prompts and {len(biased)} lists of prompts beside "
                         f"them, of {sorted(counts)} each; expected one list a prompt, all of one length")  # fmt: skip
    return next(iter(counts), 0)
