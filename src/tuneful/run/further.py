"""What is learned beside the training rows: names of classes, generated rows, texts that have no label yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.protocols import Objective, Pools, Processor
from tuneful.core.types import Dropped, Example, Layout, Row
from tuneful.data.duplicates import clusters, mark, said_in
from tuneful.data.formats import Format, detect, parts_of, understand
from tuneful.data.inputs import inputs
from tuneful.data.labels import LabelSet, name_of
from tuneful.data.rows import as_generated, build, name_rows
from tuneful.data.sources import Raw, read
from tuneful.data.splits import Split
from tuneful.recipe import Recipe
from tuneful.run.teacher import taught

Say = Callable[[str], None]
MOST_GENERATED = 3  # rows for each labelled one, so that what is learned stays mostly what people wrote
# Layouts whose rows hold a request and an answer.
ANSWERED = {"messages", "alpaca", "self_instruct", "prompt_completion", "labelled", "labelled_pair", "preference",
            "kto"}  # fmt: skip
LEAST_GENERATED = 8  # of a class, where it has hardly any rows


def further_rows(
    recipe: Recipe,
    objective: Objective,
    labels: LabelSet | None,
    split: Split,
    processor: Processor,
    limit: int,
    say: Say,
) -> list[Row]:
    """Each text once; those that stand in the labelled data or are held out left out. Raises InputError."""
    named = labels is not None and isinstance(objective, Pools) and objective.label_names
    names = name_rows(labels, processor, limit) if named and labels is not None else []
    known = {said_in(example) for part in (split.train, split.validation, split.test) for example in part}
    if recipe.task.data.generated is not None and objective.layout is Layout.TOKENS:
        return _with_answers(recipe, split, known, processor, limit, say)
    generated = _generated(recipe, labels, split, known, say)
    texts = _unlabelled(recipe, labels, known, say)
    if recipe.task.data.teacher is not None and texts:
        texts = _unknowing(texts, split)  # a teacher's label would give the answer away
        texts = taught(recipe.task.data.teacher, texts, labels, say)
    return [*names, *(_row(example, labels, processor, limit) for example in [*generated, *texts])]


def _row(example: Example, labels: LabelSet | None, processor: Processor, limit: int) -> Row:
    encoded = processor.text(example.text or "", limit=limit)
    known = labels is not None and example.label is not None
    return Row(example, encoded.ids, encoded.learn, target=labels.target(example) if known and labels else None)


def _unlabelled(recipe: Recipe, labels: LabelSet | None, known: set[str], say: Say) -> list[Example]:
    source, data = recipe.task.data.unlabelled, recipe.task.data
    if source is None:
        return []
    if labels is None or labels.kind != "class":
        raise RecipeError(["data.unlabelled: texts without labels go with labels, one a row"])
    tables = read(source, encoding=data.encoding, seed=recipe.seed, learns=False, say=say)
    named = {"text": data.text} if data.text is not None else {}
    found = [example for table in tables.values() if table
             for example in inputs(table, named, labelled=True, column=data.unlabelled_text,
                                   option="--set data.unlabelled_text=NAME")]  # fmt: skip
    texts = _once(found, known)
    more = f", {len(found) - len(texts)} more were read already, or are held out" if len(texts) < len(found) else ""
    if labelled := [name for table in tables.values() if table for name in _label_column(table)]:
        say(f"{source}: its column '{labelled[0]}' is not read; rows whose labels are to be learned belong to the data")
    say(f"{len(texts)} text{'' if len(texts) == 1 else 's'} without labels{more}")
    return texts


def _label_column(table: Sequence[Raw]) -> list[str]:
    """Its name, where there is one."""
    return [name for part, name in parts_of(table, list(table[0].fields), {}).items() if part == "label"]


def _generated(recipe: Recipe, labels: LabelSet | None, split: Split, known: set[str], say: Say) -> list[Example]:
    """Not too many of any class, drawn with the recipe's seed; none that knows of a held-out row."""
    if recipe.task.data.generated is None:
        return []
    if labels is None or labels.kind != "class":
        raise RecipeError(["data.generated: generated rows go with labels, one a row, or with requests and answers"])
    found = []
    for form, examples, bad in _written(recipe, say):
        if form.name != "labelled" or bad:
            place = bad[0].place if bad else examples[0].place
            raise DataError(f"{place}: expected a text with a label, as `tuneful synthesise` writes them")
        found += examples
    for example in found:
        if name_of(example.label) not in labels.names:
            raise DataError(f"{example.place}: the label '{name_of(example.label)}' is none of the labelled data's")
    new = _once(_secretless(found, split, say), known)
    kept = [as_generated(example) for example in _thinned(new, split.train, recipe.seed)]
    _tell(kept, len(found), say)
    return kept


def _with_answers(
    recipe: Recipe, split: Split, known: set[str], processor: Processor, limit: int, say: Say
) -> list[Row]:
    """Requests with answers for a model that writes: a few for each row that people wrote, drawn with the recipe's
    seed; none that knows of a held-out row. Raises DataError."""
    if not any(example.messages or example.label is not None for example in split.train):
        raise RecipeError(["data.generated: plain texts have no answers for generated rows to go with; leave it out"])
    found = []
    for form, examples, bad in _written(recipe, say):
        if bad or form.name not in ANSWERED:
            place = bad[0].place if bad else examples[0].place
            raise DataError(f"{place}: expected a request with its answer, as `tuneful synthesise` writes them")
        found += examples
    new = _once(_secretless(found, split, say), known)
    most, learn_all = MOST_GENERATED * len(split.train), recipe.task.data.learn == "all"
    drawn = np.random.default_rng([recipe.seed, 11]).permutation(len(new))[:most]
    kept = [as_generated(new[place]) for place in sorted(drawn)]
    built = build(kept, Layout.TOKENS, processor, limit, learn_all=learn_all)
    _tell(kept, len(found), say)
    if built.dropped:
        lost = built.dropped[0]
        say(f"{len(built.dropped)} of them cannot be learned; the first: {lost.place}: {lost.reason}")
    return built.rows


def _written(recipe: Recipe, say: Say) -> Iterator[tuple[Format, list[Example], list[Dropped]]]:
    """What a model wrote, table by table, each row with the texts that the model was shown where it says so."""
    data = recipe.task.data
    for table in read(str(data.generated), encoding=data.encoding, seed=recipe.seed, say=say).values():
        if table:
            here = {part: name for part, name in data.columns.items() if name in table[0].fields}
            form, columns = detect(table, here)
            good, bad = understand(table, form, columns)
            origins = {raw.place: raw.fields.get("origin") for raw in table}
            told = [_origin(origins[example.place]) for example in good]
            yield form, [replace(example, **origin) for example, origin in zip(good, told, strict=True)], bad


def _tell(kept: Sequence[Example], found: int, say: Say) -> None:
    say(f"{len(kept)} generated rows" + (f" of {found}" if len(kept) < found else ""))
    if blind := sum(not example.shown for example in kept):
        say(
            f"{blind} of them do not say which rows their writer was shown (origin.shown): if it was shown those they "
            "are tried on, they will look better than they are"
        )


def _origin(told: Any) -> dict[str, Any]:
    """The texts that the model was shown and marks of those that picked the row, where it says."""
    told = told if isinstance(told, Mapping) else {}
    return {"shown": tuple(map(str, told.get("shown") or ())), "judged": frozenset(map(str, told.get("judged") or ()))}


def _secretless(generated: Sequence[Example], split: Split, say: Say) -> list[Example]:
    kept = _unknowing(generated, split)
    if lost := len(generated) - len(kept):
        say(f"{lost} generated rows know of rows that are held out (repeat, were shown or picked by them): left out")
    return kept


def _unknowing(examples: Sequence[Example], split: Split) -> list[Example]:
    known = knowing(examples, [*split.validation, *split.test])
    return [example for example, knows in zip(examples, known, strict=True) if not knows]


def unseen(generated: Sequence[Row], held: Sequence[Row]) -> list[Row]:
    """Rows that know of none of those that are held out."""
    known = knowing([row.example for row in generated], [row.example for row in held])
    return [row for row, knows in zip(generated, known, strict=True) if not knows]


def knowing(generated: Sequence[Example], held_out: Sequence[Example]) -> list[bool]:
    """Which of them nearly repeat a held-out row, were written by a model that was shown one, or were picked by rows of
    which one was held out."""
    secret = [said_in(example) for example in held_out]
    texts = [*(said_in(example) for example in generated), *(text for example in generated for text in example.shown)]
    unlike = list(dict.fromkeys(texts))
    found = clusters([*secret, *unlike])
    taken = set(found[: len(secret)])
    knows = {text for text, cluster in zip(unlike, found[len(secret) :], strict=True) if cluster in taken}
    marks = frozenset(map(mark, secret))
    return [
        said_in(example) in knows or bool(knows & set(example.shown)) or bool(marks & example.judged)
        for example in generated
    ]


def _thinned(generated: Sequence[Example], train: Sequence[Example], seed: int) -> list[Example]:
    real = Counter(name_of(example.label) for example in train)
    taken: Counter[str] = Counter()
    kept = []
    for place in np.random.default_rng([seed, 11]).permutation(len(generated)):
        name = name_of(generated[place].label)
        if taken[name] < max(LEAST_GENERATED, MOST_GENERATED * real[name]):
            taken[name] += 1
            kept.append(int(place))
    return [generated[place] for place in sorted(kept)]


def _once(examples: Sequence[Example], known: set[str]) -> list[Example]:
    """Adds to `known` what is kept."""
    kept = []
    for example in examples:
        if (said := said_in(example)) not in known:
            known.add(said)
            kept.append(example)
    return kept
