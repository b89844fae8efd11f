"""What runs were worth before they became one model, and what that model is worth: task by task, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuneful.evaluation import phrases
from tuneful.evaluation.compare import Difference, score
from tuneful.evaluation.metrics import Summed
from tuneful.evaluation.phrases import Say

Report = Mapping[str, Any]
BASE, MERGED = "base", "merged"
FEW = 3  # tasks of which each has a sentence


def figures(
    metric: Summed, truth: Sequence[Any], said: Mapping[str, Sequence[Any] | np.ndarray], knows: Mapping[str, bool]
) -> dict[str, Any]:
    """Of one task. `said` has what the base, each run and the merged model said; `knows` which runs can say all that
    is expected. `worst` and `best` are of those; the intervals are paired: merged minus that run."""
    found = score(metric, truth, {"tuned" if name == MERGED else name: answers for name, answers in said.items()})
    sign = 1 if metric.higher_is_better else -1
    able = sorted((name for name, able in knows.items() if able), key=lambda name: sign * found.values[name])
    ends = {"worst": able[0], "best": able[-1]} if able else {}
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "n": found.n,
        "base": round(found.values[BASE], 5) if BASE in found.values else None,
        "runs": {name: round(found.values[name], 5) for name in knows},
        "merged": round(found.values["tuned"], 5),
        **{end: {"run": name, **_against(found.against[name], metric)} for end, name in ends.items()},
    }


def _against(gap: Difference, metric: Summed) -> dict[str, Any]:
    surely = "better" if gap.better(metric.higher_is_better) else "worse" if gap.worse(metric.higher_is_better) else ""
    return {**gap.as_json(), "surely": surely}


def lost(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tasks on which the merged model is surely worse than the worst of the runs that know them."""
    return [task for task, found in tasks.items() if found.get("worst", {}).get("surely") == "worse"]


def told(found: Mapping[str, Any] | None, say: Say) -> list[str]:
    """Of the report's `forgetting.merged` what became of each task; nothing of other runs."""
    if not found:
        return []
    if not found["tasks"]:
        return [say["merged_unmeasured"]]
    able = {task: one for task, one in found["tasks"].items() if "best" in one}
    sentences = [_of_task(task, one, say) for task, one in able.items()] if len(able) <= FEW else [_counted(able, say)]
    if worse := lost(found["tasks"]):
        names = say["between_items"].join(say["task_is"].format(task=task) for task in worse)
        sentences.append(say["merged_worse"].format(tasks=names))
    return sentences


def table(report: Report, say: Say) -> dict[str, Any]:
    """A row a task, a column a run; empty for a run that was not merged."""
    found = report["forgetting"].get("merged") or {}
    tasks = found.get("tasks")
    if not tasks:
        return {}
    runs = list(next(iter(tasks.values()))["runs"])
    return {
        "caption": say["merged_caption"],
        "columns": [say["column_task"], say["column_metric"], say["system_base"], *runs, say["merged_column"],
                    say["merged_delta"], say["column_interval"], say["column_tested"]],
        "rows": [
            [
                task, phrases.metric_name(one["metric"], say), phrases.number(one["base"]),
                *(phrases.number(one["runs"][run]) for run in runs), phrases.number(one["merged"]),
                phrases.signed(one.get("best", {}).get("delta")),
                phrases.interval(one.get("best", {}).get("ci95"), say), phrases.number(one["n"]),
            ]
            for task, one in tasks.items()
        ],
    }  # fmt: skip


def _of_task(task: str, found: Mapping[str, Any], say: Say) -> str:
    best = found["best"]
    return say["merged_task"].format(
        task=task, metric=found["metric"], merged=phrases.number(found["merged"]),
        run=best["run"], best=phrases.number(found["runs"][best["run"]]), delta=phrases.signed(best["delta"]),
        interval=phrases.interval(best["ci95"], say),
    )  # fmt: skip


def _counted(tasks: Mapping[str, Mapping[str, Any]], say: Say) -> str:
    surely = [one["best"]["surely"] for one in tasks.values()]
    return say["merged_many"].format(worse=surely.count("worse"), better=surely.count("better"), n=len(tasks))
