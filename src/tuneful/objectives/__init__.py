"""How wrong each unit is."""

from tuneful.core.spec import Spec, Table
from tuneful.objectives.classify import Classify
from tuneful.objectives.contrast import Contrast
from tuneful.objectives.denoise import Denoise
from tuneful.objectives.kto import Kto
from tuneful.objectives.masked import Masked
from tuneful.objectives.next_token import NextToken
from tuneful.objectives.on_policy_distil import OnPolicyDistil
from tuneful.objectives.policy_gradient import Grpo, ReinforcePlusPlus, Rloo
from tuneful.objectives.preference import Dpo
from tuneful.objectives.prototype import Prototype
from tuneful.objectives.retrieve import Retrieve
from tuneful.objectives.reward_model import BradleyTerry
from tuneful.objectives.without_reference import Orpo, Simpo

__all__ = [
    "OBJECTIVES", "BradleyTerry", "Classify", "Contrast", "Denoise", "Dpo", "Grpo", "Kto", "Masked", "NextToken",
    "OnPolicyDistil", "Orpo", "Prototype", "ReinforcePlusPlus", "Retrieve", "Rloo", "Simpo",
]  # fmt: skip

OBJECTIVES: Table[Spec] = Table(
    "objective",
    [
        NextToken,
        Classify,
        Masked,
        Contrast,
        Denoise,
        Prototype,
        Retrieve,
        Dpo,
        Orpo,
        Simpo,
        Kto,
        BradleyTerry,
        Grpo,
        Rloo,
        ReinforcePlusPlus,
        OnPolicyDistil,
    ],
    group="tuneful.objectives",
)
