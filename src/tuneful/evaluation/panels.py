"""What the report says of generalisation: the gaps, and for each further measure one sentence and the figures behind
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.phrases import Say

Found = Mapping[str, Any]


def panels(report: Mapping[str, Any], say: Say) -> list[dict[str, Any]]:
    """Of each measure that was taken its heading, its sentence, and a table where there is more to say."""
    measured = report["generalisation"]
    return [
        {
            "key": key,
            "heading": say[f"panel_{key}"],
            "sentence": phrases.said(measured[key].get("advice"), say),
            "table": table(measured[key], say),
        }
        for key, table in TABLES.items()
        if measured.get(key)
    ]


def gaps(report: Mapping[str, Any], say: Say) -> list[dict[str, Any]]:
    """Of each part that was not learned how far its loss lies above that of training, and the same of accuracy, which
    is compared on validation rows alone."""
    found = report["generalisation"]
    accuracy = found.get("accuracy") or {}
    given = {"validation": (found.get("gap"), found.get("gap_ci95"), accuracy.get("gap"), accuracy.get("ci95")),
             "test": (found.get("test_gap"), found.get("test_gap_ci95"), None, None)}  # fmt: skip
    return [
        {"name": say["gap_to"].format(part=phrases.part(part, say)), "gap": gap, "ci95": ends, "right": right,
         "right_ci95": right_ends}
        for part, (gap, ends, right, right_ends) in given.items() if gap is not None
    ]  # fmt: skip


def gap_lead(report: Mapping[str, Any], say: Say) -> str:
    """The gap in words; "" where there is none."""
    found = report["generalisation"]
    gap = phrases.gap_of(found)
    if gap is None:
        return ""
    facts = {"gap": phrases.number(abs(gap)), "part": phrases.part(found.get("judged_by") or "validation", say)}
    return say["gap_sentence" if gap >= 0 else "gap_sentence_below"].format(**facts)


def sentences(report: Mapping[str, Any], say: Say) -> dict[str, str]:
    """By measure, the gap first."""
    gap = report["generalisation"].get("advice")
    told = {panel["key"]: panel["sentence"] for panel in panels(report, say) if panel["sentence"]}
    return {"gap": phrases.said(gap, say), **told} if gap else told


def _calibration(found: Found, say: Say) -> dict[str, Any] | None:
    tuned, mended = found.get("tuned"), found.get("mended")
    if not tuned:
        return None
    names = {"base": say["calibration_base"], "tuned": say["calibration_tuned"]}
    if mended:
        facts = {"temperature": phrases.number(mended["temperature"]), "n": phrases.number(mended["fitted_on"])}
        names["mended"] = say["calibration_mended"].format(**facts)
    chance = phrases.number(100 * tuned["by_chance"])
    return {
        "caption": say["calibration_caption"].format(n=phrases.number(tuned["n"]), chance=chance),
        "columns": [say[f"column_{name}"] for name in ("what", "error", "interval", "confidence", "accuracy")],
        "rows": [
            [name, phrases.number(of["ece"]), phrases.interval(of["ci95"], say), phrases.number(of["confidence"]),
             phrases.number(of["accuracy"])]
            for system, name in names.items() if (of := found.get(system))
        ],
    }  # fmt: skip


def _memorisation(found: Found, say: Say) -> dict[str, Any] | None:
    if not found.get("tuned"):
        return None
    facts = {"tokens": found["tokens"], "rows": found["rows"], "held": found["held_out_rows"]}
    return {
        "caption": say["memorisation_caption"].format(**facts),
        "columns": [say["column_what"], say["column_exact"], say["column_near"]],
        "rows": [
            [say[f"memorisation_{system}"], phrases.percent(of["exact"]), phrases.percent(of["near"])]
            for system in ("tuned", "held_out", "base") if (of := found.get(system))
        ],
    }  # fmt: skip


def _canaries(found: Found, say: Say) -> dict[str, Any]:
    facts = {"most": phrases.number(found["most"]), "chance": phrases.number(found["by_chance"]),
             "times": phrases.number(found["times"])}  # fmt: skip
    return {
        "caption": say["canaries_caption"].format(**facts),
        "columns": [say["column_canary"], say["column_exposure"]],
        "rows": [[str(number), phrases.number(bits)] for number, bits in enumerate(found["exposure"], 1)],
    }


def _robustness(found: Found, say: Say) -> dict[str, Any]:
    rows = []
    for way, of in found["ways"].items():
        for system in ("tuned", "base"):
            cost = of[system]
            shown = say["with_note"].format(value=say[f"robustness_{way}"], note=say[f"calibration_{system}"])
            figures = [phrases.number(cost[name]) for name in ("clean", "so")]
            change = [phrases.signed(cost["delta"]), phrases.interval(cost["ci95"], say)]
            rows.append([shown, f"{phrases.number(of['changed'])} / {phrases.number(of['n'])}", *figures, *change])
    count = max(of["n"] for of in found["ways"].values())
    columns = ("written", "changed", "clean", "so", "delta", "interval")
    caption = say["robustness_caption"].format(n=phrases.number(count))
    if same := [say[f"robustness_{way}"] for way, of in found["ways"].items() if not of["changed"]]:
        told = say["robustness_unchanged"].format(ways=say["between_items"].join(same))
        caption = say["between_sentences"].join([caption, told])
    return {
        "caption": caption,
        "columns": [say[f"column_{name}"] for name in columns],
        "rows": rows,
    }


def _learning_curve(found: Found, say: Say) -> dict[str, Any] | None:
    """The picture's own figures, for those who do not see it; a guess is said to be one."""
    if not found.get("forecast"):
        return None
    measured = [[phrases.number(size), phrases.number(share), ""] for size, share in found["points"]]
    guessed = [[phrases.number(size), "", phrases.number(share)] for size, share in found["forecast"]]
    return {
        "caption": say["curve_caption"],
        "columns": [say["axis_rows"], say["column_accuracy"], say["column_guess"]],
        "rows": [*measured, *guessed],
    }


TABLES: dict[str, Callable[[Found, Say], dict[str, Any] | None]] = {
    "calibration": _calibration,
    "memorisation": _memorisation,
    "canaries": _canaries,
    "robustness": _robustness,
    "learning_curve": _learning_curve,
}
"""By the name the report knows them by."""
