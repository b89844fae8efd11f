"""Scalars that join the loss, and what else is done to learn less by heart."""

from tuneful.core.spec import Spec, Table
from tuneful.regularisers.drift import L2SP, ReferenceKL
from tuneful.regularisers.dropping import Dropout, LayerDrop
from tuneful.regularisers.mixing import Mixup
from tuneful.regularisers.noise import Neftune
from tuneful.regularisers.smoothing import ConfidencePenalty, Dft, Focal, LabelSmoothing, RDrop

__all__ = [
    "L2SP", "REGULARISERS", "ConfidencePenalty", "Dft", "Dropout", "Focal", "LabelSmoothing", "LayerDrop", "Mixup",
    "Neftune", "RDrop", "ReferenceKL",
]  # fmt: skip

REGULARISERS: Table[Spec] = Table(
    "regulariser",
    [ReferenceKL, L2SP, LabelSmoothing, ConfidencePenalty, Focal, Dft, RDrop, Mixup, Neftune, Dropout, LayerDrop],
    group="tuneful.regularisers",
)
