"""Recipe -> everything that is known before a model is loaded: rows, splits, labels, X-ray, and every default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from tuneful.core.device import pick_device
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.protocols import Adapter, Objective
from tuneful.core.quantised import check
from tuneful.core.types import Example, Layout, Row, Said
from tuneful.data.counts import Counts
from tuneful.data.formats import Format
from tuneful.data.labels import LabelSet, label_set
from tuneful.data.rows import NAMES, Rows, build, is_generated
from tuneful.data.splits import Split, split
from tuneful.data.streams import StreamedRows
from tuneful.data.unseen import identities, split_classes
from tuneful.data.xray import XRay, xray
from tuneful.evaluation.primary import check_curve, check_primary
from tuneful.models.heads import Labels, headless
from tuneful.models.load import load_processor, locate
from tuneful.models.processors import TextProcessor
from tuneful.models.size import Size, head_has_bias, size_of
from tuneful.models.unlabelled import MOST
from tuneful.objectives import Classify, Retrieve
from tuneful.recipe import Recipe
from tuneful.run.augment import augmented, check_augment
from tuneful.run.balance import balanced
from tuneful.run.canaries import CANARIES, canary_rows
from tuneful.run.embedded import with_model
from tuneful.run.few import check_used, chooses, describable, to_be_chosen
from tuneful.run.further import further_rows
from tuneful.run.gather import Gathered, gather
from tuneful.run.objective import choose_objective, reads, with_mask
from tuneful.run.pairs import check_pairs, check_settings, check_together, searched, with_prompts
from tuneful.run.patched import measured, with_patch
from tuneful.run.plan import fitted, planned_mb
from tuneful.run.queries import Selecting
from tuneful.run.regularised import check_looked_at
from tuneful.run.resolve import Resolved, pools, resolve
from tuneful.run.select import Selection, check_select, select
from tuneful.run.teacher import told
from tuneful.run.unseen import check_classes, notes, with_episodes

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
    selection: Selection | None = None  # which of the training rows these are, where not all are learned
    variants: Mapping[int, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)  # by augmentation and text

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
        if self.layout.vectors:
            return headless(self.layout)
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

    def under(self, adapter: Adapter) -> Prepared:
        """The same run with another adapter, everything else as it was decided."""
        recipe = self.recipe.model_copy(update={"adapter": adapter})
        return replace(self, resolved=replace(self.resolved, recipe=recipe, adapter=adapter))


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is known before rows are split and rendered."""

    recipe: Recipe
    objective: Objective
    gathered: Gathered
    folder: Path
    size: Size

    @property
    def labelled(self) -> bool:
        return self.objective.layout is Layout.LABELS

    @property
    def unseen(self) -> bool:
        """Whole classes are held out."""
        return self.objective.layout is Layout.CLASSES


def prepare(recipe: Recipe, say: Say = lambda _: None, *, free_mb: int | None = None) -> Prepared:
    """`free_mb` is the memory one process may plan with, what is free here if nobody says. Raises InputError with
    everything that is wrong with recipe, data or model folder."""
    if recipe.quantise is not None:
        check(recipe.quantise, pick_device())
    decided = _decide(*gather(measured(recipe), say), say)
    recipe, objective, gathered = decided.recipe, decided.objective, decided.gathered
    data, sampled = recipe.task.data, gathered.sampled
    patched = with_patch(recipe, _split(decided), say, held=sampled is None)
    parts = patched.split
    processor = _processor(decided)
    counts = sampled.counts() if sampled and decided.labelled else None
    labels = _labels(decided, parts.train, counts) if decided.labelled else None
    objective = _completed(objective, labels, processor)
    if isinstance(objective, Retrieve):
        objective, processor = with_prompts(objective, processor)
        check_pairs(parts)
    limit = min(data.max_tokens or LONGEST, processor.max_tokens)
    classes = identities(parts) if decided.unseen else labels
    encode = partial(build, layout=objective.layout, processor=processor, limit=limit, labels=classes,
                     learn_all=data.learn == "all")  # fmt: skip
    built: Mapping[str, Rows] = {part: encode(getattr(parts, part)) for part in PARTS}
    chosen = _chosen(decided, parts, built, encode, classes, say)
    if chosen is not None:
        parts, built = chosen.of(parts, built)
    check_primary(recipe.evaluate, objective.layout, labels, built["test"].rows)
    check_looked_at(recipe, built["validation"].rows)
    form, dropped = gathered.form, gathered.dropped
    shown = label_set(parts.train, "class") if decided.unseen else labels
    asks = recipe.choose.enabled is True and pools(objective)
    found = xray(form.name, objective.layout, parts, built, dropped, processor, shown, drop=data.drop, by_folds=asks,
                 unchosen=chosen.left_out if chosen else 0)  # fmt: skip
    if gathered.teaches:
        say("all labels are the teacher's: quality will say how often the two agree, not how often either is right")
    repeated, stream = _repeat(built["train"].rows, gathered.weights, recipe.seed), None
    further = further_rows(recipe, objective, labels, parts, processor, limit, say)
    held = None if sampled else len(repeated)
    further = [*further, *canary_rows(recipe, objective.layout, processor, limit, held, say)]
    check_curve(recipe.evaluate, objective.layout, labels)
    repeated = [*repeated, *further]
    found.notes.extend(patched.notes())
    found.notes.extend(_notes(decided, parts, built, further, sum(row.counts for row in repeated)))
    even = balanced(recipe, objective, labels, repeated, built)
    objective, repeated, built = even.objective, even.repeated, even.built
    found.notes.extend(even.notes)
    if chosen is not None:
        found.notes.extend(chosen.notes)
        chosen = replace(chosen, drawn=_repeat(list(chosen.drawn), gathered.weights, recipe.seed))
    if sampled is not None and repeated:
        stream = sampled.stream(repeated, parts, encode, recipe.seed)
        found = found.of_sample(len(parts.train), len(stream), labels, counts.rows if counts else {})
    if isinstance(objective, Retrieve) and built["test"].rows:
        found.notes.append(searched(built, sampled=sampled is not None))
    learned = recipe.schedule.learns(repeated)
    resolved = resolve(recipe, objective, limit, learned, decided.size, None if stream is None else len(stream))
    resolved = fitted(resolved, learned, decided.size, say, planned_mb() if free_mb is None else free_mb)
    check_together(resolved, learned)
    check_augment(recipe, resolved, learned, streams=stream is not None)
    return Prepared(
        resolved, form, parts, built, labels, found, processor, decided.folder, decided.size,
        patched.sha256(_sha256(gathered, further, chosen)), repeated, stream, chosen,
    )  # fmt: skip


def _chosen(
    decided: _Decided,
    parts: Split,
    built: Mapping[str, Rows],
    encode: Callable[..., Rows],
    classes: LabelSet | None,
    say: Say,
) -> Selection | None:
    """Which of the training rows are learned, where not all of them are."""
    recipe = decided.recipe
    if recipe.task.data.select is None or not built["train"].rows:
        return None
    texts = encode if classes is None else partial(encode, labels=replace(classes, open=True))
    layout = decided.objective.layout
    if recipe.task.data.select.compare and classes is not None and classes.kind != "class":
        raise RecipeError(
            ["data.select.compare: compares answers, or labels of which a row has one; leave compare out"]
        )
    return select(Selecting(recipe, recipe.task.data.select, layout, decided.folder, parts, built, texts), say)


def _decide(recipe: Recipe, gathered: Gathered, say: Say) -> _Decided:
    """Which model, which objective, and whether the way of learning is chosen by trying."""
    train = gathered.examples.get("train", [])
    recipe = with_model(recipe, reads(recipe, gathered.form), train, say)
    if not train:
        first = gathered.dropped[0]
        raise DataError(f"no training row can be used; the first: {first.place}: {first.reason}")
    folder = locate(str(recipe.model), say, trust_remote_code=recipe.trust_remote_code)
    size = size_of(str(recipe.model), folder, trust_remote_code=recipe.trust_remote_code)
    objective = choose_objective(recipe, gathered.form, folder, say)
    recipe = with_episodes(recipe, objective, say)
    if objective.layout is Layout.CLASSES:
        check_classes(recipe, gathered)
    if objective.layout is Layout.PAIRS:
        check_settings(recipe)
    choosing = gathered.sampled is None and chooses(recipe, train, folder, objective.layout is Layout.LABELS)
    check_used(
        recipe, choosing=choosing, names_only=gathered.names_only, taught=gathered.teaches,
        streams=gathered.sampled is not None, writes=objective.layout.writes, pooled=_teaches_heads(objective, train),
    )  # fmt: skip
    check_select(recipe, objective.layout, streams=gathered.sampled is not None, choosing=choosing)
    if choosing:
        recipe, objective = to_be_chosen(recipe, size.layers, train, say)
        data = recipe.task.data
        gathered = replace(gathered, held_out={"validation": data.validation, "test": data.test})
    return _Decided(recipe, objective, gathered, folder, size)


def _teaches_heads(objective: Objective, train: Sequence[Example]) -> bool:
    """A head over means can learn what single texts without labels seem to be."""
    return pools(objective) and train[0].second is None and len(train) <= MOST


def _notes(
    decided: _Decided, parts: Split, built: Mapping[str, Rows], further: Sequence[Row], learned: int
) -> Iterator[Said]:
    """What a report has to say of classes that are held out, a teacher, and rows that a model wrote."""
    if decided.unseen:
        yield from notes(parts, built["train"].rows)
    if (teacher := decided.recipe.task.data.teacher) is not None:
        yield told(teacher, measured=decided.gathered.teaches and bool(built["test"].rows))
    yield from augmented(decided.recipe)
    if written := sum(map(is_generated, further)):
        yield Said("generated", {"n": written, "percent": round(100 * written / learned)})
    if planted := sum(row.example.place.source == CANARIES for row in further):
        yield Said("canaries", {"n": planted, "percent": round(100 * planted / learned, 1)})


def _processor(decided: _Decided) -> TextProcessor:
    recipe, objective = decided.recipe, decided.objective
    return load_processor(
        str(recipe.model),
        decided.folder,
        writes=objective.layout.writes,
        pooled=pools(objective) or objective.layout.vectors,
        trust_remote_code=recipe.trust_remote_code,
    )


def _split(decided: _Decided) -> Split:
    gathered, seed = decided.gathered, decided.recipe.seed
    if decided.unseen:
        return split_classes(gathered.examples, **gathered.held_out, seed=seed)
    return split(gathered.examples, **gathered.held_out, seed=seed, labelled=decided.labelled)


def _completed(objective: Objective, labels: LabelSet | None, processor: TextProcessor) -> Objective:
    """The same, knowing the kind of the labels, or the token that hides others."""
    if labels is not None and isinstance(objective, Classify):
        return objective.model_copy(update={"target": labels.kind})
    return with_mask(objective, processor)


def _labels(decided: _Decided, train: Sequence[Example], counts: Counts | None) -> LabelSet:
    recipe, sampled = decided.recipe, decided.gathered.sampled
    if recipe.task.data.labels is not None:
        return describable(LabelSet.of_names(recipe.task.data.labels))
    kind = decided.objective.target if isinstance(decided.objective, Classify) else "auto"
    labels = sampled.labels(train, kind, counts) if sampled and counts else label_set(train, kind)
    if labels.kind == "number" and not head_has_bias(decided.folder, trust_remote_code=recipe.trust_remote_code):
        return labels.without_mean()
    return labels


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


def _sha256(gathered: Gathered, further: Sequence[Row], chosen: Selection | None) -> str:
    """Of what is learned and measured by, so that a run that goes on notices other data."""
    told = [(row.example.text, row.target, row.ids.tobytes(), row.learn.tobytes())
            for row in further if row.example.place.source != NAMES]  # fmt: skip
    more = [told] if chosen is None else [told, chosen.kept.tolist()]
    if not told and chosen is None:
        return gathered.sha256
    return hashlib.sha256(repr((gathered.sha256, *more)).encode()).hexdigest()
