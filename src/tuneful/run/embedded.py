"""Which embedded model is taken where nobody names one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from tuneful.core.types import Example
from tuneful.data.language import is_english
from tuneful.recipe import Recipe

Say = Callable[[str], None]
READER, MULTILINGUAL, WRITER = "minilm-l6", "e5-small", "smollm2-135m"


def reader_for(texts: Iterable[str]) -> str:
    """The embedded encoder that reads these texts."""
    return READER if is_english(texts) else MULTILINGUAL


def _read(train: Sequence[Example]) -> Iterator[str]:
    """What a reader would read of the rows."""
    for example in train:
        yield example.text or ""
        if example.positive is not None:
            yield example.positive


def with_model(recipe: Recipe, reads: bool, train: Sequence[Example], say: Say) -> Recipe:
    """The recipe with a model, and a word about which."""
    if recipe.model is not None:
        return recipe
    finds = bool(train) and train[0].positive is not None
    chosen = reader_for(_read(train)) if reads else WRITER
    labelled = recipe.task.objective is None
    what = "queries and documents" if finds else "labels" if labelled else "text to read"
    why = f"the data has {what}" if reads else "the data has text to write"
    why += " and is not English" if chosen == MULTILINGUAL else ""
    say(f"model {chosen}, because {why} (--model changes that)")
    return recipe.model_copy(update={"model": chosen})
