"""Several answers to each prompt, of which a judge picks one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuneful.core.errors import InputError
from tuneful.core.types import Example, Place
from tuneful.models.sampling import Generator
from tuneful.run.rating import Asked, Rater, open_rater, turns
from tuneful.run.tuned import Tuned, open_model


@dataclass(frozen=True, slots=True)
class Best:
    """The answer with the largest reward, and all that were drawn."""

    answer: str
    reward: float
    answers: tuple[str, ...]
    rewards: tuple[float, ...]  # minus infinity for what the judge could not read

    @property
    def known(self) -> bool:
        """The judge could read one of them."""
        return bool(np.isfinite(self.reward))

    @property
    def mean(self) -> float:
        """Of the rewards of all answers: what one answer would get."""
        known = [reward for reward in self.rewards if np.isfinite(reward)]
        return float(np.mean(known)) if known else float("nan")


def best_of(
    model: str | Path,
    prompts: Sequence[Asked],
    judge: str | Path,
    *,
    count: int = 8,
    temperature: float = 1.0,
    limit: int = 256,
    seed: int = 0,
) -> list[Best]:
    """For each prompt (a request, or turns) the best of `count` answers of a model or run, by a run that learned
    `reward_model`: best-of-n (Stiennon et al. 2020, arXiv:2009.01325). No weight moves, and answers are no further from
    those of the model than log n - (n - 1) / n nats (Beirami et al. 2024, arXiv:2401.01879)."""
    examples = [Example(Place("input", n), messages=turns(asked)) for n, asked in enumerate(prompts, 1)]
    rater = open_rater(str(judge))
    return picked(
        open_model(str(model), routes=True),
        rater,
        examples,
        count=count,
        temperature=temperature,
        limit=limit,
        seed=seed,
    )


def picked(
    model: Tuned,
    rater: Rater,
    examples: Sequence[Example],
    *,
    count: int,
    temperature: float,
    limit: int,
    seed: int = 0,
    stops: Sequence[str] = (),
) -> list[Best]:
    """Of models that are open. Of equal rewards the answer that was drawn first. Raises InputError where there is
    nothing to choose from."""
    if not model.writes:
        raise InputError("best of: this model writes no answers of which one could be picked; name one that writes")
    if count < 1 or not temperature > 0:
        raise InputError(f"best of: found {count} answers at temperature {temperature:g}; expected 1 or more, and a "
                         "temperature above 0, or all answers are the same")  # fmt: skip
    drawn = Generator(model.processor).sample(
        model.policy, [model.processor.prompt(one.messages, one.tools).ids for one in examples], limit=limit,
        temperature=temperature, seed=seed, stops=stops, owners=model.tasks_of(examples), count=count,
    )  # fmt: skip
    found = []
    for place, example in enumerate(examples):
        answers = [one.text for one in drawn[place * count : (place + 1) * count]]
        rewards = rater.best(example, answers)
        first = int(np.argmax(rewards))
        found.append(Best(answers[first], rewards[first], tuple(answers), tuple(rewards)))
    return found
