"""From what was decided to rows as the model reads them: split, patched, rendered, and chosen among."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Example
from tuneful.data.counts import Counts
from tuneful.data.labels import LabelSet, label_set
from tuneful.data.rows import Rows, build
from tuneful.data.splits import Split, split
from tuneful.data.unseen import identities, split_classes
from tuneful.models.load import load_processor
from tuneful.models.processors import TextProcessor
from tuneful.models.size import head_has_bias
from tuneful.objectives import Classify, Retrieve
from tuneful.run.decided import Decided
from tuneful.run.few import describable
from tuneful.run.inherited import labels_of
from tuneful.run.mentions import with_mentions
from tuneful.run.objective import with_mask
from tuneful.run.pairs import check_pairs, with_prompts
from tuneful.run.patched import Patched, with_patch
from tuneful.run.preferences import completed
from tuneful.run.queries import Selecting
from tuneful.run.resolve import pools
from tuneful.run.rollouts import asking, makes_its_own
from tuneful.run.select import Selection, select
from tuneful.run.tasks import task_by_task
from tuneful.run.unlearning import forgets

Say = Callable[[str], None]
LONGEST = 2048  # tokens of a row when nobody says otherwise
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows of every part."""

    objective: Objective  # knowing the kind of the labels
    processor: TextProcessor
    labels: LabelSet | None
    counts: Counts | None  # of the labels, where rows are streamed
    limit: int  # tokens of a row
    encode: Callable[..., Rows]
    patched: Patched
    parts: Split
    built: Mapping[str, Rows]
    chosen: Selection | None  # which of the training rows these are, where not all are learned


def encode(decided: Decided, say: Say) -> Encoded:
    """Raises InputError where rows cannot be read as the objective needs them."""
    recipe, objective, sampled = decided.recipe, decided.objective, decided.gathered.sampled
    data = recipe.task.data
    patched = with_patch(recipe, _split(decided), say, held=sampled is None)
    parts = with_mentions(patched.split, recipe)
    processor = _processor(decided)
    counts = sampled.counts() if sampled and decided.labelled else None
    labels = _labels(decided, parts.train, counts) if decided.labelled else None
    objective = completed(_completed(objective, labels, processor), parts.train)
    if isinstance(objective, Retrieve):
        objective, processor = with_prompts(objective, processor)
        check_pairs(parts)
    limit = min(data.max_tokens or LONGEST, processor.max_tokens)
    classes = identities(parts) if decided.unseen else labels
    render = asking(recipe, processor, limit) if objective.layout.plays else partial(
        build, layout=objective.layout, processor=processor, limit=limit, labels=classes, learn_all=data.learn == "all"
    )  # fmt: skip
    built: Mapping[str, Rows] = {part: render(getattr(parts, part)) for part in PARTS}
    chosen = _chosen(decided, parts, built, render, classes, say)
    if chosen is not None:
        parts, built = chosen.of(parts, built)
    return Encoded(objective, processor, labels, counts, limit, render, patched, parts, built, chosen)


def _chosen(
    decided: Decided,
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


def _processor(decided: Decided) -> TextProcessor:
    recipe, objective = decided.recipe, decided.objective
    return load_processor(
        str(recipe.model),
        decided.folder,
        writes=objective.layout.writes or (objective.layout.rates and decided.size.causal),
        pooled=pools(objective) or objective.layout.vectors,
        trust_remote_code=recipe.trust_remote_code,
    )


def _split(decided: Decided) -> Split:
    gathered, seed = decided.gathered, decided.recipe.seed
    if decided.unseen:
        return split_classes(gathered.examples, **gathered.held_out, seed=seed)
    if makes_its_own(decided.recipe):  # each part by another seed, and all may ask in the same words
        train, validation, test = (list(gathered.examples.get(part, ())) for part in PARTS)
        return Split(train, validation, test, leaked=[], duplicates=0)
    given, asked = _without_asked(decided)
    parts = split(given, **gathered.held_out, seed=seed, labelled=decided.labelled)
    return replace(parts, train=[*parts.train, *asked], leaked=[*gathered.leaked, *parts.leaked])


def _without_asked(decided: Decided) -> tuple[Mapping[str, Sequence[Example]], list[Example]]:
    """Rows that are to be forgotten are apart: none gives way to a test row that says nearly the same."""
    given, recipe = decided.gathered.examples, decided.recipe
    if not forgets(recipe):
        return given, []
    name = recipe.tasks[-1].name
    others = [example for example in given["train"] if example.task != name]
    return {**given, "train": others}, [example for example in given["train"] if example.task == name]


def _completed(objective: Objective, labels: LabelSet | None, processor: TextProcessor) -> Objective:
    """The same, knowing the kind of the labels, or the token that hides others."""
    if labels is not None and isinstance(objective, Classify):
        return objective.model_copy(update={"target": labels.kind})
    return with_mask(objective, processor)


def _labels(decided: Decided, train: Sequence[Example], counts: Counts | None) -> LabelSet:
    recipe, sampled = decided.recipe, decided.gathered.sampled
    if recipe.task.data.labels is not None:
        return describable(LabelSet.of_names(recipe.task.data.labels))
    kind = decided.objective.target if isinstance(decided.objective, Classify) else "auto"
    labels = sampled.labels(train, kind, counts) if sampled and counts else label_set(train, kind)
    if len(recipe.tasks) > 1:
        known, found = labels_of(recipe.start), task_by_task(labels, train)
        return replace(found, names=(*known, *(name for name in found.names if name not in known)))
    if labels.kind == "number" and not head_has_bias(decided.folder, trust_remote_code=recipe.trust_remote_code):
        return labels.without_mean()
    return labels
