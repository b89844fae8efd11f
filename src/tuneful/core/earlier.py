"""A model as it was at one moment of its tuning."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from tuneful.core.policy import Outputs, Policy
from tuneful.core.types import Batch


class Earlier:
    """Answers as the policy answered when this was made: no gradient, dropout off. Weights that do not learn are
    shared with it; what layers that run as one have made of these they make once more."""

    def __init__(self, policy: Policy) -> None:
        shared = {id(weight): weight for weight in policy.module.parameters() if not weight.requires_grad}
        self._policy, self._learned = policy, list(policy.trainable())
        self._module = copy.deepcopy(policy.module, memo=dict(shared)).eval().requires_grad_(False)

    def __call__(self, batch: Batch) -> Outputs:
        return self._policy.through(self._module, batch)

    def tensors(self) -> dict[str, Tensor]:
        """Of what learns, what it was; the tensors themselves."""
        weights = dict(self._module.named_parameters())
        return {name: weights[name].detach() for name in self._learned}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Answers as the one did whose `tensors` these are."""
        with torch.no_grad():
            for name, own in self.tensors().items():
                own.copy_(tensors[name])
