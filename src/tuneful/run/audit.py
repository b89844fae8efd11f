"""What a model that is there already does to groups of people: probes of language, or rows of a person's own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tuneful.core.errors import DataError, ModelError
from tuneful.core.spec import did_you_mean, unknown
from tuneful.core.types import Layout, Row
from tuneful.data.augment.reread import Reader
from tuneful.data.layouts import Collator
from tuneful.evaluation.probes import PROBES, Continuations, Descriptors, Finding, Scorer
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import Asked, Treated, columns_of, exchange, shares, treated
from tuneful.recipe.explain import explain
from tuneful.run.assess import by_group, rows_of, tell_seen, trained_on
from tuneful.run.encoded import LONGEST
from tuneful.run.fairness import of_language
from tuneful.run.folder import RunFolder
from tuneful.run.tuned import Tuned, open_model

Say = Callable[[str], None]


def audit(
    name: str, data: str | None, columns: Mapping[str, str], probes: Sequence[Any], say: Say, *, seed: int = 0
) -> dict[str, Any]:
    """`bias` as a report has it, and `groups` of a classifier. A run that writes is asked before and after tuning.
    Raises InputError where nothing could be asked."""
    if data is not None:
        tuned, rows, decided = rows_of(name, data, columns, say)
        if tuned.labels is None or tuned.labels.kind != "class":
            raise ModelError(f"{name} tells no classes apart, so its answers to {data} cannot be compared by group; "
                             "leave the data out to ask probes of language")  # fmt: skip
        tell_seen(trained_on(name, tuned), rows, say)
        told = by_group(tuned, decided, say)
        found = _of_rows(tuned, rows, decided, columns.get("group"), seed)
        if not found.bias:
            raise DataError(f"no two groups of {data} have rows enough, and too few texts mention one: name the column "
                            "that says whose rows they are (--group COLUMN)")  # fmt: skip
        return {"model": name, "data": data, "bias": found.bias, "groups": found.groups, **told}
    for number, probe in enumerate(probes):
        if probe.kind in [other.kind for other in probes[:number]]:
            raise DataError(f"--probe {probe.kind} is given twice; one place for each, so ask the other by itself")
        if isinstance(probe, Continuations):
            probe.check()
    tuned = open_model(name, say)
    if tuned.labels is not None or tuned.finds:
        raise ModelError(f"{name} gives no text, so a probe of language says nothing about it; name rows with labels "
                         "(tuneful audit MODEL DATA --group COLUMN)")  # fmt: skip
    is_run = RunFolder(Path(name)).exists()
    return {"model": name, "bias": {probe.kind: _asked(tuned, probe, seed, is_run=is_run, say=say) for probe in probes}}


def probe_of(written: str, rows: int | None, language: str | None) -> Any:
    """`crows_pairs`, `crows_pairs=FILE`, or with further settings, `continuations=JUDGE,bad=rude,new_tokens=10`; one
    that is given twice is a list. Raises InputError."""
    kind, _, rest = written.partition("=")
    if kind not in PROBES.classes:
        raise DataError(unknown("probe", kind, PROBES.kinds()))
    fields = PROBES.classes[kind].model_fields
    usual = {"rows": rows, "language": language}
    given: dict[str, Any] = {key: value for key, value in usual.items() if value is not None and key in fields}
    try:
        return PROBES.classes[kind](**given | _settings(rest, "judge" if "judge" in fields else "source", fields))
    except ValidationError as error:
        raise DataError(
            "\n".join(f"--probe {written}: {line}" for line in explain(error, PROBES.classes[kind]))
        ) from None


def _settings(rest: str, first: str, fields: Collection[str]) -> dict[str, Any]:
    """`VALUE,name=value,...`; a comma that no name follows is part of the value. Raises DataError for a name that is
    nearly one of the settings."""
    pairs: list[tuple[str, str]] = []
    for piece in rest.split(",") if rest else ():
        name, equals, value = piece.partition("=")
        if equals and pairs and name not in fields and (near := did_you_mean(name, fields)):
            raise DataError(f"--probe: there is no setting '{name}'.{near}")
        if equals and name in fields:
            pairs.append((name, value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{piece}")
        else:
            pairs.append((first, piece))
    found: dict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        found[name].append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def usual_probes(language: str | None, rows: int | None = None) -> list[Any]:
    return [Descriptors(language="zh" if language == "zh" else "en", **({"rows": rows} if rows else {}))]


def _asked(tuned: Tuned, probe: Any, seed: int, *, is_run: bool, say: Say) -> dict[str, Any]:
    say(f"asking the probe '{probe.kind}'")
    if is_run:
        return of_language(probe, tuned.policy, tuned.processor, seed)
    now: Finding = probe(Scorer(tuned.policy, tuned.processor), seed=seed)
    told = {key: value for key, value in now.as_json().items() if key not in ("items", "probe", "score")}
    return {"after": now.score, "gap": False, **told}


def _of_rows(tuned: Tuned, rows: list[Row], decided: list[Row], column: str | None, seed: int) -> Treated:
    """Of `rows` by their groups, as a model answers that goes by the groups of `decided`."""
    assert tuned.labels is not None
    reader = Reader(Layout.LABELS, tuned.processor, min(LONGEST, tuned.processor.max_tokens))
    collate = Collator(Layout.LABELS)

    def asked(rows: list[Row], originals: list[Row]) -> Asked:
        truth, logits = np.array([int(row.target) for row in rows]), class_logits(tuned.policy, rows, collate)
        said = None if tuned.decisions is None else tuned.decisions.of_rows(rows, logits, originals)
        return Asked(truth, shares(logits), said=said)

    columns = columns_of([row.example for row in rows], column)
    exchanged = exchange(decided, reader.read, seed=seed)
    counts = Counter(row.target for row in rows)
    return treated(decided, columns, exchanged, asked, counts, tuned.labels.names, seed=seed)
