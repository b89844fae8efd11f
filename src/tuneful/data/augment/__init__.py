"""Other ways of saying the same, for rows that are learned."""

from tuneful.core.spec import Spec, Table
from tuneful.data.augment.case import Case
from tuneful.data.augment.counterfactual import Counterfactual
from tuneful.data.augment.masked import Masked
from tuneful.data.augment.paraphrase import Paraphrase
from tuneful.data.augment.typos import Typos
from tuneful.data.augment.words import Words

__all__ = ["AUGMENTATIONS", "Case", "Counterfactual", "Masked", "Paraphrase", "Typos", "Words"]

AUGMENTATIONS: Table[Spec] = Table(
    "augmentation", [Typos, Words, Case, Masked, Paraphrase, Counterfactual], group="tuneful.augmentations"
)
