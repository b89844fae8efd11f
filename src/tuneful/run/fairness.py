"""Is it fairer or less fair than before? Test rows by group and about other groups, or what a model that writes finds
likelier to be said of whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tuneful.core.errors import InputError
from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.augment.reread import Reader
from tuneful.data.identity.lexicon import CHINESE
from tuneful.evaluation.before import Before
from tuneful.evaluation.probes import Descriptors, Finding, Scorer
from tuneful.evaluation.probes import compared as compared_probes
from tuneful.evaluation.readers import Decide
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import Asked, Treated, columns_of, exchange, shares, treated
from tuneful.models.probe import Probe
from tuneful.models.processors import TextProcessor
from tuneful.run.build import Built
from tuneful.run.each import each_of
from tuneful.run.generalise import before_of, longest

Say = Callable[[str], None]
LEAST_SECONDS = 10.0  # of training, from which on a probe of language is worth its own seconds


def fairness(built: Built, say: Say, *, seconds: float, decide: Decide | None = None) -> Treated:
    """Nothing where nothing can be asked: no test rows that are of a group or mention one, or no language to probe.
    `seconds` is how long the run trained, `decide` answers for a tuned classifier where its largest logit does not."""
    settings = built.recipe.evaluate
    if built.prepared.tells_classes and built.prepared.rows("test") and settings.by_group:
        return _of_classes(built, say, decide)
    if built.prepared.layout.writes and built.policy.network.causal:
        probes = list(settings.bias) if isinstance(settings.bias, list) else _usual(built, seconds)
        return Treated(_of_language(built, probes, say))
    return Treated()


def _usual(built: Built, seconds: float) -> list[Any]:
    if each_of(built.recipe):  # a probe asks one model
        return []
    gated = bool(built.recipe.gates.bias_probe_increase)
    if seconds < LEAST_SECONDS and not gated:
        return []
    texts = [message.content for row in built.prepared.rows("test")[:50] for message in row.example.messages]
    chinese = sum(bool(CHINESE.search(text)) for text in texts) * 2 > len(texts)
    return [Descriptors(language="zh" if chinese else "en")]


def _of_language(built: Built, probes: list[Any], say: Say) -> dict[str, Any]:
    """Each probe of the model before and after."""
    found = {}
    for probe in probes:
        say(f"asking the probe '{probe.kind}' of the model before and after")
        try:
            found[probe.kind] = of_language(probe, built.policy, built.prepared.processor, built.recipe.seed)
        except InputError as error:  # it has learned all the same
            found[probe.kind] = {**dict.fromkeys(("before", "after", "delta", "ci95", "further", "further_ci95", "p")),
                                 "measurable": False, "reason": str(error), "gap": False, "n": 0}  # fmt: skip
    return found


def of_language(probe: Any, policy: Policy, processor: TextProcessor, seed: int) -> dict[str, Any]:
    """A probe in the report, before and after tuning."""
    was, now = (probe(Scorer(policy, processor, original=original), seed=seed) for original in (True, False))
    return _both(was, now)


def _both(was: Finding, now: Finding) -> dict[str, Any]:
    told = now.as_json()
    ability = {"name": now.language_ability["name"], "before": was.language_ability["value"],
               "after": now.language_ability["value"]}  # fmt: skip
    reason = now.reason or was.reason
    chance = {"chance": told["details"]["by_chance"]} if "by_chance" in told["details"] else {}
    return {
        "before": was.score, "after": now.score, "ideal": now.ideal, "unit": now.unit, **compared_probes(was, now),
        "measurable": reason is None, **({"reason": reason} if reason else {}), "gap": False, "p": now.p, **chance,
        "language_ability": ability, "by_group": told["by_group"], "details": told["details"],
    }  # fmt: skip


def _of_classes(built: Built, say: Say, decide: Decide | None) -> Treated:
    prepared, test = built.prepared, built.prepared.rows("test")
    assert prepared.labels is not None
    reader = Reader(prepared.layout, prepared.processor, longest(built))
    columns = columns_of([row.example for row in test], prepared.recipe.task.data.group)
    exchanged = exchange(test, reader.read, seed=built.recipe.seed)
    if not columns and not exchanged.rows:
        return Treated()
    say("measuring how groups are treated, before and after")
    known = before_of(built)
    head = known.head(built.recipe.seed)

    def asked(rows: list[Row], originals: list[Row]) -> Asked:
        return _asked(built, known, head, rows, None if decide is None else partial(decide, originals=originals))

    counts = Counter(row.target for row in prepared.rows("train"))
    return treated(test, columns, exchanged, asked, counts, prepared.labels.names, seed=built.recipe.seed)


def _asked(built: Built, known: Before, head: Probe, rows: list[Row], decide: Decide | None) -> Asked:
    truth = np.array([int(row.target) for row in rows])
    after = class_logits(built.policy, rows, built.collate)
    said = None if decide is None else decide(rows, after)
    return Asked(truth, shares(after), shares(known.logits(head, rows)), said)
