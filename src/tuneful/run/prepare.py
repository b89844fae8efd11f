"""Recipe -> everything that is known before a model is loaded: rows, splits, labels, X-ray, and every default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuneful.core.device import pick_device
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Adapter
from tuneful.core.quantised import check
from tuneful.core.types import Layout, Row, Said
from tuneful.data.formats import Format
from tuneful.data.labels import LabelSet, label_set
from tuneful.data.rows import NAMES, Rows
from tuneful.data.splits import Split
from tuneful.data.streams import StreamedRows
from tuneful.data.xray import XRay, xray
from tuneful.evaluation.primary import check_primary
from tuneful.models.heads import REWARD, Labels, headless
from tuneful.models.processors import TextProcessor
from tuneful.models.size import Size
from tuneful.objectives import Retrieve
from tuneful.recipe import Recipe
from tuneful.run.augment import check_augment
from tuneful.run.between import between
from tuneful.run.comparable import comparable
from tuneful.run.decided import Decided, decide
from tuneful.run.defaults import told
from tuneful.run.encoded import Encoded, encode
from tuneful.run.gather import Gathered, gather
from tuneful.run.groups import check_groups
from tuneful.run.hardness import check_curriculum, told_curriculum
from tuneful.run.learned import Learned, learn
from tuneful.run.pairs import check_together, searched
from tuneful.run.patched import check_measured, measured
from tuneful.run.plan import fitted, planned_mb
from tuneful.run.preferences import notes as of_preferences
from tuneful.run.regularised import answer_of, check_looked_at, check_own_text, check_updates
from tuneful.run.repairable import check_repair
from tuneful.run.resolve import Resolved, pools, resolve
from tuneful.run.rollouts import planned
from tuneful.run.select import Selection
from tuneful.run.unlearning import check_unlearned

Say = Callable[[str], None]


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
    reworded: Mapping[str, str] = field(default_factory=dict)  # texts of test rows in other words

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
        if self.layout.rates:
            return REWARD
        return Labels(self.labels.names, self.labels.problem, self.pooled) if self.labels else None

    @property
    def starts_new(self) -> bool:
        """Beside the pretrained body stands something that starts from nothing."""
        return self.labels is not None or self.layout is Layout.REBUILT or self.layout.rates

    @property
    def by_name(self) -> bool:
        """No row has a label: the classes are known by their names alone."""
        known = [row for row in self.repeated if row.target is not None]
        return self.labels is not None and all(row.example.place.source == NAMES for row in known)

    @property
    def tells_classes(self) -> bool:
        """One class a row, known by rows and not by its name alone."""
        is_class = self.labels is not None and self.labels.kind == "class"
        return self.layout is Layout.LABELS and is_class and not self.by_name

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


def prepare(recipe: Recipe, say: Say = lambda _: None, *, free_mb: int | None = None) -> Prepared:
    """`free_mb` is the memory one process may plan with, what is free here if nobody says. Raises InputError with
    everything that is wrong with recipe, data or model folder."""
    if recipe.quantise is not None:
        check(recipe.quantise, pick_device())
    decided = decide(*gather(measured(recipe), say), say)
    recipe, sampled = decided.recipe, decided.gathered.sampled
    rows = encode(decided, say)
    check_unlearned(recipe, decided.gathered.examples, rows.built["train"].rows)
    check_primary(recipe.evaluate, rows.objective.layout, rows.labels, rows.built["test"].rows)
    check_looked_at(recipe, rows.built["validation"].rows)
    check_own_text(recipe, rows.objective.layout)
    check_measured(rows.patched, rows.built["test"].rows, by_folds=_by_folds(decided, rows))
    found = _examined(decided, rows)
    learned = learn(decided, rows, say)
    found.notes.extend(learned.notes)
    stream = None
    if sampled is not None and learned.repeated:
        stream = sampled.stream(learned.repeated, rows.parts, rows.encode, recipe.seed)
        counted = rows.counts.rows if rows.counts else {}
        found = found.of_sample(len(rows.parts.train), len(stream), rows.labels, counted)
    if isinstance(rows.objective, Retrieve) and rows.built["test"].rows:
        found.notes.append(searched(learned.built, sampled=sampled is not None))
    found.notes.extend(of_preferences(rows.objective, learned.built))
    resolved = _resolved(decided, rows, learned, stream, planned_mb() if free_mb is None else free_mb, say)
    found.notes.extend(_notes_of_defaults(resolved, learned, stream, decided.size))
    taught = resolved.recipe.schedule.learns(learned.repeated)
    found.notes.extend(told_curriculum(resolved))
    found.notes.extend(decided.gathered.taken)
    found.notes.extend(between(recipe, rows.parts.train))
    found.notes.extend(check_groups(resolved, rows.labels, taught, streams=stream is not None))
    found.notes.extend(comparable(resolved.recipe, rows.labels, learned.built, streams=stream is not None))
    found.notes.extend(check_repair(resolved, rows.labels, learned.built, decided.folder, streams=stream is not None))
    prepared = Prepared(
        resolved, decided.gathered.form, rows.parts, learned.built, rows.labels, found, rows.processor, decided.folder,
        decided.size, rows.patched.sha256(_sha256(decided.gathered, learned.further, learned.chosen)),
        learned.repeated, stream, learned.chosen,
    )  # fmt: skip
    _check_paraphrase(prepared)
    return prepared


def _notes_of_defaults(resolved: Resolved, learned: Learned, stream: StreamedRows | None, size: Size) -> Sequence[Said]:
    rows = resolved.recipe.schedule.learns(learned.repeated)
    count = len(rows) if stream is None else len(stream)
    return told(resolved.recipe, resolved.adapter, answer_of(resolved.objective.layout, rows), rows, count, size)


def _check_paraphrase(prepared: Prepared) -> None:
    """Raises RecipeError where test rows are to be asked about in other words, and nobody could be asked."""
    settings = prepared.recipe.evaluate
    if settings.paraphrase is None or not settings.enabled:
        return
    if not prepared.tells_classes or not settings.robustness:
        raise RecipeError(["evaluate.paraphrase: asks a classifier about its test rows once more, as "
                           "evaluate.robustness does; these are no classes, or that is off. Leave it out"])  # fmt: skip
    if not prepared.rows("test"):
        raise RecipeError(["evaluate.paraphrase: there are no test rows to be said in other words; hold some out "
                           "(data.test), or leave it out"])  # fmt: skip


def _by_folds(decided: Decided, rows: Encoded) -> bool:
    """Ways of learning are chosen by cross-validation."""
    return decided.recipe.choose.enabled is True and pools(rows.objective)


def _examined(decided: Decided, rows: Encoded) -> XRay:
    recipe, gathered, layout = decided.recipe, decided.gathered, rows.objective.layout
    shown = label_set(rows.parts.train, "class") if decided.unseen else rows.labels
    return xray(
        gathered.form.name, layout, rows.parts, rows.built, gathered.dropped, rows.processor, shown,
        drop=recipe.task.data.drop,
        by_folds=_by_folds(decided, rows),
        unchosen=rows.chosen.left_out if rows.chosen else 0,
    )  # fmt: skip


def _resolved(
    decided: Decided, rows: Encoded, learned: Learned, stream: StreamedRows | None, free_mb: int, say: Say
) -> Resolved:
    """Every default, in the memory there is."""
    recipe, taught = decided.recipe, decided.recipe.schedule.learns(learned.repeated)
    count = None if stream is None else len(stream)
    resolved = resolve(recipe, learned.objective, rows.limit, taught, decided.size, count)
    resolved = fitted(resolved, planned(recipe.schedule, taught), decided.size, say, free_mb)
    check_together(resolved, taught)
    check_updates(recipe, resolved.steps)
    check_curriculum(recipe, learned.objective.layout, taught, streams=stream is not None)
    check_augment(recipe, resolved, taught, streams=stream is not None)
    return resolved


def _sha256(gathered: Gathered, further: Sequence[Row], chosen: Selection | None) -> str:
    """Of what is learned and measured by, so that a run that goes on notices other data."""
    told = [(row.example.text, row.target, row.ids.tobytes(), row.learn.tobytes())
            for row in further if row.example.place.source != NAMES]  # fmt: skip
    more = [told] if chosen is None else [told, chosen.kept.tolist()]
    if not told and chosen is None:
        return gathered.sha256
    return hashlib.sha256(repr((gathered.sha256, *more)).encode()).hexdigest()
