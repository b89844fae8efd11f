"""The same row about another group of people, so that who is mentioned does not tell the label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from tuneful.core.errors import DataError
from tuneful.core.spec import Spec
from tuneful.data.augment.settings import OneOrMore, Share
from tuneful.data.identity.lexicon import checked
from tuneful.data.identity.swap import swapped, swapped_together


def _known(axes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    try:
        return axes and checked(axes)
    except DataError as error:
        raise ValueError(str(error)) from error


class Counterfactual(Spec):
    """Counterfactual data augmentation, both sides of it: in half of its visits a row is about others than it was
    written about, with the names and the grammar that go with them (Lu et al. 2018, arXiv:1807.11714; Hall Maudslay et
    al. 2019, arXiv:1909.00871, who exchange half of the texts too, once for all). The label stays.

    A text that mentions nobody stays as it is, and so does one with a word of biology, of which another gender would
    make an untruth. Texts that belong together change together, by one mapping: both of a pair, and of a conversation
    what is asked and what is learned.
    """

    modality: ClassVar[str] = "text"

    kind: Literal["counterfactual"] = "counterfactual"
    share: Share = 0.5
    axes: Annotated[Annotated[tuple[str, ...], Field(min_length=1)] | None, OneOrMore, AfterValidator(_known)] = None
    """Along which kinds of people: gender, religion, ... None: all of them."""
    keep: Annotated[tuple[str, ...], OneOrMore] = ()
    """Terms and phrases that stay as they are, such as names of institutions."""
    across: bool = False
    """A religion may stand for a nationality, and so on, where all kinds of people are spoken of alike badly (gender
    and names stay apart)."""

    def over(self, texts: Sequence[str]) -> Callable[[str, np.random.Generator], str]:
        return lambda text, rng: swapped(text, rng, self.axes, keep=self.keep, across=self.across) or text

    def together(self, texts: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
        """All texts of one example; as they are where none mentions anybody."""
        return swapped_together(texts, rng, self.axes, keep=self.keep, across=self.across) or texts
