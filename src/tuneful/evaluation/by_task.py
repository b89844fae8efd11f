"""What each task of a run gained: the run's answers, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.evaluation.compare import Examined, score
from tuneful.evaluation.generators import TEXT_METRICS
from tuneful.evaluation.metrics import METRICS, PREFERENCE_METRICS, REWARD_METRICS, SEARCH_METRICS
from tuneful.evaluation.phrases import SYSTEMS
from tuneful.evaluation.readers import READER_METRICS

Answer = Mapping[str, Any]
# What an answer holds for a metric, where that is not what was said.
READ = {
    **dict.fromkeys(SEARCH_METRICS, "found"), "perplexity": "losses", "judged_accuracy": "judged",
    "preference_accuracy": "margins", "likelihood_accuracy": "likelier", "likelihood_margin": "likelier",
    "chosen_logprob": "chosen", "reward": "rewards", "verified": "verified",
}  # fmt: skip


def by_task(examined: Examined, task_of: Mapping[str, str], train_rows: Mapping[str, int]) -> dict[str, Any]:
    """The report's `tasks`: of each task the metric of the verdict over its own test rows, by system, tuned minus base
    with its interval, `n` test rows and `rows` training rows. `task_of`: the task of every answer's "row". Where the
    metric of the verdict is not one of a task's answers, the first is taken that is. A task without answers has `n` 0
    and no metric."""
    answers: dict[str, list[Answer]] = {task: [] for task in (*train_rows, *task_of.values())}
    for answer in examined.answers:
        answers[task_of[answer["row"]]].append(answer)
    return {
        task: {**_measured(given, examined.primary), "rows": train_rows.get(task, 0)} for task, given in answers.items()
    }


def _measured(answers: Sequence[Answer], primary: str) -> dict[str, Any]:
    if not answers:
        return {"n": 0}
    known = _metrics(answers[0])
    metric = METRICS[primary if primary in known else known[0]]
    said = [_said(answer, metric.name) for answer in answers]
    systems = [system for system in SYSTEMS if said[0].get(system) is not None]
    by_system = {system: [one[system] for one in said] for system in systems}
    found = score(metric, [_truth(answer) for answer in answers], by_system)
    gap = found.against.get("base")
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "n": found.n,
        **{system: round(value, 5) for system, value in found.values.items()},
        **(gap.as_json() if gap else {"delta": None, "ci95": None}),
    }


def _metrics(answer: Answer) -> tuple[str, ...]:
    """What can be told from answers like this one, that which is taken by default first."""
    if "found" in answer:
        return SEARCH_METRICS
    if "margins" in answer:
        return PREFERENCE_METRICS
    if "judged" in answer:
        return ("judged_accuracy",)
    if "rewards" in answer:
        return REWARD_METRICS
    if "losses" in answer:
        return (*TEXT_METRICS, "perplexity")
    if isinstance(answer["expected"], float):
        return READER_METRICS["number"]
    return READER_METRICS["labels" if isinstance(answer["expected"], list) else "class"]


def _said(answer: Answer, metric: str) -> Mapping[str, Any]:
    """By system, what the metric reads."""
    if metric in READ:
        found: Mapping[str, Any] = answer[READ[metric]]
        return found
    return {system: _plain(answer[system]) for system in SYSTEMS if system in answer}


def _truth(answer: Answer) -> Any:
    if "judged" in answer:
        return answer["wanted"]
    return frozenset(answer["right"]) if "found" in answer else _plain(answer["expected"])


def _plain(said: Any) -> Any:
    """Labels are listed in answers, and are a set for metrics."""
    return frozenset(said) if isinstance(said, list) else said
