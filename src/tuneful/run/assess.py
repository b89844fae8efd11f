"""Measuring what is there already: a model or a run on new data, and runs against one another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuneful.core.errors import DataError, InputError, RunFolderError
from tuneful.core.types import Dropped, Layout, Row
from tuneful.data.columns import name_or_none
from tuneful.data.duplicates import said_in
from tuneful.data.formats import PAIRS, detect, present, understand
from tuneful.data.layouts import Collator
from tuneful.data.rows import build
from tuneful.data.sources import Raw, read
from tuneful.evaluation import generators, readers
from tuneful.evaluation.compare import Examined, difference
from tuneful.evaluation.metrics import METRICS, SEARCH_METRICS, Summed
from tuneful.evaluation.retrieval import examine_retrieval
from tuneful.evaluation.rewarded import examine_rewarded
from tuneful.evaluation.settings import Evaluate
from tuneful.evaluation.verdict import as_json
from tuneful.recipe import Data
from tuneful.run.encoded import LONGEST
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.preferences import FORMS
from tuneful.run.preferred import examine_answers, examine_rated
from tuneful.run.prepare import prepare
from tuneful.run.rollouts import player_of_run
from tuneful.run.router import of_their_tasks
from tuneful.run.tuned import Tuned, is_bare, open_finder, open_model

Say = Callable[[str], None]
SEARCHED = ("documents", "corpus")  # how many, and the fingerprint of all
Answers = dict[tuple[str, int], dict[str, Any]]  # by what was asked and expected, and for which time
SHOWN = 0.2  # share of the rows that serve as examples and for the constant answer when there are no training rows


def assess(name: str, source: str, columns: Mapping[str, str], settings: Evaluate, say: Say) -> dict[str, Any]:
    """The `quality` block of a model or run on the test rows of a source, or on all rows of a single table. Examples
    for the k-shot prompt, neighbours and the constant answer come from the source's training rows, else from the run's
    own, else from a seeded fifth of the table, and `say` tells. Rows that cannot be used are listed."""
    tuned, tables = _opened(name, source, columns, say, routes=True)
    dropped: list[Dropped] = []
    rows = {
        part: _rows(table, {**present(tuned.columns, table), **columns}, tuned, dropped)
        for part, table in tables.items()
    }
    test = rows.get("test") or rows.get("validation") or rows["train"]
    if tuned.finds:
        others = [row for part in rows.values() if part is not test for row in part] or trained_on(name, tuned)
        tell_seen(others, test, say)
        examined = examine_retrieval(tuned.policy, test, others, settings, base=RunFolder(Path(name)).exists())
        found = {part: examined.answers[0][part] for part in SEARCHED}
        say(f"every query searches {found['documents']:,} documents: those of {source}"
            + (", and those the run was trained on" if others and len(rows) == 1 else ""))  # fmt: skip
        return {**_told(name, source, examined, dropped), **found}
    layout = _layout(tuned, test)
    train = rows["train"] if "train" in rows and rows["train"] is not test else trained_on(name, tuned, layout)
    if train:
        tell_seen(train, test, say)
    else:
        train = test
        say(f"no training rows to take examples from: a fifth of the {len(test)} rows serves as examples instead")
        order = np.random.default_rng(0).permutation(len(train))  # a file may be sorted by label
        cut = max(1, int(SHOWN * len(train)))
        train, test = [train[i] for i in sorted(order[:cut])], [train[i] for i in sorted(order[cut:])]
    if not test:
        raise DataError(f"{source} has too few rows to measure with: one row is an example, none is left")
    if (player := player_of_run(RunFolder(Path(name)), tuned.processor)) is not None:
        examined = examine_rewarded(tuned.policy, player, train, test, settings)
        return _told(name, source, examined, dropped)
    examined = _examine(tuned, train, test, settings, RunFolder(Path(name)))
    return {**_told(name, source, examined, dropped), **by_group(tuned, test, say)}


def by_group(tuned: Tuned, rows: Sequence[Row], say: Say) -> dict[str, Any]:
    """How many rows thresholds by group have answered, where a run has any; `say` hears of those they have not. Raises
    DataError where rows say groups and none of them has thresholds."""
    if tuned.decisions is None:
        return {}
    examples = [row.example for row in rows]
    tuned.decisions.check(examples)
    if words := tuned.decisions.ignored(examples):
        say(words)
    known, strange = tuned.decisions.known(examples), tuned.decisions.strange(examples)
    counts = {"rows": known, "unknown": len(rows) - known - strange, "unfamiliar": strange}
    return {"thresholds": {"constraint": tuned.decisions.rule.constraint, **counts}}


def rows_of(name: str, source: str, columns: Mapping[str, str], say: Say) -> tuple[Tuned, list[Row], list[Row]]:
    """A model, and the test rows of a source, or all rows of a single table; and the same rows with the groups that
    thresholds of the model go by, which need not be those of `columns`."""
    tuned, tables = _opened(name, source, columns, say)
    table = tables.get("test") or tables.get("validation") or next(iter(tables.values()))
    dropped: list[Dropped] = []
    rows = _rows(table, {**present(tuned.columns, table), **columns}, tuned, dropped)
    if dropped:
        say(f"{len(dropped)} rows cannot be used; the first: {dropped[0].place}: {dropped[0].reason}")
    return tuned, rows, _as_decided(tuned, table, rows)


def _as_decided(tuned: Tuned, table: Sequence[Raw], rows: list[Row]) -> list[Row]:
    """With the groups in the column of training; without any where it is not there."""
    column = None if tuned.decisions is None else tuned.decisions.column
    if column is None:
        return rows
    groups = {raw.place: name_or_none(raw.fields.get(column)) for raw in table}
    return [replace(row, example=replace(row.example, group=groups[row.example.place])) for row in rows]


def tell_seen(train: Sequence[Row], test: Sequence[Row], say: Say) -> None:
    known = {said_in(row.example) for row in train}
    if seen := sum(said_in(row.example) in known for row in test):
        say(f"{seen} of the {len(test)} rows are in the training data, word for word")


def _told(name: str, source: str, examined: Examined, dropped: Sequence[Dropped]) -> dict[str, Any]:
    left_out = [{"row": str(row.place), "reason": row.reason} for row in dropped]
    scores = {score.metric: score for score in examined.scores}
    found = {"model": name, "data": source, "primary": examined.primary, "quality": as_json(scores)}
    return {**found, "dropped": left_out, "dropped_count": len(left_out)}


def _opened(
    name: str, source: str, columns: Mapping[str, str], say: Say, *, routes: bool = False
) -> tuple[Tuned, dict[str, list[Raw]]]:
    """The model and the tables it is asked about; an encoder that nobody tuned finds documents where the data asks for
    them. `routes`: each row may find its own adapter."""
    folder = RunFolder(Path(name))
    data = recipe_of(folder.read_json(folder.lock)).task.data if folder.exists() else Data(source=source)
    found = read(source, encoding=data.encoding, learns=False, say=say)
    tables = {part: table for part, table in found.items() if table}
    table = next(iter(tables.values()))
    form, _ = detect(table, {**present(data.columns, table), **columns}, data.layout)
    if form.name == PAIRS and is_bare(name, say):
        return open_finder(name, say), tables
    tuned = open_model(name, say, routes=routes)
    if form.name == PAIRS and not tuned.finds:
        raise DataError(
            f"{table[0].place.source} holds queries and documents, and {name} was not tuned to find documents. Name "
            "other columns with --set data.COLUMN=..., or an encoder"
        )
    return tuned, tables


def compare(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Every run against the first, on the test rows that the two share."""
    first, *others = [(str(path), _answers(path)) for path in paths]
    return [line for other in others for line in _compared(first, other)]


def _compared(first: tuple[str, Answers], other: tuple[str, Answers]) -> Iterator[dict[str, Any]]:
    shared = [key for key in first[1] if key in other[1]]
    if not shared:
        raise RunFolderError(
            f"{first[0]} and {other[0]} have no test row in common, so there is nothing to compare them by"
        )
    _check_searched([answers[shared[0]] for _, answers in (first, other)])
    answered = [[answers[key] for key in shared] for _, answers in (first, other)]
    for metric in _common_metrics(answered[0]):
        ours, theirs = (_statistics(metric, answers) for answers in answered)
        gap = difference(metric, theirs, ours)
        yield {
            "metric": metric.name,
            "first": first[0],
            "other": other[0],
            "values": [float(metric.value(ours.sum(0))), float(metric.value(theirs.sum(0)))],
            "delta": gap.delta,
            "ci95": [gap.low, gap.high],
            "n": len(shared),
            "higher_is_better": metric.higher_is_better,
        }


def _check_searched(answers: Sequence[Mapping[str, Any]]) -> None:
    """Raises RunFolderError where queries searched other documents: the more there are, the harder it is."""
    if len({answer.get("corpus") for answer in answers}) > 1:
        sizes = " and ".join(f"{answer.get('documents', 'unknown')}" for answer in answers)
        raise RunFolderError(
            f"the queries of these runs searched different documents ({sizes} of them), so the figures cannot be "
            "compared; measure each run on the same file: tuneful eval RUN DATA, of a folder with train.* and test.*"
        )


def _rows(table: Sequence[Raw], columns: Mapping[str, str], tuned: Tuned, dropped: list[Dropped]) -> list[Row]:
    form, found = detect(table, columns, tuned.form)
    examples, unusable = understand(table, form, found)
    labels = tuned.labels
    if tuned.finds and form.name != PAIRS:
        raise DataError(
            f"{table[0].place.source} has no queries with their documents, and this model finds documents. "
            "Name the columns: --set data.query=... --set data.positive=..."
        )
    if labels is not None and not form.name.startswith("labelled"):
        raise DataError(f"{table[0].place.source} has no labels, and this model gives labels")
    told = tuned.prefers is not None and form.name == FORMS[tuned.prefers.layout]
    layout = tuned.prefers.layout if told and tuned.prefers else tuned.layout
    if tuned.rates and not told:
        raise DataError(f"{table[0].place.source} has no prompts with two answers, and this model gives answers a "
                        "number. Name the columns: --set data.prompt=... beside chosen and rejected")  # fmt: skip
    built = build(examples, layout, tuned.processor, min(LONGEST, tuned.processor.max_tokens), labels=labels)
    lost = [*unusable, *built.dropped]
    dropped += lost
    if not built.rows:
        raise DataError(f"no row of {table[0].place.source} can be used; the first: {lost[0].place}: {lost[0].reason}")
    return built.rows


def trained_on(name: str, tuned: Tuned, layout: Layout | None = None) -> list[Row]:
    """The training rows of a run, as its lock file makes them again, without those that a teacher labelled, which would
    have to do that again; none when the data has gone."""
    folder = RunFolder(Path(name))
    if not folder.exists():
        return []
    recipe = recipe_of(folder.read_json(folder.lock)).with_data(teacher=None)
    try:
        examples = [row.example for row in prepare(recipe).rows("train")]
    except InputError:
        return []
    limit = min(LONGEST, tuned.processor.max_tokens)
    return build(examples, layout or tuned.layout, tuned.processor, limit, labels=tuned.labels).rows


def _layout(tuned: Tuned, rows: Sequence[Row]) -> Layout:
    """What these rows were read as: answers are told apart by a model that has learned to. Judged answers to one prompt
    alone have nothing beside them, and are judged all the same."""
    if tuned.prefers is None:
        return tuned.layout
    judged = tuned.prefers.layout is Layout.JUDGED and isinstance(rows[0].example.label, bool)
    return tuned.prefers.layout if judged or len(rows[0].texts) > 1 else tuned.layout


def _examine(tuned: Tuned, train: list[Row], test: list[Row], settings: Evaluate, folder: RunFolder) -> Examined:
    layout, is_run = _layout(tuned, test), folder.exists()
    if layout.rates:
        recipe = recipe_of(folder.read_json(folder.lock))
        collate = Collator(layout, share=tuned.policy.network.shares)
        return examine_rated(tuned.policy, recipe, collate, (train, test), settings)
    if tuned.prefers is not None and layout.prefers:
        collate = Collator(layout, share=tuned.policy.network.shares)
        return examine_answers(tuned.policy, tuned.processor, tuned.prefers, collate, (train, test), settings)
    each = () if tuned.router is None else tuned.router.tasks
    train, test = (of_their_tasks(tuned.router, tuned.policy, rows) for rows in (train, test))
    if tuned.labels is not None:
        collate = Collator(Layout.LABELS, each=each)
        decide = None if tuned.decisions is None else tuned.decisions.of_rows
        return readers.examine(
            tuned.policy, collate, train, test, tuned.labels, settings, base=is_run, decide=decide, tasks=each
        )
    collate = Collator(Layout.TOKENS, share=tuned.policy.network.shares, each=each)
    return generators.examine(tuned.policy, tuned.processor, collate, train, test, settings, tuned=is_run, tasks=each)


def _answers(path: Path) -> Answers:
    folder = RunFolder(path)
    if not path.exists():
        raise RunFolderError(f"there is no folder {path}; tuneful runs lists those there are")
    if not folder.answers.exists() and folder.report.exists():
        raise RunFolderError(
            f"{path} has ended and holds no answers.jsonl: it had no test rows, or they were measured by class, which "
            "leaves no answers to compare; its report.json has the figures"
        )
    if not folder.answers.exists():
        raise RunFolderError(f"{path} holds no answers.jsonl: the run did not end; go on with --resume")
    lines = [json.loads(line) for line in folder.answers.read_text(encoding="utf-8").splitlines()]
    found: Answers = {}
    times: Counter[str] = Counter()
    for line in lines:
        key = _key(line)
        found[key, times[key]] = line  # a row that stands there twice counts twice
        times[key] += 1
    return found


def _key(line: Mapping[str, Any]) -> str:
    """What was asked, the second text of a pair included, and what was expected."""
    return json.dumps([line["asked"], line.get("second"), line["expected"]], ensure_ascii=False)


def _common_metrics(answers: Sequence[Mapping[str, Any]]) -> list[Summed]:
    first = answers[0]
    if "found" in first:
        return [METRICS[name] for name in SEARCH_METRICS]
    if "margins" in first:
        return [METRICS["preference_accuracy"]]
    if "judged" in first:
        return [METRICS["judged_accuracy"]]
    if "rewards" in first:
        return [METRICS["reward"]]
    if "losses" in first:
        return [METRICS[name] for name in ("exact_match", "rouge_l", "token_f1", "perplexity")]
    if isinstance(first["expected"], float):
        return [METRICS[name] for name in ("rmse", "mae")]
    return [METRICS[name] for name in ("accuracy",)]


def _statistics(metric: Summed, answers: Sequence[Mapping[str, Any]]) -> np.ndarray:
    if metric.name == "perplexity":
        return metric.statistics(range(len(answers)), [answer["losses"]["tuned"] for answer in answers])
    if metric.name == "preference_accuracy":
        return metric.statistics(range(len(answers)), [answer["margins"]["tuned"] for answer in answers])
    if metric.name == "reward":
        return metric.statistics(range(len(answers)), [answer["rewards"]["tuned"] for answer in answers])
    if metric.name == "judged_accuracy":
        return metric.statistics([a["wanted"] for a in answers], [a["judged"]["tuned"] for a in answers])
    if metric.name in SEARCH_METRICS:
        right = [frozenset(answer["right"]) for answer in answers]
        return metric.statistics(right, [answer["found"]["tuned"] for answer in answers])
    return metric.statistics([answer["expected"] for answer in answers], [answer["tuned"] for answer in answers])
