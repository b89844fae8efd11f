"""Texts without labels beside those that have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Processor
from tuneful.core.types import Example, Row
from tuneful.data.duplicates import said_in
from tuneful.data.inputs import inputs
from tuneful.data.labels import LabelSet
from tuneful.data.sources import read
from tuneful.data.splits import Split
from tuneful.recipe import Recipe

Say = Callable[[str], None]


def unlabelled_rows(
    recipe: Recipe, labels: LabelSet | None, split: Split, processor: Processor, limit: int, say: Say
) -> list[Row]:
    """Rows without a target, each text once; those that stand in the labelled data or are held out left out. Raises
    InputError."""
    source = recipe.task.data.unlabelled
    if source is None:
        return []
    if labels is None or labels.kind != "class":
        raise RecipeError(["data.unlabelled: texts without labels go with labels, one a row"])
    data = recipe.task.data
    tables = read(source, encoding=data.encoding, seed=recipe.seed, learns=False, say=say)
    named = {"text": data.text} if data.text is not None else {}
    found = [example for table in tables.values() if table
             for example in inputs(table, named, labelled=True, column=None)]  # fmt: skip
    texts = _once(found, {said_in(example) for part in (split.train, split.validation, split.test) for example in part})
    say(f"{len(texts)} texts without labels" + (f", {len(found) - len(texts)} more were there already"
                                                 if len(texts) < len(found) else ""))  # fmt: skip
    encoded = [(example, processor.text(example.text or "", limit=limit)) for example in texts]
    return [Row(example, item.ids, item.learn) for example, item in encoded]


def _once(examples: Sequence[Example], known: set[str]) -> list[Example]:
    kept = []
    for example in examples:
        if (said := said_in(example)) not in known:
            known.add(said)
            kept.append(example)
    return kept
