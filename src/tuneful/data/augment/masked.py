"""Words put in by a model that names hidden ones, so that they fit where they stand."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from tuneful.core.spec import Spec
from tuneful.data.augment.pieces import drawn, free, is_cjk, pieces
from tuneful.data.augment.settings import KeepLabel, KeepNames, Kept, Share, Strength, Variants


class Masked(Spec):
    """Contextual insertion: a mask is put between two words and a masked language model says what it hides (Kobayashi
    2018, arXiv:1805.06201, with insertion for substitution). Over many fine-tunings it matched or beat paraphrases of a
    large model, but where a class had 5 to 20 rows (arXiv:2408.16502).

    It costs a pass of the model, so the variants of a text are made once, before training.
    """

    modality: ClassVar[str] = "text"

    kind: Literal["masked"] = "masked"
    strength: Strength = 0.1
    """Words put in, as a share of those there are; one at least."""
    share: Share = 0.5
    variants: Variants = 4
    model: str | None = None
    """A model that names masked tokens, such as google-bert/bert-base-uncased. None: the run's own, if it has learned
    that."""
    keep_names: KeepNames = True
    keep_label: Kept = KeepLabel()


def with_holes(text: str, strength: float, rng: np.random.Generator, hole: str, *, keep_names: bool = True) -> str:
    """The text with `hole` before this share of its words, never before what stays as it is."""
    parts = pieces(text)
    for place in drawn(free(parts, names=keep_names), strength, rng):
        parts[place] = hole + ("" if is_cjk(parts[place]) else " ") + parts[place]
    return "".join(parts)


def filled(text: str, hole: str, words: list[str]) -> str:
    """Each hole in turn becomes a word."""
    start, *rest = text.split(hole)
    return start + "".join(word + part for word, part in zip(words, rest, strict=True))
