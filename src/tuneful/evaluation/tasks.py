"""What the page, the card and the terminal say of a run of several tasks: what each of them gained, and what later ones
made it lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import merged, phrases
from tuneful.evaluation.phrases import SYSTEMS, Say
from tuneful.evaluation.transfer import first_learned
from tuneful.evaluation.words import words

Report = Mapping[str, Any]
FAINTEST, DEEPEST = 8, 45  # percent of colour in a cell; deeper, and letters are hard to read
ALL = 0.5  # from this share of a task's score on, a change is as deep as it gets


def each_task(report: Report, say: Say) -> dict[str, Any]:
    """A sentence and a table of words, a row a task; empty for a run of one task."""
    tasks = report["tasks"]
    if not tasks:
        return {}
    shown = [system for system in SYSTEMS if any(phrases.is_number(found.get(system)) for found in tasks.values())]
    return {
        "sentence": say["between_sentences"].join(filter(None, [_gained(tasks, say), _apart(report, say)])),
        "caption": say["tasks_caption"],
        "columns": [
            say["column_task"], say["column_metric"], *(phrases.system_name(report, system, say) for system in shown),
            *(say[f"column_{name}"] for name in ("delta", "interval", "tested", "trained")),
        ],
        "pages": {
            task: f"{found['folder']}/report.html" for task, found in tasks.items() if found.get("folder")
        },
        "rows": [
            [
                task, phrases.metric_name(found["metric"], say) if found.get("metric") else phrases.MISSING,
                *(phrases.number(found.get(system)) for system in shown), phrases.signed(found.get("delta")),
                phrases.interval(found.get("ci95"), say), phrases.number(found.get("n")),
                phrases.number(found.get("rows")),
            ]
            for task, found in tasks.items()
        ],
    }  # fmt: skip


def heat(report: Report, say: Say) -> dict[str, Any]:
    """Of `forgetting.tasks` {learned task: {measured task: score}} the cells of a heat map; empty where tasks were not
    learned one after another. A cell's `tone` is "before" its task was learned, its "own" score right after that, then
    "lost", "gained" or "kept" against this; `depth` in percent of colour, `told` in words."""
    scores = report["forgetting"].get("tasks")
    if not isinstance(scores, Mapping) or not scores:
        return {}
    sign = 1 if _transfer(report).get("higher_is_better", True) else -1
    learned, rows = first_learned(scores), list(scores.values())
    columns = list(dict.fromkeys(task for row in rows for task in row))
    own = {task: rows[learned[task]].get(task) if task in learned else None for task in columns}
    return {
        "columns": columns,
        "rows": {
            name: [_cell(row.get(task), own[task], place - learned.get(task, len(rows)), sign, say) for task in columns]
            for place, (name, row) in enumerate(scores.items())
        },
    }


def lessons(report: Report, say: Say) -> list[str]:
    """Sentences on what tasks learned one after another kept and lost; none for other runs."""
    found = _transfer(report)
    shown = {name: phrases.number(found.get(name)) for name in ("average", "learning", "forgetting")}
    told = [
        *merged.told(report["forgetting"].get("merged"), say),
        _unlearned(report["forgetting"].get("unlearned"), say), _lost_most(found, say),
    ]  # fmt: skip
    if phrases.is_number(found.get("average")) and phrases.is_number(found.get("learning")):
        told.append(say["tasks_average"].format(**shown))
    for name in ("backward_transfer", "forward_transfer"):
        if phrases.is_number(found.get(name)):
            told.append(say[f"tasks_{name}"].format(change=phrases.signed(found[name])))
    if phrases.is_number(found.get("forgetting")):
        told.append(say["tasks_forgetting"].format(**shown))
    return [sentence for sentence in told if sentence]


def with_tasks(told: str, forgetting: Mapping[str, Any], provenance: Mapping[str, Any], language: str) -> str:
    """The verdict behind what became of earlier tasks, or of runs that were merged; and what the base is, where a run
    went on from another one."""
    if forgetting.get("merged"):
        say = words(language)
        return say["between_sentences"].join([*merged.told(forgetting["merged"], say), told])
    if not forgetting.get("transfer") and not forgetting.get("unlearned"):
        return told
    say = words(language)
    taught = [say["tasks_taught"]] if (provenance.get("recipe") or {}).get("start") else []
    return say["between_sentences"].join([*lessons({"forgetting": forgetting}, say)[:1], told, *taught])


def _transfer(report: Report) -> Mapping[str, Any]:
    return report["forgetting"].get("transfer") or {}


def _gained(tasks: Mapping[str, Mapping[str, Any]], say: Say) -> str:
    """How many tasks are surely better than the base, and which are surely worse; "" where none has a base."""
    ends = {
        task: sorted(end if found.get("higher_is_better", True) else -end for end in found["ci95"])
        for task, found in tasks.items() if found.get("ci95")
    }  # fmt: skip
    if not ends:
        return ""
    facts = {"better": sum(low > 0 for low, _ in ends.values()), "n": len(ends)}
    if worse := [say["task_is"].format(task=task) for task, (_, high) in ends.items() if high < 0]:
        return say["tasks_gained_but"].format(worse=say["between_items"].join(worse), **facts)
    return say["tasks_gained"].format(**facts)


def _unlearned(found: Mapping[str, Any] | None, say: Say) -> str:
    """Whether rows that were to be forgotten can still be told from rows that were never learned."""
    if not found:
        return ""
    after = found["after"]
    if "attack" not in after:
        return say["unlearned_few"].format(rows=found["rows"], unseen=found["unseen"], least=found["least"])
    ends = (after["low"] > 0.5, after["high"] < 0.5)
    key = {(True, False): "unlearned_still", (False, True): "unlearned_beyond"}.get(ends, "unlearned")
    shown = {name: phrases.number(after[name]) for name in ("attack", "low", "high")}
    return say[key].format(rows=found["rows"], before=phrases.number(found["before"]["attack"]), **shown)


def _apart(report: Report, say: Say) -> str:
    """Which tasks pull together most, and which apart; "" where that was not measured."""
    found = report["forgetting"].get("conflicts")
    if not found:
        return ""
    pairs = found["pairs"]
    facts = [
        {"one": pair["tasks"][0], "other": pair["tasks"][1], "cosine": phrases.signed(pair["cosine"]),
         "share": phrases.number(pair["share"])} for pair in (pairs[0], pairs[-1])
    ]  # fmt: skip
    if pairs[-1]["cosine"] >= 0:
        return say["tasks_together"].format(**facts[-1])
    groups = say["between_groups"].join(say["between_items"].join(group) for group in found["groups"])
    together = [say["tasks_most_together"].format(**facts[0])] if pairs[0]["cosine"] > 0 else []
    return say["between_sentences"].join([*together, say["tasks_apart"].format(**facts[-1], groups=groups)])


def _lost_most(found: Mapping[str, Any], say: Say) -> str:
    """Of the tasks that others were learned after."""
    if not phrases.is_number(found.get("backward_transfer")):
        return ""
    sign = 1 if found.get("higher_is_better", True) else -1
    losses = {
        task: sign * (scores["learned"] - scores["now"])
        for task, scores in found["by_task"].items() if None not in (scores["learned"], scores["now"])
    }  # fmt: skip
    most = max(losses, key=lambda task: losses[task])
    if losses[most] <= 0:
        return say["tasks_lost_none"]
    scores = found["by_task"][most]
    facts = {name: phrases.number(scores[name]) for name in ("learned", "now")}
    return say["tasks_lost_most"].format(task=most, by=phrases.number(losses[most]), **facts)


def _cell(score: Any, own: Any, since: int, sign: int, say: Say) -> dict[str, Any]:
    """`since`: how many rows after its task was first learned; below 0 before that."""
    cell = {"value": phrases.number(score), "tone": "", "depth": 0, "told": ""}
    if not phrases.is_number(score) or not phrases.is_number(own):
        return cell
    if since <= 0:
        return {**cell, "tone": "own" if since == 0 else "before"}
    change = round(score - own, 5)
    if change == 0:
        return {**cell, "tone": "kept"}
    tone = "gained" if sign * change > 0 else "lost"
    part = abs(change) / abs(own) if own else ALL
    depth = round(FAINTEST + (DEEPEST - FAINTEST) * min(1.0, part / ALL))
    return {**cell, "tone": tone, "depth": depth, "told": say[f"heat_{tone}"].format(by=phrases.number(abs(change)))}
