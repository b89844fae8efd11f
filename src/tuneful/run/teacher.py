"""Texts that get their labels from a model: what a large one knows, a small one learns (Hinton et al. 2015,
arXiv:1503.02531, with the answer itself in the place of its softened probabilities)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tuneful.core.device import give_back_freed_memory
from tuneful.core.errors import RecipeError
from tuneful.core.ranks import gathered
from tuneful.core.types import Example, Said
from tuneful.data.formats import FORMATS, Format
from tuneful.data.labels import LabelSet

Say = Callable[[str], None]
MOST_SAID = 12  # classes
LABELLED = next(form for form in FORMATS if form.name == "labelled")


def taught(teacher: str, examples: Sequence[Example], known: LabelSet | None, say: Say) -> list[Example]:
    """The same texts as the teacher, a run or a model with a class head, labels them; `known` are the classes there may
    be. Raises RecipeError where it gives none of them."""
    from tuneful.run.tuned import open_model  # which itself prepares recipes

    tuned = open_model(teacher, say)
    if tuned.labels is None or tuned.labels.kind != "class":
        raise RecipeError([f"data.teacher: {teacher} gives no label of several; a run or model with a class head does"])
    if known is not None and (odd := sorted(set(tuned.labels.names) - set(known.names))):
        raise RecipeError([f"data.teacher: {teacher} gives the label '{odd[0]}', which the data does not have"])
    say(f"{teacher} labels {len(examples):,} text{'' if len(examples) == 1 else 's'}")
    given = gathered(tuned.classify([example.text or "" for example in examples]))[0]  # ranks may round differently
    counts = [f"{name} {count:,}" for name, count in Counter(given).most_common()]
    say(f"  {', '.join(counts[:MOST_SAID])}{', ...' if len(counts) > MOST_SAID else ''}")
    del tuned
    give_back_freed_memory()
    return [replace(example, label=label) for example, label in zip(examples, given, strict=True)]


def told(teacher: str, *, measured: bool) -> Said:
    """What a report has to say of that; `measured` by the teacher's labels as well."""
    facts = {"teacher": teacher}
    return Said("taught_measured", facts) if measured else Said("taught", facts)


def as_labelled(form: Format) -> Format:
    return LABELLED if form.name == "text" else form
