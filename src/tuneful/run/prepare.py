"""Recipe -> everything that is known before a model is loaded: rows, splits, labels, X-ray, and every default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tuneful.core.device import pick_device
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.quantised import check
from tuneful.core.types import Dropped, Example, Layout, Row
from tuneful.data.counts import Counts
from tuneful.data.formats import Format, detect, understand
from tuneful.data.labels import LabelSet, label_set
from tuneful.data.names import Names
from tuneful.data.rows import NAMES, Rows, build
from tuneful.data.sources import Raw, read
from tuneful.data.splits import Split, split
from tuneful.data.streams import StreamedRows
from tuneful.data.xray import XRay, xray
from tuneful.evaluation.primary import check_primary
from tuneful.models.heads import VECTORS, Labels
from tuneful.models.load import load_processor, locate
from tuneful.models.processors import TextProcessor
from tuneful.models.size import Size, head_has_bias, size_of
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.run.embedded import with_model
from tuneful.run.few import by_name, check_used, chooses, data_has_names_only, describable, to_be_chosen
from tuneful.run.further import further_rows
from tuneful.run.objective import choose_objective, reads, with_mask
from tuneful.run.plan import fitted, planned_mb
from tuneful.run.resolve import Resolved, pools, resolve
from tuneful.run.streamed import Sampled, held_out, is_streamed, look, one_layout
from tuneful.run.teacher import as_labelled, taught, told

Say = Callable[[str], None]
LONGEST = 2048  # tokens of a row when nobody says otherwise
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe with every default filled in, and the rows it is about."""

    resolved: Resolved
    form: Format
    split: Split
    built: Mapping[str, Rows]
    labels: LabelSet | None
    xray: XRay
    processor: TextProcessor
    folder: Path  # of the model
    size: Size
    data_sha256: str
    repeated: list[Row]  # the training rows, as often as their sources' weights say; of a stream those looked at
    stream: StreamedRows | None = None  # the training rows, where they are not held

    @property
    def recipe(self) -> Recipe:
        """With every default filled in."""
        return self.resolved.recipe

    @property
    def layout(self) -> Layout:
        return self.resolved.objective.layout

    @property
    def pooled(self) -> bool:
        """The class head reads the mean of a text's hidden states."""
        return pools(self.resolved.objective)

    @property
    def head(self) -> Labels | None:
        """What the model's class head answers; None for tokens."""
        if self.layout is Layout.TEXTS:
            return VECTORS
        return Labels(self.labels.names, self.labels.problem, self.pooled) if self.labels else None

    @property
    def by_name(self) -> bool:
        """No row has a label: the classes are known by their names alone."""
        known = [row for row in self.repeated if row.target is not None]
        return self.labels is not None and all(row.example.place.source == NAMES for row in known)

    @property
    def scale(self) -> float:
        """How many training examples stand behind each that was looked at."""
        return 1.0 if self.stream is None else len(self.stream) / len({row.example.place for row in self.repeated})

    def rows(self, part: str) -> list[Row]:
        return self.built[part].rows


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the sources hold, as far as it is known before training."""

    form: Format
    examples: Mapping[str, list[Example]]
    dropped: list[Dropped]
    weights: Mapping[str, float]  # of the rows of each file
    held_out: Mapping[str, float]  # what `split` takes for validation and test
    sha256: str
    sampled: Sampled | None = None  # where rows are not held
    teaches: bool = False  # all labels are a teacher's


def prepare(recipe: Recipe, say: Say = lambda _: None, *, free_mb: int | None = None) -> Prepared:
    """`free_mb` is the memory one process may plan with, what is free here if nobody says. Raises InputError with
    everything that is wrong with recipe, data or model folder."""
    if recipe.quantise is not None:
        check(recipe.quantise, pick_device())
    recipe, gathered = _gather(recipe, say)
    gathered = _taught(recipe, gathered, say)
    names_only = data_has_names_only(recipe, gathered.form)
    if names_only:
        recipe = by_name(recipe)
        gathered = replace(gathered, held_out={"validation": 0.0, "test": 0.0})
    data, form, sampled, dropped = recipe.task.data, gathered.form, gathered.sampled, gathered.dropped
    recipe = with_model(recipe, reads(recipe, form), gathered.examples.get("train", ()), say)
    if not gathered.examples.get("train"):
        raise DataError(f"no training row can be used; the first: {dropped[0].place}: {dropped[0].reason}")
    folder = locate(str(recipe.model), say, trust_remote_code=recipe.trust_remote_code)
    size = size_of(str(recipe.model), folder, trust_remote_code=recipe.trust_remote_code)
    objective = choose_objective(recipe, form, folder, say)
    labelled = objective.layout is Layout.LABELS
    choosing = sampled is None and chooses(recipe, gathered.examples["train"], folder, labelled)
    check_used(recipe, choosing=choosing, names_only=names_only)
    if choosing:
        recipe, objective = to_be_chosen(recipe, size.layers, gathered.examples["train"], say)
        data = recipe.task.data
        gathered = replace(gathered, held_out={"validation": data.validation, "test": data.test})
    parts = split(gathered.examples, **gathered.held_out, seed=recipe.seed, labelled=labelled)
    processor = load_processor(
        str(recipe.model),
        folder,
        writes=objective.layout.writes,
        pooled=pools(objective) or objective.layout is Layout.TEXTS,
        trust_remote_code=recipe.trust_remote_code,
    )
    objective = with_mask(objective, processor)
    counts = sampled.counts() if sampled and labelled else None
    labels = (
        _labels(parts.train, objective, folder, recipe.trust_remote_code, sampled, counts, data.labels)
        if labelled
        else None
    )
    if labels is not None and isinstance(objective, Classify):
        objective = objective.model_copy(update={"target": labels.kind})
    limit = min(data.max_tokens or LONGEST, processor.max_tokens)
    encode = partial(build, layout=objective.layout, processor=processor, limit=limit, labels=labels,
                     learn_all=data.learn == "all")  # fmt: skip
    built = {part: encode(getattr(parts, part)) for part in PARTS}
    check_primary(recipe.evaluate, objective.layout, labels, built["test"].rows)
    found = xray(form.name, objective.layout, parts, built, dropped, processor, labels, drop=data.drop)
    if data.teacher is not None:
        found.notes.append(told(data.teacher, measured=gathered.teaches and bool(built["test"].rows)))
    repeated, stream = _repeat(built["train"].rows, gathered.weights, recipe.seed), None
    repeated = [*repeated, *further_rows(recipe, objective, labels, parts, processor, limit, say)]
    if sampled is not None and repeated:
        stream = sampled.stream(repeated, parts, encode, recipe.seed)
        found = found.of_sample(len(parts.train), len(stream), labels, counts.rows if counts else {})
    learned = recipe.schedule.learns(repeated)
    resolved = resolve(recipe, objective, limit, learned, size, None if stream is None else len(stream))
    resolved = fitted(resolved, learned, size, say, planned_mb() if free_mb is None else free_mb)
    return Prepared(
        resolved, form, parts, built, labels, found, processor, folder, size, gathered.sha256, repeated, stream
    )


def _gather(recipe: Recipe, say: Say) -> tuple[Recipe, Gathered]:
    """The recipe says whether rows are held."""
    data = recipe.task.data
    streams = is_streamed(data, say)
    data = data.model_copy(update={"streaming": streams})
    recipe = recipe.model_copy(update={"tasks": [recipe.task.model_copy(update={"data": data})]})
    if streams:
        found = look(recipe, say)
        held = held_out(data, found.rows)
        return recipe, Gathered(found.form, found.examples, found.dropped, {}, held, found.sha256, found)
    tables = [(s.weight, read(s.path, encoding=data.encoding, seed=recipe.seed, say=say)) for s in data.sources]
    held = {"validation": data.validation, "test": data.test}
    return recipe, Gathered(*_understand(recipe, tables), held, _sha256(tables))


def _taught(recipe: Recipe, gathered: Gathered, say: Say) -> Gathered:
    """Texts without labels, where there is a teacher and nothing else that knows any."""
    data = recipe.task.data
    if data.teacher is None or gathered.form.name != "text":
        return gathered
    if gathered.sampled is not None:
        raise RecipeError(["data.teacher: labels texts that are held; --set data.streaming=false holds them"])
    known = None if data.labels is None else LabelSet.of_names(data.labels)
    examples = {part: taught(data.teacher, found, known, say) for part, found in gathered.examples.items() if found}
    return replace(gathered, examples=examples, form=as_labelled(gathered.form), teaches=True)


def _labels(
    train: Sequence[Example],
    objective: Objective,
    folder: Path,
    trust: bool,
    sampled: Sampled | None,
    counts: Counts | None,
    given: Sequence[str] | Mapping[str, str] | None,
) -> LabelSet:
    if given is not None:
        return describable(LabelSet.of_names(given))
    kind = objective.target if isinstance(objective, Classify) else "auto"
    labels = sampled.labels(train, kind, counts) if sampled and counts else label_set(train, kind)
    if labels.kind == "number" and not head_has_bias(folder, trust_remote_code=trust):
        return labels.without_mean()
    return labels


def _understand(
    recipe: Recipe, tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]]
) -> tuple[Format, dict[str, list[Example]], list[Dropped], dict[str, float]]:
    """Examples by split, and for each source file the weight of its rows."""
    data = recipe.task.data
    examples: dict[str, list[Example]] = {}
    dropped: list[Dropped] = []
    weights: dict[str, float] = {}
    forms: list[Format] = []
    for weight, table in _with_names_of_their_own(tables, [source.path for source in data.sources]):
        for part, rows in table.items():
            if rows:
                form, columns = detect(rows, data.columns, data.layout)
                forms.append(form)
                good, bad = understand(rows, form, columns)
                examples.setdefault(part, []).extend(good)
                dropped += bad
                weights[rows[0].place.source] = weight
    if data.labels is None or {form.name for form in forms} - {"text", "labelled"}:
        one_layout(forms)
    return forms[0], examples, dropped, weights


def _with_names_of_their_own(
    tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]], paths: Sequence[str]
) -> Iterator[tuple[float, dict[str, Sequence[Raw]]]]:
    """Rows say where they come from in a name that no other file has."""
    names = Names()
    for number, ((weight, table), path) in enumerate(zip(tables, paths, strict=True), 1):
        named: dict[str, Sequence[Raw]] = {}
        for part, rows in table.items():
            name = rows[0].place.source if rows else ""
            own = names.own(name, path, part, alone=len(table) == 1, number=number)
            named[part] = rows if own == name else [
                replace(raw, place=replace(raw.place, source=own)) for raw in rows
            ]  # fmt: skip
        yield weight, named


def _repeat(rows: list[Row], weights: Mapping[str, float], seed: int) -> list[Row]:
    """Weight 2 = twice an epoch, 0.5 = a seeded half."""
    if all(weight == 1 for weight in weights.values()):
        return rows
    rng = np.random.default_rng([seed, 7])
    repeated: list[Row] = []
    for row in rows:
        weight = weights.get(row.example.place.source, 1.0)
        repeated += [row] * (int(weight) + (rng.random() < weight % 1))
    return repeated


def _sha256(tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]]) -> str:
    """Of what was read, so that a changed file is noticed and a moved one is not."""
    digest = hashlib.sha256()
    for _, table in tables:
        for part in sorted(table):
            for raw in table[part]:
                digest.update(repr((part, sorted(raw.fields.items(), key=lambda item: item[0]))).encode())
    return digest.hexdigest()
