"""The model card: README.md of the run folder, as model hubs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tuneful.evaluation import affinity, fairer, merged, phrases, sections, tasks
from tuneful.evaluation.markdown import listed, plain, table
from tuneful.evaluation.panels import gaps, sentences
from tuneful.evaluation.phrases import Say
from tuneful.evaluation.repaired import cuts, repaired
from tuneful.evaluation.routed import routed
from tuneful.evaluation.usage import usage
from tuneful.evaluation.words import words
from tuneful.models.embedded import EMBEDDED

PIPELINES = {"text": "text-generation", "tokens": "fill-mask", **dict.fromkeys(phrases.PLACES, "sentence-similarity")}
SETTINGS = (
    "precision",
    "adapter",
    "regularisers",
    "augment",
    "gradient",
    "average",
    "soup",
    "interpolate",
    "repair",
    "schedule",
    "optimiser",
    "seed",
)
OF_DATA = ("patch", "select", "balance")
FILES, PRIVATE = (
    ("patch", "target"),
    ("endpoint", "key_from"),
)  # settings that are paths, and that are nobody's business


def card(report: Mapping[str, Any], language: str) -> str:
    """Markdown with a YAML head. It names no folder of the person's computer."""
    say, full = words(language), phrases.filled(report)
    name = str(full.get("name") or phrases.model_name(full) or say["title"])
    parts = {
        "card_quality": _quality(full, language, say),
        "card_use": _use(full, say),
        "generalises": _generalisation(full, say),
        "costs": _cost(full, say),
        "fairer": [*_bias(full, say), *_repair(full, say)],
        "forgot": _forgetting(full, say),
        "card_data": _data(full, say),
        "card_training": _training(full),
        "card_limits": _limits(full, say),
        "card_versions": _versions(full),
    }
    body = [f"# {plain(name)}", _intro(full, say)]
    for heading, lines in parts.items():
        if lines:
            body += [f"## {say[heading]}", *lines]
    body.append(say["card_full_report"])
    return f"---\n{_head(full)}---\n\n" + "\n\n".join(body) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    target = phrases.target_of(report)
    pipeline = PIPELINES.get(target, "text-classification")
    library = "peft" if phrases.adapter_of(report) == "lora" else "transformers"
    head = {
        "library_name": "sentence-transformers" if target in phrases.PLACES else library,
        "base_model": phrases.model_name(report),
        "pipeline_tag": pipeline,
        "tags": ["tuneful"],
    }
    known = {key: value for key, value in head.items() if value}
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _intro(report: Mapping[str, Any], say: Say) -> str:
    name, rows = phrases.model_name(report), (report["data"].get("rows") or {}).get("train")
    intro, base = "card_intro" if rows is not None else "card_intro_plain", f"`{name or '?'}`"
    sentences = [say[intro].format(base=base, rows=phrases.number(rows))]
    if name in EMBEDDED:
        sentences.append(say["card_origin"].format(base=base, origin=EMBEDDED[name].licence))
    return say["between_sentences"].join(sentences)


def _quality(report: Mapping[str, Any], language: str, say: Say) -> list[str]:
    """The verdict, the table, what its columns are, and the gates."""
    sentence = phrases.verdict_sentence(report, language, say)
    lines = [f"**{say['helped']} {say[phrases.helped(report)]}** {sentence}"]
    rows, shown = sections.quality(report, say), sections.systems(report, say)
    if rows:
        columns = [say["column_metric"], *(system["name"] for system in shown)]
        columns += [say[f"column_{name}"] for name in ("delta", "interval", "n", "judged")]
        cells = [_quality_cells(row, [system["key"] for system in shown], say) for row in rows]
        lines += [table(columns, cells), sections.quality_caption(report, say)]
        lines.append(listed([(f"**{system['name']}**", system["about"]) for system in shown], say))
    gates = sections.gates(report, say)
    if gates:
        told = [(f"{gate['name']} {gate['limit']}", say[f"gate_{gate['result']}"]) for gate in gates]
        lines.append(listed(told, say))
    if each := tasks.each_task(report, say):
        lines += [plain(each["sentence"]), table(each["columns"], each["rows"]), each["caption"]]
    if whose := routed(report, say):
        lines += [plain(whose["sentence"]), table(whose["columns"], whose["rows"])]
    if helps := affinity.heat(report, say):
        lines.append(plain(helps["sentence"]))
    if runs := merged.table(report, say):
        lines += [table(runs["columns"], runs["rows"]), runs["caption"]]
    return lines


def _quality_cells(row: Mapping[str, Any], shown: Sequence[str], say: Say) -> list[str]:
    found = row["found"]
    better = say["higher_is_better"] if row["higher"] else say["lower_is_better"]
    return [
        say["with_note"].format(value=f"`{row['metric']}`", note=better),
        *(phrases.number(found.get(system)) for system in shown),
        phrases.signed(found.get("delta")),
        phrases.interval(found.get("ci95"), say),
        phrases.number(found.get("n")),
        say[f"judged_{row['judged']}"] if row["judged"] else phrases.MISSING,
    ]


def _use(report: Mapping[str, Any], say: Say) -> list[str]:
    if report.get("kinds"):
        return [say["card_kinds"].format(folders=_own_cards(report, say))]
    lines = [say["card_use_where"], f"```python\n{usage(report, say)}```"]
    recipe = report["provenance"].get("recipe") or {}
    if phrases.adapter_of(report) == "lora" and (recipe.get("save") or {}).get("merged"):
        lines.append(say["card_merged"])
    if cuts(report):
        lines.append(say["card_thresholds"])
    if phrases.target_of(report) in ("vectors", "classes"):
        lines.append(say["card_goes_on"])
    return lines


def _own_cards(report: Mapping[str, Any], say: Say) -> str:
    """Of each kind of task, where it has one."""
    return say["between_items"].join(f"[{name}]({kind['folder']}/README.md)" for name, kind in report["kinds"].items())


def _each_own(report: Mapping[str, Any], say: Say) -> list[str]:
    return [f"{say['each_own']} {_own_cards(report, say)}"]


def _generalisation(report: Mapping[str, Any], say: Say) -> list[str]:
    if report.get("kinds"):
        return _each_own(report, say)
    found = report["generalisation"]
    if not found:
        return [say["not_in_this_run"]]
    tried = [[way["name"], phrases.number(way["value"]), way["gap"], phrases.number(way["loss"]),
              say["yes"] if way["taken"] else ""] for way in sections.ways(report, say)]  # fmt: skip
    words = sections.ways_words(report, say)
    columns = [words.get("column", "") if name == "right" else say[f"column_{name}"]
               for name in ("way", "right", "gap", "loss", "taken")]  # fmt: skip
    ways = [table(columns, tried), words["caption"], words.get("about", "")] if tried else []
    rows = [[phrases.part(part, say), phrases.number(found.get(part))] for part in phrases.PARTS]
    rows += [[gap["name"], phrases.signed(gap["gap"])] for gap in gaps(report, say)]
    losses = table([say["column_part"], say["column_loss"]], rows)
    watched = [f"- {sentence}" for sentence in sentences(report, say).values()]
    told = ["\n".join(watched)] if watched else []
    return [losses, say["losses_caption"], phrases.stopped(found, say), *told, *ways]


def _cost(report: Mapping[str, Any], say: Say) -> list[str]:
    cost = report["cost"]
    if not cost:
        return [say["not_in_this_run"]]
    predicted = cost.get("predicted") or {}
    time = [phrases.duration(value.get("seconds"), say) for value in (predicted, cost)]
    memory = [phrases.memory(predicted.get("memory_mb")), phrases.memory(cost.get("peak_memory_mb"))]
    rows = [
        [say["cost_time"], *time],
        [say["cost_memory"], *memory],
        [say["cost_updates"], "", phrases.number(cost.get("steps"))],
        [say["cost_tokens"], "", phrases.number(cost.get("tokens"))],
        [say["cost_shared"], "", phrases.share(cost.get("tokens_shared"), cost.get("tokens"), say)],
        [say["cost_speed"], "", phrases.number(cost.get("tokens_per_second"))],
        [say["cost_utilisation"], "", phrases.percent(cost.get("utilisation"))],
        [
            say["cost_trainable"],
            "",
            phrases.share(cost.get("trainable_parameters"), cost.get("parameters"), say),
        ],
    ]
    return [table([say["column_what"], say["column_predicted"], say["column_actual"]], rows)]


def _bias(report: Mapping[str, Any], say: Say) -> list[str]:
    if report.get("kinds"):
        return _each_own(report, say)
    if not report["bias"]:
        return [say["bias_missing"]]
    columns = [say[f"column_{name}"] for name in ("probe", "before", "after", "delta", "interval", "n")]
    rows = []
    for row in fairer.probes(report, say):
        probe = row["found"]
        numbers = [phrases.number(probe.get("before")), phrases.number(probe.get("after"))]
        gap = [phrases.signed(probe.get("delta")), phrases.interval(probe.get("ci95"), say)]
        name = ": ".join(filter(None, (row["name"], row["why"])))
        rows.append([name, *numbers, *gap, phrases.number(probe.get("n"))])
    return [*fairer.sentences(report, say), table(columns, rows)]


def _repair(report: Mapping[str, Any], say: Say) -> list[str]:
    found = repaired(report, say)
    if not found or not found["rows"]:
        return list(found.get("sentences", ()))
    columns = [say[f"column_{name}"] for name in ("repair", "measure", "unrepaired", "repaired")]
    rows = [[row["repair"], row["measure"], phrases.number(row["before"]), phrases.number(row["after"])]
            for row in found["rows"]]  # fmt: skip
    return [*found["sentences"], table(columns, rows), found["caption"]]


def _forgetting(report: Mapping[str, Any], say: Say) -> list[str]:
    found = report["forgetting"]
    if not found:
        return [say["not_in_this_run"]]
    lines, own = (
        [phrases.said(found["reason"], say)] if found.get("reason") else [],
        found.get("own_text_perplexity"),
    )
    facts = [
        (key, phrases.number(found[name]))
        for key, name in (("forgot_kl", "kl_from_base"), ("forgot_similarity", "embedding_similarity"))
        if found.get(name) is not None
    ]
    if own:
        both = {name: phrases.number(own.get(name)) for name in ("before", "after")}
        facts.append(("forgot_perplexity", say["before_after"].format(**both)))
    told = [(say[key], say["with_note"].format(value=value, note=say[f"{key}_note"])) for key, value in facts]
    return [*lines, *([listed(told, say)] if told else []), *_task_after_task(report, say)]


def _task_after_task(report: Mapping[str, Any], say: Say) -> list[str]:
    """What tasks learned one after another kept, and their scores after each."""
    found = tasks.heat(report, say)
    if not found:
        return []
    rows = [
        [name, *(say["with_note"].format(value=cell["value"], note=cell["told"]) if cell["told"] else cell["value"]
                 for cell in cells)]
        for name, cells in found["rows"].items()
    ]  # fmt: skip
    columns = [say["column_learned"], *found["columns"]]
    return [*map(plain, tasks.lessons(report, say)), table(columns, rows), say["card_matrix"]]


def _data(report: Mapping[str, Any], say: Say) -> list[str]:
    data = report["data"]
    if report.get("kinds"):
        return _each_own(report, say)
    if not data:
        return [say["no_data"]]
    facts = [(say["layout_is"], str(data.get("layout") or phrases.MISSING))]
    for part in phrases.PARTS:
        count = phrases.number((data.get("rows") or {}).get(part))
        facts.append((say["rows_of"].format(part=phrases.part(part, say)), count))
    if phrases.target_of(report) in ("text", "tokens"):
        learned = phrases.share(data.get("learned_tokens"), data.get("tokens"), say)
        facts.append((say["tokens_learned"], learned))
    for key, name in (("duplicates",) * 2, ("leaked",) * 2, ("dropped", "dropped_count"), ("truncated",) * 2):
        facts.append((say[key], phrases.number(data.get(name))))
    diverse = {"value": phrases.number(data.get("diversity")), "note": say["diversity_note"]}
    facts.append((say["diversity"], say["with_note"].format(**diverse)))
    if labels := data.get("balance"):
        counts = {"classes": len(labels), "least": min(labels.values()), "most": max(labels.values())}
        facts.append((say["balance_heading"], say["balance_is"].format(**counts)))
    return [listed(facts, say)]


def _training(report: Mapping[str, Any]) -> list[str]:
    """What was set, by a person or by default; what was not used is left out."""
    recipe = report["provenance"].get("recipe") or {}
    settings = {name: recipe.get(name) for name in SETTINGS}
    if tasks := recipe.get("tasks"):
        data = tasks[0].get("data") or {}
        settings["objective"] = tasks[0].get("objective")
        settings["data"] = {name: value for name in OF_DATA if (value := data.get(name)) is not None}
    used = {name: _public(value) for name, value in settings.items() if value not in (None, [], {})}
    if not used:
        return []
    return [f"```yaml\n{yaml.safe_dump(used, sort_keys=False, allow_unicode=True)}```"]


def _public(value: Any, name: str = "") -> Any:
    """A setting as it may be told to others: of a path its last part alone."""
    if isinstance(value, Mapping):
        return {key: _public(one, key) for key, one in value.items() if key not in PRIVATE}
    if isinstance(value, list):
        return [_public(one) for one in value]
    if not isinstance(value, str):
        return value
    return phrases.last_part(value) if name in FILES else phrases.without_folders(value)


def _limits(report: Mapping[str, Any], say: Say) -> list[str]:
    if report.get("kinds"):
        return _each_own(report, say)
    tested, target = (report["data"].get("rows") or {}).get("test"), phrases.target_of(report)
    limits = [say["limit_unmeasured"]]
    if report["choice"].get("measures_quality"):
        limits = [sections.measured_by_folds(report, say)]
    elif report["quality"]:
        limits = [say["limit_rows"].format(n=phrases.number(tested))]
    if not report["bias"]:
        limits.append(say["limit_bias"])
    if not report["forgetting"]:
        limits.append(say["limit_forgetting"])
    faults = {
        "text": "limit_generator",
        "number": "limit_reader_number",
        "reward": "limit_reward",
        "classes": "limit_classes",
        "documents": "limit_documents",
        **dict.fromkeys(phrases.ALONE.values(), "limit_alone"),
    }
    fault = faults.get(target, "limit_reader")
    limits.append(say[fault])
    if base := phrases.model_name(report):
        limits.append(say["limit_base"].format(base=f"`{base}`"))
    return ["\n".join(f"- {limit}" for limit in limits)]


def _versions(report: Mapping[str, Any]) -> list[str]:
    versions = report["provenance"].get("versions") or {}
    return [", ".join(f"{name} {version}" for name, version in versions.items())] if versions else []
