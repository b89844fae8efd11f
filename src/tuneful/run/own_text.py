"""What the untuned model writes by itself, so that a run can show it to the model again: it keeps what it knew without
any of the data it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Completion, Example, Message, Place, Row
from tuneful.models.sampling import Generator
from tuneful.run.prepare import Prepared
from tuneful.schedules.lifelong import LifelongSteps

TOKENS, LEAST = 64, 4  # of a text, at most; of fewer nothing is learned
# Half of the texts begin with one of these words, as there is no token that all models begin a text with.
WORDS = ("The", "In", "A", "I", "This", "It", "When", "We", "For", "If", "To", "How", "As", "On", "He", "She")
MARK = "WORDS"  # stands for what a person says, to find where that begins


def shown_again(schedule: LifelongSteps, prepared: Prepared, policy: Policy) -> LifelongSteps:
    """The schedule with the texts it asks for; they depend on the seed and the untuned model alone."""
    count = schedule.settings.own_text
    if not count:
        return schedule
    with policy.gathered():
        return replace(schedule, written=own_texts(policy, prepared.processor, count, prepared.recipe.seed))


def own_texts(policy: Policy, processor: Processor, count: int, seed: int) -> list[Row]:
    """Half of them plain text; half answers to requests that the model made up, too, as it was taught to take turns
    (Xu et al. 2024, "Magpie", arXiv:2406.08464, section 2). Of `count` those with enough tokens."""
    plain = [processor.passage(WORDS[number % len(WORDS)]).ids[:1] for number in range(count // 2)]
    asked = [_before_words(processor)] * (count - len(plain))
    requests = _sampled(policy, processor, asked, seed)
    asks = [processor.prompt([Message("user", said.text.strip())], ()).ids for said in requests if said.text.strip()]
    prompts = [*plain, *asks]
    answers = _sampled(policy, processor, prompts, seed + 1)
    return list(_rows(prompts, answers, len(plain)))


def _sampled(policy: Policy, processor: Processor, prompts: Sequence[np.ndarray], seed: int) -> list[Completion]:
    training = policy.module.training
    policy.module.eval()
    found = Generator(processor).sample(policy, prompts, limit=TOKENS, temperature=1.0, seed=seed, original=True)
    policy.module.train(training)
    return found


def _before_words(processor: Processor) -> np.ndarray:
    """The ids of a conversation up to where a person begins to speak."""
    encoded = processor.prompt([Message("user", MARK)], ())
    ends = encoded.spans[:, 1]
    return encoded.ids[ends <= encoded.text.index(MARK)]


def _rows(prompts: Sequence[np.ndarray], answers: Sequence[Completion], plain: int) -> Iterator[Row]:
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if len(answer.ids) >= LEAST:
            ids = np.concatenate([prompt, np.asarray(answer.ids, dtype=np.int32)])
            learn = np.ones(len(ids), dtype=np.float32)
            learn[: len(prompt)] = 0.0
            example = Example(Place("the model's own text", number + 1, "text"))
            yield Row(example, ids, learn, prompt=0 if number < plain else len(prompt))
