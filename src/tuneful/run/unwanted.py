"""What answers are to have less of, and answers that have: self-debiasing for whoever asks a model that writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.errors import DataError, InputError
from tuneful.core.policy import Policy
from tuneful.core.types import Example
from tuneful.data.identity.lexicon import CHINESE
from tuneful.evaluation.metrics import words
from tuneful.models.processors import TextProcessor
from tuneful.models.sampling import Generator
from tuneful.models.selfdebias import ATTRIBUTES, DECAY, FLOOR, DebiasedGenerator, told, told_of

EVERY = "all"  # stands for each attribute there is


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Attributes of text, `toxicity` for example, by name, in one text with commas, or `all`. Raises InputError for
    what there is not."""

    attributes: Sequence[str]
    language: str | None = None  # in which the model is told of them; None goes by each request
    decay: float = DECAY
    floor: float = FLOOR

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", _names(self.attributes))
        told("", self.language or "en", self.attributes)
        if not (self.decay >= 0 and 0 < self.floor <= 1):
            raise InputError(f"less: found decay {self.decay:g} and floor {self.floor:g}; expected a decay of 0 or "
                             "more, and a floor above 0 and up to 1")  # fmt: skip

    @staticmethod
    def of(less: Less) -> Unwanted:
        return less if isinstance(less, Unwanted) else Unwanted(less)

    def __bool__(self) -> bool:
        return bool(self.attributes)

    def biased(self, example: Example, processor: TextProcessor) -> list[np.ndarray]:
        """The prompts that stand beside the example's own, one an attribute."""
        try:
            found = told_of(example.messages, self.language or _language_of(example), self.attributes)
        except InputError as error:
            raise DataError(f"{example.place}: {error}") from None
        return [processor.prompt(messages, example.tools).ids for messages in found]


Less = Sequence[str] | Unwanted


def written(
    policy: Policy,
    processor: TextProcessor,
    examples: Sequence[Example],
    less: Less,
    *,
    limit: int,
    temperature: float,
    seed: int,
    stops: Sequence[str],
) -> list[str]:
    """An answer to each example. Where nothing is unwanted it is the plain generator that writes."""
    unwanted = Unwanted.of(less)
    prompts = [processor.prompt(example.messages, example.tools).ids for example in examples]
    if unwanted:
        biased = [unwanted.biased(example, processor) for example in examples]
        found = DebiasedGenerator(processor, unwanted.decay, unwanted.floor).sample(
            policy, prompts, biased, limit=limit, temperature=temperature, seed=seed, stops=stops
        )
    else:
        found = Generator(processor).sample(
            policy, prompts, limit=limit, temperature=temperature, seed=seed, stops=stops
        )
    return [completion.text for completion in found]


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Each once, in order."""
    listed = re.split("[,，、]", given) if isinstance(given, str) else given
    names = [name.strip() for name in listed if name.strip()]
    return tuple(ATTRIBUTES["en"]) if EVERY in names else tuple(dict.fromkeys(names))


def _language_of(example: Example) -> str:
    """Chinese where most words of the last request are Chinese characters, else English."""
    asked = next((message.content for message in reversed(example.messages) if message.role == "user"), "")
    found = words(asked)
    return "zh-TW" if 2 * sum(CHINESE.match(word) is not None for word in found) > len(found) else "en"
