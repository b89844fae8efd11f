"""Scalars that join the loss, and what else is done to learn less by heart."""

from tuneful.core.spec import Spec, Table
from tuneful.regularisers.adversary import Adversary
from tuneful.regularisers.consolidation import Ewc
from tuneful.regularisers.drift import L2SP, ReferenceKL
from tuneful.regularisers.dropping import Dropout, LayerDrop
from tuneful.regularisers.fairness import Hsic, Mmd, ParityGap
from tuneful.regularisers.memory import Previous
from tuneful.regularisers.mixing import Mixup
from tuneful.regularisers.noise import Neftune
from tuneful.regularisers.orthogonal import Orthogonal
from tuneful.regularisers.pairing import CounterfactualPairing
from tuneful.regularisers.robust import GroupDro
from tuneful.regularisers.smoothing import ConfidencePenalty, Dft, Focal, LabelSmoothing, RDrop
from tuneful.regularisers.unlearning import Forget
from tuneful.regularisers.weighing import Uncertainty

__all__ = [
    "L2SP", "REGULARISERS", "Adversary", "ConfidencePenalty", "CounterfactualPairing", "Dft", "Dropout", "Ewc", "Focal",
    "Forget", "GroupDro", "Hsic", "LabelSmoothing", "LayerDrop", "Mixup", "Mmd", "Neftune", "Orthogonal", "ParityGap",
    "Previous", "RDrop", "ReferenceKL", "Uncertainty",
]  # fmt: skip

REGULARISERS: Table[Spec] = Table(
    "regulariser",
    [
        ReferenceKL, L2SP, LabelSmoothing, ConfidencePenalty, Focal, Dft, RDrop, Mixup, Neftune, Dropout, LayerDrop,
        Mmd, Hsic, ParityGap, CounterfactualPairing, GroupDro, Adversary, Previous, Ewc, Orthogonal, Forget,
        Uncertainty,
    ],
    group="tuneful.regularisers",
)  # fmt: skip
