"""Test rows in other words, made before training, so that nobody trains for a measure that cannot be taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tuneful.core.device import is_first
from tuneful.core.errors import RecipeError
from tuneful.core.ranks import gathered, together
from tuneful.evaluation.settings import Reworded
from tuneful.run.embedded import reader_for
from tuneful.run.judge import near
from tuneful.run.losses import sampled
from tuneful.run.prepare import Prepared
from tuneful.run.tuned import open_encoder
from tuneful.run.variants import reworded, sound

Say = Callable[[str], None]


def with_reworded(prepared: Prepared, say: Say = lambda _: None) -> Prepared:
    """The same with what its test rows say in other words, where the recipe asks for it. Raises InputError, and
    EndpointError."""
    asked = prepared.recipe.evaluate.paraphrase
    if asked is None or not prepared.recipe.evaluate.enabled:
        return prepared
    words = gathered(together(lambda: _words(asked, prepared, say) if is_first() else {}))[0]
    return replace(prepared, reworded=words)


def _words(asked: Reworded, prepared: Prepared, say: Say) -> dict[str, str]:
    """By text. A head is not asked which of them keep their label, as it would leave the hard ones out."""
    rows = sampled(prepared)["test"]
    texts = list(dict.fromkeys(
        text for row in rows for text in (row.example.text, row.example.second) if text and text.strip()
    ))  # fmt: skip
    made = sound(reworded(asked, texts, 1, say, where="evaluate.paraphrase"))
    reader = open_encoder(asked.encoder or reader_for(texts), None, say)
    kept = near(made, asked.similar, reader.vectors)
    say(f"test rows in other words: {kept.kept} of {len(texts)} texts, {kept.far} more are far from their text")
    if not kept.kept:
        raise RecipeError([
            f"evaluate.paraphrase: none of {len(texts)} texts came back in other words that say the same ({kept.far} "
            "are far from their text); name another model, lower similar, or leave it out"
        ])  # fmt: skip
    return {text: found[0] for text, found in kept.pool.items() if found}
