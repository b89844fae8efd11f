"""How good are a generator's answers: the tuned model, the base model, a k-shot prompt and a constant answer."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneful.core.device import give_back_freed_memory
from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Row
from tuneful.evaluation.compare import Examined, score
from tuneful.evaluation.metrics import METRICS, words
from tuneful.evaluation.own import by_own_task
from tuneful.evaluation.reading import Collate, some, token_losses
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.shots import with_shots
from tuneful.models.sampling import Generator

TEXT_METRICS = ("exact_match", "rouge_l", "token_f1")
CHECKABLE = 0.8  # share of short or structured answers from which exact match is the measure
SHORT_ANSWER = 5  # words
LONGER, LEAST, MOST = 32, 16, 512  # an answer may be this many tokens longer than nearly all training answers
NEARLY_ALL = 0.98  # one very long answer would make every model that does not stop write as long


def examine(
    policy: Policy,
    processor: Processor,
    collate: Collate,
    train: Sequence[Row],
    test: Sequence[Row],
    settings: Evaluate,
    *,
    tuned: bool = True,
    tasks: Sequence[str] = (),
) -> Examined:
    """Rows with an answer to a prompt; plain texts are measured by perplexity alone. `tuned` False: there is only
    the base model. `tasks` have adapters of their own: then examples and constants are of a row's own task too."""
    test_rows = list(test)
    shot_rows = _shown(policy, processor, train, test_rows, settings, tasks)
    losses = {
        "base": token_losses(policy, test_rows, collate, original=True),
        "trivial": np.stack(by_own_task(train, test_rows, tasks, lambda *rows: list(_common_losses(*rows)))),
    }
    if shot_rows is not None:
        losses["kshot"] = token_losses(policy, shot_rows, collate, original=True)
    if tuned:
        losses["tuned"] = token_losses(policy, test_rows, collate)
    scores = [score(METRICS["perplexity"], range(len(test_rows)), losses)]
    asked = some([index for index, row in enumerate(test_rows) if row.prompt], settings.generate)
    if not asked:
        return Examined(scores, settings.primary or "perplexity", [])
    said = _answers(policy, processor, train, test_rows, shot_rows, asked, settings, tuned)
    said["trivial"] = by_own_task(
        train, [test_rows[index] for index in asked], tasks, lambda known, rows: _commonest(known, rows, processor)
    )
    truth = [answer_of(test_rows[index], processor) for index in asked]
    scores = [*(score(METRICS[name], truth, said) for name in TEXT_METRICS), *scores]
    primary = settings.primary or ("exact_match" if _checkable(train, processor) else "perplexity")
    listed = _listed(processor, [test_rows[i] for i in asked], truth, said)
    for place, index in enumerate(asked):
        listed[place]["losses"] = {system: found[index].tolist() for system, found in losses.items()}
    return Examined(scores, primary, listed)


def answer_of(row: Row, processor: Processor) -> str:
    """The last answer of a row, as text."""
    behind = zip(row.ids[row.prompt :], row.learn[row.prompt :], strict=True)
    answer = [int(token) for token, learned in behind if learned > 0 and int(token) not in processor.stop_ids]
    return processor.decode(answer).strip()


def longest_answer(rows: Sequence[Row], settings: Evaluate) -> int:
    """How many tokens an answer may have."""
    if settings.new_tokens is not None:
        return settings.new_tokens
    lengths = [len(row) - row.prompt for row in rows if row.prompt] or [LEAST]
    return min(MOST, int(np.quantile(lengths, NEARLY_ALL, method="higher")) + LONGER)


def _answers(
    policy: Policy,
    processor: Processor,
    train: Sequence[Row],
    test: Sequence[Row],
    shots: Sequence[Row] | None,
    asked: Sequence[int],
    settings: Evaluate,
    tuned: bool,
) -> dict[str, list[str]]:
    generator, limit = Generator(processor), longest_answer(train, settings)

    def say(rows: Sequence[Row], *, original: bool) -> list[str]:
        give_back_freed_memory()
        prompts = [rows[index].ids[: rows[index].prompt] for index in asked]
        owners = [rows[index].example.task for index in asked]
        return [
            found.text for found in generator.sample(policy, prompts, limit=limit, original=original, owners=owners)
        ]

    said = {"base": say(test, original=True)}
    if tuned:
        said["tuned"] = say(test, original=False)
    if shots is not None:
        said["kshot"] = say(shots, original=True)
    return said


def _shown(
    policy: Policy,
    processor: Processor,
    train: Sequence[Row],
    test: Sequence[Row],
    settings: Evaluate,
    tasks: Sequence[str],
) -> list[Row] | None:
    """None where a task has no such baseline."""

    def show(known: Sequence[Row], asked: Sequence[Row]) -> Sequence[Row | None]:
        return with_shots(policy, processor, known, asked, settings) or [None] * len(asked)

    rows = by_own_task(train, test, tasks, show)
    found = [row for row in rows if row is not None]
    return found if len(found) == len(rows) else None


def _commonest(train: Sequence[Row], asked: Sequence[Row], processor: Processor) -> list[str]:
    commonest = Counter(answer_of(row, processor) for row in train if row.prompt).most_common(1)
    return [commonest[0][0] if commonest else ""] * len(asked)


def unigram_losses(train: Sequence[Row]) -> np.ndarray:
    """(V,) of a model that knows only how often each token is learned (add-one smoothing over the tokens seen); what
    is beyond has the last entry."""
    counts = Counter(int(token) for row in train for token in row.ids[row.learn > 0])
    total = counts.total() + len(counts) + 1
    found = np.full(max(counts, default=0) + 2, math.log(total))
    for token, count in counts.items():
        found[token] -= math.log(count + 1)
    return found


def _common_losses(train: Sequence[Row], test: Sequence[Row]) -> np.ndarray:
    """(R, 2): as `reading.token_losses`, by how common tokens are."""
    common = unigram_losses(train)
    told = [common[np.minimum(row.ids[row.learn > 0], len(common) - 1)] for row in test]
    return np.array([[row.sum(), len(row)] for row in told])


def _checkable(train: Sequence[Row], processor: Processor) -> bool:
    """Most answers are short or JSON, so being right to the letter is a fair demand."""
    answers = [answer_of(row, processor) for row in train[:200] if row.prompt]
    plain = [len(words(answer)) <= SHORT_ANSWER or _is_json(answer) for answer in answers]
    return bool(plain) and sum(plain) >= CHECKABLE * len(plain)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _listed(
    processor: Processor, rows: Sequence[Row], truth: Sequence[str], said: dict[str, list[str]]
) -> list[dict[str, Any]]:
    listed = []
    for number, row in enumerate(rows):
        asked = [message.content for message in row.example.messages if message.role == "user"]
        listed.append(
            {
                "row": str(row.example.place),
                "asked": asked[-1] if asked else processor.decode(row.ids[: row.prompt].tolist()),
                "expected": truth[number],
                **{system: answers[number] for system, answers in said.items()},
            }
        )
    return listed
