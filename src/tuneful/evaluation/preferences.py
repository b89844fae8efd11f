"""Does the model now prefer what people prefer? Held-out answers told apart, and what became of their likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tuneful.core.device import give_back_freed_memory
from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Message, Row, Said
from tuneful.evaluation.compare import Examined, Score, score
from tuneful.evaluation.metrics import JUDGED_METRICS, METRICS, PREFERENCE_METRICS, words
from tuneful.evaluation.reading import Collate, outputs, some
from tuneful.evaluation.settings import Evaluate
from tuneful.models.sampling import Generator
from tuneful.objectives.answers import Told, told

LONGER, LEAST, MOST = 32, 16, 512  # an answer may be this many tokens longer than nearly all chosen ones
NEARLY_ALL = 0.98
ROWS = 1000  # training rows that simple rules are found by


class Rewards(Protocol):
    """An objective that says what it holds of an answer."""

    def rewards(self, now: Told, before_T: Tensor) -> Tensor: ...


def read_answers(policy: Policy, rows: Sequence[Row], collate: Collate, *, original: bool = False) -> np.ndarray:
    """(R, 2, 2) of each row's first and second text the log-probability of its answer, and how many tokens that has;
    not a number where a row has but one text."""
    found = np.full((len(rows), 2, 2), np.nan)
    with torch.no_grad():
        for part, batch, read in outputs(policy, rows, collate, original=original):
            said, start = told(read, batch), 0
            pairs = torch.stack([said.sums, said.lengths], 1).double().cpu().numpy()
            for row in part:
                count = len(rows[row].texts)
                found[row, :count] = pairs[start : start + count]
                start += count
    return found


def examine_preferences(
    policy: Policy,
    processor: Processor,
    objective: Rewards,
    collate: Collate,
    train: Sequence[Row],
    test: Sequence[Row],
    settings: Evaluate,
    *,
    by_mean: bool,
) -> Examined:
    """Pairs of a chosen and a rejected answer. The tuned model prefers by the objective's own reward; the model before
    tuning, which has none, by how likely the answers are, a token where the objective counts so (`by_mean`); the
    trivial rule by their length, as most training pairs say."""
    now, was, rewards = _told(policy, objective, collate, test)
    likely = {"base": likelier(was, by_mean=by_mean), "tuned": likelier(now, by_mean=by_mean)}
    margins = {
        "base": likely["base"],
        "trivial": by_length(train, test),
        "tuned": rewards[:, 0] - rewards[:, 1],
    }
    asked = range(len(test))
    chosen = {"base": was[:, 0], "tuned": now[:, 0]}
    by_metric = dict(zip(PREFERENCE_METRICS, (margins, likely, likely, chosen), strict=True))
    scores = [score(METRICS[name], asked, found) for name, found in by_metric.items()]
    written, notes = write_before_and_after(policy, processor, train, test, settings)
    answers = [
        {**shown(row, row.example.chosen), **written.get(number, {}),
         "margins": _of_row(margins, number), "likelier": _of_row(likely, number), "chosen": _of_row(chosen, number)}
        for number, row in enumerate(test)
    ]  # fmt: skip
    answers.sort(key=lambda answer: "tuned" not in answer)  # those that were written first, as they can be shown
    return Examined(scores, settings.primary or PREFERENCE_METRICS[0], answers, [*notes, *_fallen(scores)])


def examine_judged(
    policy: Policy,
    processor: Processor,
    objective: Rewards,
    collate: Collate,
    train: Sequence[Row],
    test: Sequence[Row],
    settings: Evaluate,
) -> Examined:
    """Answers that are wanted or not. The tuned model says yes where the reward of an answer is above the mean reward
    of answers to other prompts, as it learned; the model before tuning where it is likelier a token than the line that
    parts training rows best; the trivial rule says what most training rows say."""
    now, was, rewards = _told(policy, objective, collate, test)
    moved = max(0.0, float(np.nanmean(rewards[:, 1]))) if not np.isnan(rewards[:, 1]).all() else 0.0
    known = train[:ROWS]
    before = read_answers(policy, known, collate, original=True)
    line = best_line(_means(before)[:, 0], np.array([_wanted(row) for row in known]))
    commonest = 2 * sum(map(_wanted, train)) >= len(train)
    says = {
        "base": _means(was)[:, 0] > line,
        "trivial": np.full(len(test), commonest),
        "tuned": rewards[:, 0] > moved,
    }
    truth = [_wanted(row) for row in test]
    scores = [score(METRICS[JUDGED_METRICS[0]], truth, {name: found.tolist() for name, found in says.items()})]
    if any(truth):
        chosen = {"base": was[truth, 0], "tuned": now[truth, 0]}
        scores.append(score(METRICS[JUDGED_METRICS[1]], range(sum(truth)), chosen))
    written, notes = write_before_and_after(policy, processor, train, test, settings)
    answers = [
        {**shown(row, row.example.messages[-1:]), **written.get(number, {}), "wanted": _wanted(row),
         "judged": {system: bool(found[number]) for system, found in says.items()}}
        for number, row in enumerate(test)
    ]  # fmt: skip
    answers.sort(key=lambda answer: "tuned" not in answer)
    return Examined(scores, settings.primary or JUDGED_METRICS[0], answers, [*notes, *_fallen(scores)])


def _told(
    policy: Policy, objective: Rewards, collate: Collate, rows: Sequence[Row]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `read_answers` finds now and before tuning, and (R, 2) the rewards of both texts of a row."""
    now, was = (read_answers(policy, rows, collate, original=original) for original in (False, True))
    rewards = objective.rewards(_as_told(now), torch.tensor(was[..., 0].ravel())).numpy().reshape(-1, 2)
    return now, was, rewards


def _of_row(found: Mapping[str, np.ndarray], number: int) -> dict[str, Any]:
    """By system."""
    return {system: values[number].tolist() for system, values in found.items()}


def best_line(values: np.ndarray, wanted: np.ndarray) -> float:
    """The number above which to say yes, so that most of these are right."""
    order = np.argsort(values, kind="stable")
    ordered, yes = values[order], wanted[order]
    right = np.r_[0, np.cumsum(~yes)] + yes.sum() - np.r_[0, np.cumsum(yes)]  # with the line behind so many
    place = int(right.argmax())
    return float(ordered[place - 1]) if place else float("-inf")


def write_before_and_after(
    policy: Policy, processor: Processor, train: Sequence[Row], test: Sequence[Row], settings: Evaluate
) -> tuple[dict[int, dict[str, str]], list[Said]]:
    """By number of the row what the model writes before and after tuning, to a seeded sample of the prompts, each once;
    and how long that is."""
    first: dict[bytes, int] = {}
    for number, row in enumerate(test):
        first.setdefault(row.ids[: row.prompt].tobytes(), number)
    asked = some(list(first.values()), settings.generate)
    prompts = [test[number].ids[: test[number].prompt] for number in asked]
    limit, generator = _limit(train, settings), Generator(processor)
    said: dict[str, list[str]] = {}
    for system, original in (("base", True), ("tuned", False)):
        give_back_freed_memory()
        said[system] = [one.text for one in generator.sample(policy, prompts, limit=limit, original=original)]
    lengths = {system: round(float(np.mean([len(words(text)) for text in texts])), 1) for system, texts in said.items()}
    found = {number: {system: said[system][place] for system in said} for place, number in enumerate(asked)}
    return found, [Said("written_length", {"n": len(asked), **lengths})]


def _limit(train: Sequence[Row], settings: Evaluate) -> int:
    if settings.new_tokens is not None:
        return settings.new_tokens
    lengths = [len(row.texts[0]) - row.prompt for row in train] or [LEAST]
    return min(MOST, int(np.quantile(lengths, NEARLY_ALL, method="higher")) + LONGER)


def _as_told(read: np.ndarray) -> Told:
    sums, lengths = torch.tensor(read).reshape(-1, 2).T
    return Told(sums, lengths)


def _means(read: np.ndarray) -> np.ndarray:
    """(R, 2) log-probability a token."""
    means: np.ndarray = read[..., 0] / read[..., 1]
    return means


def likelier(read: np.ndarray, *, by_mean: bool) -> np.ndarray:
    """(R,) nats, a token or in all, by which the first answer is likelier."""
    values = _means(read) if by_mean else read[..., 0]
    return np.asarray(values[:, 0] - values[:, 1])


def by_length(train: Sequence[Row], test: Sequence[Row]) -> np.ndarray:
    """(R,) tokens by which the chosen answer is longer, or shorter where that is the rule among training rows."""
    longer = np.sign([row.lengths[0] - row.lengths[1] for row in train]).sum()
    return (1 if longer >= 0 else -1) * np.array([row.lengths[0] - row.lengths[1] for row in test], dtype=np.float64)


def _fallen(scores: Sequence[Score]) -> list[Said]:
    """Says so where wanted answers have surely become less likely."""
    found = next((one for one in scores if one.metric == "chosen_logprob"), None)
    if found is None or not found.against["base"].worse(higher_is_better=True):
        return []
    facts = {name: round(found.values[name], 3) for name in ("base", "tuned")}
    return [Said("chosen_fell", facts)]


def _wanted(row: Row) -> bool:
    return row.example.label is True


def shown(row: Row, answer: Sequence[Message]) -> dict[str, Any]:
    asked = [message.content for message in row.example.messages if message.role == "user"]
    mark = {True: "\u2713 ", False: "\u2717 "}.get(row.example.label, "")
    return {
        "row": str(row.example.place),
        "asked": asked[-1] if asked else "",
        "expected": mark + "\n".join(message.content for message in answer if message.role == "assistant"),
    }
