"""What each section of the page shows, made ready: numbers are still numbers, words are the page's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tuneful.evaluation import affinity, fairer, merged, phrases, tasks
from tuneful.evaluation.phrases import SYSTEMS, Say
from tuneful.evaluation.repaired import repaired
from tuneful.evaluation.routed import routed

Report = Mapping[str, Any]
SIGNS = {"yes": "✓", "no": "✗", "unclear": "?"}
SHORT_ANSWER = 60  # characters up to which answers stand in a table
COMMONEST, RAREST = 6, 6  # labels that are not folded away
EXACT = ("exact_match", "accuracy", "macro_f1", "mcc")  # metrics for which a different answer is a wrong one


def systems(report: Report, say: Say) -> list[dict[str, str]]:
    """The systems that any metric was measured for, and what each of them is."""
    recipe, target = report["provenance"].get("recipe") or {}, phrases.target_of(report)
    shots = (recipe.get("evaluate") or {}).get("shots")
    about = {system: f"about_{system}" for system in SYSTEMS}
    if target == "tokens":
        own = report["quality"].get("perplexity", {}).get("trivial") is not None
        about |= {"base": "about_base" if own else "about_common", "trivial": "about_common"}
    elif target == "classes":
        about |= {"base": "about_base_prototype", "trivial": "about_trivial_prototype"}
    elif target == "documents":
        about["trivial"] = "about_words"
    elif target not in ("text", "vectors"):
        about["base"] = "about_base_reader"
        about["trivial"] = "about_trivial_number" if target == "number" else "about_trivial_label"
    if phrases.is_pooled(report) and target != "number":
        about["base"] = "about_base_named" if report["data"].get("layout") == "text" else "about_base_solved"
    if "preference_accuracy" in report["quality"]:
        base = "about_base_rated" if target == "reward" else "about_base_likelier"
        about |= {"base": base, "trivial": "about_length"}
    elif "reward" in report["quality"]:
        about |= {"base": "about_base_rewarded", "tuned": "about_tuned_rewarded", "trivial": "about_trivial_rewarded"}
    elif "judged_accuracy" in report["quality"]:
        about |= {"base": "about_base_judged", "trivial": "about_trivial_judged"}
    if not shots:
        about["kshot"] = "about_kshot_any"
    return [
        {
            "key": system,
            "name": phrases.system_name(report, system, say),
            "about": say[about[system]].format(shots=shots),
        }
        for system in SYSTEMS
        if any(found.get(system) is not None for found in report["quality"].values())
    ]


def tiles(report: Report, say: Say) -> list[dict[str, str]]:
    """Each question with its answer in a word or two; they lead to the sections."""
    helped, gap = phrases.helped(report), phrases.gap_of(report["generalisation"])
    answers = {
        "helped": f"{SIGNS[helped]} {say[helped]}",
        "generalises": say["missing"] if gap is None else say["tile_gap"].format(gap=phrases.signed(gap)),
        "costs": _spent(report["cost"], say),
        "fairer": fairer.tile(report["bias"], say),
        "forgot": _forgot(report["forgetting"], say),
    }
    if report.get("kinds"):
        answers |= {"generalises": say["tile_each"], "fairer": say["tile_each"]}
    return [
        {"key": key, "question": say[key], "answer": answer, "tone": helped if key == "helped" else ""}
        for key, answer in answers.items()
    ]


def quality(report: Report, say: Say) -> list[dict[str, Any]]:
    """One row a metric. `judged` is better, worse or unsure against the base; "" when there is no base."""
    return [
        {
            "metric": metric,
            "name": phrases.metric_name(metric, say),
            "higher": bool(found.get("higher_is_better", True)),
            "decides": metric == report["verdict"].get("primary"),
            "found": found,
            "judged": _judged(found),
            "against": [
                {"name": phrases.system_name(report, other, say), "delta": gap["delta"], "ci95": gap["ci95"]}
                for other, gap in (found.get("against") or {}).items()
            ],
        }
        for metric, found in report["quality"].items()
    ]


def answers(report: Report, say: Say) -> dict[str, Any]:
    """Sample answers, each system's with a mark; `compact` when all are short enough for a table."""
    exact = phrases.target_of(report) != "text" or report["verdict"].get("primary") in EXACT
    given = report.get("answers") or []
    shown = [s for s in ("base", "kshot", "tuned") if any(answer.get(s) is not None for answer in given)]
    rows = []
    for answer in given:
        expected = answer.get("expected")
        cells = [
            {
                "system": system,
                "name": phrases.system_name(report, system, say),
                "text": phrases.answer(answer.get(system), say),
                **_mark(answer.get(system), expected, exact, say),
            }
            for system in shown
        ]
        rows.append({**answer, "expected": phrases.answer(expected, say), "answers": cells})
    texts = [cell["text"] for row in rows for cell in row["answers"]]
    compact = all(len(text) <= SHORT_ANSWER and "\n" not in text for text in texts)
    return {"rows": rows, "compact": compact, "systems": [phrases.system_name(report, system, say) for system in shown]}


def notes(report: Report, say: Say) -> list[str]:
    """What the X-ray noted beyond its facts, and what does not stand beside the groups."""
    given, beside = report["data"].get("notes") or [], fairer.notes_beside(report)
    return [phrases.said(note, say) for note in given if note["key"] not in {*phrases.RESTATED, *beside}]


def balance(report: Report, say: Say) -> dict[str, Any]:
    """Labels by number of rows: the commonest, those between, the rarest. `percent` is of the commonest."""
    counts = sorted((report["data"].get("balance") or {}).items(), key=lambda pair: -pair[1])
    if not counts:
        return {}
    most, least = counts[0][1], counts[-1][1]
    rows = [{"label": label, "count": n, "percent": round(100 * n / (most or 1), 1)} for label, n in counts]
    head, tail = COMMONEST, len(rows) - RAREST
    if tail - head <= 2:
        head = tail = len(rows)
    facts = {"most": most, "least": least, "labels": len(rows)}
    return {**facts, "commonest": rows[:head], "between": rows[head:tail], "rarest": rows[tail:]}


def gates(report: Report, say: Say) -> list[dict[str, str]]:
    limits = (report["provenance"].get("recipe") or {}).get("gates") or {}
    found = {
        "forgetting_kl": phrases.number(report["forgetting"].get("kl_from_base")),
        "generalisation_gap": phrases.signed(phrases.gap_of(report["generalisation"])),
        "bias_gap_increase": phrases.signed(fairer.widest(report["bias"])),
        "bias_probe_increase": _further(limits.get("bias_probe_increase") or {}, report["bias"], say),
        "helped": say[phrases.helped(report)],
    }
    return [
        {
            "name": say.get(f"gate_{gate}", gate),
            "limit": _limit(gate, limits, say),
            "found": found.get(gate, phrases.MISSING),
            "result": result,
        }
        for gate, result in (report["verdict"].get("gates") or {}).items()
    ]


def _limit(gate: str, limits: Mapping[str, Any], say: Say) -> str:
    if gate == "helped":
        return say["yes"]
    found = limits.get(gate)
    if not isinstance(found, Mapping):
        return phrases.number(found)
    return say["between_items"].join(
        f"{fairer.name_of(probe, say)} {phrases.number(most)}" for probe, most in found.items()
    )


def _further(probes: Iterable[str], bias: Mapping[str, Any], say: Say) -> str:
    """How much further each of these is from its ideal."""
    found = {probe: phrases.signed((bias.get(probe) or {}).get("further")) for probe in probes}
    return say["between_items"].join(f"{fairer.name_of(probe, say)} {value}" for probe, value in found.items())


def ways(report: Report, say: Say) -> list[dict[str, Any]]:
    """The ways of learning that were tried, in the order they were."""
    return [
        {
            **way,
            "value": way.get("accuracy", way.get("perplexity")),
            "name": say[f"way_{way['way']}"]
            + (f" ({way['adapter']['kind']})" if way.get("adapter") else "")
            + (say["way_names"] if way["label_names"] else "")
            + (say["way_generated"] if way.get("generated") else "")
            + (say["way_texts"] if way.get("texts") else ""),
            "gap": phrases.interval(way.get("ci95") if way is not first else None, say),
        }
        for tried in [report["choice"].get("ways") or []]
        for first in tried[:1]
        for way in tried
    ]


def ways_words(report: Report, say: Say) -> dict[str, str]:
    """What stands over the table of ways, and over what they were measured by."""
    choice = report["choice"]
    if "updates" in choice:
        return {"caption": say["weighed_caption"].format(**choice), "column": phrases.metric_name("perplexity", say)}
    if not choice:
        return {}
    about = [say["ways_taken"], *([texts_brought(choice["texts"], say)] if choice.get("texts") else [])]
    return {"caption": say["ways_caption"].format(**choice), "column": say["column_right"], "about": " ".join(about)}


def texts_brought(texts: Mapping[str, Any], say: Say) -> str:
    """What texts without labels changed in the way that was taken, or would have, and why they were learned or not."""
    why = say[f"texts_{'taken' if texts['taken'] else 'left'}{'_many' if texts['enough'] else ''}"]
    return say["texts_brought"].format(
        n=phrases.number(texts["count"]), delta=phrases.signed(texts["delta"]), why=why,
        interval=phrases.interval(texts["ci95"], say),
    )  # fmt: skip


def quality_caption(report: Report, say: Say) -> str:
    """What the figures of quality were measured on."""
    return say["quality_caption_folds" if report["choice"].get("measures_quality") else "quality_caption"]


def measured_by_folds(report: Report, say: Say) -> str:
    """What quality stands for where no rows were held out; "" where some were."""
    if not report["choice"].get("measures_quality"):
        return ""
    return say["quality_by_folds"]


VIEWS: dict[str, Callable[[Report, Say], Any]] = {
    "systems": systems,
    "tiles": tiles,
    "quality": quality,
    "answers": answers,
    "notes": notes,
    "balance": balance,
    "gates": gates,
    "fair_words": fairer.sentences,
    "probes": fairer.probes,
    "groups": fairer.groups,
    "group_notes": fairer.group_notes,
    "repaired": repaired,
    "each_task": tasks.each_task,
    "heat": tasks.heat,
    "affinity": affinity.heat,
    "routed": routed,
    "lessons": tasks.lessons,
    "merged": merged.table,
    "ways": ways,
    "ways_words": ways_words,
    "quality_caption": quality_caption,
    "by_folds": measured_by_folds,
}
"""By the name the template knows them by."""


def _spent(cost: Mapping[str, Any], say: Say) -> str:
    parts = (phrases.duration(cost.get("seconds"), say), phrases.memory(cost.get("peak_memory_mb")))
    return " · ".join(part for part in parts if part != phrases.MISSING) or say["missing"]


def _forgot(found: Mapping[str, Any], say: Say) -> str:
    if phrases.is_number(change := (found.get("transfer") or {}).get("backward_transfer")):
        return say["tile_earlier"].format(change=phrases.signed(change))
    if found.get("kl_from_base") is not None:
        return say["tile_kl"].format(kl=phrases.number(found["kl_from_base"]))
    if found.get("embedding_similarity") is not None:
        return say["tile_similarity"].format(similarity=phrases.number(found["embedding_similarity"]))
    return say["missing"]


def _judged(found: Mapping[str, Any]) -> str:
    if not found.get("ci95"):
        return ""
    low, high = found["ci95"]
    if not found.get("higher_is_better", True):
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "unsure"


def _mark(given: Any, expected: Any, exact: bool, say: Say) -> dict[str, str]:
    """Right or wrong; of texts that may be worded in many ways, only same or different; of numbers, how far off."""
    if given is None or expected is None:
        return {"tone": "", "mark": ""}
    if phrases.is_number(given) and phrases.is_number(expected):
        distance = phrases.number(abs(given - expected))
        return {"tone": "off", "mark": say["answer_off"].format(distance=distance)}
    same = phrases.agree(given, expected)
    tone = ("right" if same else "wrong") if exact else ("same" if same else "other")
    return {"tone": tone, "mark": say[f"answer_{tone}"]}
